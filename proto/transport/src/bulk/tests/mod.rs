//! Nodes over loopback.

mod broadcast;
mod puts;
mod several;
mod strangers;
mod support;
