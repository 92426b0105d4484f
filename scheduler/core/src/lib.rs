//! The scheduling state machine of manyhands: events in, actions out.
//!
//! It promises that the same events at the same times give the same actions: it has no clock, no
//! sockets, no threads, and no randomness but a seeded one. A shell calls [`Core::handle`] for
//! everything that happens, [`Core::round`] once per turn, and does what the actions say.
//!
//! Tasks, objects, workers and sessions are records under dense 32-bit indices. Who keeps an object
//! alive is a set: sessions, tasks that need it, objects that contain it. What nobody keeps is
//! dropped at the end of the event that let go of it.
//!
//! # Layout
//! - [`event`] and [`action`]: what can happen, and what is wanted done.
//! - [`config`]: settings and policies.
//! - `core`: the entry points, and everything that is known.
//! - The records: `tasks`, `objects`, `holders`, `workers` (with the index of loads), `jobs`,
//!   `sessions`, `functions`, `options`, `values` (small ones, in memory); `slab` and `lanes` find
//!   them.
//! - What happens: `clients` (sessions, jobs, holding and wanting), `submit`, `ends` (results),
//!   `fail` (failures and what they spread to), `lost` (workers and objects), `missing` (inputs
//!   that cannot be fetched), `peers` (who can be reached), `drain` (workers that leave),
//!   `programs` (who has which), `blocked` (waiting tasks lend their slots), `stop` (cancels and
//!   deadlines).
//! - What follows: `ready` (queues), `place` (which task where), `pace` (how fast workers are),
//!   `assign`, `steal`, `collect` (what nobody keeps), `explain` (why a task waits), `check` (the
//!   invariants).
//! - What people ask: `inspect` (the answers), `logs` (what tasks have printed).

pub mod action;
mod assign;
mod blocked;
mod check;
mod clients;
mod collect;
pub mod config;
mod core;
mod drain;
mod ends;
pub mod event;
mod explain;
mod fail;
mod functions;
mod holders;
mod inspect;
mod jobs;
mod lanes;
mod logs;
mod lost;
mod missing;
mod objects;
mod options;
mod pace;
mod peers;
mod place;
mod programs;
mod ready;
mod sessions;
mod slab;
mod steal;
mod stop;
mod streams;
mod submit;
mod tasks;
mod values;
mod workers;

pub use crate::action::Action;
pub use crate::config::{Config, Placement, Policies};
pub use crate::core::Core;
pub use crate::event::Event;
