//! What passes between this worker and others: objects and programs that it gets, and those that
//! others get from it or put into it.
//!
//! The transfers have threads of their own. They read and write the store themselves, and ask the
//! worker's loop for what only its core knows: room for uploads, and small values.
//!
//! # Layout
//! - [`Exchange`], here: a daemon's end of the data links. [`Peers`]: what the worker's core wants
//!   to have from others.
//! - `shelves`: what others find here, and where they put things.
//! - `sinks`: where bytes go as they come.

mod shelves;
mod sinks;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use manyhands_proto::link::Key;
use manyhands_proto::value::INLINE_LIMIT;
use manyhands_proto::worker::Peer;
use manyhands_proto::{ObjectId, WorkerId};
use manyhands_store::{Store, Writer};
use manyhands_transport::Sender;
use manyhands_transport::bulk::{Bulk, BulkConfig, FetchError, FetchId, Sink, Want};
use manyhands_worker_core::{Event, ProgramNews};
use rustc_hash::FxHashMap;

use crate::programs::Programs;
use crate::shell::{Input, Mail, Transfers};
use shelves::OpenShelves;
use sinks::{Fetched, IntoExtent, IntoMemory, IntoPrograms};

/// Between two lines of log about what could not be fetched.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A daemon's end of the data links: it listens from the daemon's start to its end, and keeps the
/// programs that have come, through all sessions with the scheduler.
pub struct Exchange {
    bulk: Arc<Bulk>,
    shelves: Arc<OpenShelves>,
    programs: Arc<Programs>,
}

impl Exchange {
    /// Starts to listen. Programs are kept in `directory`, which nobody else may use, up to
    /// `program_limit` bytes.
    pub fn start(
        config: BulkConfig,
        directory: PathBuf,
        program_limit: u64,
    ) -> io::Result<Exchange> {
        let programs = Arc::new(Programs::open(directory, program_limit)?);
        let shelves = Arc::new(OpenShelves::new(programs.clone()));
        let bulk = Arc::new(Bulk::start(config, Some(shelves.clone()))?);
        Ok(Exchange { bulk, shelves, programs })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.bulk.local_addr()
    }

    /// A session with the scheduler begins, in which this is `worker`: others find its objects in
    /// `store`. For [`Worker::connect`](crate::Worker::connect).
    pub fn begin(&self, worker: WorkerId, store: Arc<Store>, mail: &Mail) -> Peers {
        let inbox = mail.sender();
        self.bulk.own(worker);
        self.shelves.open(store.clone(), inbox.clone());
        for program in self.programs.all() {
            let event = Event::Program { program, news: ProgramNews::Here };
            // The mailbox was just lent to us.
            let _ = inbox.send(Input::Event(event));
        }
        let (bulk, programs, shelves) =
            (self.bulk.clone(), self.programs.clone(), self.shelves.clone());
        let (known, under_way, complaints) = (Mutex::default(), Arc::default(), Arc::default());
        Peers { bulk, store, programs, shelves, inbox, known, under_way, complaints }
    }
}

/// One session's use of the data links. Dropping it ends what it has under way, and nobody finds
/// anything of it any more.
pub struct Peers {
    bulk: Arc<Bulk>,
    store: Arc<Store>,
    programs: Arc<Programs>,
    shelves: Arc<OpenShelves>,
    inbox: Sender<Input>,
    known: Mutex<Vec<WorkerId>>,
    under_way: Arc<Mutex<FxHashMap<Key, FetchId>>>,
    complaints: Arc<Complaints>,
}

/// What cannot be had, in few lines of log: when a network does not let two workers see each other,
/// every object says the same.
#[derive(Debug, Default)]
struct Complaints {
    last: Mutex<Option<Instant>>,
}

impl Complaints {
    fn tell(&self, key: Key, error: &FetchError) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = last.is_some_and(|at| at.elapsed() < COMPLAINT_INTERVAL);
        if lately || matches!(error, FetchError::Cancelled { .. }) {
            return;
        }
        *last = Some(Instant::now());
        log::warn!("{key:?} could not be fetched: {error}");
    }
}

impl Peers {
    /// Where an object goes.
    fn sink(&self, object: ObjectId, size: u64, on_disk: bool) -> Result<Arc<dyn Fetched>, String> {
        if size <= INLINE_LIMIT as u64 {
            return Ok(Arc::new(IntoMemory::new(size)));
        }
        let extent = self.store.alloc(Writer::DAEMON, size, on_disk);
        let filling = extent.and_then(|extent| self.store.fill(extent, size));
        let filling = filling.map_err(|error| error.to_string())?;
        Ok(Arc::new(IntoExtent::new(self.store.clone(), object, filling)))
    }

    fn begin(
        &self,
        want: Want,
        sink: Arc<dyn Sink>,
        done: impl FnOnce(Result<manyhands_proto::value::ObjectMeta, String>) + Send + 'static,
    ) {
        let (key, under_way) = (want.key, self.under_way.clone());
        let complaints = self.complaints.clone();
        // Held until the number is noted: the end may come before this thread gets on.
        let mut noted = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.bulk.fetch(want, sink, move |result| {
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            if let Err(error) = &result {
                complaints.tell(key, error);
            }
            done(result.map_err(|error| error.to_string()));
        });
        noted.insert(key, id);
    }
}

impl Transfers for Peers {
    fn refuse_puts(&self) {
        self.shelves.refuse_objects();
    }

    fn peers(&self, peers: Vec<Peer>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(peers.iter().map(|peer| peer.worker));
        known.sort_unstable();
        known.dedup();
        self.bulk.peers(peers);
    }

    fn peers_gone(&self, workers: &[WorkerId]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|worker| !workers.contains(worker));
        self.bulk.peers_gone(workers);
    }

    fn fetch(&self, object: ObjectId, size: u64, workers: Vec<WorkerId>, on_disk: bool) {
        let inbox = self.inbox.clone();
        let tell = move |result| {
            // A worker that is gone needs no object.
            let _ = inbox.send(Input::Event(Event::Fetched { object, result }));
        };
        let sink = match self.sink(object, size, on_disk) {
            Ok(sink) => sink,
            Err(message) => return tell(Err(message)),
        };
        let want = Want::new(Key::Object(object), size, workers);
        let kept = sink.clone();
        self.begin(want, sink, move |result| {
            tell(result.map(|meta| {
                let value = kept.value(meta.codec);
                (meta, value)
            }));
        });
    }

    fn fetch_program(&self, program: u128, workers: Vec<WorkerId>) {
        let sink = IntoPrograms::new(self.programs.clone(), program, self.inbox.clone());
        let sink = match sink {
            Ok(sink) => Arc::new(sink),
            Err(error) => {
                let news = ProgramNews::NotFetched { message: error.to_string() };
                let _ = self.inbox.send(Input::Event(Event::Program { program, news }));
                return;
            }
        };
        let kept = sink.clone();
        self.begin(Want::new(Key::Program(program), None, workers), sink, move |result| {
            if let Err(message) = result {
                kept.fail(message);
            }
        });
    }

    fn program(&self, program: u128) -> Option<PathBuf> {
        self.programs.path(program)
    }

    fn bandwidth(&self) -> u64 {
        self.bulk.bandwidth()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.shelves.close();
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).clone();
        under_way.values().for_each(|id| self.bulk.cancel(*id));
        self.bulk.peers_gone(&self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
