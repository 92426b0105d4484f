//! An encoded value, its codec, and where it may lie.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::ObjectId;

/// Values up to this size (bytes) travel inside messages and live in their worker's own memory;
/// larger ones lie in segments of the object store.
pub const INLINE_LIMIT: usize = 64 << 10;

/// Values up to this size (bytes) ride with the message that says that their task ended.
pub const RIDE_LIMIT: usize = 1 << 10;

/// How the bytes of a value are to be read. An object carries its codec, so that plain data can
/// cross languages. Numbers never change their meaning; unknown ones are refused by the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Codec(pub u8);

impl Codec {
    /// MessagePack, structs as arrays.
    pub const MSGPACK: Codec = Codec(1);
    /// The elements of a slice of plain old data, in memory order, little endian, nothing else.
    /// The element type is known by the function's signature.
    pub const POD: Codec = Codec(2);
    /// Python's pickle protocol 5 (PEP 574), nothing out of band.
    pub const PICKLE5: Codec = Codec(3);
    /// Bytes as they are: a file, the output of a command. Reserved.
    pub const RAW: Codec = Codec(4);
    /// Python's pickle protocol 5 with buffers out of band. Little endian: how many buffers
    /// (`u32`), length of the pickle (`u32`), then for each buffer its offset from the start of the
    /// value and its length (`u64` each), then the pickle, then the buffers. Offsets are multiples
    /// of 64.
    pub const PICKLE5_BUFFERS: Codec = Codec(5);
    /// The names of a Python call's keyword arguments, which are the last ones, as a MessagePack
    /// list of texts. Only as the first argument of a call.
    pub const KEYWORDS: Codec = Codec(6);
}

/// An encoded value. `Bytes` may own its memory, be part of a message, or keep a mapping of the
/// object store alive (`Bytes::from_owner`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// How to read it.
    pub codec: Codec,
    /// The encoded bytes.
    pub bytes: Bytes,
}

/// What is known of an object besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// How to read it.
    pub codec: Codec,
    /// Encoded size in bytes.
    pub size: u64,
    /// The objects that it holds handles to: they live as long as it does.
    pub contains: Vec<ObjectId>,
}
