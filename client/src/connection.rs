//! What carries a client's session: the cluster in this process, the worker of the task that runs
//! here, or a link over a network.

use std::path::Path;
use std::time::{Duration, Instant};

use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::{Lane, ObjectId, WorkerId};

use crate::session::Ends;

/// How full a local cluster is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalStats {
    /// Bytes of memory that the object store may use.
    pub store_limit: u64,
    /// Bytes of memory that it uses, with what it keeps for the next objects.
    pub store_used: u64,
    /// The most that this ever was.
    pub store_peak: u64,
    /// Bytes of objects that lie on disk.
    pub spilled: u64,
    /// Bytes that ever went to disk.
    pub spilled_total: u64,
    /// Executor processes, those of blocked tasks included.
    pub executors: usize,
    /// The most that there ever were at one time.
    pub peak_executors: usize,
}

/// Where an object lies: [`Outcome::Stored`](manyhands_proto::client::Outcome::Stored).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How to read it.
    pub codec: Codec,
    /// Encoded size in bytes.
    pub size: u64,
    /// Who has it; never empty.
    pub workers: Vec<WorkerId>,
}

/// A link between one [`Session`](crate::Session) and a scheduler.
///
/// What the session has to say gathers in its outbox; [`Connection::poke`] says that there is
/// something, and whoever runs the link then calls [`drain`](manyhands_transport::Source::drain) as
/// soon as the other side can take it. So what is submitted while the cluster is busy leaves in one
/// batch. What the cluster says is handed to the session as a
/// [`Receive`](manyhands_transport::Receive)r, in order, from one thread at a time.
pub trait Connection: Send + Sync {
    /// The ends of the session that this link carries. Called once, before anything else but
    /// [`Connection::lane`].
    fn attach(&self, session: Ends);

    /// The lane in which the session names what it submits.
    fn lane(&self) -> Lane;

    /// The session's outbox is no longer empty. Called without the session's lock, once until the
    /// next [`drain`](manyhands_transport::Source::drain).
    fn poke(&self);

    /// The bytes of an object that lies in the stores of these workers. May wait for the disk, or
    /// for a network.
    fn read_stored(&self, object: ObjectId, stored: &Stored) -> Result<Value, String>;

    /// Copies a large value, given in pieces, into the store of a worker, which is returned. The
    /// session says [`Put`](manyhands_proto::client::FromClient::Put) right after.
    fn put_stored(
        &self,
        object: ObjectId,
        meta: &ObjectMeta,
        pieces: &[&[u8]],
    ) -> Result<WorkerId, String>;

    /// Waits until `done` says so or the deadline has passed. Whoever changes what `done` looks at
    /// unparks this thread afterwards. `waits_for` gives the objects that are waited for: a task
    /// tells them to its worker and lends its slot away. Fails if this thread cannot wait, or shall
    /// not any longer.
    fn block(
        &self,
        waits_for: &dyn Fn() -> Vec<ObjectId>,
        done: &dyn Fn() -> bool,
        deadline: Option<Instant>,
    ) -> Result<(), String> {
        let _ = waits_for;
        while !done() {
            match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(left) if left.is_zero() => break,
                Some(left) => std::thread::park_timeout(left),
            }
        }
        Ok(())
    }

    /// Whether messages arrive only while [`Connection::block`] waits for them, as in a task, whose
    /// process has one thread. A future of such a session has to wait in `poll`.
    fn is_pumped(&self) -> bool {
        false
    }

    /// For how long an object that cannot be read is asked for again: it may have moved, or have to
    /// be made again. Not at all where the only store is at hand.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// The hash of the program that its functions belong to; 0 where the workers' own program is
    /// the same.
    fn program(&self) -> u128 {
        0
    }

    /// The file of a program, or of an archive of modules, that functions of this session need: it
    /// is brought to the workers that ask for it, by this hash. In a task nothing comes of it: the
    /// cluster may know the program already.
    fn offer_program(&self, program: u128, path: &Path) -> Result<(), String> {
        let _ = (program, path);
        Ok(())
    }

    /// How full the cluster in this process is; `None` if it is not in this process.
    fn local_stats(&self) -> Option<LocalStats> {
        None
    }

    /// After [`Connection::close`]: a store that exists only for this session needs to keep nothing
    /// but these objects.
    fn keep(&self, held: &dyn Fn(ObjectId) -> bool) {
        let _ = held;
    }

    /// After [`Connection::keep`]: nor this one.
    fn free(&self, object: ObjectId) {
        let _ = object;
    }

    /// Ends the session, and a cluster that exists only for it. Safe to call more than once.
    fn close(&self);
}
