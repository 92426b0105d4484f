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
//! - [`context`]: what code inside a running task can ask for; [`stream`]: objects that it makes
//!   one after the other.
//! - [`foreign`]: executors of programs in another language.
//! - [`process`]: the template process and the executors that it forks.
//! - [`ring`]: the memory that a worker and an executor share: tasks down, ends up.
//! - [`control`]: frames over the control socket, with descriptors beside them.
//! - [`wakes`]: when a sleeping worker is woken.
//! - `executor`: the loop that runs tasks. `link`, `segments`, `heap`, `panics`, `signals`,
//!   `message`: what it stands on.
//!
//! `unsafe` is in `ring`, `segments`, `heap`, `signals` and `process` alone.

pub mod context;
pub mod control;
mod executor;
pub mod foreign;
mod heap;
pub mod invocation;
mod link;
mod message;
mod panics;
pub mod process;
pub mod registry;
pub mod ring;
mod segments;
mod signals;
pub mod stream;
pub mod wakes;

#[doc(hidden)]
pub use linkme;

pub use invocation::{Arg, Invocation, Loaded};
pub use registry::{TASKS, TaskEntry, function_id};
