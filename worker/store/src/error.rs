//! What can go wrong in the store.

use std::io;

use manyhands_proto::ObjectId;
use manyhands_proto::executor::Extent;
use manyhands_proto::words::Bytes;
use thiserror::Error;

use crate::Writer;

/// Why the store did not do what it was asked. Whatever it held before it still holds.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Memory is at its limit. Something has to be spilled, or the object go to disk at once.
    #[error(
        "the store is full: {} are needed, {} of {} are used",
        Bytes(*needed),
        Bytes(*used),
        Bytes(*limit)
    )]
    Full {
        /// Bytes asked for.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The disk, too, is at the limit that the store was given.
    #[error(
        "the spill directory is full: {} are needed, {} of {} are used",
        Bytes(*needed),
        Bytes(*used),
        Bytes(*limit)
    )]
    DiskFull {
        /// Bytes asked for.
        needed: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// There is no directory to spill to.
    #[error("the store has no spill directory")]
    NoSpillDir,
    /// The disk refused room for a new object.
    #[error("no room in the spill directory for {}", Bytes(*size))]
    DiskAlloc {
        /// Bytes asked for.
        size: u64,
        /// The disk's own word.
        source: io::Error,
    },
    /// The disk refused to write an object. It is still where it was.
    #[error("object {object} of {} cannot be written to disk", Bytes(*size))]
    Write {
        /// Which.
        object: ObjectId,
        /// Its size in bytes.
        size: u64,
        /// The disk's own word.
        source: io::Error,
    },
    /// The disk refused to read an object.
    #[error("object {object} of {} cannot be read from disk", Bytes(*size))]
    Read {
        /// Which.
        object: ObjectId,
        /// Its size in bytes.
        size: u64,
        /// The disk's own word.
        source: io::Error,
    },
    /// The system refused memory, a mapping or a descriptor.
    #[error("the system refused a segment or its mapping")]
    Segment(#[from] io::Error),
    /// The store has no such object.
    #[error("object {0} is not in the store")]
    UnknownObject(ObjectId),
    /// The store has no such segment (any more).
    #[error("segment {0} is not in the store")]
    UnknownSegment(u32),
    /// A writer published what it was not granted.
    #[error("{writer:?} was not granted {extent:?}")]
    NotGranted {
        /// Who.
        writer: Writer,
        /// What it claims.
        extent: Extent,
    },
}
