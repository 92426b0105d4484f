//! The template process and the executors that it forks.
//!
//! # How a program becomes one
//!
//! A worker starts `/proc/self/exe` with [`VARIABLE`] in the environment and a socket as standard
//! input. Before `main`, while there is a single thread, a constructor sees the variable and never
//! returns: the process is a *template*, which forks an executor per [`ToTemplate::Fork`] and
//! reports its death. `main`, the arguments and a test harness take no part in any of it.
//!
//! With [`LIST_VARIABLE`] in its place the constructor prints which tasks the program has and ends:
//! so clients in other languages learn what they can call.
//!
//! # Who dies with whom
//!
//! - The worker dies, however: the socket ends, and the template kills its executors' process
//!   groups and all other descendants, which the kernel hands to it as a child subreaper, until
//!   none is left.
//! - The template dies: the kernel kills the executors (`PR_SET_PDEATHSIG`, against a parent with a
//!   single thread), and the worker kills their process groups.
//! - An executor dies: the template kills what is left of its process group before it reports.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

mod child;
pub(crate) mod foreign;
mod listing;
mod template;

pub(crate) use child::exit;
pub use listing::{LIST_VARIABLE, read_list};

/// The variable of the environment that makes a process of this program a template. Its value is
/// the version of this conversation.
pub const VARIABLE: &str = "MANYHANDS_TEMPLATE";

/// The only value of [`VARIABLE`] that this build understands.
pub const VERSION: &str = "1";

/// The largest message between worker and template, in bytes. Each is a packet of its own.
pub const PACKET_LIMIT: usize = 4096;

/// From a worker to its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToTemplate {
    /// Forks an executor. Beside it, in this order: its control socket, ring file, files for
    /// standard output and error, and the worker's eventfd.
    Fork {
        /// Its number.
        executor: u32,
    },
    /// Sends SIGINT to an executor, and to nothing else of its process group.
    Interrupt {
        /// Its number.
        executor: u32,
    },
    /// Sends SIGKILL to an executor and its process group.
    Kill {
        /// Its number.
        executor: u32,
    },
}

/// From a template to its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTemplate {
    /// An executor was forked.
    Forked {
        /// Its number.
        executor: u32,
        /// Its process id, which is the id of its process group as well.
        pid: u32,
    },
    /// An executor could not be forked.
    ForkFailed {
        /// Its number.
        executor: u32,
        /// Why.
        message: String,
    },
    /// An executor has died, and its process group with it.
    Died {
        /// Its number.
        executor: u32,
        /// The signal that killed it.
        signal: Option<i32>,
        /// Its exit code.
        exit_code: Option<i32>,
        /// The most memory it had resident, bytes.
        peak_memory: u64,
    },
}

/// What comes beside [`ToTemplate::Fork`].
struct Inheritance {
    control: OwnedFd,
    ring: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    worker: OwnedFd,
}

/// A program that is not the file that this process was started from: a library that an interpreter
/// has loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its file, which names it by its content.
    pub file: PathBuf,
    /// What loads it anew, first the program and then its arguments: with [`VARIABLE`] in its
    /// environment it is a template.
    pub command: Vec<OsString>,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();

/// From now on this is what this process counts as its own program. Counts once, before the program
/// is first asked for.
pub fn set_own_program(loaded: Loaded) {
    // A second one would be the same library.
    let _ = LOADED.set(loaded);
}

/// What stands for the file that this process was started from, if anything does.
pub fn loaded() -> Option<&'static Loaded> {
    LOADED.get()
}

/// The file of this process's own program, also if another took its name since.
pub fn own_file() -> &'static Path {
    loaded().map_or(Path::new("/proc/self/exe"), |loaded| &loaded.file)
}

/// Makes sure that the constructor is part of a program that can be a worker.
pub fn is_linked() -> bool {
    template::CONSTRUCTOR as usize != 0
}
