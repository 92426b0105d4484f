//! Many hands make light work: write plain functions, and run them over every core.
//!
//! [`task`] on a function leaves it as it is, and lets it run as a task: `f(x)` runs here and now,
//! `f::lazy(x)` makes a node of a graph, `f::submit(&client, x)` starts it at once and gives a
//! [`Handle`].
//!
//! ```
//! use manyhands::Client;
//!
//! #[manyhands::task]
//! fn add(a: i64, b: i64) -> i64 {
//!     a + b
//! }
//!
//! fn main() -> Result<(), manyhands::Error> {
//!     let client = Client::local()?;
//!     let three = add::lazy(1, 2);
//!     let six = add::lazy(&three, 3);
//!     assert_eq!(client.compute(&six)?, 6);
//!     Ok(())
//! }
//! ```
//!
//! This crate promises that a call that returns has done what it says, that nothing waits without
//! being asked to, and that a task that failed tells why in words. Linux only.
//!
//! # Layout
//! - `client`: what a program holds: compute, submit, get, put, wait, cancel.
//! - `cluster`: what people ask of a cluster and its jobs and workers.
//! - `lazy`, `args`, `handle`: calls, what can be given to them, and references to results.
//! - `graph`: building, ordering and drawing graphs.
//! - `map`: a function over an iterator, with a bounded window.
//! - `value`, `slice`: how values become bytes and back.
//! - `session`: the state behind a client, and `connection`, what carries it: `local`, a cluster in
//!   this process, or `remote`, one somewhere else.
//! - `nested`: clients within tasks; `runtime`: what generated code calls.
//! - `python`: calls of Python functions, and how its interpreters are set up; `foreign`: what
//!   clients in other languages stand on.
//! - `output`: what tasks print; `error`: what can go wrong.

#[cfg(test)]
extern crate self as manyhands;

mod args;
mod builder;
mod client;
mod cluster;
mod connection;
mod error;
pub mod foreign;
pub mod graph;
mod handle;
mod lazy;
#[cfg(feature = "local")]
mod local;
mod map;
mod nested;
mod output;
pub mod python;
#[cfg(feature = "cluster")]
mod remote;
#[doc(hidden)]
pub mod runtime;
mod session;
mod slice;
mod targets;
#[cfg(test)]
mod testing;
mod value;

pub use args::IntoArg;
pub use builder::Builder;
pub use client::Client;
pub use cluster::{Cluster, Listed, Logs, inspect};
pub use connection::{Connection, LocalStats, Stored};
pub use error::{Error, TaskError};
pub use handle::{Handle, HandleFuture};
pub use lazy::{Lazy, Parts};
pub use manyhands_macros::task;
pub use manyhands_proto::client::{Explanation, JobCounts, Stream, TaskState};
pub use manyhands_proto::task::FailureKind;
pub use manyhands_proto::{JobId, Lane, ObjectId, TaskId, WorkerId};
pub use map::{AsCompleted, Map};
pub use nested::{current, is_cancelled};
pub use session::{Ends, Session};
pub use slice::Slice;
pub use targets::Targets;
pub use value::Data;

/// The program in the README is compiled and run as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
