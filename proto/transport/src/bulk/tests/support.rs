//! Nodes in one process, shelves that count, and waiting with a limit.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::frame::Role;
use manyhands_proto::link::Key;
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::Peer;
use manyhands_proto::{JobId, Lane, ObjectId, TaskId, WorkerId};

use crate::bulk::*;
use crate::keys::ClusterSecret;

/// What every wait of these tests is limited by.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes([7; 32])
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub(super) fn config(name: &str, role: Role) -> BulkConfig {
    let bind = (role == Role::Worker).then(loopback);
    let mut config = BulkConfig::new(bind, secret().token(role), name);
    config.threads = 1;
    config
}

pub(super) fn object(seq: u64) -> Key {
    let task = TaskId { job: JobId(Default::default()), lane: Lane(1), seq };
    Key::Object(ObjectId { task, index: 0 })
}

pub(super) fn meta(size: u64) -> ObjectMeta {
    ObjectMeta { codec: Codec::POD, size, contains: Vec::new() }
}

/// Bytes that differ from place to place.
pub(super) fn content(size: usize) -> Bytes {
    (0..size as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A worker's objects.
#[derive(Default)]
pub(super) struct Shelf {
    objects: Mutex<HashMap<Key, Held>>,
    pub(super) finds: AtomicU64,
    pub(super) closed: AtomicBool,
    /// What uploads are refused with.
    pub(super) full: Mutex<Option<String>>,
}

impl Shelf {
    pub(super) fn place(&self, key: Key, bytes: Bytes) {
        let held = Held { meta: meta(bytes.len() as u64), bytes };
        self.objects.lock().unwrap().insert(key, held);
    }

    pub(super) fn get(&self, key: Key) -> Option<Bytes> {
        self.objects.lock().unwrap().get(&key).map(|held| held.bytes.clone())
    }
}

/// The shelves of a node, which its sinks put things on.
pub(super) struct Shelved(pub(super) Arc<Shelf>);

impl Shelves for Shelved {
    fn find(&self, key: Key) -> BoxFuture<'_, Option<Held>> {
        self.0.finds.fetch_add(1, Ordering::SeqCst);
        let found = self.0.objects.lock().unwrap().get(&key).cloned();
        Box::pin(async move { found })
    }

    fn accept(&self, key: Key, meta: ObjectMeta) -> BoxFuture<'_, Result<Arc<dyn Sink>, String>> {
        let refused = self.0.full.lock().unwrap().clone();
        let sink = Basin::new(key, meta.size, Some(self.0.clone()));
        Box::pin(async move {
            match refused {
                Some(message) => Err(message),
                None => Ok(sink as Arc<dyn Sink>),
            }
        })
    }
}

/// A sink that counts, and puts what has come onto a shelf.
pub(super) struct Basin {
    key: Key,
    bytes: Mutex<Vec<u8>>,
    shelf: Option<Arc<Shelf>>,
    pub(super) written: AtomicU64,
    pub(super) aborted: AtomicBool,
    pub(super) broken: AtomicBool,
    /// Told the total whenever something was written.
    pub(super) told: Mutex<Option<mpsc::Sender<u64>>>,
}

impl Basin {
    pub(super) fn new(key: Key, size: u64, shelf: Option<Arc<Shelf>>) -> Arc<Basin> {
        Arc::new(Basin {
            key,
            bytes: Mutex::new(vec![0; size as usize]),
            shelf,
            written: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            told: Mutex::default(),
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Sink for Basin {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the basin leaks"));
        }
        let offset = offset as usize;
        self.bytes.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        let before = self.written.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        if let Some(told) = &*self.told.lock().unwrap() {
            let _ = told.send(before + bytes.len() as u64);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let offset = offset as usize;
        Ok(Bytes::copy_from_slice(&self.bytes.lock().unwrap()[offset..offset + length]))
    }

    fn finish(&self, meta: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        if let Some(shelf) = &self.shelf {
            let held = Held { meta: meta.clone(), bytes: self.bytes().into() };
            shelf.objects.lock().unwrap().insert(self.key, held);
        }
        Box::pin(async { Ok(()) })
    }

    fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
    }
}

/// A worker.
pub(super) struct Worker {
    pub(super) bulk: Bulk,
    pub(super) id: WorkerId,
    pub(super) shelf: Arc<Shelf>,
}

impl Worker {
    pub(super) fn start(id: u32) -> Worker {
        Worker::start_with(id, config(&format!("w{id}"), Role::Worker))
    }

    pub(super) fn start_with(id: u32, config: BulkConfig) -> Worker {
        let shelf = Arc::new(Shelf::default());
        let bulk = Bulk::start(config, Some(Arc::new(Shelved(shelf.clone())))).unwrap();
        let id = WorkerId(id);
        bulk.own(id);
        Worker { bulk, id, shelf }
    }

    pub(super) fn peer(&self) -> Peer {
        let addresses = vec![self.bulk.local_addr().unwrap()];
        Peer { worker: self.id, addresses, host: String::new() }
    }

    /// Begins to fetch into a basin of its own.
    pub(super) fn fetch(&self, want: Want) -> Fetching {
        Fetching::start(&self.bulk, want, Some(self.shelf.clone()))
    }
}

pub(super) fn client() -> Bulk {
    Bulk::start(config("client", Role::Client), None).unwrap()
}

/// Tells all of them of all of them.
pub(super) fn introduce(workers: &[Worker]) {
    for worker in workers {
        worker.bulk.peers(workers.iter().map(Worker::peer).collect());
    }
}

/// A fetch that a test waits for.
pub(super) struct Fetching {
    pub(super) id: FetchId,
    pub(super) basin: Arc<Basin>,
    result: mpsc::Receiver<Result<ObjectMeta, FetchError>>,
}

impl Fetching {
    pub(super) fn start(bulk: &Bulk, want: Want, shelf: Option<Arc<Shelf>>) -> Fetching {
        let basin = Basin::new(want.key, want.size.unwrap_or(0), shelf);
        let (told, result) = mpsc::channel();
        let done = move |result| told.send(result).unwrap_or(());
        let id = bulk.fetch(want, basin.clone(), done);
        Fetching { id, basin, result }
    }

    pub(super) fn wait(&self) -> Result<ObjectMeta, FetchError> {
        self.result.recv_timeout(LIMIT).expect("waited for the end of a fetch")
    }
}
