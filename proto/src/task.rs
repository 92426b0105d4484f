//! What a user may ask of a task, and how a task fails.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ObjectId, TaskId, WorkerId};
use crate::value::Value;

/// Executor deaths that a task survives unless it says otherwise.
pub const DEFAULT_CRASH_RETRIES: u32 = 2;

/// What a user may ask of a task. Tasks of one batch share these through a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskOptions {
    /// How often the task runs again after an error of its own (a panic, an `Err`).
    pub retries: u32,
    /// How often it runs again after the death of its executor or worker.
    pub crash_retries: u32,
    /// Bound on one attempt, in microseconds from its start.
    pub time_limit_us: Option<u64>,
    /// The point by which the task must have ended, in microseconds since the Unix epoch. The
    /// shells translate it into the [`Time`](crate::Time) of their core.
    pub deadline_unix_us: Option<u64>,
    /// Larger runs earlier, within its job.
    pub priority: i32,
    /// What it occupies while it runs.
    pub resources: Resources,
    /// Labels that its worker must carry. Besides those that it was given each worker carries
    /// `worker` (its name) and `host` (its machine).
    pub labels: Vec<(String, String)>,
    /// The executor is stopped when it owns more memory than this, in bytes.
    pub memory_limit: Option<u64>,
}

/// What a task occupies while it runs, and what a worker has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core. A slot is 1,000.
    pub millicores: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Anything else by name, in thousandths, sorted by name.
    pub named: Vec<(String, u64)>,
}

impl Default for Resources {
    fn default() -> Self {
        Resources { millicores: 1000, memory: 0, named: Vec::new() }
    }
}

impl Default for TaskOptions {
    fn default() -> Self {
        TaskOptions {
            retries: 0,
            crash_retries: DEFAULT_CRASH_RETRIES,
            time_limit_us: None,
            deadline_unix_us: None,
            priority: 0,
            resources: Resources::default(),
            labels: Vec::new(),
            memory_limit: None,
        }
    }
}

/// Why a task has no result. This is data about the user's task; a peer that is lost and a bug of
/// manyhands are other things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskFailure {
    /// The task that failed first: of a chain, the one that caused the others.
    pub task: TaskId,
    /// Its function's name.
    pub name: String,
    /// The objects among its arguments.
    pub args: Vec<ObjectId>,
    /// What happened in its last attempt.
    pub kind: FailureKind,
    /// Every attempt that it had, first to last.
    pub attempts: Vec<AttemptFailure>,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailure {
    /// Counted from 0.
    pub attempt: u32,
    /// Where it ran, if it came to run.
    pub worker: Option<WorkerId>,
    /// The executor's process id, if it came to run.
    pub pid: Option<u32>,
    /// What happened.
    pub kind: FailureKind,
}

/// What can happen to an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The function returned an error.
    Error {
        /// The error, with its sources.
        message: String,
    },
    /// The function panicked.
    Panicked {
        /// The panic's message and place.
        message: String,
        /// The backtrace of the executor.
        backtrace: String,
    },
    /// The function raised an exception.
    Raised {
        /// Its type's name.
        type_name: String,
        /// What it says.
        message: String,
        /// The traceback of the executor, as Python prints it, the exception included.
        traceback: String,
        /// The exception itself, where it could be encoded.
        exception: Option<Value>,
    },
    /// The executor's process ended under the task.
    Died(Death),
    /// An attempt ran past its `time_limit`.
    TimeLimit {
        /// The limit, microseconds.
        limit_us: u64,
    },
    /// The task's `deadline` passed.
    Deadline,
    /// The executor owned more memory than the task's `memory_limit`.
    MemoryLimit {
        /// The limit, bytes.
        limit: u64,
        /// What it owned when it was seen, bytes.
        used: u64,
    },
    /// Somebody cancelled it.
    Cancelled {
        /// Who and why, in words.
        reason: String,
    },
    /// The worker was lost, or handed the task back after losing its data.
    WorkerLost {
        /// Which one.
        worker: WorkerId,
    },
    /// An argument cannot be had: its task failed (then `TaskFailure::task` names that one), or it
    /// was lost and cannot be made again.
    LostInput {
        /// Which one.
        object: ObjectId,
    },
    /// The arguments or the result could not be encoded or decoded, or the executor does not know
    /// the function.
    Value {
        /// What exactly.
        message: String,
    },
    /// No worker can ever run it.
    Infeasible {
        /// What it asks for that none has.
        message: String,
    },
    /// The submission itself was refused.
    Refused {
        /// Why.
        message: String,
    },
}

impl FailureKind {
    /// Whether `crash_retries`, and not `retries`, counts this failure.
    pub fn is_crash(&self) -> bool {
        matches!(self, FailureKind::Died(_) | FailureKind::WorkerLost { .. })
    }

    /// Whether another attempt could end otherwise.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            FailureKind::Error { .. }
                | FailureKind::Panicked { .. }
                | FailureKind::Raised { .. }
                | FailureKind::Died(_)
                | FailureKind::TimeLimit { .. }
                | FailureKind::MemoryLimit { .. }
                | FailureKind::WorkerLost { .. }
        )
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Death {
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The most memory it had resident, bytes.
    pub peak_memory: u64,
    /// Its last lines of stderr.
    pub stderr_tail: String,
}

/// A failure as it is passed around: made once, however many tasks fail with it. The chain names
/// the tasks from the one that failed first to the one asked about, at most
/// [`CHAIN_LIMIT`] of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// The root cause.
    pub failure: Arc<TaskFailure>,
    /// Tasks (with their functions' names) that failed because of it, cause first.
    pub chain: Vec<(TaskId, String)>,
}

/// Links of a failure's chain that are kept.
pub const CHAIN_LIMIT: usize = 16;
