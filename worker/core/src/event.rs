//! What can happen to a worker. With [`crate::action`] this is its table of contents.

use manyhands_proto::client::FromClient;
use manyhands_proto::executor::{End, Extent};
use manyhands_proto::task::Death;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{ObjectId, TaskId};

/// An executor process; numbers are never used twice within a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorId(pub u32);

impl ExecutorId {
    /// Stands, in `AllocRequested`, `Granted`, `Stored` and the actions that answer them, for a
    /// client in the worker's own process that puts a large value. It is no executor: it is never
    /// started, fed or dead, and it does not count as one that waits when the core looks whether
    /// nothing else goes on.
    pub const CLIENT: ExecutorId = ExecutorId(u32::MAX);
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The scheduler said something.
    FromScheduler(ToWorker),
    /// An executor that was asked for is there and can be fed.
    ExecutorStarted {
        /// Which.
        executor: ExecutorId,
        /// Its process id.
        pid: u32,
    },
    /// An executor that was asked for could not be started.
    StartFailed {
        /// Which.
        executor: ExecutorId,
        /// Why.
        message: String,
    },
    /// An executor's process ended, killed or not. The task that it ran fails; those that it was
    /// fed ahead go back to the queue.
    ExecutorDied {
        /// Which.
        executor: ExecutorId,
        /// How.
        death: Death,
    },
    /// An attempt ended in an executor. Extents that it returned have been published by the shell.
    TaskEnded {
        /// Where.
        executor: ExecutorId,
        /// How.
        end: End,
    },
    /// Answer to [`crate::Action::TakeBack`]: whether the executor had not claimed it.
    TookBack {
        /// From whom.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// It is the worker's again.
        ok: bool,
    },
    /// The task that an executor runs waits for objects.
    Blocked {
        /// Where.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it waits for.
        waits_for: Vec<ObjectId>,
    },
    /// It goes on.
    Unblocked {
        /// Where.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// A running task speaks as a client.
    FromTask {
        /// Where.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it says.
        message: FromClient,
    },
    /// A running task needs an extent to write to. Answered, now or later, by
    /// [`crate::Action::Grant`].
    AllocRequested {
        /// Where.
        executor: ExecutorId,
        /// Repeated in the answer.
        request: u64,
        /// For which task.
        task: TaskId,
        /// Bytes.
        size: u64,
    },
    /// The shell granted what [`crate::Action::Grant`] asked for (`None`: it could not).
    Granted {
        /// To whom.
        executor: ExecutorId,
        /// As asked.
        request: u64,
        /// What.
        extent: Option<Extent>,
    },
    /// A running task wants to read an object that lies here or elsewhere. Answered, now or later,
    /// by [`crate::Action::Readable`].
    ReadRequested {
        /// Where.
        executor: ExecutorId,
        /// For which task.
        task: TaskId,
        /// What.
        object: ObjectId,
    },
    /// A large value was put into the store, by a task or by a client in this process.
    Stored {
        /// Its id.
        object: ObjectId,
        /// What is known of it.
        meta: ObjectMeta,
        /// Where it lies; `None` when it went to disk at once.
        extent: Option<Extent>,
        /// The executor it was granted to; `CLIENT` for a client in this process.
        executor: ExecutorId,
    },
    /// [`crate::Action::Spill`] is done: the object is on disk, its memory free. Not `ok`: it is
    /// still in memory, since the disk refused.
    Spilled {
        /// Which object.
        object: ObjectId,
        /// Whether it worked.
        ok: bool,
    },
    /// [`crate::Action::Load`] is done.
    Loaded {
        /// Which object.
        object: ObjectId,
        /// Where it is now; an error loses the object.
        result: Result<LocalValue, String>,
    },
    /// [`crate::Action::Fetch`] is done: a copy came from a peer. If the object was made here
    /// meanwhile, the shell has kept one of the two.
    Fetched {
        /// Which object.
        object: ObjectId,
        /// What came, or why nothing did.
        result: Result<(ObjectMeta, LocalValue), String>,
    },
    /// Somebody (a peer, a client) wants to have an object. Answered, now or when it has come, by
    /// [`crate::Action::Serve`].
    Wanted {
        /// Chosen by the shell, repeated in the answer.
        ticket: u64,
        /// The object.
        object: ObjectId,
    },
    /// What is known of a program.
    Program {
        /// Hash of the binary.
        program: u128,
        /// What.
        news: ProgramNews,
    },
    /// How fast objects lately came from other workers, in bytes a second; 0 when none did.
    Bandwidth {
        /// A moving average.
        bandwidth: u64,
    },
    /// The worker's own machine wants it to end: the scheduler is told that it drains.
    Drain,
    /// How much memory of its own an executor has: see [`crate::Core::watched`].
    MemoryUsed {
        /// Whose.
        executor: ExecutorId,
        /// Bytes.
        used: u64,
    },
    /// Time has passed: see [`crate::Core::next_tick`].
    Tick,
}

/// What a shell says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramNews {
    /// It is here, checked, and can be had from here.
    Here,
    /// It was here and had to make room for others.
    Gone,
    /// It did not come: those who had it are gone, or what came was not it.
    NotFetched {
        /// Why, for people.
        message: String,
    },
    /// It came, and can never run here.
    Unusable {
        /// Why, and what to do.
        message: String,
    },
}

impl LocalValue {
    /// Whether the store has it.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self, LocalValue::Extent { .. })
    }
}

/// The bytes of an object in this worker's memory.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalValue {
    /// Small: in the daemon's own memory.
    Inline(Value),
    /// In a segment.
    Extent {
        /// Where exactly.
        extent: Extent,
        /// How to read it.
        codec: Codec,
    },
}
