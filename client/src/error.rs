//! What can go wrong, in words that name the thing and say what to do.

use std::fmt;
use std::sync::Arc;

use manyhands_proto::task::{AttemptFailure, Failed, FailureKind, TaskFailure};
use manyhands_proto::words::Bytes;
use manyhands_proto::{ObjectId, TaskId};
use thiserror::Error;

/// Why something could not be had.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The task failed, or one that it needs. [`TaskError`] tells all that is known.
    #[error(transparent)]
    TaskFailed(#[from] Box<TaskError>),
    /// The graph has a cycle: each of these tasks waits for the one before it, the first for the
    /// last.
    #[error(
        "the graph has a cycle, so none of its tasks could ever start: {}; take out one of the \
         dependencies that close it",
        names.join(" -> ")
    )]
    Cycle {
        /// The functions on the cycle; the first one is repeated at the end.
        names: Vec<String>,
    },
    /// A value cannot be encoded.
    #[error("{what} of type {type_name} cannot be encoded: {message}")]
    Encode {
        /// Which value: an argument of which function, or a value that is put.
        what: String,
        /// Its type.
        type_name: &'static str,
        /// The encoder's words.
        message: String,
    },
    /// An object cannot be decoded as the type of its handle.
    #[error("object {object} cannot be read as {type_name}: {message}")]
    Decode {
        /// The object.
        object: ObjectId,
        /// The type of the handle.
        type_name: &'static str,
        /// The decoder's words.
        message: String,
    },
    /// The bytes of an object could not be brought.
    #[error("object {object} cannot be brought here: {message}")]
    Unreadable {
        /// The object.
        object: ObjectId,
        /// Why.
        message: String,
    },
    /// A large value found no room in the object store.
    #[error(
        "a value of {} cannot be stored: {message}; raise the store's limit, or let go of values \
         that are no longer needed",
        Bytes(*size as u64)
    )]
    Store {
        /// Its encoded size in bytes.
        size: usize,
        /// Why.
        message: String,
    },
    /// The session is over.
    #[error("the session with the cluster is over: {reason}")]
    Closed {
        /// Why.
        reason: Arc<str>,
    },
    /// It took longer than it may. Nothing was stopped: the tasks go on.
    #[error("timed out while waiting for {pending} object(s); their tasks go on")]
    Timeout {
        /// How many had not come.
        pending: usize,
    },
    /// The scheduler refused what this session sent.
    #[error("the scheduler refused a message of this session: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// A handle of one session was given to another.
    #[error(
        "{object} belongs to another session: get its value there and pass the value, or submit \
         with the client that made it"
    )]
    ForeignHandle {
        /// The object.
        object: ObjectId,
    },
    /// A task can return at most 65,535 objects, and at least one.
    #[error("a task returns 1 to 65535 objects; {name} was asked for {parts}")]
    Outputs {
        /// Its function.
        name: &'static str,
        /// What was asked for.
        parts: usize,
    },
    /// The job of this client was closed.
    #[error("the job of this client was closed: open another one")]
    JobClosed,
    /// A session opens only so many jobs in its life.
    #[error("a session opens at most {limit} jobs: connect again for more")]
    TooManyJobs {
        /// How many.
        limit: usize,
    },
    /// What was asked about is not there.
    #[error("{message}")]
    Unknown {
        /// The scheduler's words.
        message: String,
    },
    /// The scheduler answered another question than the one that was asked.
    #[error("the scheduler answered another question than the one that was asked (a bug)")]
    Answer,
    /// No session with a cluster could be begun.
    #[error("cannot connect: {message}")]
    Connect {
        /// Host and port.
        address: String,
        /// Why, and what to do.
        message: String,
    },
    /// An address, or what belongs to it, cannot be read.
    #[error("{message}")]
    Address {
        /// What is wrong with it.
        message: String,
    },
    /// The file of this program cannot be read, so that no worker could get it.
    #[error("this program cannot be sent to workers, since its file cannot be read: {0}")]
    Program(Arc<std::io::Error>),
    /// A program, or an archive of modules, cannot be used.
    #[error("{} cannot be used: {message}", path.display())]
    File {
        /// Its file.
        path: std::path::PathBuf,
        /// Why.
        message: String,
    },
    /// The cluster could not be started.
    #[error("the local cluster cannot start: {0}")]
    Start(Arc<std::io::Error>),
}

#[cfg(feature = "cluster")]
impl Error {
    pub(crate) fn connect(address: &str, message: impl fmt::Display) -> Error {
        Error::Connect { address: address.to_owned(), message: message.to_string() }
    }
}

#[cfg(feature = "cluster")]
impl From<manyhands_transport::address::AddressError> for Error {
    fn from(error: manyhands_transport::address::AddressError) -> Error {
        Error::Address { message: error.to_string() }
    }
}

/// A task that failed, with all that is known of it: the task, its arguments, every attempt, and the
/// chain of tasks that failed with it. Its `Display` is meant to be read by people.
#[derive(Clone, Debug)]
pub struct TaskError {
    object: ObjectId,
    failed: Failed,
}

impl TaskError {
    pub(crate) fn new(object: ObjectId, failed: Failed) -> TaskError {
        TaskError { object, failed }
    }

    /// The object that was asked for.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// The task that failed first: it caused the others.
    pub fn task(&self) -> TaskId {
        self.failed.failure.task
    }

    /// The name of its function.
    pub fn name(&self) -> &str {
        &self.failed.failure.name
    }

    /// The objects among its arguments.
    pub fn args(&self) -> &[ObjectId] {
        &self.failed.failure.args
    }

    /// What happened in its last attempt.
    pub fn kind(&self) -> &FailureKind {
        &self.failed.failure.kind
    }

    /// Every attempt that it had, first to last.
    pub fn attempts(&self) -> &[AttemptFailure] {
        &self.failed.failure.attempts
    }

    /// Each attempt in one line, first to last: where it ran, and what happened.
    pub fn attempt_lines(&self) -> Vec<String> {
        self.attempts().iter().map(|attempt| Line(attempt).to_string()).collect()
    }

    /// Tasks that failed because of it, cause first, at most 16.
    pub fn chain(&self) -> &[(TaskId, String)] {
        &self.failed.chain
    }
}

impl std::error::Error for TaskError {}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = &*self.failed.failure;
        write!(f, "task {} ({}) failed", short(&failure.name), failure.task)?;
        write_place(f, failure.attempts.last())?;
        write!(f, ": {}", failure.kind)?;
        if let FailureKind::Died(death) = &failure.kind
            && !death.stderr_tail.trim().is_empty()
        {
            write!(f, "\n  last lines of stderr:")?;
            write_indented(f, &death.stderr_tail)?;
        }
        write_args(f, &failure.args)?;
        write_attempts(f, failure)?;
        write_chain(f, self.object.task, &self.failed.chain, failure)?;
        if let FailureKind::Panicked { backtrace, .. } = &failure.kind
            && !backtrace.trim().is_empty()
        {
            write!(f, "\n  backtrace:")?;
            write_indented(f, backtrace)?;
        }
        match failure.kind.advice() {
            Some(advice) => write!(f, "\n  advice: {advice}"),
            None => Ok(()),
        }
    }
}

/// A function's name without the path of its module.
pub(crate) fn short(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

fn write_place(f: &mut fmt::Formatter<'_>, last: Option<&AttemptFailure>) -> fmt::Result {
    match last {
        Some(AttemptFailure { worker: Some(worker), pid: Some(pid), .. }) => {
            write!(f, " on {worker}, executor {pid}")
        }
        Some(AttemptFailure { worker: Some(worker), .. }) => write!(f, " on {worker}"),
        _ => Ok(()),
    }
}

fn write_args(f: &mut fmt::Formatter<'_>, args: &[ObjectId]) -> fmt::Result {
    const SHOWN: usize = 8;
    if args.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = args.iter().take(SHOWN).map(ObjectId::to_string).collect();
    write!(f, "\n  arguments: {}", shown.join(", "))?;
    match args.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

fn write_attempts(f: &mut fmt::Formatter<'_>, failure: &TaskFailure) -> fmt::Result {
    if failure.attempts.len() < 2 {
        return Ok(());
    }
    write!(f, "\n  attempts: {}", failure.attempts.len())?;
    failure.attempts.iter().try_for_each(|attempt| write!(f, "\n    {}", Line(attempt)))
}

fn write_chain(
    f: &mut fmt::Formatter<'_>,
    asked: TaskId,
    chain: &[(TaskId, String)],
    failure: &TaskFailure,
) -> fmt::Result {
    let others: Vec<_> = chain.iter().filter(|(task, _)| *task != failure.task).collect();
    if others.is_empty() {
        return match asked == failure.task {
            true => Ok(()),
            false => write!(f, "\n  failed with it: {asked}"),
        };
    }
    write!(f, "\n  failed with it:")?;
    for (task, name) in others {
        write!(f, " -> {} ({task})", short(name))?;
    }
    Ok(())
}

fn write_indented(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.trim_end().lines().try_for_each(|line| write!(f, "\n    {line}"))
}

/// An attempt in one line.
struct Line<'a>(&'a AttemptFailure);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.attempt + 1)?;
        write_place(f, Some(self.0))?;
        write!(f, ": {}", self.0.kind.summary())
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
