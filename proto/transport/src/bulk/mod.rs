//! Large values, and programs: straight from worker to worker, and between workers and clients.
//!
//! A [`Bulk`] is one node of this: a QUIC endpoint on threads of its own. It promises that
//! - what is fetched comes from whoever has it: several at once, those on the same machine first,
//!   those who are still fetching it themselves as far as it has come to them, so that a broadcast
//!   costs its origin little more than one copy;
//! - a fetch survives what breaks, costs again only the chunks that were under way, and ends: with
//!   the object, or with an error that says of each source why it gave nothing;
//! - bytes are sent from where they lie, and written to where they belong as they come;
//! - there is a limit on everything: fetches, requests, chunks under way, connections, time. What a
//!   peer sends can be refused, but breaks nothing.
//!
//! It checks no content: the caller compares hashes where there are some.
//!
//! # Layout
//! - [`Bulk`], here: a node, and what can be asked of it.
//! - `config`, `shelves`, `error`: what a node is given, and what it answers.
//! - `state`, `source`: what a fetch has and what it asks next; pure. `chunks`: sets of chunks, and
//!   which to give.
//! - `fetch`, `ask`, `queue`, `read`: fetches at work.
//! - `serve`, `accept`, `demand`: the side that gives, and takes uploads. `put`: the side that
//!   sends them.
//! - `links`, `wire`, `node`, `meter`: connections, frames, what is shared, how fast it is.

mod accept;
mod ask;
mod chunks;
mod config;
mod demand;
mod error;
mod fetch;
mod links;
mod meter;
mod node;
mod pace;
mod put;
mod queue;
mod read;
mod serve;
mod shelves;
mod source;
mod state;
mod wire;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::frame::{Hello, Role};
use manyhands_proto::link::Key;
use manyhands_proto::value::ObjectMeta;
use manyhands_proto::worker::Peer;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

pub use self::config::{BulkConfig, Want};
pub use self::error::{FetchError, PutError, SourceError};
pub use self::shelves::{BoxFuture, Held, Shelves, Sink};

use self::fetch::{Done, Fetch};
use self::links::Links;
use self::node::Node;
use crate::quic;

/// How often what is not used any more is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a node that ends takes to tell its peers.
const FAREWELL: Duration = Duration::from_millis(300);

/// One fetch of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FetchId(u64);

/// What a node has done and is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkStats {
    /// Fetches that run.
    pub running: usize,
    /// Fetches that wait for their turn.
    pub waiting: usize,
    /// Bytes of objects that have come by fetches, useful or not.
    pub taken: u64,
    /// Bytes of objects that were given to others who fetched them.
    pub given: u64,
}

/// A node. When it is dropped, fetches that are under way are cancelled.
pub struct Bulk {
    node: Arc<Node>,
    runtime: Option<Runtime>,
}

impl Bulk {
    /// Starts a node. `shelves` is what others may fetch from it and put into it; without, it only
    /// fetches and sends. Fails when the address cannot be bound or threads cannot be started.
    pub fn start(config: BulkConfig, shelves: Option<Arc<dyn Shelves>>) -> io::Result<Bulk> {
        let threads = config.thread_count();
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("manyhands-bulk")
            .enable_all()
            .build()?;
        let node = {
            let _context = runtime.enter();
            Arc::new(open(config, shelves, runtime.handle().clone())?)
        };
        if node.shelves.is_some() {
            runtime.spawn(serve::serve(node.clone()));
        }
        runtime.spawn(sweep(Arc::downgrade(&node)));
        Ok(Bulk { node, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.node.endpoint.local_addr()
    }

    /// The worker that this node belongs to, from now on: others are told that it has what it
    /// fetches.
    pub fn own(&self, worker: WorkerId) {
        self.node.set_me(worker);
    }

    /// Workers, or new addresses of some.
    pub fn peers(&self, peers: Vec<Peer>) {
        let workers: Vec<_> = peers.iter().map(|peer| peer.worker).collect();
        peers.into_iter().for_each(|peer| self.node.links.add(peer));
        for fetch in self.node.fetches.all() {
            for worker in &workers {
                fetch.found(*worker, self.node.is_near(*worker));
            }
        }
    }

    /// These will not come back: fetches do not wait for them any more.
    pub fn peers_gone(&self, workers: &[WorkerId]) {
        workers.iter().for_each(|worker| self.node.links.remove(*worker));
        for fetch in self.node.fetches.all() {
            workers.iter().for_each(|worker| fetch.gone(*worker));
        }
    }

    /// Fetches an object or program into `sink`, and then calls `done`: never within this call, but
    /// on a thread of this node's, which it must not block. It is queued if others are before it.
    pub fn fetch(
        &self,
        want: Want,
        sink: Arc<dyn Sink>,
        done: impl FnOnce(Result<ObjectMeta, FetchError>) + Send + 'static,
    ) -> FetchId {
        self.begin(want, sink, Box::new(done))
    }

    fn begin(&self, want: Want, sink: Arc<dyn Sink>, done: Done) -> FetchId {
        let (id, key) = (self.node.fetches.next_id(), want.key);
        let fetch = Arc::new(Fetch::new(id, want, sink, self.node.me(), done));
        match self.node.fetches.enter(fetch.clone()) {
            Ok(()) => start_next(&self.node),
            Err(limit) => {
                self.node.runtime.spawn(async move {
                    fetch.sink.abort();
                    fetch.finish(Err(FetchError::TooMany { key, limit }));
                });
            }
        }
        id
    }

    /// Ends a fetch with [`FetchError::Cancelled`], unless it has ended by then.
    pub fn cancel(&self, id: FetchId) {
        let Some(fetch) = self.node.fetches.by_id(id) else { return };
        let error = FetchError::Cancelled { key: fetch.want.key };
        fetch.break_off(error.clone());
        if self.node.fetches.withdraw(&fetch) {
            self.node.runtime.spawn(async move {
                fetch.sink.abort();
                fetch.finish(Err(error));
            });
        }
    }

    /// Fetches into memory. Can be awaited in any runtime.
    pub async fn read(&self, want: Want) -> Result<(ObjectMeta, Bytes), FetchError> {
        let key = want.key;
        let result = self.start_read(want).await;
        result.unwrap_or(Err(FetchError::Cancelled { key }))
    }

    /// As [`Bulk::read`], for a thread that may block.
    pub fn read_blocking(&self, want: Want) -> Result<(ObjectMeta, Bytes), FetchError> {
        let key = want.key;
        let result = self.start_read(want).blocking_recv();
        result.unwrap_or(Err(FetchError::Cancelled { key }))
    }

    fn start_read(&self, want: Want) -> oneshot::Receiver<Result<(ObjectMeta, Bytes), FetchError>> {
        let (told, result) = oneshot::channel();
        let memory = Arc::new(read::Memory::new(want.size.unwrap_or(0)));
        let sink = memory.clone();
        let done = move |result: Result<ObjectMeta, FetchError>| {
            let _ = told.send(result.map(|meta| (meta, memory.take())));
        };
        self.begin(want, sink, Box::new(done));
        result
    }

    /// Sends an object or program to a worker, which has it when this returns. A worker that cannot
    /// be reached is tried again for so long. Can be awaited in any runtime.
    pub async fn put(
        &self,
        to: WorkerId,
        key: Key,
        meta: ObjectMeta,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<(), PutError> {
        let sending = self.start_put(to, key, meta, bytes, patience);
        sending.await.unwrap_or(Err(PutError::Ended { key }))
    }

    /// As [`Bulk::put`], for a thread that may block.
    pub fn put_blocking(
        &self,
        to: WorkerId,
        key: Key,
        meta: ObjectMeta,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<(), PutError> {
        let sending = self.start_put(to, key, meta, bytes, patience);
        sending.blocking_recv().unwrap_or(Err(PutError::Ended { key }))
    }

    fn start_put(
        &self,
        to: WorkerId,
        key: Key,
        meta: ObjectMeta,
        bytes: Bytes,
        patience: Duration,
    ) -> oneshot::Receiver<Result<(), PutError>> {
        let (told, result) = oneshot::channel();
        let node = self.node.clone();
        self.node.runtime.spawn(async move {
            let _ = told.send(put::put(node, to, key, meta, bytes, patience).await);
        });
        result
    }

    /// What this node has done and is doing.
    pub fn stats(&self) -> BulkStats {
        let (running, waiting) = self.node.fetches.counts();
        let (taken, given) = (self.node.meter.total(), self.node.given.load(Ordering::Relaxed));
        BulkStats { running, waiting, taken, given }
    }

    /// Bytes a second that lately came, while any came: a moving average. 0 if none did.
    pub fn bandwidth(&self) -> u64 {
        self.node.meter.rate()
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.node.fetches.all().iter().for_each(|fetch| self.cancel(fetch.id));
        let endpoint = self.node.endpoint.clone();
        endpoint.close(wire::CODE_DONE, b"the node has ended");
        // Peers are told, so that they need not find out. Not here: within another runtime nobody
        // may wait for this one's threads.
        let farewell = move || {
            runtime.block_on(async {
                let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
            });
            runtime.shutdown_background();
        };
        let _ = std::thread::Builder::new().name("manyhands-bulk".to_owned()).spawn(farewell);
    }
}

fn open(
    config: BulkConfig,
    shelves: Option<Arc<dyn Shelves>>,
    runtime: tokio::runtime::Handle,
) -> io::Result<Node> {
    let settings = config.settings();
    let admits = [Role::Worker, Role::Client];
    let serves = shelves.as_ref().filter(|_| config.bind.is_some());
    let server = serves.map(|_| quic::server_config(&config.token, &admits, &settings));
    let endpoint = match config.bind {
        Some(address) => quic::bind(address, server, &settings)?,
        // Reaches addresses of both kinds, where the machine has IPv6.
        None => quic::bind((Ipv6Addr::UNSPECIFIED, 0).into(), None, &settings)
            .or_else(|_| quic::bind((Ipv4Addr::UNSPECIFIED, 0).into(), None, &settings))?,
    };
    let client = quic::client_config(&config.token, Role::Worker, &settings);
    let hello = Hello::own(config.name.clone(), config.token.role());
    let links = Links::new(endpoint.clone(), client, hello.clone());
    Ok(Node::new(config, hello, runtime, endpoint, links, shelves))
}

/// Starts the fetches whose turn has come.
fn start_next(node: &Arc<Node>) {
    while let Some(fetch) = node.fetches.next() {
        node.runtime.spawn(fetch.run(node.clone()));
    }
}

async fn sweep(node: std::sync::Weak<Node>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(node) = node.upgrade() else { return };
        node.demands.sweep();
        node.links.close_idle(node.config.keep_idle);
    }
}

#[cfg(test)]
mod tests;
