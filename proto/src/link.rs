//! How a link between machines begins, and what its frames are.
//!
//! # Control
//! Whoever opens a connection to the scheduler opens one bidirectional stream on it. Both sides
//! first send their [`Hello`](crate::frame::Hello) as a frame (a named map, so that any two
//! versions can refuse each other), then the opener an [`Open`], and the scheduler an [`Opened`].
//! From then on each frame is a [`Batch`]; the stream of a connection keeps their order, and what
//! the last connection of a session may have lost is sent again on the next one, by the numbers
//! that the two exchanged.
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

/// Bytes of a chunk: what one request on a data link gets at most. An object consists of chunks,
/// counted from 0, of which the last may be shorter; an empty one has one chunk, of no bytes.
pub const CHUNK: u64 = 2 << 20;

/// Bytes of [`Wanted::bits`] at most: 64 GiB of an object.
pub const WANTED_LIMIT: usize = 4 << 10;

/// The chunks that an asker has not got and is not getting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The chunk that the lowest bit of the first byte stands for.
    pub first: u32,
    /// One bit for each chunk from there on.
    pub bits: Bytes,
    /// Of those that would do as well, this one or the next after it, cyclically.
    pub prefer: u32,
}

/// The first frame of a stream on a data link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// One chunk of an object: whichever of those that the asker lacks the giver has, and has given
    /// away least often. So the copies of different askers differ, and they can help each other.
    Get {
        /// Of what.
        key: Key,
        /// The asker's own worker id, if it is one: others may be sent to it for what it has got.
        asker: Option<WorkerId>,
        /// The asker does not know codec and handles yet.
        meta: bool,
        /// What it lacks.
        wanted: Wanted,
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
    /// The bytes of a chunk follow, and the end of the stream. An asker that has got it from
    /// elsewhere in the meantime stops the stream and asks again.
    Bytes {
        /// Which chunk.
        chunk: u32,
        /// Bytes of the whole.
        size: u64,
        /// Codec, size and handles, if they were asked for.
        meta: Option<ObjectMeta>,
        /// Others that have some of it, or are about to.
        others: Vec<WorkerId>,
    },
    /// Not now; it is to be asked for again.
    Later {
        /// All of it is here, and too many are being served. Not `whole`: it is coming here, and
        /// nothing that was asked for has come yet.
        whole: bool,
        /// Others that have some of it, or are about to.
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
