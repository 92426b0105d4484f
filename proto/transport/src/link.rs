//! Sessions with the scheduler over QUIC, kept up over whatever connections it takes.
//!
//! A session has two ends. Each has a [`Source`](crate::Source) that is asked for messages when the
//! other side can take them, and a [`Receive`](crate::Receive)r that is told what has come, once
//! and in order, over all breaks. What is drained is encoded once, and kept as bytes until the
//! other side has acknowledged it; after a break each side says how far it has heard, and the rest
//! is sent again. A peer that breaks the rules ends its session, in words, and nothing else.
//!
//! The side that opens (a worker or a client) has a [`Link`], the scheduler a [`Host`] and
//! [`serve`].
//!
//! # Layout
//! - `open`: opens a session and keeps it up: dials again with growing pauses.
//! - `dial`: one connection from the opener's side, up to the scheduler's answer.
//! - `serve`: the accepting side: who may begin or resume which session.
//! - `keep`: one session on the accepting side, through its connections and breaks.
//! - `carry`: a session over one connection, until it breaks or somebody says goodbye.
//! - `line`: what one end of a session has sent, what it has heard, and what it has to write next.
//! - `ends`: messages become frames and frames messages; who is told that there is something to
//!   send.
//! - `frames`: whole frames from the pieces that a stream brings.
//! - `refusals`: strangers, in few lines of log.

mod carry;
mod dial;
mod ends;
mod frames;
mod keep;
mod line;
mod open;
mod refusals;
mod serve;
#[cfg(test)]
mod tests;

pub use dial::{Dial, DialError};
pub use ends::{Bell, Ends, Outbox};
pub use open::{Link, Status};
pub use refusals::Refusals;
pub use serve::{Begun, Host, Welcome, serve};
