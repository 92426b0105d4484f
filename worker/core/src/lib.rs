//! The state machine of a worker of manyhands: events in, actions out.
//!
//! It promises that the same events at the same times give the same actions: it has no clock, no
//! files, no threads and no randomness, and the order of no hash map decides anything. Every
//! attempt that is assigned is answered once: by its end, or handed back. What the store keeps in
//! memory never passes its limit, except for small values that tasks return inside messages. What a
//! fed or running task reads is neither spilled nor freed.
//!
//! # Layout
//! - [`event`], [`action`]: what can happen, and what is done about it: the table of contents.
//! - `core`: the state, and which handler an event goes to.
//! - `attempts`, `objects`: the two tables, with dense numbers; `lanes`: from ids to these;
//!   `small`: objects that are nothing but a few bytes.
//! - `queue`: what waits, in order of priority; assigned, retracted.
//! - `executors`: the processes: started, lost, killed, sent away.
//! - `feed`: which executor gets which task when, and what is taken back.
//! - `ends`: how attempts end, and what becomes of their results.
//! - `block`: tasks that wait for tasks: slots lent, children run in place.
//! - `limits`: cancels, time limits, deadlines, memory limits.
//! - `memory`, `arrivals`: room in the store; objects that go to disk, come, and are asked for.
//! - `peers`: what others have of this worker: copies, values that they want; and leaving them.
//! - `functions`: what the scheduler has described, and which executor was told of it.
//! - `programs`: programs that are not here: asked for, awaited, refused.
//! - `explain`: why a task is where it is; how full the worker is.

pub mod action;
mod arrivals;
mod attempts;
mod block;
mod config;
mod core;
mod ends;
pub mod event;
mod executors;
mod explain;
mod feed;
mod functions;
mod lanes;
mod limits;
mod memory;
mod objects;
mod peers;
mod programs;
mod queue;
mod small;
#[cfg(test)]
mod tests;

pub use action::Action;
pub use config::Config;
pub use core::Core;
pub use event::{Event, ExecutorId, LocalValue, ProgramNews};
