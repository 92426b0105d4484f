//! What can go wrong with a transfer.

use std::fmt;
use std::time::Duration;

use manyhands_proto::WorkerId;
use manyhands_proto::link::Key;
use thiserror::Error;

/// Why a fetch ended without the object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FetchError {
    /// None of those who were said to have it gave all of it.
    #[error("{} cannot be had: {}", Named(.key), Sources(.sources))]
    Unavailable {
        /// What was fetched.
        key: Key,
        /// Each source, and why it did not give it.
        sources: Vec<(WorkerId, SourceError)>,
    },
    /// The bytes came and could not be kept.
    #[error("{} cannot be kept: {message}", Named(.key))]
    Sink {
        /// What was fetched.
        key: Key,
        /// What the sink said.
        message: String,
    },
    /// Somebody cancelled it.
    #[error("the transfer of {} was cancelled", Named(.key))]
    Cancelled {
        /// What was fetched.
        key: Key,
    },
    /// It is larger than the caller can take.
    #[error("{} has {size} bytes, which is more than can be taken", Named(.key))]
    TooLarge {
        /// What was fetched.
        key: Key,
        /// Its size in bytes.
        size: u64,
    },
    /// More transfers wait than may.
    #[error("{} is not fetched: {limit} transfers wait already", Named(.key))]
    TooMany {
        /// What was to be fetched.
        key: Key,
        /// How many may wait.
        limit: usize,
    },
}

/// Why one source did not give an object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SourceError {
    /// The scheduler said that it is gone.
    #[error("it is gone")]
    Gone,
    /// It does not have it.
    #[error("it refused: {0}")]
    Refused(String),
    /// It could not be reached, or fell silent, for so long.
    #[error("unreachable for {:.1} s: {message}", .since.as_secs_f64())]
    Unreachable {
        /// Since when.
        since: Duration,
        /// The last error.
        message: String,
    },
    /// What it sent cannot be: another size, too many bytes or too few, no message.
    #[error("it sent what cannot be: {0}")]
    Corrupt(String),
    /// It was still there, and gave nothing more.
    #[error("it gave nothing for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
}

/// Why an upload was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    /// The worker is gone, or was never known.
    #[error("{} cannot be sent: {worker} is gone", Named(.key))]
    Gone {
        /// What was sent.
        key: Key,
        /// To whom.
        worker: WorkerId,
    },
    /// The worker does not take it.
    #[error("{worker} does not take {}: {message}", Named(.key))]
    Refused {
        /// What was sent.
        key: Key,
        /// To whom.
        worker: WorkerId,
        /// What it said.
        message: String,
    },
    /// The worker could not be reached.
    #[error("{} cannot be sent to {worker}: {message}", Named(.key))]
    Unreachable {
        /// What was sent.
        key: Key,
        /// To whom.
        worker: WorkerId,
        /// The last error.
        message: String,
    },
    /// The sender is about to end.
    #[error("{} is not sent: the sender ends", Named(.key))]
    Ended {
        /// What was sent.
        key: Key,
    },
}

/// A key for people.
pub(super) struct Named<'a>(pub(super) &'a Key);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Key::Object(object) => write!(f, "object {object}"),
            Key::Program(hash) => write!(f, "program {hash:032x}"),
        }
    }
}

struct Sources<'a>(&'a [(WorkerId, SourceError)]);

impl fmt::Display for Sources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody is known to have it");
        }
        for (i, (worker, error)) in self.0.iter().enumerate() {
            write!(f, "{}{worker}: {error}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
