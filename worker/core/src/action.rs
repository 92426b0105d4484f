//! What a worker wants done. Its shell does it, in order.

use manyhands_proto::client::Runtime;
use manyhands_proto::executor::{Place, Run, ToExecutor};
use manyhands_proto::value::Value;
use manyhands_proto::worker::{FromWorker, Peer};
use manyhands_proto::{ObjectId, TaskId, WorkerId};

use crate::event::ExecutorId;

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell the scheduler something.
    ToScheduler(FromWorker),
    /// Start an executor process. Answered by `ExecutorStarted` or `StartFailed`.
    StartExecutor {
        /// Its number from now on.
        executor: ExecutorId,
        /// What it runs.
        runtime: Runtime,
    },
    /// Put a task into an executor's ring, behind those that it has. It runs in that order.
    Feed {
        /// Whom.
        executor: ExecutorId,
        /// The task.
        run: Run,
    },
    /// Give a task to a blocked executor, to run at once on top of the one that waits.
    RunInPlace {
        /// Whom.
        executor: ExecutorId,
        /// The task.
        run: Run,
    },
    /// Take a fed task back if it has not been claimed. Answered by `TookBack`.
    TakeBack {
        /// From whom.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// Tell an executor that the attempt it runs shall stop (SIGINT). If it does not end within the
    /// grace time the core kills it.
    Interrupt {
        /// Whom.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// Kill an executor and its descendants (SIGKILL). `ExecutorDied` follows.
    Kill {
        /// Whom.
        executor: ExecutorId,
    },
    /// Let an idle executor end. `ExecutorDied` follows.
    Retire {
        /// Whom.
        executor: ExecutorId,
    },
    /// Tell an executor something over its control socket.
    ToExecutor {
        /// Whom.
        executor: ExecutorId,
        /// What.
        message: ToExecutor,
    },
    /// Allocate an extent for an executor's large value and tell it so; `Granted` follows.
    Grant {
        /// To whom.
        executor: ExecutorId,
        /// As it asked.
        request: u64,
        /// Bytes.
        size: u64,
        /// In a file on disk: memory is full, and nothing else would go on.
        on_disk: bool,
    },
    /// Answer an executor's wish to read an object.
    Readable {
        /// Whom.
        executor: ExecutorId,
        /// The object.
        object: ObjectId,
        /// Where it is, or why it cannot be had.
        place: Result<Place, String>,
    },
    /// Get a copy of an object from one of these workers. Answered by `Fetched`.
    Fetch {
        /// The object.
        object: ObjectId,
        /// Who has it.
        workers: Vec<WorkerId>,
        /// Its size in bytes.
        size: u64,
        /// Into a file on disk: memory is full, and nothing else would go on.
        on_disk: bool,
    },
    /// Write an object to disk and free its memory. Answered by `Spilled`.
    Spill {
        /// The object.
        object: ObjectId,
        /// Its value, if the core has it (small objects); else it lies in the store.
        value: Option<Value>,
    },
    /// Bring an object back from disk. Answered by `Loaded`.
    Load {
        /// The object.
        object: ObjectId,
        /// Make it readable in a segment that lies in a file on disk: memory is full, and nothing
        /// else would go on.
        on_disk: bool,
    },
    /// Forget an object that lies in the store or on disk.
    Free {
        /// The object.
        object: ObjectId,
    },
    /// Answer to [`crate::Event::Wanted`].
    Serve {
        /// As asked.
        ticket: u64,
        /// Its value, if it is small and in the core's own memory. `None`: it lies in the store, in
        /// memory or on disk, or it is not here.
        value: Option<Value>,
    },
    /// Other workers, or new addresses of theirs: whoever fetches from them needs to know.
    Peers {
        /// The workers.
        peers: Vec<Peer>,
    },
    /// These workers are gone: nothing can be had from them any more.
    PeersGone {
        /// The workers.
        workers: Vec<WorkerId>,
    },
    /// Get a program. Answered by [`crate::Event::Program`].
    FetchProgram {
        /// Hash of the binary.
        program: u128,
        /// Who has it; never empty.
        workers: Vec<WorkerId>,
    },
    /// End the daemon: nothing that is needed lies or runs here.
    Leave,
}
