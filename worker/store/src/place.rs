//! Who writes objects, and where they are.

use manyhands_proto::executor::Extent;
use manyhands_proto::value::{Codec, Value};

/// Who fills extents: an executor, by its number, or the daemon (and the clients in its process).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer(pub u32);

impl Writer {
    /// The process that the store is part of.
    pub const DAEMON: Writer = Writer(u32::MAX);
}

/// Where an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In memory: executors map it.
    Memory {
        /// Where exactly; `len` is the object's size.
        extent: Extent,
        /// How to read it.
        codec: Codec,
    },
    /// On disk.
    Disk {
        /// Its size in bytes.
        size: u64,
        /// How to read it.
        codec: Codec,
    },
}

/// An object that came back from disk.
#[derive(Clone, Debug, PartialEq)]
pub enum Loaded {
    /// It is small: the caller has it now, and the store no more.
    Inline(Value),
    /// It lies in memory again.
    Extent {
        /// Where exactly; `len` is the object's size.
        extent: Extent,
        /// How to read it.
        codec: Codec,
    },
}
