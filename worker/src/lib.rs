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
//! - `disk`: the thread that spills and loads; `trim`: when memory that nobody uses is given back.

mod disk;
mod grants;
pub mod host;
pub mod put;
pub mod shell;
mod trim;

pub use put::Shelf;
pub use shell::{Census, Inlet, Mail, Worker};
