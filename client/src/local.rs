//! Local mode: the real scheduler and worker on one thread of the caller's process.
//!
//! Messages between the caller, the scheduler and the worker cross mailboxes; only what goes to the
//! executors, which are processes of their own, is encoded. The thread sleeps when there is nothing
//! to do, and ends, with all executors, when the cluster is dropped.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use manyhands_proto::client::{FromClient, Runtime, ToClient};
use manyhands_proto::task::Resources;
use manyhands_proto::value::{Codec, Value};
use manyhands_proto::worker::WorkerSpec;
use manyhands_proto::{Lane, ObjectId, WorkerId};
use manyhands_scheduler::{ClientLink, Door, Scheduler};
use manyhands_store::{Store, StoreConfig};
use manyhands_transport::{Clock, Closed, Receive, Waker};
use manyhands_worker::{Mail, Shelf, Worker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How a local cluster is made.
#[derive(Clone, Debug)]
pub(crate) struct LocalConfig {
    /// Executors that run at one time; the machine's cores if `None`.
    pub(crate) slots: Option<u32>,
    /// Bytes that the object store may keep in memory; a third of the machine's if `None`.
    pub(crate) store_limit: Option<u64>,
    /// Where objects go that do not fit.
    pub(crate) spill_dir: Option<PathBuf>,
    /// Labels that the worker carries.
    pub(crate) labels: Vec<(String, String)>,
    /// What the worker has beside cores and memory, in thousandths.
    pub(crate) resources: Vec<(String, u64)>,
}

/// A cluster within this process. Dropping it ends its thread and its executors.
pub(crate) struct LocalCluster {
    door: Door,
    shelf: Shelf,
    worker: WorkerId,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A client's session with a local cluster.
pub(crate) struct LocalLink {
    link: ClientLink,
    shelf: Shelf,
    worker: WorkerId,
}

impl LocalCluster {
    /// Starts the thread and the first executors; does not wait for them.
    pub(crate) fn start(config: LocalConfig) -> io::Result<LocalCluster> {
        let clock = Clock::start();
        let waker = Waker::new()?;
        let spill_dir = config.spill_dir.clone();
        let spec = spec(config)?;
        let memory_limit = spec.store_limit;
        let store = Store::new(StoreConfig { memory_limit, spill_dir, ..Default::default() })?;
        let mail = Mail::new(&waker);
        let shelf = Shelf::new(store.clone(), &mail);
        let (scheduler, door) = Scheduler::new(Default::default(), clock, &waker);
        let link = door.join_worker(spec.clone(), Arc::new(mail.inlet())).map_err(closed)?;
        let id = link.worker();
        let config = manyhands_worker_core::Config {
            prestart: vec![Runtime::Rust { program: 0 }],
            ..manyhands_worker_core::Config::new(spec)
        };
        let worker = Worker::new(id, config, clock, &waker, mail, store, Arc::new(link))?;
        let stop = Arc::new(AtomicBool::new(false));
        let turning = Turning { scheduler, worker, clock, waker: waker.clone(), stop: stop.clone() };
        let name = "manyhands".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || turning.run())?;
        Ok(LocalCluster { door, shelf, worker: id, waker, stop, thread: Some(thread) })
    }

    /// Begins a session.
    pub(crate) fn join(&self, receiver: Arc<dyn Receive<ToClient>>) -> io::Result<LocalLink> {
        let link = self.door.join_client(receiver).map_err(closed)?;
        Ok(LocalLink { link, shelf: self.shelf.clone(), worker: self.worker })
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A cluster that is dropped on its own thread (by a callback) ends after it.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl LocalLink {
    pub(crate) fn lane(&self) -> Lane {
        self.link.lane()
    }

    pub(crate) fn send(&self, message: FromClient) -> Result<(), Closed> {
        self.link.send(message)
    }

    /// A large object, mapped.
    pub(crate) fn read(&self, object: ObjectId) -> io::Result<Value> {
        self.shelf.read(object)
    }

    /// Writes a large object; the caller then tells the scheduler where it is.
    pub(crate) fn write(
        &self,
        object: ObjectId,
        codec: Codec,
        contains: Vec<ObjectId>,
        bytes: &[u8],
    ) -> io::Result<WorkerId> {
        self.shelf.write(object, codec, contains, bytes)?;
        Ok(self.worker)
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
            let timeout = due.map(|due| timespec(due.since(self.clock.now())));
            let poll_fd = self.worker.poll_fd();
            let mut fds = [
                PollFd::new(&*self.waker, PollFlags::IN),
                PollFd::from_borrowed_fd(poll_fd.as_fd(), PollFlags::IN),
            ];
            // An interrupted sleep is a short one.
            let _ = poll(&mut fds, timeout.as_ref());
        }
        self.waker.awake();
    }
}

fn timespec(us: u64) -> Timespec {
    Timespec { tv_sec: (us / 1_000_000) as i64, tv_nsec: (us % 1_000_000 * 1_000) as i64 }
}

fn spec(config: LocalConfig) -> io::Result<WorkerSpec> {
    let cores = std::thread::available_parallelism()?.get() as u32;
    let slots = config.slots.unwrap_or(cores).max(1);
    let memory = physical_memory();
    let mut named = config.resources;
    named.sort();
    Ok(WorkerSpec {
        name: "local".to_owned(),
        resources: Resources { millicores: slots.saturating_mul(1000), memory, named },
        labels: config.labels,
        store_limit: config.store_limit.unwrap_or(memory / 3),
    })
}

/// Bytes of memory of this machine.
fn physical_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit.max(1))
}

fn closed(_: Closed) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the local cluster has stopped")
}

