//! Nodes over loopback.

mod broadcast;
mod limits;
mod puts;
mod several;
mod strangers;
mod support;
