//! The worker daemon of manyhands around its core.
//!
//! The core decides; this crate owns what the core may not: processes, segments, the disk and the
//! clock. It promises that whatever an executor does (dies, scribbles over its ring, floods its
//! output) costs an attempt of a task and never the daemon.
//!
//! # Layout
//! - [`shell`]: one turn of the daemon: take what came, let the core act, do what it wants done.
//! - [`host`]: the executors: template process, rings, control sockets, output.
//! - [`put`]: how a client in the worker's own process reads and writes large values.
//! - `daemon`: a worker that joins a scheduler over a network (with the feature `daemon`).
//! - `peers`: what passes between this worker and others; `programs`: those that came from clients
//!   (both with the feature `daemon`).
//! - `disk`: the thread that spills and loads; `trim`: when memory that nobody uses is given back.

#[cfg(feature = "daemon")]
pub mod daemon;
mod disk;
mod grants;
pub mod host;
#[cfg(feature = "daemon")]
mod peers;
#[cfg(feature = "daemon")]
mod programs;
pub mod put;
pub mod shell;
mod trim;

#[cfg(feature = "daemon")]
pub use peers::{Exchange, Peers};
pub use put::Shelf;
pub use shell::{Census, Inlet, Mail, PythonConfig, Worker};
