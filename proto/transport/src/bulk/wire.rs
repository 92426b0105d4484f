//! Frames on the streams of data links, with limits of size and time.

use std::time::Duration;

use manyhands_proto::frame::{self, FrameError, Hello, PREFIX};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Silence within an exchange that is under way after which it is given up. A peer that is dead is
/// noticed earlier, by its connection.
pub(super) const STALL: Duration = Duration::from_secs(10);

/// Bytes of a request for a chunk at most; what it holds is bounded.
pub(super) const SMALL_FRAME: usize = 16 << 10;
/// Bytes of a frame that carries the handles in an object at most.
pub(super) const META_FRAME: usize = 16 << 20;

/// A stream or connection was ended on purpose, for no fault of the peer.
pub(super) const CODE_DONE: VarInt = VarInt::from_u32(0);
/// A connection is refused.
pub(super) const CODE_REFUSED: VarInt = VarInt::from_u32(1);

/// What can go wrong on a stream.
#[derive(Debug, Error)]
pub(super) enum WireError {
    /// The stream or its connection broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing came, or nothing was taken, for [`STALL`].
    #[error("stalled for {} s", STALL.as_secs())]
    Stalled,
    /// What came is no message.
    #[error(transparent)]
    Malformed(#[from] FrameError),
}

impl WireError {
    pub(super) fn broken(error: impl std::fmt::Display) -> WireError {
        WireError::Broken(error.to_string())
    }
}

/// Waits for something on a stream, for [`STALL`] at most.
pub(super) async fn in_time<T, E: std::fmt::Display>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(STALL, work).await {
        Ok(result) => result.map_err(WireError::broken),
        Err(_) => Err(WireError::Stalled),
    }
}

/// Sends a message as a frame.
pub(super) async fn send<M: Serialize>(
    stream: &mut SendStream,
    message: &M,
) -> Result<(), WireError> {
    let mut bytes = Vec::new();
    frame::encode(message, &mut bytes)?;
    in_time(stream.write_all(&bytes)).await
}

/// Receives a message of at most `limit` bytes. No more memory is taken than bytes have come.
pub(super) async fn receive<M: DeserializeOwned>(
    stream: &mut RecvStream,
    limit: usize,
) -> Result<M, WireError> {
    let bytes = receive_bytes(stream, limit).await?;
    Ok(rmp_serde::from_slice(&bytes).map_err(FrameError::from)?)
}

/// As [`receive`], but its beginning may take as long as the connection lasts.
pub(super) async fn receive_patiently<M: DeserializeOwned>(
    stream: &mut RecvStream,
    limit: usize,
) -> Result<M, WireError> {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).await.map_err(WireError::broken)?;
    let bytes = receive_body(stream, prefix, limit).await?;
    Ok(rmp_serde::from_slice(&bytes).map_err(FrameError::from)?)
}

async fn receive_bytes(stream: &mut RecvStream, limit: usize) -> Result<Vec<u8>, WireError> {
    let mut prefix = [0; PREFIX];
    in_time(stream.read_exact(&mut prefix)).await?;
    receive_body(stream, prefix, limit).await
}

async fn receive_body(
    stream: &mut RecvStream,
    prefix: [u8; PREFIX],
    limit: usize,
) -> Result<Vec<u8>, WireError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > limit {
        return Err(FrameError::TooLarge(length).into());
    }
    let mut bytes = Vec::new();
    while bytes.len() < length {
        match in_time(stream.read_chunk(length - bytes.len(), true)).await? {
            Some(chunk) => bytes.extend_from_slice(&chunk.bytes),
            None => return Err(WireError::Broken("a message ended early".to_owned())),
        }
    }
    Ok(bytes)
}

/// The opener's half of the exchange of hellos.
pub(super) async fn greet(connection: &Connection, own: &Hello) -> Result<Hello, WireError> {
    let (mut send, mut recv) = in_time(connection.open_bi()).await?;
    send_hello(&mut send, own).await?;
    receive_hello(&mut recv).await
}

/// The other half: the first stream is the hello's.
pub(super) async fn be_greeted(connection: &Connection, own: &Hello) -> Result<Hello, WireError> {
    let (mut send, mut recv) = in_time(connection.accept_bi()).await?;
    // Ours goes first, so that a peer of another version learns of it in its own words.
    send_hello(&mut send, own).await?;
    receive_hello(&mut recv).await
}

async fn send_hello(stream: &mut SendStream, own: &Hello) -> Result<(), WireError> {
    let body = own.to_bytes();
    let prefix = (body.len() as u32).to_le_bytes();
    in_time(stream.write_all(&[&prefix[..], &body[..]].concat())).await?;
    stream.finish().map_err(WireError::broken)
}

async fn receive_hello(stream: &mut RecvStream) -> Result<Hello, WireError> {
    Ok(Hello::from_bytes(&receive_bytes(stream, SMALL_FRAME).await?)?)
}
