//! What people ask about a cluster, and the answers. Asked by
//! [`FromClient::Ask`](crate::client::FromClient::Ask), shown by the command line.
//!
//! Lists are bounded by the `limit` of the question; an answer says how many there were in all.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::client::{JobCounts, Stream, TaskState};
use crate::ids::{JobId, ObjectId, SessionId, TaskId, WorkerId};
use crate::worker::{WorkerSpec, WorkerStatus};

/// Entries of a list at most, whatever a question asks for.
pub const LIST_LIMIT: u32 = 100_000;

/// A question about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The whole of it in numbers.
    Cluster,
    /// Its workers.
    Workers,
    /// Its jobs.
    Jobs,
    /// Tasks, newest first.
    Tasks {
        /// Of this job only.
        job: Option<JobId>,
        /// In this state only.
        state: Option<TaskState>,
        /// How many at most.
        limit: u32,
    },
    /// Objects, largest first.
    Objects {
        /// Of this job only.
        job: Option<JobId>,
        /// How many at most.
        limit: u32,
    },
    /// The tasks of a job with what they need, in the order in which they were submitted.
    Graph {
        /// The job.
        job: JobId,
        /// How many tasks at most.
        limit: u32,
    },
    /// What a task has printed.
    Logs {
        /// The task.
        task: TaskId,
    },
}

/// An answer, by the question's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The whole of it.
    Cluster(ClusterInfo),
    /// Its workers, by id.
    Workers(Vec<WorkerInfo>),
    /// Its jobs, in the order in which they were opened.
    Jobs(Vec<JobInfo>),
    /// Tasks.
    Tasks {
        /// Some of them.
        tasks: Vec<TaskInfo>,
        /// How many there are.
        total: u64,
    },
    /// Objects.
    Objects {
        /// Some of them.
        objects: Vec<ObjectInfo>,
        /// How many there are.
        total: u64,
    },
    /// A job's tasks.
    Graph {
        /// Some of them.
        tasks: Vec<GraphNode>,
        /// How many there are.
        total: u64,
    },
    /// What a task has printed, the last of it if it was much.
    Logs {
        /// Pieces, in the order in which they came.
        pieces: Vec<(Stream, Bytes)>,
        /// Bytes before these that are no longer kept.
        dropped: u64,
    },
    /// There is no such job or task, or nothing is known of it any more.
    Unknown {
        /// What exactly, and what to do.
        message: String,
    },
}

/// A cluster in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Version of the scheduler's software.
    pub version: String,
    /// Microseconds since the scheduler started.
    pub uptime_us: u64,
    /// Workers, those that drain included.
    pub workers: u32,
    /// Workers that drain.
    pub draining: u32,
    /// Workers that have not been heard from for a while.
    pub away: u32,
    /// Clients.
    pub clients: u32,
    /// Jobs that are open.
    pub jobs: u32,
    /// Thousandths of cores that the workers have.
    pub millicores: u64,
    /// Of these, how many tasks have now.
    pub millicores_used: u64,
    /// Tasks that could run and have no place.
    pub ready: u64,
    /// Tasks that are with a worker.
    pub assigned: u64,
    /// Tasks that wait for others.
    pub waiting: u64,
    /// Tasks that ended since the scheduler started, well or badly.
    pub ended: u64,
    /// Attempts since the start that ran again what had run: lost workers and objects, retries.
    pub rerun: u64,
    /// Bytes of objects in the memory of workers.
    pub store_used: u64,
    /// Bytes that they may have there.
    pub store_limit: u64,
    /// Bytes of objects on the disks of workers.
    pub spilled: u64,
    /// Records of tasks and values that the scheduler keeps.
    pub records: u64,
}

/// A worker as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its id.
    pub worker: WorkerId,
    /// What it told of itself.
    pub spec: WorkerSpec,
    /// How full it is.
    pub status: WorkerStatus,
    /// Whether it gets tasks.
    pub state: WorkerState,
    /// In words, how long it has been away, or what keeps it from leaving. Empty if it is active.
    pub note: String,
    /// Tasks that are with it.
    pub assigned: u32,
    /// Thousandths of cores that they have.
    pub millicores_used: u64,
    /// How long tasks take here in relation to the others, in thousandths: 2000 is half as fast.
    pub slowness: u32,
    /// Bytes a second that are reckoned with when something is to go there.
    pub bandwidth: u64,
}

/// Whether a worker gets tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    /// It does.
    Active,
    /// Its link is broken; it may come back within the grace time.
    Away,
    /// It is about to leave.
    Draining,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Its id.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// Its share beside others.
    pub weight: u32,
    /// Sessions that have it open.
    pub sessions: Vec<SessionId>,
    /// How many tasks are where.
    pub counts: JobCounts,
    /// Microseconds since it was opened.
    pub age_us: u64,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its id.
    pub task: TaskId,
    /// Its function's name.
    pub name: String,
    /// Where it is.
    pub state: TaskState,
    /// With whom, if it is assigned.
    pub worker: Option<WorkerId>,
    /// The attempt that is current, counted from 0.
    pub attempt: u32,
}

/// An object that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Its id.
    pub object: ObjectId,
    /// Encoded size in bytes.
    pub size: u64,
    /// Who has it; nobody, if only the scheduler does.
    pub workers: Vec<WorkerId>,
    /// Why it is alive, in words: who holds it and who needs it.
    pub reason: String,
}

/// A task with what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphNode {
    /// The task.
    pub task: TaskInfo,
    /// The objects that it needs.
    pub inputs: Vec<ObjectId>,
}
