//! How a link between machines begins, and what its frames are.
//!
//! # Control
//! Whoever opens a connection to the scheduler opens one bidirectional stream on it. Both sides
//! first send their [`Hello`](crate::frame::Hello) as a frame (a named map, so that any two versions
//! can refuse each other), then the opener an [`Open`], and the scheduler an [`Opened`]. From then on
//! each frame is a [`Batch`]; the stream of a connection keeps their order, and what the last
//! connection of a session may have lost is sent again on the next one, by the numbers that the two
//! exchanged.
//!
//! # Data
//! Whoever opens a connection to a worker sends its hello on the first stream, and then opens a
//! stream for each request.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Lane, ObjectId, SessionId, WorkerId};
use crate::session::Resume;
use crate::value::ObjectMeta;
use crate::worker::WorkerSpec;

/// What a peer wants of the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Open {
    /// A session.
    New {
        /// Chosen by chance; whoever comes back must know it.
        key: u128,
        /// As what.
        join: Join,
    },
    /// A session that it has had.
    Again {
        /// Which.
        session: SessionId,
        /// Its key.
        key: u128,
        /// How far it has heard.
        resume: Resume,
    },
}

/// As what a peer joins. It must fit the role that its key proves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Join {
    /// A client, with a name for people.
    Client {
        /// The name.
        name: String,
    },
    /// A worker.
    Worker(WorkerSpec),
}

/// The scheduler's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Opened {
    /// The session of a client begins.
    Client {
        /// Its number.
        session: SessionId,
        /// The lane in which it names what it submits.
        lane: Lane,
        /// How long (microseconds) the session outlives a broken link.
        grace_us: u64,
    },
    /// The session of a worker begins.
    Worker {
        /// Its number.
        session: SessionId,
        /// The worker's id.
        worker: WorkerId,
        /// How long (microseconds) the session outlives a broken link.
        grace_us: u64,
    },
    /// The session goes on.
    Again {
        /// How far the scheduler has heard.
        resume: Resume,
    },
    /// No.
    Refused {
        /// Why, and what to do.
        message: String,
        /// The session that was asked for is over: a new one may be begun.
        over: bool,
    },
}

/// A frame of a session: messages that are delivered together, encoded once and kept so until they
/// are acknowledged. An empty one has no number: it acknowledges, and shows that its sender lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// All batches of the other side below this number have arrived.
    pub ack: u64,
    /// MessagePack of a list of messages; nothing at all in an empty batch.
    pub messages: Bytes,
}

/// Something that can be had over a data link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// An object.
    Object(ObjectId),
    /// A program, by the hash of its binary.
    Program(u128),
}

/// The first frame of a stream on a data link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Some of an object's bytes.
    Get {
        /// Of what.
        key: Key,
        /// The asker's own worker id, if it is one: others may be sent to it for what it has got.
        asker: Option<WorkerId>,
        /// From this byte.
        offset: u64,
        /// So many at most.
        length: u64,
    },
    /// An object or program for this worker to keep. The bytes follow the answer.
    Put {
        /// Its name.
        key: Key,
        /// Codec, size and handles.
        meta: ObjectMeta,
    },
}

/// The first frame of the answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// `length` bytes from `offset` follow: as much of what was asked for as is there and may be
    /// sent at one time, at least one byte unless the object is empty.
    Bytes {
        /// Codec, size and handles.
        meta: ObjectMeta,
        /// Where they begin.
        offset: u64,
        /// How many follow.
        length: u64,
        /// Others that have some of it, or are about to.
        others: Vec<WorkerId>,
    },
    /// It is coming here and those bytes have not come yet, or too many are being served.
    Later {
        /// Others that have some of it.
        others: Vec<WorkerId>,
    },
    /// The bytes of a put may follow; the worker answers once more when all have come.
    Go,
    /// All bytes of a put have come, and the worker keeps them.
    Done,
    /// It is not here, or cannot be taken.
    Refused {
        /// Why.
        message: String,
    },
}
