//! The conversation between the scheduler and a worker.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::client::{Explanation, FromClient, FunctionSpec, Stream, ToClient};
use crate::ids::{ObjectId, TaskId, WorkerId};
use crate::task::{FailureKind, Resources, TaskOptions};
use crate::value::{ObjectMeta, Value};

/// What a worker tells of itself when it joins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// A name for people.
    pub name: String,
    /// All that its tasks may occupy at one time. `millicores / 1000` slots.
    pub resources: Resources,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Bytes that its object store may keep in memory.
    pub store_limit: u64,
    /// Where other workers and clients reach its objects; empty in local mode.
    pub addresses: Vec<SocketAddr>,
    /// Names its machine: workers with the same one share memory bandwidth and not a network.
    pub host: String,
    /// What programs it can run, for people: architecture, system, C library.
    pub platform: String,
}

/// How workers and clients reach a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The worker.
    pub worker: WorkerId,
    /// Where it listens for whoever wants objects, the best first.
    pub addresses: Vec<SocketAddr>,
    /// Its machine: see [`WorkerSpec::host`].
    pub host: String,
}

/// From the scheduler to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Describes functions, before the first assignment that names them.
    Functions {
        /// The scheduler's slot and what it stands for.
        functions: Vec<(u32, FunctionSpec)>,
    },
    /// Tasks to run.
    Assign {
        /// In the order in which they are to be fed.
        tasks: Vec<Assignment>,
    },
    /// Asks for tasks back, to run them elsewhere. Answered by [`FromWorker::Retracted`].
    Retract {
        /// Task and attempt.
        tasks: Vec<(TaskId, u32)>,
    },
    /// Stops attempts. Each that had not ended is answered by an end with this failure.
    Cancel {
        /// Task, attempt, and what its end shall say.
        tasks: Vec<(TaskId, u32, FailureKind)>,
    },
    /// Nobody needs these any more.
    Free {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// Asks for the values of small objects. Answered by [`FromWorker::Values`].
    Send {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// For a task that runs there and speaks as a client.
    ToTask {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it is told.
        message: ToClient,
    },
    /// Asks why a task that was assigned there is where it is.
    Explain {
        /// Repeated in the answer.
        query: u64,
        /// The task.
        task: TaskId,
    },
    /// Other workers, before the first message that names them; told again when one's addresses
    /// change.
    Peers {
        /// The workers.
        peers: Vec<Peer>,
    },
    /// These workers are gone, and will not come back under these ids.
    PeersGone {
        /// The workers.
        workers: Vec<WorkerId>,
    },
    /// Asks for a copy of an object, which leaves the place where it lies. Answered by
    /// [`FromWorker::Copied`] or [`FromWorker::CopyFailed`].
    Copy {
        /// The object.
        object: ObjectId,
        /// Encoded size in bytes.
        size: u64,
        /// Who has it; never empty.
        workers: Vec<WorkerId>,
    },
    /// Answer to [`FromWorker::NeedProgram`]: who has the program, or why nobody can give it. A
    /// worker that is told of nobody is about to get it from a client, through its data link.
    Program {
        /// Hash of the binary.
        program: u128,
        /// Workers that have it, or what to tell the tasks that need it.
        source: Result<Vec<WorkerId>, String>,
    },
    /// Asks the worker to drain: to take no more tasks, and to leave when it is told to. A worker
    /// that was told to end by its own machine says [`FromWorker::Draining`] unasked.
    Drain,
    /// Nothing that is needed lies or runs only there: it can go.
    Leave,
}

/// A task to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// Counted from 0; an answer for another attempt is ignored.
    pub attempt: u32,
    /// The scheduler's slot for its function.
    pub function: u32,
    /// How many objects it returns.
    pub outputs: u16,
    /// The small values of its objects are to ride with the message that it has ended
    /// (up to [`crate::value::INLINE_LIMIT`], and not just [`crate::value::RIDE_LIMIT`]).
    pub wanted: bool,
    /// Smaller runs earlier: made of priority and rank.
    pub order: u64,
    /// How long such tasks took so far, in microseconds; 0 when not known.
    pub expected_us: u32,
    /// Bytes that such tasks returned so far; 0 when not known.
    pub expected_bytes: u64,
    /// What the user asked of it.
    pub options: Arc<TaskOptions>,
    /// What it needs, in the order of its arguments' references.
    pub inputs: Vec<AssignedInput>,
    /// Its encoded arguments.
    pub args: Bytes,
    /// The blocked task on whose executor it shall run, in place: that task waits for it, and its
    /// worker has as many processes as it may.
    pub in_place_of: Option<TaskId>,
}

/// An object that an assigned task needs, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssignedInput {
    /// The object.
    pub object: ObjectId,
    /// Where to find it.
    pub place: InputPlace,
}

/// Where an input is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum InputPlace {
    /// In this message.
    Inline(Value),
    /// With this worker itself.
    Here,
    /// With these other workers.
    Peers {
        /// Who has it; never empty.
        workers: Vec<WorkerId>,
        /// Encoded size in bytes.
        size: u64,
    },
}

/// From a worker to the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Attempts that ended.
    Ended {
        /// One for each.
        ends: Vec<TaskEnd>,
    },
    /// Answer to [`ToWorker::Retract`].
    Retracted {
        /// These have not begun, and will not here.
        given: Vec<(TaskId, u32)>,
        /// These have begun or ended: they stay.
        kept: Vec<(TaskId, u32)>,
    },
    /// A running task waits for objects and lends its slot away.
    Blocked {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it waits for.
        waits_for: Vec<ObjectId>,
        /// The worker has as many processes as it may: only what this task waits for, run in place,
        /// helps.
        at_limit: bool,
    },
    /// It goes on.
    Unblocked {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// What a running task says as a client of its job.
    FromTask {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it says.
        message: FromClient,
    },
    /// Answer to [`ToWorker::Send`]: `None` for an object that is not there, or not small.
    Values {
        /// One for each object.
        values: Vec<(ObjectId, Option<Value>)>,
    },
    /// Another copy of an object lies here now.
    Copied {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// These objects were here and are no more (a disk failed).
    Lost {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// What a task printed.
    Output {
        /// The task.
        task: TaskId,
        /// Where to.
        stream: Stream,
        /// The bytes.
        bytes: Bytes,
    },
    /// Answer to [`ToWorker::Explain`].
    Explained {
        /// As asked.
        query: u64,
        /// State and reason.
        explanation: Explanation,
    },
    /// How full the worker is. Sent when it changes by much.
    Status(WorkerStatus),
    /// The worker is reached elsewhere from now on: its machine got another address.
    Moved {
        /// As [`WorkerSpec::addresses`].
        addresses: Vec<SocketAddr>,
    },
    /// The worker wants to go: it is to be given no more tasks, what has not begun there is to run
    /// elsewhere, and what lies only there is to be copied. Answered by [`ToWorker::Leave`] in the
    /// end.
    Draining,
    /// An input of a task cannot be had from any worker that was named: the task is handed back,
    /// and has not run. It is to be placed again, with what is known of its inputs by then.
    Missing {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// The input.
        object: ObjectId,
        /// Why, for people.
        message: String,
    },
    /// Answer to [`ToWorker::Copy`]: none was made.
    CopyFailed {
        /// The object.
        object: ObjectId,
        /// Why, for people.
        message: String,
    },
    /// A task needs a program that is not here. Answered by [`ToWorker::Program`].
    NeedProgram {
        /// Hash of the binary.
        program: u128,
    },
    /// A program is here now, checked, and can be had from here.
    HasProgram {
        /// Hash of the binary.
        program: u128,
    },
}

/// How full a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Bytes of objects in memory.
    pub store_used: u64,
    /// Bytes of objects on disk.
    pub spilled: u64,
    /// Executor processes, blocked ones included.
    pub executors: u32,
    /// Bytes a second that lately came from other workers: a moving average; 0 when none did.
    pub bandwidth: u64,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// The task.
    pub task: TaskId,
    /// Which attempt of it.
    pub attempt: u32,
    /// How long the function ran, in microseconds.
    pub duration_us: u32,
    /// The executor's process id; 0 if none came to run it.
    pub pid: u32,
    /// What came of it.
    pub result: Result<SmallVec<[Output; 1]>, Box<FailureKind>>,
}

/// An object that an attempt returned. It lies with the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Codec, size, and the handles in it.
    pub meta: ObjectMeta,
    /// Its bytes, if it is small and wanted, or very small.
    pub value: Option<Bytes>,
}
