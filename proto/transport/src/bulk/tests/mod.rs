//! Nodes over loopback.

mod several;
mod support;
