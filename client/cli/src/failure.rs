//! What can go wrong on the command line, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Nobody said which cluster.
    #[error("no cluster is named")]
    NoAddress,
    /// Nobody said which scheduler.
    #[error("no scheduler is named")]
    NoScheduler,
    /// The cluster, or what was asked of it.
    #[error(transparent)]
    Client(#[from] manyhands::Error),
    /// A name on the command line stands for nothing that is there.
    #[error("there is no {what} {name:?}")]
    Unknown { what: &'static str, name: String, hint: String },
    /// A name on the command line stands for several things.
    #[error("{name:?} can be any of these {what}: {}", all.join(", "))]
    Ambiguous { what: &'static str, name: String, all: Vec<String> },
    /// A value on the command line, or in a file, is not what it should be.
    #[error("{what}: {message}")]
    Value { what: String, message: String },
    /// A file cannot be read or written.
    #[error("{} cannot be {what}: {source}", path.display())]
    File { path: PathBuf, what: &'static str, source: io::Error },
    /// A daemon cannot start, or had to end.
    #[error("the {what} cannot run: {message}")]
    Daemon { what: &'static str, message: String },
    /// Nothing can be printed any more.
    #[error("standard output cannot be written to: {0}")]
    Print(io::Error),
}

impl Failure {
    /// What the user can do about it.
    fn hint(&self) -> Option<String> {
        Some(match self {
            Failure::NoAddress => {
                "set MANYHANDS_ADDRESS to the line that the scheduler printed for \
                                   clients, or give it with --address"
                    .to_owned()
            }
            Failure::NoScheduler => {
                "write the line that the scheduler printed for workers: manyhands \
                                     worker manyhands://TOKEN@HOST:PORT"
                    .to_owned()
            }
            Failure::Unknown { hint, .. } => hint.clone(),
            Failure::Ambiguous { .. } => "write more of it".to_owned(),
            Failure::File { .. } | Failure::Value { .. } | Failure::Client(_) => return None,
            Failure::Daemon { .. } | Failure::Print(_) => return None,
        })
    }

    /// Prints it; the code to end with.
    pub(crate) fn report(&self) -> u8 {
        if let Failure::Print(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever closed our output does not want the rest of it.
            return 0;
        }
        eprintln!("error: {self}");
        if let Some(hint) = self.hint() {
            eprintln!("hint: {hint}");
        }
        self.code()
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Value { .. } | Failure::NoAddress | Failure::NoScheduler => 2,
            _ => 1,
        }
    }

    /// A file that could not be read or written.
    pub(crate) fn file(path: impl Into<PathBuf>, what: &'static str, source: io::Error) -> Failure {
        Failure::File { path: path.into(), what, source }
    }

    /// A value that is not what it should be.
    pub(crate) fn value(what: impl fmt::Display, message: impl fmt::Display) -> Failure {
        Failure::Value { what: what.to_string(), message: message.to_string() }
    }
}
