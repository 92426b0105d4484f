//! One request for one chunk.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::link::{Reply, Request};
use manyhands_proto::value::ObjectMeta;
use quinn::RecvStream;

use super::chunks::lacks;
use super::error::FetchError;
use super::fetch::Fetch;
use super::node::Node;
use super::source::Asked;
use super::wire::{self, CODE_DONE, META_FRAME, WireError, in_time};

/// Pieces that are taken from a stream at one time.
const PIECES: usize = 64;

impl From<WireError> for Asked {
    fn from(error: WireError) -> Asked {
        match error {
            WireError::Malformed(error) => Asked::Corrupt(error.to_string()),
            other => Asked::Unreachable(other.to_string()),
        }
    }
}

/// Asks a worker for a chunk, and tells the fetch how it ended.
pub(super) async fn ask(node: Arc<Node>, fetch: Arc<Fetch>, worker: WorkerId, id: u64) {
    let _permit = node.asks.acquire().await;
    let how = exchange(&node, &fetch, worker, id).await.unwrap_or_else(|how| how);
    fetch.ended(id, how);
}

async fn exchange(
    node: &Arc<Node>,
    fetch: &Fetch,
    worker: WorkerId,
    id: u64,
) -> Result<Asked, Asked> {
    let connection = node.links.get(worker).await.map_err(Asked::Unreachable)?;
    let (mut send, mut recv) = in_time(connection.open_bi()).await?;
    let (wanted, meta) = fetch.wanted();
    let request =
        Request::Get { key: fetch.want.key, asker: node.me(), meta, wanted: wanted.clone() };
    wire::send(&mut send, &request).await?;
    let _ = send.finish();
    match wire::receive(&mut recv, META_FRAME).await? {
        Reply::Bytes { chunk, size, meta, others } => {
            if !lacks(&wanted, chunk) {
                return Err(Asked::Corrupt("a chunk that was not asked for".to_owned()));
            }
            fetch.learn(others, node);
            take(node, fetch, id, recv, chunk, size, meta).await
        }
        Reply::Later { whole, others } => {
            fetch.learn(others, node);
            Ok(Asked::Later { whole })
        }
        Reply::Refused { message } => Ok(Asked::Refused(message)),
        Reply::Go | Reply::Done => Err(Asked::Corrupt("an answer to nothing".to_owned())),
    }
}

/// Takes the chunk that is offered, unless it is coming from elsewhere.
async fn take(
    node: &Node,
    fetch: &Fetch,
    id: u64,
    mut recv: RecvStream,
    chunk: u32,
    size: u64,
    meta: Option<ObjectMeta>,
) -> Result<Asked, Asked> {
    let limit = node.config.unknown_size_limit;
    let offered = fetch.offered(id, chunk, size, meta, limit).map_err(Asked::Corrupt)?;
    let Some((chunks, length)) = offered else {
        let _ = recv.stop(CODE_DONE);
        return Ok(Asked::Declined);
    };
    let mut metered = Metered { node, bytes: 0 };
    node.meter.begin(Instant::now());
    write_all(fetch, &mut recv, chunks.offset(chunk), length, &mut metered.bytes).await?;
    Ok(Asked::Got)
}

/// Writes all that comes into the sink: exactly `length` bytes, and then the end.
async fn write_all(
    fetch: &Fetch,
    recv: &mut RecvStream,
    offset: u64,
    length: u64,
    taken: &mut u64,
) -> Result<(), Asked> {
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    loop {
        let count = match in_time(recv.read_chunks(&mut pieces)).await {
            Ok(Some(count)) => count,
            Ok(None) => break,
            // Cut between its last byte and its end: nothing is missing.
            Err(_) if *taken == length => break,
            Err(error) => return Err(error.into()),
        };
        for piece in &mut pieces[..count] {
            let piece = std::mem::take(piece);
            if *taken + piece.len() as u64 > length {
                return Err(Asked::Corrupt(format!("more than the {length} bytes of a chunk")));
            }
            if let Err(error) = fetch.sink.write_at(offset + *taken, &piece) {
                let (key, message) = (fetch.want.key, error.to_string());
                fetch.break_off(FetchError::Sink { key, message });
                return Err(Asked::Declined);
            }
            *taken += piece.len() as u64;
        }
    }
    match *taken == length {
        true => Ok(()),
        false => Err(Asked::Corrupt(format!("{taken} of the {length} bytes of a chunk"))),
    }
}

/// Counts what has come, however it ends.
struct Metered<'a> {
    node: &'a Node,
    bytes: u64,
}

impl Drop for Metered<'_> {
    fn drop(&mut self) {
        self.node.meter.end(self.bytes, Instant::now());
    }
}
