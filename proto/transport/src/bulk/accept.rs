//! The side that takes uploads.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use manyhands_proto::link::{Key, Reply};
use manyhands_proto::value::ObjectMeta;
use quinn::{RecvStream, SendStream};

use super::node::Node;
use super::shelves::Sink;
use super::wire::{self, WireError, in_time};

/// Pieces that are taken from a stream at one time.
const PIECES: usize = 64;

/// Takes an upload, and answers it.
pub(super) async fn accept(
    node: &Arc<Node>,
    key: Key,
    meta: &ObjectMeta,
    send: &mut SendStream,
    recv: RecvStream,
) -> Result<(), WireError> {
    let reply = take(node, key, meta, send, recv).await?;
    wire::send(send, &reply).await?;
    let _ = send.finish();
    Ok(())
}

/// The last answer.
async fn take(
    node: &Arc<Node>,
    key: Key,
    meta: &ObjectMeta,
    send: &mut SendStream,
    mut recv: RecvStream,
) -> Result<Reply, WireError> {
    let refused = |message| Ok(Reply::Refused { message });
    let Some(shelves) = &node.shelves else {
        return refused("nothing is kept here".to_owned());
    };
    let Some(_claim) = Claim::new(node, key) else {
        // A link that broke is noticed here later than by the sender, who is back already.
        return Ok(Reply::Later { whole: false, others: Vec::new() });
    };
    if shelves.find(key).await.is_some() {
        return Ok(Reply::Done);
    }
    let sink = tokio::select! {
        accepted = shelves.accept(key, meta.clone()) => match accepted {
            Ok(sink) => Unfinished(Some(sink)),
            Err(message) => return refused(message),
        },
        // The sender has gone away while it waited for room.
        _ = send.stopped() => return Err(WireError::Broken("the sender left".to_owned())),
    };
    wire::send(send, &Reply::Go).await?;
    if let Err(message) = write_all(sink.get(), &mut recv, meta.size).await? {
        return refused(message);
    }
    match sink.get().finish(meta).await {
        Ok(()) => {
            sink.keep();
            Ok(Reply::Done)
        }
        Err(message) => refused(message),
    }
}

/// Writes all that comes; an error within is one that the sender is told of.
async fn write_all(
    sink: &dyn Sink,
    recv: &mut RecvStream,
    size: u64,
) -> Result<Result<(), String>, WireError> {
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    let mut taken = 0;
    while let Some(count) = in_time(recv.read_chunks(&mut pieces)).await? {
        for piece in &mut pieces[..count] {
            let piece = std::mem::take(piece);
            if taken + piece.len() as u64 > size {
                return Ok(Err(format!("more than the {size} bytes that were announced")));
            }
            if let Err(error) = sink.write_at(taken, &piece) {
                return Ok(Err(error.to_string()));
            }
            taken += piece.len() as u64;
        }
    }
    match taken == size {
        true => Ok(Ok(())),
        false => Ok(Err(format!("{taken} of the {size} bytes that were announced"))),
    }
}

/// A sink that is told when nothing comes of it, however that happens.
struct Unfinished(Option<Arc<dyn Sink>>);

impl Unfinished {
    fn get(&self) -> &dyn Sink {
        self.0.as_deref().expect("it is there until it is kept")
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(sink) = &self.0 {
            sink.abort();
        }
    }
}

/// One upload of one key at a time.
struct Claim<'a> {
    node: &'a Node,
    key: Key,
}

impl Claim<'_> {
    fn new(node: &Node, key: Key) -> Option<Claim<'_>> {
        let mut puts = node.puts.lock().unwrap_or_else(PoisonError::into_inner);
        puts.insert(key).then(|| Claim { node, key })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.node.puts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
