//! The side that sends uploads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::link::{Key, Reply, Request};
use manyhands_proto::value::ObjectMeta;

use super::error::PutError;
use super::node::Node;
use super::wire::{self, SMALL_FRAME, WireError, in_time};

/// Bytes that are handed to a stream at one time.
const PIECE: usize = 1 << 20;
/// Between attempts: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How an attempt ended that may be followed by another one.
enum Again {
    /// Nobody answered, or the link broke: it counts against the sender's patience.
    Broken(String),
    /// Another upload of the same is under way there.
    Busy,
}

/// Sends an object or program to a worker, which has it when this returns. After a break it is sent
/// again, for as long as `patience` allows without an answer.
pub(super) async fn put(
    node: Arc<Node>,
    worker: WorkerId,
    key: Key,
    meta: ObjectMeta,
    bytes: Bytes,
    patience: Duration,
) -> Result<(), PutError> {
    let (mut answered, mut backoff) = (Instant::now(), Duration::ZERO);
    loop {
        match attempt(&node, worker, key, &meta, &bytes).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => return Err(PutError::Refused { key, worker, message }),
            Err(Again::Busy) => answered = Instant::now(),
            Err(Again::Broken(_)) if node.links.host(worker).is_none() => {
                return Err(PutError::Gone { key, worker });
            }
            Err(Again::Broken(message)) if answered.elapsed() > patience => {
                return Err(PutError::Unreachable { key, worker, message });
            }
            Err(Again::Broken(_)) => {}
        }
        backoff = (backoff * 2).clamp(RETRY.0, RETRY.1);
        tokio::time::sleep(backoff).await;
    }
}

impl From<WireError> for Again {
    fn from(error: WireError) -> Again {
        Again::Broken(error.to_string())
    }
}

async fn attempt(
    node: &Node,
    worker: WorkerId,
    key: Key,
    meta: &ObjectMeta,
    bytes: &Bytes,
) -> Result<Result<(), String>, Again> {
    let connection = node.links.get(worker).await.map_err(Again::Broken)?;
    let (mut send, mut recv) = in_time(connection.open_bi()).await?;
    wire::send(&mut send, &Request::Put { key, meta: meta.clone() }).await?;
    // The worker may wait for room: no limit of time here but that of the connection.
    match wire::receive_patiently(&mut recv, SMALL_FRAME).await? {
        Reply::Go => {}
        Reply::Done => return Ok(Ok(())),
        Reply::Refused { message } => return Ok(Err(message)),
        Reply::Later { .. } => return Err(Again::Busy),
        Reply::Bytes { .. } => return Err(Again::Broken("an answer to nothing".to_owned())),
    }
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(PIECE));
        if in_time(send.write_chunk(piece)).await.is_err() {
            // If it was refused midway, the answer says why.
            break;
        }
    }
    let _ = send.finish();
    match wire::receive_patiently(&mut recv, SMALL_FRAME).await? {
        Reply::Done => Ok(Ok(())),
        Reply::Refused { message } => Ok(Err(message)),
        _ => Err(Again::Broken("an answer to nothing".to_owned())),
    }
}
