//! Local mode: the real scheduler and worker on one thread of the caller's process.
//!
//! Messages between the caller, the scheduler and the worker cross mailboxes; only what goes to the
//! executors, which are processes of their own, is encoded. The thread sleeps when there is nothing
//! to do, and ends, with all executors, when the cluster is dropped.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use manyhands_proto::client::Runtime;
use manyhands_proto::task::Resources;
use manyhands_proto::value::{ObjectMeta, Value};
use manyhands_proto::worker::WorkerSpec;
use manyhands_proto::{Lane, ObjectId, WorkerId};
use manyhands_scheduler::{ClientLink, Scheduler};
use manyhands_store::{Store, StoreConfig};
use manyhands_transport::{Clock, Closed, Waker};
use manyhands_worker::{Census, Mail, Shelf, Worker};

use crate::builder::Builder;
use crate::connection::{Connection, LocalStats, Stored};
use crate::python::PythonConfig;
use crate::session::Ends;

/// A cluster within this process, and the one session with it.
struct Cluster {
    link: ClientLink,
    shelf: Shelf,
    worker: WorkerId,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    store: Arc<Store>,
    store_limit: u64,
    census: Arc<Census>,
}

/// Starts a cluster's thread and its first executors; does not wait for them.
/// `python` runs the session's functions, if they are Python's.
pub(crate) fn start(
    mut builder: Builder,
    python: Option<&Runtime>,
) -> io::Result<Arc<dyn Connection>> {
    let interpreter = builder.python.take().unwrap_or_default();
    let clock = Clock::start();
    let waker = Waker::new()?;
    let spill_dir = builder.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    let spec = spec(builder)?;
    let store = Store::new(StoreConfig {
        memory_limit: spec.store_limit,
        spill_dir: Some(spill_dir),
        ..Default::default()
    })?;
    let mail = Mail::new(&waker);
    let shelf = Shelf::new(store.clone(), &mail);
    let config = manyhands_scheduler::Config { workers_may_join: false, ..Default::default() };
    let (scheduler, door) = Scheduler::new(config, clock, &waker);
    let worker_link = door.join_worker(spec.clone(), Arc::new(mail.inlet())).map_err(stopped)?;
    let id = worker_link.worker();
    let config = manyhands_worker_core::Config {
        prestart: match python {
            None => vec![Runtime::Rust { program: 0 }],
            Some(python) if interpreter.prestart => vec![python.clone()],
            Some(_) => Vec::new(),
        },
        ..manyhands_worker_core::Config::new(spec)
    };
    let store_limit = config.spec.store_limit;
    let link = Arc::new(worker_link);
    let mut worker = Worker::new(id, config, clock, &waker, mail, store.clone(), link)?;
    let PythonConfig { interpreter, .. } = interpreter;
    worker.watch_waker()?;
    worker.use_python(manyhands_worker::PythonConfig { interpreter, ..Default::default() });
    let census = worker.census();
    let stop = Arc::new(AtomicBool::new(false));
    let turning = Turning { scheduler, worker, clock, waker: waker.clone(), stop: stop.clone() };
    let name = "manyhands".to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(move || turning.run())?;
    let thread = Mutex::new(Some(thread));
    let link = door.client();
    Ok(Arc::new(Cluster {
        link,
        shelf,
        worker: id,
        waker,
        stop,
        thread,
        store,
        store_limit,
        census,
    }))
}

impl Connection for Cluster {
    fn attach(&self, session: Ends) {
        let client = manyhands_scheduler::Client {
            source: Arc::new(session.clone()),
            receiver: Arc::new(session),
        };
        // A cluster that has stopped already has told the session nothing, and never will: its
        // first call finds that out.
        let _ = self.link.join(client);
    }

    fn lane(&self) -> Lane {
        self.link.lane()
    }

    fn poke(&self) {
        let _ = self.link.poke();
    }

    fn read_stored(&self, object: ObjectId, _stored: &Stored) -> Result<Value, String> {
        self.shelf.read(object).map_err(|error| error.to_string())
    }

    fn put_stored(
        &self,
        object: ObjectId,
        meta: &ObjectMeta,
        pieces: &[&[u8]],
    ) -> Result<WorkerId, String> {
        self.shelf.write(object, meta, pieces).map_err(|error| error.to_string())?;
        Ok(self.worker)
    }

    fn offer_program(&self, program: u128, path: &Path) -> Result<(), String> {
        self.shelf.offer_program(program, path.to_owned()).map_err(|error| error.to_string())
    }

    fn local_stats(&self) -> Option<LocalStats> {
        let store = self.store.stats();
        Some(LocalStats {
            store_limit: self.store_limit,
            store_used: store.used + store.free_kept,
            store_peak: store.peak,
            spilled: store.spilled,
            spilled_total: store.spilled_total,
            executors: self.census.executors(),
            peak_executors: self.census.peak_executors(),
        })
    }

    fn keep(&self, held: &dyn Fn(ObjectId) -> bool) {
        self.store.close(held);
    }

    fn free(&self, object: ObjectId) {
        self.store.free(object);
    }

    fn close(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A session whose last reference is dropped by the cluster's own thread ends after it.
        if let Some(thread) = thread.filter(|it| it.thread().id() != std::thread::current().id()) {
            // A panic there was printed, and the session has been told that the cluster is gone.
            let _ = thread.join();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the cluster's thread owns.
struct Turning {
    scheduler: Scheduler,
    worker: Worker,
    clock: Clock,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
}

impl Turning {
    fn run(mut self) {
        while !self.stop.load(Ordering::SeqCst) && !self.worker.is_closed() {
            self.scheduler.turn();
            self.worker.turn();
            if !self.has_work() {
                self.sleep();
            }
        }
    }

    fn has_work(&self) -> bool {
        self.scheduler.has_work() || self.worker.has_work()
    }

    /// Sleeps until something comes or is due. Whoever sends while this looks for the last time
    /// finds the waker prepared, and wakes.
    fn sleep(&mut self) {
        self.waker.prepare();
        if !self.has_work() && !self.stop.load(Ordering::SeqCst) {
            let ticks = [self.scheduler.next_tick(), self.worker.next_tick()];
            let due = ticks.into_iter().flatten().min();
            // Rounded up: what is due must be due when the loop wakes for it.
            let limit = due.map(|due| due.since(self.clock.now()).div_ceil(1000));
            // No longer than systems know for which a time of that call is 32 bits wide.
            self.worker.sleep(limit.map(|ms| i32::try_from(ms).unwrap_or(i32::MAX).into()));
        }
        self.waker.awake_unread();
    }
}

fn spec(builder: Builder) -> io::Result<WorkerSpec> {
    let cores = std::thread::available_parallelism()?.get() as u32;
    let slots = builder.slots.unwrap_or(cores).max(1);
    let memory = physical_memory();
    let mut named = builder.resources;
    named.sort();
    Ok(WorkerSpec {
        name: "local".to_owned(),
        resources: Resources { millicores: slots.saturating_mul(1000), memory, named },
        labels: builder.labels,
        store_limit: builder.store_limit.unwrap_or(memory / 3),
        ..WorkerSpec::default()
    })
}

/// Bytes of memory of this machine.
fn physical_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit.max(1))
}

fn stopped(_: Closed) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the local cluster has stopped")
}
