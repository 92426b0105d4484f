//! The scheduling state machine of manyhands. Under construction.
pub mod action;
pub mod event;
