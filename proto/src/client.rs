//! The conversation between a client and the scheduler. A task that submits speaks it too, through
//! its worker ([`crate::worker::FromWorker::FromTask`]).
//!
//! Every message is idempotent by the ids in it: a repeated one changes nothing.
//!
//! # Streams
//!
//! A task may make a *stream*: any number of objects ([`TaskId::item`]), one after the other, while
//! it runs. What it returns in the end (its object 0) is how many there were. Whoever consumes them
//! gives the task room ([`FromClient::Room`]), and more for each item that it has taken and
//! released; the task puts items, in order, as long as there is room ([`FromClient::Put`]), and
//! asks how much there is when it begins ([`FromClient::Stream`]). An item that the task never
//! comes to make ends as [`LostInput`](crate::task::FailureKind::LostInput) when the task has ended
//! well; when that has failed, as its failure says. A second attempt puts the same items under the
//! same names, and known ones change nothing; one that is lost is made again by running the task
//! again.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::graph::GraphBatch;
use crate::ids::{FunctionId, JobId, ObjectId, TaskId, WorkerId};
use crate::inspect::{Answer, Question};
use crate::task::Failed;
use crate::value::{Codec, ObjectMeta, Value};
use crate::worker::Peer;

/// From a client to the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromClient {
    /// Opens a job, or opens it again after a reconnect. Must come before anything that names it.
    OpenJob {
        /// The new job.
        job: JobId,
        /// A name for people.
        name: String,
        /// Its share of the slots beside other jobs: twice the weight, twice the slots. At least 1.
        weight: u32,
    },
    /// Describes functions; the session's later batches name them by slot.
    Functions {
        /// Slot of the first one.
        first_slot: u32,
        /// The functions, one slot each.
        functions: Vec<FunctionSpec>,
    },
    /// Some tasks. Known ones are skipped.
    Submit(GraphBatch),
    /// A value that the client has, under a sequence number of its lane. The session holds it.
    Put {
        /// Its id (index 0).
        object: ObjectId,
        /// Its codec, size and the handles in it.
        meta: ObjectMeta,
        /// Where it is.
        place: PutPlace,
    },
    /// The session's own count of these went from 0 to 1.
    Hold {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// The session's own count of these went from 1 to 0.
    Release {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// The session wants to be told of each of these once, when its task has ended (now, if it
    /// has).
    Want {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// Stops tasks: those that wait never run, running ones are interrupted and then killed. What
    /// depends on them fails with them. Ended ones stay as they are.
    Cancel {
        /// The tasks.
        tasks: Vec<TaskId>,
        /// Why, for people.
        reason: String,
    },
    /// Asks why a task is where it is. Answered by [`ToClient::Explained`].
    Explain {
        /// Chosen by the client, repeated in the answer.
        query: u64,
        /// The task.
        task: TaskId,
    },
    /// Asks for [`ToClient::Progress`] of a job from now on, at most ten times a second.
    Watch {
        /// The job.
        job: JobId,
    },
    /// The job gets no more tasks from this session: what the session holds of it is released, and
    /// what nobody else holds is cancelled and forgotten.
    CloseJob {
        /// The job.
        job: JobId,
    },
    /// Asks about the cluster. Answered by [`ToClient::Answer`].
    Ask {
        /// Chosen by the client, repeated in the answer.
        query: u64,
        /// What.
        question: Question,
    },
    /// Stops all tasks of a job, as [`FromClient::Cancel`] does, whoever submitted them.
    CancelJob {
        /// The job.
        job: JobId,
        /// Why, for people.
        reason: String,
    },
    /// Asks a worker to drain and leave.
    Drain {
        /// Which.
        worker: WorkerId,
    },
    /// The session holds and wants some items of a stream, and its task may make all before the
    /// last of them.
    Room {
        /// The task that makes the stream.
        task: TaskId,
        /// The first of the items, by number.
        from: u64,
        /// The one behind the last: at most [`ROOM_LIMIT`] more.
        upto: u64,
    },
    /// The running task makes a stream, and wants to be told how much room there is: now and
    /// whenever there is more, by [`ToClient::Room`].
    Stream,
    /// A program that [`ToClient::SendProgram`] asked for could not be sent.
    ProgramFailed {
        /// Hash of the binary.
        program: u128,
        /// Why, for people.
        message: String,
    },
}

/// A function as the scheduler and the workers know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSpec {
    /// Hash of its content.
    pub id: FunctionId,
    /// Its name, for people.
    pub name: String,
    /// What runs it.
    pub runtime: Runtime,
    /// What its runtime needs to find or to make it, at most [`CODE_LIMIT`] bytes. It reaches each
    /// executor once. Empty for Rust, whose programs bring their functions.
    pub code: Bytes,
}

impl FunctionSpec {
    /// A function of a Rust program.
    pub fn rust(id: FunctionId, name: impl Into<String>, program: u128) -> FunctionSpec {
        let (name, runtime) = (name.into(), Runtime::Rust { program });
        FunctionSpec { id, name, runtime, code: Bytes::new() }
    }
}

/// Bytes of [`FunctionSpec::code`] at most. A function that closes over more than that is put as an
/// object, and given as an argument to one that calls it.
pub const CODE_LIMIT: usize = 64 << 10;

/// Items of a stream that one [`FromClient::Room`] names at most, and that may be awaited at one
/// time.
pub const ROOM_LIMIT: u64 = 1 << 12;

/// What runs a function. Executors are kept per runtime.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Runtime {
    /// A Rust program, re-executed; 0 stands for the program that the worker itself is part of.
    Rust {
        /// Hash of the binary.
        program: u128,
    },
    /// The worker's Python interpreter, set up so.
    Python(Arc<Environment>),
}

/// What a Python interpreter is set up with before it runs functions. One template process is kept
/// for each different one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Environment {
    /// Modules that are imported once, before executors are forked.
    pub preload: Vec<String>,
    /// Variables of the environment, sorted by name.
    pub variables: Vec<(String, String)>,
    /// The working directory; that of the worker if there is none.
    pub directory: Option<String>,
    /// Appended to `sys.path`: what a client on the same machine can import. Paths that are not
    /// there are left out.
    pub path: Vec<String>,
    /// Hash of a zip archive of modules, which travels as programs do; 0 for none.
    pub archive: u128,
    /// Requirements as pip takes them, installed once on each machine.
    pub requirements: Vec<String>,
}

/// Where the bytes of a value that was put are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PutPlace {
    /// In this message (up to [`crate::value::INLINE_LIMIT`]).
    Inline(Bytes),
    /// Already in the store of a worker.
    Stored(WorkerId),
}

/// From the scheduler to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// Objects that the session wanted are there, or will never be.
    Ended {
        /// One for each object.
        ends: Vec<(ObjectId, Outcome)>,
    },
    /// What a task of the session printed.
    Output {
        /// Which task. Tasks shorter than a few microseconds that run one after the other may be
        /// named by the first of them.
        task: TaskId,
        /// Its function's name.
        name: String,
        /// Where it printed to.
        stream: Stream,
        /// The bytes, as they came.
        bytes: Bytes,
    },
    /// Answer to [`FromClient::Explain`].
    Explained {
        /// As asked.
        query: u64,
        /// State and reason.
        explanation: Explanation,
    },
    /// Where a watched job is.
    Progress {
        /// The job.
        job: JobId,
        /// How many of its tasks are where.
        counts: JobCounts,
    },
    /// Something that the session sent was refused, and changed nothing.
    Refused {
        /// Why, and what to do.
        message: String,
    },
    /// Answer to [`FromClient::Ask`].
    Answer {
        /// As asked.
        query: u64,
        /// What is known.
        answer: Answer,
    },
    /// To a task that makes a stream: it may put the items below this number.
    Room {
        /// The first one that it may not put yet.
        upto: u64,
    },
    /// A worker needs the program whose functions this session has described: it is to be sent
    /// there, over the worker's data link.
    SendProgram {
        /// Hash of the binary.
        program: u128,
        /// To whom.
        worker: WorkerId,
    },
    /// The workers, before the first message that names them, and those that are gone.
    Workers {
        /// New ones, or with new addresses.
        peers: Vec<Peer>,
        /// Will not come back under these ids.
        gone: Vec<WorkerId>,
    },
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Here it is.
    Value(Value),
    /// It lies in the stores of these workers.
    Stored {
        /// How to read it.
        codec: Codec,
        /// Encoded size in bytes.
        size: u64,
        /// Who has it; never empty.
        workers: Vec<WorkerId>,
    },
    /// It will never be.
    Failed(Failed),
}

/// Where a task prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The state of a task with its reason in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The state.
    pub state: TaskState,
    /// Why it is in it, and what it waits for, in words.
    pub reason: String,
}

/// The states of a task that a user sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskState {
    /// Needs results that do not exist yet.
    Waiting,
    /// Could run, but has no place yet.
    Ready,
    /// With a worker, not yet running.
    Assigned,
    /// Runs.
    Running,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Never heard of, or forgotten since nobody holds its results.
    Unknown,
}

/// How many tasks of a job are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// Submitted so far.
    pub submitted: u64,
    /// With a worker, running or about to.
    pub assigned: u64,
    /// Ended well.
    pub done: u64,
    /// Ended badly.
    pub failed: u64,
}
