//! Links between the parts of manyhands. In one process messages cross [`mailbox`]es as they are;
//! between machines they will cross QUIC.
//!
//! # Layout
//! - [`clock`]: where a daemon's time comes from.
//! - [`mailbox`]: a queue that a loop sleeps on, and the trait that whoever is told things implements.

pub mod clock;
pub mod mailbox;

pub use clock::Clock;
pub use mailbox::{Closed, Mailbox, Receive, Sender, Source, Waker};
