//! What the parts of a node share.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_proto::WorkerId;
use manyhands_proto::frame::Hello;
use manyhands_proto::link::Key;
use quinn::Endpoint;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::config::BulkConfig;
use super::demand::Demands;
use super::links::Links;
use super::meter::Meter;
use super::pace::Pace;
use super::queue::Fetches;
use super::shelves::Shelves;

/// Requests of this node that are under way at one time.
const ASKS: usize = 1024;

/// A node.
pub(super) struct Node {
    pub(super) config: BulkConfig,
    pub(super) hello: Hello,
    pub(super) runtime: Handle,
    pub(super) endpoint: Endpoint,
    pub(super) links: Links,
    pub(super) shelves: Option<Arc<dyn Shelves>>,
    pub(super) fetches: Fetches,
    pub(super) asks: Semaphore,
    pub(super) demands: Demands,
    pub(super) serves: Semaphore,
    /// Uploads that are coming in.
    pub(super) puts: Mutex<HashSet<Key>>,
    pub(super) pace: Pace,
    /// Bytes that were given away.
    pub(super) given: AtomicU64,
    pub(super) meter: Meter,
    me: Mutex<Option<WorkerId>>,
}

impl Node {
    pub(super) fn new(
        config: BulkConfig,
        hello: Hello,
        runtime: Handle,
        endpoint: Endpoint,
        links: Links,
        shelves: Option<Arc<dyn Shelves>>,
    ) -> Node {
        let (asks, serves) = (Semaphore::new(ASKS), Semaphore::new(config.serves));
        let pace = Pace::new(config.give_limit);
        let fetches = Fetches::new(config.fetches, config.waiting);
        Node {
            config,
            hello,
            runtime,
            endpoint,
            links,
            shelves,
            fetches,
            asks,
            demands: Demands::default(),
            serves,
            puts: Mutex::default(),
            pace,
            given: AtomicU64::new(0),
            meter: Meter::default(),
            me: Mutex::new(None),
        }
    }

    /// The worker that this node belongs to.
    pub(super) fn me(&self) -> Option<WorkerId> {
        *self.me.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_me(&self, worker: WorkerId) {
        *self.me.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    }

    /// Whether a worker is on this machine.
    pub(super) fn is_near(&self, worker: WorkerId) -> bool {
        let own = &self.config.host;
        !own.is_empty() && self.links.host(worker).is_some_and(|host| host == *own)
    }
}
