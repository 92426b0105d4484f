//! The scheduling state machine of manyhands: events in, actions out.
//!
//! # Layout
//! - [`event`] and [`action`]: what can happen, and what is wanted done.
//! - [`config`]: settings and policies.
//! - `core`: the state machine's entry points.

pub mod action;
pub mod config;
mod core;
pub mod event;

pub use crate::action::Action;
pub use crate::config::{Config, Placement, Policies};
pub use crate::core::Core;
pub use crate::event::Event;
