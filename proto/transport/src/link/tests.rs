//! Two real ends over loopback QUIC, and what comes between them.

mod relay;
mod sessions;
mod strangers;
mod support;
