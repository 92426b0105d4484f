//! Links between the parts of manyhands. In one process messages cross [`mailbox`]es as they are;
//! between machines they cross QUIC (feature `quic`).
//!
//! # Layout
//! - [`clock`]: where a daemon's time comes from.
//! - [`mailbox`]: a queue that a loop sleeps on, and the trait that whoever is told things
//!   implements.
//! - `keys`: the cluster's secret, and the keys and tokens that follow from it.
//! - `address`: where a scheduler is: `manyhands://TOKEN@HOST:PORT`.
//! - `bulk`: large values and programs, from whoever has them.
//! - `machine`: what names a machine and a program, in the same way everywhere.
//! - `link`: sessions with the scheduler, kept up over whatever connections it takes.
//! - `quic`: endpoints, and who may talk to whom.
//! - `turn`: a daemon's synchronous loop as a future, beside the links that feed it.

pub mod clock;
pub mod mailbox;

#[cfg(feature = "quic")]
pub mod address;
#[cfg(feature = "quic")]
pub mod bulk;
#[cfg(feature = "quic")]
pub mod keys;
#[cfg(feature = "quic")]
pub mod link;
pub mod machine;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "quic")]
pub mod turn;

pub use clock::Clock;
pub use mailbox::{Closed, Mailbox, Receive, Sender, Source, Waker};
