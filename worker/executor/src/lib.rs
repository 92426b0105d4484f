//! What runs the tasks of manyhands: linked into users' binaries.
//!
//! A program that links this crate can be its own executor: the worker re-executes it as a
//! *template* process, which is taken over before `main` and forks executors on command. This crate
//! promises that a program which is not started that way never notices it, and that whatever an
//! executor does, its worker at most loses that executor.
//!
//! # Layout
//! - [`registry`]: the functions of this program that can run as tasks.
//! - [`invocation`]: one call of a function: its arguments where they lie, and what it returns.
//! - [`context`]: what code inside a running task can ask for.

pub mod context;
pub mod invocation;
mod message;
pub mod registry;

#[doc(hidden)]
pub use linkme;

pub use invocation::{Arg, Invocation, Loaded};
pub use registry::{TASKS, TaskEntry, function_id};
