//! What can happen to the scheduler. With [`crate::action`] this is its table of contents.

use manyhands_proto::client::FromClient;
use manyhands_proto::worker::{FromWorker, WorkerSpec};
use manyhands_proto::{Lane, SessionId, WorkerId};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client's session begins. The shell chose its lane, which no other session of any job has.
    ClientJoined {
        /// Its session.
        session: SessionId,
        /// The lane in which it names what it submits.
        lane: Lane,
    },
    /// A client's session is over: it said so, or its grace time has passed. Whatever it held is
    /// released.
    ClientLost {
        /// Its session.
        session: SessionId,
    },
    /// A client's link is broken; it may come back until its grace time is over. What it holds
    /// stays; it is not relied upon for anything that another client can do.
    ClientAway {
        /// Its session.
        session: SessionId,
    },
    /// It has come back.
    ClientBack {
        /// Its session.
        session: SessionId,
    },
    /// A worker's session begins.
    WorkerJoined {
        /// The worker.
        worker: WorkerId,
        /// What it has.
        spec: WorkerSpec,
    },
    /// A worker is gone, with all that it ran and held.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker's link is broken; it may come back until its grace time is over. Until then it gets
    /// no tasks, and what it has stays with it.
    WorkerAway {
        /// The worker.
        worker: WorkerId,
    },
    /// It has come back, with all that it ran and held.
    WorkerBack {
        /// The worker.
        worker: WorkerId,
    },
    /// A client said something. Content that breaks the rules is answered with `Refused` and
    /// changes nothing.
    FromClient {
        /// Its session.
        session: SessionId,
        /// What it said.
        message: FromClient,
    },
    /// A worker said something. Words about attempts that are no longer current change nothing.
    FromWorker {
        /// The worker.
        worker: WorkerId,
        /// What it said.
        message: FromWorker,
    },
    /// Time has passed: see [`crate::Core::next_tick`].
    Tick,
}
