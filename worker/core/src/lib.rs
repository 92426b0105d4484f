//! The state machine of a worker of manyhands. Under construction.
pub mod action;
pub mod event;
pub use action::Action;
pub use event::Event;
