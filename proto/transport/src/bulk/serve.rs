//! The side that gives: connections are taken, and requests on them answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::frame::Role;
use manyhands_proto::link::{Key, Reply, Request, Wanted};
use manyhands_proto::value::ObjectMeta;
use quinn::{Connection, Incoming, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};

use super::accept;
use super::chunks::Chunks;
use super::demand::Demand;
use super::error::Named;
use super::fetch::{Fetch, Given};
use super::node::Node;
use super::shelves::Held;
use super::wire::{self, CODE_DONE, CODE_REFUSED, META_FRAME, STALL, WireError, in_time};
use crate::link::Refusals;
use crate::quic;

/// Handshakes under way, above which a peer must show that its address is its own.
const HANDSHAKES: usize = 64;
/// Handshakes under way, above which nobody new is let in.
const HANDSHAKES_MOST: usize = 1024;
/// How long a request waits for its turn, or for a chunk that is still to come, before it is told to
/// come again later.
const WAIT: Duration = Duration::from_secs(2);
/// Bytes that are handed to a stream at one time.
const PIECE: usize = 256 << 10;
/// How long a chunk has its slot at most: who takes longer does not keep others waiting.
const SLOT_FOR: Duration = Duration::from_secs(1);

/// Takes connections until the endpoint is closed.
pub(super) async fn serve(node: Arc<Node>) {
    let (handshakes, refusals) = (Arc::new(()), Arc::new(Refusals::default()));
    while let Some(incoming) = node.endpoint.accept().await {
        let pending = Arc::strong_count(&handshakes) - 1;
        let crowded = node.endpoint.open_connections() >= node.config.connections;
        if crowded || pending >= HANDSHAKES_MOST {
            refusals.note(incoming.remote_address(), &"too many connections at one time");
            incoming.refuse();
        } else if pending >= HANDSHAKES && incoming.may_retry() {
            // Says so only of those who have not: they come again with the proof.
            let _ = incoming.retry();
        } else {
            let (node, refusals, handshake) = (node.clone(), refusals.clone(), handshakes.clone());
            tokio::spawn(async move {
                let from = incoming.remote_address();
                match tokio::time::timeout(STALL, meet(&node, incoming)).await {
                    Ok(Ok((connection, role))) => {
                        drop(handshake);
                        requests(node, connection, role).await;
                    }
                    Ok(Err(error)) => refusals.note(from, &error),
                    Err(_) => refusals.note(from, &"it did not introduce itself in time"),
                }
            });
        }
    }
}

/// Handshake and hellos: who it is.
async fn meet(node: &Node, incoming: Incoming) -> Result<(Connection, Role), String> {
    let connection = incoming.await.map_err(|error| error.to_string())?;
    let refuse = |message: String| {
        connection.close(CODE_REFUSED, message.as_bytes());
        message
    };
    let role = quic::role_of(&connection, &node.config.token);
    let role = role.ok_or_else(|| refuse("its key is of no role".to_owned()))?;
    let hello = wire::be_greeted(&connection, &node.hello).await;
    let hello = hello.map_err(|error| refuse(error.to_string()))?;
    if hello.role != role {
        return Err(refuse(format!("a {role} cannot act as a {}", hello.role)));
    }
    Ok((connection, role))
}

/// Answers the requests of a connection until it ends. How many there are at one time is bounded by
/// the streams that the opener may have.
async fn requests(node: Arc<Node>, connection: Connection, role: Role) {
    let peer = connection.stable_id();
    while let Ok((send, recv)) = connection.accept_bi().await {
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(&node, peer, role, send, recv).await {
                log::debug!("a request on a data link ended: {error}");
            }
        });
    }
}

async fn answer(
    node: &Arc<Node>,
    peer: usize,
    role: Role,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), WireError> {
    match wire::receive(&mut recv, META_FRAME).await? {
        Request::Get { key, asker, meta, wanted } => {
            // Only a worker can have something to give in return.
            let asker = asker.filter(|_| role == Role::Worker);
            let mut get = Get { node, peer, key, meta, wanted, send };
            get.answer(asker).await
        }
        Request::Put { key, meta } => match accept::accept(node, key, &meta, &mut send, recv).await
        {
            Ok(()) => Ok(()),
            Err(error) => {
                let _ = send.reset(CODE_DONE);
                Err(error)
            }
        },
    }
}

/// Somebody asks for a chunk.
struct Get<'a> {
    node: &'a Node,
    /// Its connection.
    peer: usize,
    key: Key,
    meta: bool,
    wanted: Wanted,
    send: SendStream,
}

/// The right to send a chunk, among those of the object and of the node.
struct Slot<'a> {
    _turn: OwnedSemaphorePermit,
    _serve: SemaphorePermit<'a>,
}

impl Slot<'_> {
    /// Has the slot while `work` goes on, but not for longer than [`SLOT_FOR`].
    async fn during<T>(self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(SLOT_FOR) => drop(self),
        }
        work.await
    }
}

impl Get<'_> {
    async fn answer(&mut self, asker: Option<WorkerId>) -> Result<(), WireError> {
        let demand = self.node.demands.of(self.key);
        let others = demand.asked(asker);
        if let Some(fetch) = self.node.fetches.by_key(self.key)
            && self.node.shelves.is_some()
            && self.give_some(&demand, &fetch, &others).await?
        {
            return Ok(());
        }
        match self.find(&demand).await {
            Some(held) => self.give_whole(&demand, held, others).await,
            None => {
                let message = format!("{} is not here", Named(&self.key));
                self.reply(&Reply::Refused { message }).await
            }
        }
    }

    async fn find(&self, demand: &Demand) -> Option<Held> {
        if let Some(held) = demand.held() {
            return Some(held);
        }
        let held = self.node.shelves.as_ref()?.find(self.key).await?;
        if held.bytes.len() as u64 != held.meta.size {
            log::error!(
                "{} has {} bytes and is said to have {}",
                Named(&self.key),
                held.bytes.len(),
                held.meta.size
            );
            return None;
        }
        demand.keep(&held);
        Some(held)
    }

    async fn give_whole(
        &mut self,
        demand: &Demand,
        held: Held,
        others: Vec<WorkerId>,
    ) -> Result<(), WireError> {
        let place = demand.place(self.peer);
        let Some(slot) = slot(self.node, demand, place.is_some()).await else {
            return self.reply(&Reply::Later { whole: true, others }).await;
        };
        let chunks = Chunks { size: held.meta.size };
        let Some(chunk) = demand.pick(chunks, &self.wanted) else {
            let message = format!("{} has no such chunk", Named(&self.key));
            return self.reply(&Reply::Refused { message }).await;
        };
        let sent = slot.during(self.send_whole(chunks, chunk, held, others)).await;
        if sent.is_err() {
            demand.returned(chunk);
        }
        sent
    }

    async fn send_whole(
        &mut self,
        chunks: Chunks,
        chunk: u32,
        held: Held,
        others: Vec<WorkerId>,
    ) -> Result<(), WireError> {
        self.announce(chunk, held.meta, others).await?;
        let from = chunks.offset(chunk) as usize;
        let mut rest = held.bytes.slice(from..from + chunks.length(chunk) as usize);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(PIECE));
            self.give(piece).await?;
        }
        self.end().await
    }

    /// Gives a chunk of what is still coming here, or says that none has come in time. `false`: the
    /// fetch has ended.
    async fn give_some(
        &mut self,
        demand: &Demand,
        fetch: &Arc<Fetch>,
        others: &[WorkerId],
    ) -> Result<bool, WireError> {
        let mut changes = fetch.changes();
        let patience = tokio::time::sleep(WAIT);
        tokio::pin!(patience);
        loop {
            let given = fetch.give(&self.wanted);
            match given {
                Given::Over => return Ok(false),
                Given::Chunk(chunks, chunk, meta) => {
                    let place = demand.place(self.peer);
                    let Some(slot) = slot(self.node, demand, place.is_some()).await else {
                        fetch.returned(chunk);
                        return self.later(others).await;
                    };
                    let (at, length) = (chunks.offset(chunk), chunks.length(chunk));
                    let Ok(first) = read(fetch, at, at + length) else {
                        // This sink cannot give before it has all.
                        return self.later(others).await;
                    };
                    let sending =
                        self.send_some(fetch, at + length, (at, first), chunk, meta, others);
                    let sent = slot.during(sending).await;
                    if sent.is_err() {
                        fetch.returned(chunk);
                    }
                    return sent.map(|()| true);
                }
                Given::NotYet => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = &mut patience => return self.later(others).await,
                _ = self.send.stopped() => return Ok(true),
            }
        }
    }

    async fn send_some(
        &mut self,
        fetch: &Fetch,
        end: u64,
        (mut at, mut piece): (u64, Bytes),
        chunk: u32,
        meta: ObjectMeta,
        others: &[WorkerId],
    ) -> Result<(), WireError> {
        self.announce(chunk, meta, others.to_vec()).await?;
        loop {
            at += piece.len() as u64;
            self.give(piece).await?;
            if at == end {
                return self.end().await;
            }
            piece = read(fetch, at, end)?;
        }
    }

    async fn announce(
        &mut self,
        chunk: u32,
        meta: ObjectMeta,
        others: Vec<WorkerId>,
    ) -> Result<(), WireError> {
        let size = meta.size;
        let meta = self.meta.then_some(meta);
        wire::send(&mut self.send, &Reply::Bytes { chunk, size, meta, others }).await
    }

    /// Hands bytes to the stream.
    async fn give(&mut self, piece: Bytes) -> Result<(), WireError> {
        let length = piece.len();
        self.node.pace.pass(length).await;
        in_time(self.send.write_chunk(piece)).await?;
        self.node.given.fetch_add(length as u64, Ordering::Relaxed);
        Ok(())
    }

    /// What was asked for is coming here, and has not come.
    async fn later(&mut self, others: &[WorkerId]) -> Result<bool, WireError> {
        self.reply(&Reply::Later { whole: false, others: others.to_vec() }).await?;
        Ok(true)
    }

    async fn reply(&mut self, reply: &Reply) -> Result<(), WireError> {
        wire::send(&mut self.send, reply).await?;
        let _ = self.send.finish();
        Ok(())
    }

    /// Ends the stream, and waits until the other side has all of it: so the number of chunks under
    /// way is what the slots say.
    async fn end(&mut self) -> Result<(), WireError> {
        let _ = self.send.finish();
        match in_time(self.send.stopped()).await {
            Ok(None) | Err(WireError::Stalled) => Ok(()),
            Ok(Some(_)) => Err(WireError::Broken("it was not wanted".to_owned())),
            Err(error) => Err(error),
        }
    }
}

/// Waits for the right to send; `None` when it takes too long, and without a place.
async fn slot<'n>(node: &'n Node, demand: &Demand, placed: bool) -> Option<Slot<'n>> {
    if !placed {
        return None;
    }
    let both = async {
        let turn = demand.turns.clone().acquire_owned().await.ok()?;
        let serve = node.serves.acquire().await.ok()?;
        Some(Slot { _turn: turn, _serve: serve })
    };
    tokio::time::timeout(WAIT, both).await.ok().flatten()
}

fn read(fetch: &Fetch, at: u64, end: u64) -> Result<Bytes, WireError> {
    let length = (end - at).min(PIECE as u64) as usize;
    let bytes = fetch.sink.read_at(at, length).map_err(WireError::broken)?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(WireError::Broken("a sink read less than it has".to_owned())),
    }
}
