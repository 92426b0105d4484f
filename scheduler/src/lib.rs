//! The scheduler daemon of manyhands around its core.
//!
//! The core decides; this crate owns what the core may not: the clock, the links, and the order in
//! which actions leave. It promises that whoever sends to the scheduler never waits for it, and
//! that a peer that is gone is forgotten and never an error.
//!
//! # Layout
//! - [`shell`]: one turn of the daemon: take what came, let the core act, send what it wants sent.
//! - [`door`]: how clients and workers join.
//! - `server`: the same for other processes and machines, over QUIC (feature `server`).

pub mod door;
#[cfg(feature = "server")]
pub mod server;
pub mod shell;

pub use manyhands_scheduler_core::Config;

pub use door::{Client, ClientLink, Door, WorkerLink};
pub use shell::Scheduler;
