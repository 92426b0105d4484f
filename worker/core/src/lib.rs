//! The state machine of a worker of manyhands. Under construction.
pub mod action;
mod config;
mod core;
pub mod event;
pub use action::Action;
pub use config::Config;
pub use core::Core;
pub use event::{Event, ExecutorId};
