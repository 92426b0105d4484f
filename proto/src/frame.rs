//! Length-prefixed MessagePack frames, and the hello with its version rule.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The protocol between live peers. Compared for equality; 0 is reserved.
pub const PROTOCOL: u32 = 3;

/// The largest frame that a peer accepts, in bytes.
pub const FRAME_LIMIT: usize = 64 << 20;

/// Bytes of the length that precedes a frame (`u32`, little endian).
pub const PREFIX: usize = 4;

/// Why bytes are not a frame, or not one that is welcome.
#[derive(Debug, Error)]
pub enum FrameError {
    /// It claims, or would have, too many bytes.
    #[error("frame of {0} bytes is larger than the limit of {FRAME_LIMIT}")]
    TooLarge(usize),
    /// It is not what it should be.
    #[error("malformed frame: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// It cannot be encoded.
    #[error("message cannot be encoded: {0}")]
    Unencodable(#[from] rmp_serde::encode::Error),
    /// The peer speaks another version.
    #[error(
        "peer {peer} speaks protocol {theirs}, this is version {ours}: upgrade the older of the two \
         (peer runs manyhands {version})"
    )]
    Version {
        /// The peer's name for people.
        peer: String,
        /// Its protocol.
        theirs: u32,
        /// Ours.
        ours: u32,
        /// The version of its software.
        version: String,
    },
}

/// Appends a message as a frame to `out`. On error `out` is as it was.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    if let Err(error) = rmp_serde::encode::write(out, message) {
        out.truncate(start);
        return Err(error.into());
    }
    let len = out.len() - start - PREFIX;
    if len > FRAME_LIMIT {
        out.truncate(start);
        return Err(FrameError::TooLarge(len));
    }
    out[start..start + PREFIX].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// Takes the first whole frame from the front of `input`: the message and how many bytes it took,
/// or `None` if more bytes are needed.
pub fn decode<M: DeserializeOwned>(input: &[u8]) -> Result<Option<(M, usize)>, FrameError> {
    let Some(prefix) = input.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = u32::from_le_bytes(*prefix) as usize;
    if len > FRAME_LIMIT {
        return Err(FrameError::TooLarge(len));
    }
    let Some(body) = input[PREFIX..].get(..len) else { return Ok(None) };
    Ok(Some((rmp_serde::from_slice(body)?, PREFIX + len)))
}

/// The first thing that either side of a link says. Sent as a named map whose shape never changes,
/// so that any two versions can refuse each other politely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the software, for people.
    pub version: String,
    /// Name of the node, for people.
    pub node: String,
    /// What the peer is.
    pub role: Role,
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The scheduler.
    Scheduler,
    /// A worker.
    Worker,
    /// A client.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Scheduler => "scheduler",
            Role::Worker => "worker",
            Role::Client => "client",
        })
    }
}

impl Hello {
    /// This build's own hello.
    pub fn own(node: impl Into<String>, role: Role) -> Hello {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Hello { protocol: PROTOCOL, version, node: node.into(), role }
    }

    /// As bytes: a MessagePack map.
    pub fn to_bytes(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a hello of strings and numbers can be encoded")
    }

    /// Reads a peer's hello and refuses other versions.
    pub fn from_bytes(bytes: &[u8]) -> Result<Hello, FrameError> {
        let hello: Hello = rmp_serde::from_slice(bytes)?;
        if hello.protocol != PROTOCOL {
            return Err(FrameError::Version {
                peer: hello.node,
                theirs: hello.protocol,
                ours: PROTOCOL,
                version: hello.version,
            });
        }
        Ok(hello)
    }
}
