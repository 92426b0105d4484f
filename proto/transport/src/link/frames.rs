//! Whole frames from the pieces that a stream brings.

use bytes::{Bytes, BytesMut};
use manyhands_proto::frame::{FRAME_LIMIT, FrameError, Hello, PREFIX};
use quinn::{ReadError, RecvStream};
use serde::Serialize;
use thiserror::Error;

/// Bytes of a frame at most while the two sides introduce each other.
pub(super) const OPENING_LIMIT: usize = 256 << 10;

/// Reads frames. Memory grows with what has come and never with what a frame claims to be.
pub(super) struct Frames {
    stream: RecvStream,
    limit: usize,
    /// What the stream brought last.
    piece: Bytes,
    /// The beginning of a frame that did not fit into one piece.
    begun: BytesMut,
}

/// Why no frame came.
#[derive(Debug, Error)]
pub(super) enum ReadFailure {
    /// The connection is of no use any more.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// The peer broke the rules.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
}

impl Frames {
    pub(super) fn new(stream: RecvStream) -> Frames {
        Frames { stream, limit: OPENING_LIMIT, piece: Bytes::new(), begun: BytesMut::new() }
    }

    /// The introductions are over: frames may be large.
    pub(super) fn opened(&mut self) {
        self.limit = FRAME_LIMIT;
    }

    /// The body of the next frame; `None` when the stream has ended. Nothing is lost if the future
    /// is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadFailure> {
        loop {
            if let Some(body) = self.take()? {
                return Ok(Some(body));
            }
            match self.stream.read_chunk(usize::MAX, true).await? {
                Some(chunk) => self.piece = chunk.bytes,
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(ReadFailure::Cut),
            }
        }
    }

    /// A frame from what is here. If there is none, all of the piece is in `begun`.
    fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.begun.is_empty() {
            let whole = self.frame_len(&self.piece)?;
            if let Some(len) = whole.filter(|&len| len <= self.piece.len()) {
                return Ok(Some(self.piece.split_to(len).slice(PREFIX..)));
            }
        }
        self.top_up(PREFIX);
        if let Some(len) = self.frame_len(&self.begun)? {
            self.top_up(len);
            if self.begun.len() == len {
                return Ok(Some(self.begun.split().freeze().slice(PREFIX..)));
            }
        }
        Ok(None)
    }

    /// Moves bytes from the piece until `begun` has `len`.
    fn top_up(&mut self, len: usize) {
        let missing = len.saturating_sub(self.begun.len()).min(self.piece.len());
        self.begun.extend_from_slice(&self.piece.split_to(missing));
    }

    /// Bytes of the frame that begins here, its prefix included, once that is known.
    fn frame_len(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
        match u32::from_le_bytes(*prefix) as usize {
            len if len > self.limit => Err(FrameError::TooLarge(len)),
            len => Ok(Some(PREFIX + len)),
        }
    }
}

/// A hello as a frame.
pub(super) fn encode_hello(hello: &Hello, out: &mut Vec<u8>) {
    let body = hello.to_bytes();
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
}

/// A message of the introductions as a frame.
pub(super) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::new();
    manyhands_proto::frame::encode(message, &mut out)?;
    Ok(out)
}
