//! Nodes in one process, shelves that count, and waiting with a limit.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::frame::Role;
use manyhands_proto::link::{CHUNK, Key};
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
    /// How often something was looked for.
    pub(super) finds: AtomicU64,
    /// What uploads are refused with.
    full: Mutex<Option<String>>,
    /// How many uploads were accepted.
    accepted: Mutex<u64>,
    told: Condvar,
}

impl Shelf {
    pub(super) fn place(&self, key: Key, bytes: Bytes) {
        let held = Held { meta: meta(bytes.len() as u64), bytes };
        self.objects.lock().unwrap().insert(key, held);
    }

    /// From now on uploads are refused.
    pub(super) fn refuse(&self, message: &str) {
        *self.full.lock().unwrap() = Some(message.to_owned());
    }

    /// Waits until so many uploads have been accepted.
    pub(super) fn until_accepted(&self, count: u64) {
        let accepted = self.accepted.lock().unwrap();
        let few = |accepted: &mut u64| *accepted < count;
        let waited = self.told.wait_timeout_while(accepted, LIMIT, few).unwrap();
        assert!(!waited.1.timed_out(), "waited for {count} uploads");
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
        *self.0.accepted.lock().unwrap() += 1;
        self.0.told.notify_all();
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
    inner: Mutex<Inner>,
    written: Condvar,
    shelf: Option<Arc<Shelf>>,
    aborted: AtomicBool,
    broken: AtomicBool,
}

struct Inner {
    bytes: Vec<u8>,
    written: u64,
    /// By chunk: how often its last byte came.
    finished: HashMap<u64, u32>,
}

impl Basin {
    pub(super) fn new(key: Key, size: u64, shelf: Option<Arc<Shelf>>) -> Arc<Basin> {
        let inner = Inner { bytes: vec![0; size as usize], written: 0, finished: HashMap::new() };
        Arc::new(Basin {
            key,
            inner: Mutex::new(inner),
            written: Condvar::new(),
            shelf,
            aborted: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.inner.lock().unwrap().bytes.clone()
    }

    /// Bytes that were written, some of them perhaps twice.
    pub(super) fn written(&self) -> u64 {
        self.inner.lock().unwrap().written
    }

    /// Whether no chunk came to its end twice.
    pub(super) fn finished_once(&self) -> bool {
        self.inner.lock().unwrap().finished.values().all(|times| *times == 1)
    }

    pub(super) fn was_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// From now on nothing can be written.
    pub(super) fn break_it(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

impl Sink for Basin {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the basin leaks"));
        }
        let (from, mut inner) = (offset as usize, self.inner.lock().unwrap());
        inner.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        inner.written += bytes.len() as u64;
        let end = offset + bytes.len() as u64;
        if end.is_multiple_of(CHUNK) || end == inner.bytes.len() as u64 {
            *inner.finished.entry((end - 1) / CHUNK).or_default() += 1;
        }
        self.written.notify_all();
        Ok(())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let (offset, inner) = (offset as usize, self.inner.lock().unwrap());
        Ok(Bytes::copy_from_slice(&inner.bytes[offset..offset + length]))
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

    /// One that gives away so many bytes a second.
    pub(super) fn slow(id: u32, per_second: u64) -> Worker {
        let mut config = config(&format!("w{id}"), Role::Worker);
        config.give_limit = Some(per_second);
        Worker::start_with(id, config)
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

    /// Waits until so many bytes have been written.
    pub(super) fn until(&self, bytes: u64) {
        let inner = self.basin.inner.lock().unwrap();
        let few = |inner: &mut Inner| inner.written < bytes;
        let waited = self.basin.written.wait_timeout_while(inner, LIMIT, few).unwrap();
        assert!(!waited.1.timed_out(), "waited for {bytes} bytes, {} came", waited.0.written);
    }

    pub(super) fn wait(&self) -> Result<ObjectMeta, FetchError> {
        self.result.recv_timeout(LIMIT).expect("waited for the end of a fetch")
    }
}
