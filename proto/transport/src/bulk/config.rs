//! What a node is told when it starts, and its limits.

use std::net::SocketAddr;
use std::time::Duration;

use manyhands_proto::WorkerId;
use manyhands_proto::link::Key;

use crate::keys::Token;
use crate::quic::{MTU_LIMIT, Settings};

/// What a node is told when it starts.
#[derive(Clone, Debug)]
pub struct BulkConfig {
    /// Where to listen; `None` for a node that only fetches and sends.
    pub bind: Option<SocketAddr>,
    /// Its role, and the keys of its cluster.
    pub token: Token,
    /// Its name, for people.
    pub name: String,
    /// Its machine, as [`manyhands_proto::worker::Peer::host`] names it: what is on the same one is
    /// asked first.
    pub host: String,
    /// Threads; half as many as there are cores, and 4 at most, when 0. (On two cores a second
    /// thread costs a tenth more of their time and gains nothing.)
    pub threads: usize,
    /// The largest UDP payload (bytes) that is tried.
    pub mtu: u16,
    /// Fetches at one time. Further ones wait, in order.
    pub fetches: usize,
    /// Fetches that may wait.
    pub waiting: usize,
    /// Requests that are served at one time.
    pub serves: usize,
    /// Bytes a second that are given away at most, all requests together.
    pub give_limit: Option<u64>,
    /// Connections that are taken at one time.
    pub connections: usize,
    /// Bytes of an object whose size the caller of a fetch does not know, at most.
    pub unknown_size_limit: u64,
    /// Silence after which a peer counts as unreachable.
    pub idle_timeout: Duration,
    /// A connection that nobody used for so long is closed.
    pub keep_idle: Duration,
}

impl BulkConfig {
    /// The default limits.
    pub fn new(bind: Option<SocketAddr>, token: Token, name: impl Into<String>) -> BulkConfig {
        BulkConfig {
            bind,
            token,
            name: name.into(),
            host: String::new(),
            threads: 0,
            mtu: MTU_LIMIT,
            fetches: 64,
            waiting: 1 << 20,
            serves: 32,
            give_limit: None,
            connections: 4096,
            unknown_size_limit: 4 << 30,
            idle_timeout: Duration::from_secs(3),
            keep_idle: Duration::from_secs(60),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            mtu: self.mtu,
            keep_alive: self.idle_timeout / 3,
            idle_timeout: self.idle_timeout,
            streams: 64,
            stream_window: 16 << 20,
            window: 64 << 20,
            initial_window: 1 << 20,
        }
    }

    pub(super) fn thread_count(&self) -> usize {
        match self.threads {
            0 => (std::thread::available_parallelism().map_or(1, |n| n.get()) / 2).clamp(1, 4),
            threads => threads,
        }
    }
}

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Want {
    /// Its name.
    pub key: Key,
    /// Its size in bytes, if it is known. Sources that say otherwise are not believed.
    pub size: Option<u64>,
    /// Who has it.
    pub from: Vec<WorkerId>,
    /// How long to go on without a sign that it may still come: nobody who has it can be reached,
    /// or gives anything.
    pub patience: Duration,
}

impl Want {
    /// Thirty seconds of patience.
    pub fn new(key: Key, size: impl Into<Option<u64>>, from: Vec<WorkerId>) -> Want {
        Want { key, size: size.into(), from, patience: Duration::from_secs(30) }
    }
}
