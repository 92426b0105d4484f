//! How clients and workers join.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::worker::{FromWorker, ToWorker, WorkerSpec};
use manyhands_proto::{Lane, SessionId, WorkerId};
use manyhands_transport::{Closed, Receive, Sender, Source};

/// What reaches the scheduler's mailbox.
pub(crate) enum Input {
    ClientJoined {
        session: SessionId,
        lane: Lane,
        client: Client,
    },
    /// A client of another process: what it says comes as it arrives.
    #[cfg(feature = "server")]
    GuestJoined {
        session: SessionId,
        lane: Lane,
        receiver: Arc<dyn Receive<ToClient>>,
    },
    #[cfg(feature = "server")]
    FromGuest {
        session: SessionId,
        messages: Vec<FromClient>,
    },
    /// The client's source has something to say.
    ClientReady {
        session: SessionId,
    },
    ClientLost {
        session: SessionId,
    },
    #[cfg(feature = "server")]
    ClientAway {
        session: SessionId,
    },
    #[cfg(feature = "server")]
    ClientBack {
        session: SessionId,
    },
    WorkerJoined {
        worker: WorkerId,
        spec: WorkerSpec,
        receiver: Arc<dyn Receive<ToWorker>>,
    },
    WorkerLost {
        worker: WorkerId,
    },
    #[cfg(feature = "server")]
    WorkerAway {
        worker: WorkerId,
    },
    #[cfg(feature = "server")]
    WorkerBack {
        worker: WorkerId,
    },
    FromWorker {
        worker: WorkerId,
        message: FromWorker,
    },
}

/// The two ends of a client: what it says, and where it is told things. Both are used on the
/// scheduler's thread.
pub struct Client {
    /// What it says.
    pub source: Arc<dyn Source<FromClient>>,
    /// Where it is told things.
    pub receiver: Arc<dyn Receive<ToClient>>,
}

/// Lets clients and workers in, from any thread.
#[derive(Clone)]
pub struct Door {
    pub(crate) inbox: Sender<Input>,
    ids: Arc<Ids>,
}

#[derive(Default)]
struct Ids {
    session: AtomicU64,
    worker: AtomicU32,
}

impl Door {
    pub(crate) fn new(inbox: Sender<Input>) -> Door {
        Door { inbox, ids: Arc::default() }
    }

    /// Takes a session's number and lane, for a client that will [`ClientLink::join`].
    pub fn client(&self) -> ClientLink {
        let session = self.next_session();
        ClientLink { inbox: self.inbox.clone(), session, lane: Lane(session.0) }
    }

    /// A number that no other session of this scheduler has.
    pub(crate) fn next_session(&self) -> SessionId {
        SessionId(self.ids.session.fetch_add(1, Ordering::Relaxed))
    }

    /// An id that no other worker of this scheduler has.
    pub(crate) fn next_worker(&self) -> WorkerId {
        WorkerId(self.ids.worker.fetch_add(1, Ordering::Relaxed))
    }

    /// Begins a worker's session. `receiver` is called on the scheduler's thread.
    pub fn join_worker(
        &self,
        spec: WorkerSpec,
        receiver: Arc<dyn Receive<ToWorker>>,
    ) -> Result<WorkerLink, Closed> {
        let worker = self.next_worker();
        self.inbox.send(Input::WorkerJoined { worker, spec, receiver })?;
        Ok(WorkerLink { inbox: self.inbox.clone(), worker })
    }
}

/// A client's way to the scheduler. Dropping it ends the session.
pub struct ClientLink {
    inbox: Sender<Input>,
    session: SessionId,
    lane: Lane,
}

impl ClientLink {
    /// The lane in which the session names what it submits.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Begins the session.
    pub fn join(&self, client: Client) -> Result<(), Closed> {
        let (session, lane) = (self.session, self.lane);
        self.inbox.send(Input::ClientJoined { session, lane, client })
    }

    /// The client's source has something to say: the scheduler will ask it soon.
    pub fn poke(&self) -> Result<(), Closed> {
        self.inbox.send(Input::ClientReady { session: self.session })
    }
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        // A scheduler that is gone has forgotten the session already.
        let _ = self.inbox.send(Input::ClientLost { session: self.session });
    }
}

/// A worker's way to the scheduler. Dropping it ends the session.
pub struct WorkerLink {
    inbox: Sender<Input>,
    worker: WorkerId,
}

impl WorkerLink {
    /// The worker's id.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }
}

impl Receive<FromWorker> for WorkerLink {
    fn receive(&self, messages: Vec<FromWorker>) {
        for message in messages {
            // A scheduler that is gone tells the worker so by the closing of the worker's inbox.
            let _ = self.inbox.send(Input::FromWorker { worker: self.worker, message });
        }
    }

    fn closed(&self, _reason: &str) {
        let _ = self.inbox.send(Input::WorkerLost { worker: self.worker });
    }
}

impl Drop for WorkerLink {
    fn drop(&mut self) {
        let _ = self.inbox.send(Input::WorkerLost { worker: self.worker });
    }
}
