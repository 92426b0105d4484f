//! One turn of the daemon: take what came, let the core act, do what it wants done.
//!
//! # Layout
//! - [`Worker`], here: what has come, and the turn.
//! - `act`: what the core wants done, done.

mod act;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use manyhands_proto::client::{Runtime, Stream};
use manyhands_proto::executor::{Extent, FromExecutor, ReturnedBytes};
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{FromWorker, Peer, ToWorker};
use manyhands_proto::{ObjectId, TaskId, Time, WorkerId};
use manyhands_store::{Store, Writer};
use manyhands_transport::{Clock, Mailbox, Receive, Sender, Waker};
use manyhands_worker_core::event::ExecutorId;
use manyhands_worker_core::{Action, Config, Core, Event, ProgramNews};

use crate::disk::Disk;
use crate::grants::Grants;
use crate::host::{Host, HostEvent, Program};
use crate::put::{GrantWaiters, PutGrant};
use crate::trim::Trim;

/// How often the output and the memory of running tasks are looked at, in microseconds.
const WATCH_INTERVAL_US: u64 = 20_000;

/// What reaches the worker's mailbox.
pub(crate) enum Input {
    FromScheduler(Vec<ToWorker>),
    /// The scheduler is gone.
    Closed,
    /// A client in this process wants room for a large value.
    PutRequested {
        task: TaskId,
        size: u64,
        grant: PutGrant,
    },
    /// It has written it.
    Put {
        object: ObjectId,
        meta: ObjectMeta,
        extent: Extent,
    },
    /// A client in this process says where the file of a program is.
    Program {
        program: u128,
        path: PathBuf,
    },
    /// Somebody else wants to have an object.
    #[cfg_attr(not(feature = "daemon"), expect(dead_code, reason = "without peers nobody asks"))]
    Wanted {
        object: ObjectId,
        answer: WantedAnswer,
    },
    /// Another thread (the disk's, those of the transfers) has something for the core.
    Event(Event),
}

/// Answers whoever wants an object: with its value if it is a small one. Objects in the store are
/// found there.
pub(crate) type WantedAnswer = Box<dyn FnOnce(Option<Value>) + Send>;

/// What carries objects and programs between this worker and others. Nothing of it waits; what comes
/// of it is told to the worker's mailbox.
pub(crate) trait Transfers: Send {
    /// Other workers, or new addresses of theirs.
    fn peers(&self, peers: Vec<Peer>);
    /// These are gone.
    fn peers_gone(&self, workers: &[WorkerId]);
    /// Gets an object; [`Event::Fetched`] follows.
    fn fetch(&self, object: ObjectId, size: u64, workers: Vec<WorkerId>, on_disk: bool);
    /// Gets a program; [`Event::Program`] follows.
    fn fetch_program(&self, program: u128, workers: Vec<WorkerId>);
    /// Where a program's file is that is here.
    fn program(&self, program: u128) -> Option<PathBuf>;
    /// Bytes a second that lately came.
    fn bandwidth(&self) -> u64;
    /// The worker is about to leave: clients are to put nothing here any more.
    fn refuse_puts(&self);
}

/// The worker. It owns no thread of its own but the disk's: whoever owns one calls
/// [`Worker::turn`] when [`Worker::has_work`] or the time of [`Worker::next_tick`] has come, and
/// sleeps on the waker and on [`Worker::poll_fd`] between.
pub struct Worker {
    core: Core,
    clock: Clock,
    host: Host,
    python: PythonConfig,
    store: Arc<Store>,
    disk: Disk,
    inbox: Mailbox<Input>,
    scheduler: Arc<dyn Receive<FromWorker>>,
    /// The segments that an executor has been given, for reading and for writing.
    given: HashMap<ExecutorId, HashSet<(u32, bool)>>,
    puts: GrantWaiters,
    /// `None`: it has no peers.
    transfers: Option<Box<dyn Transfers>>,
    /// Where the files of programs are that a client in this process has named.
    programs: HashMap<u128, PathBuf>,
    /// Those who want objects, by the core's tickets.
    wanted: HashMap<u64, WantedAnswer>,
    next_ticket: u64,
    /// Grants to executors that have not been published, and requests for them, by task.
    grants: Grants,
    next_watch: Time,
    trim: Trim,
    closed: bool,
    left: bool,
    census: Arc<Census>,
    /// Emptied by every turn; kept for their capacity.
    inputs: Vec<Input>,
    host_events: Vec<HostEvent>,
    actions: Vec<Action>,
    to_scheduler: Vec<FromWorker>,
}

/// Where a worker finds Python.
#[derive(Clone, Debug)]
pub struct PythonConfig {
    /// The interpreter's file, or its name, which is looked for in `PATH`.
    pub interpreter: PathBuf,
    /// Where the requirements of environments are installed; a directory that several workers of a
    /// machine may share, made when it is needed.
    pub cache: PathBuf,
}

impl Default for PythonConfig {
    /// `python3`, and a directory of this user's.
    fn default() -> PythonConfig {
        let home = |name, below: &str| {
            let dir = std::env::var_os(name).filter(|dir| !dir.is_empty())?;
            Some(PathBuf::from(dir).join(below))
        };
        let cache = home("XDG_CACHE_HOME", "").or_else(|| home("HOME", ".cache"));
        let cache = cache.unwrap_or_else(std::env::temp_dir).join("manyhands/python");
        PythonConfig { interpreter: "python3".into(), cache }
    }
}

/// How many executor processes there are and were at most, blocked ones included. Read by other
/// threads.
#[derive(Debug, Default)]
pub struct Census {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Census {
    fn count(&self, executors: usize) {
        self.now.store(executors, Ordering::Relaxed);
        self.peak.fetch_max(executors, Ordering::Relaxed);
    }

    /// Now.
    pub fn executors(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// At most, since the start.
    pub fn peak_executors(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

/// Tells a worker what the scheduler says, from any thread.
pub struct Inlet {
    inbox: Sender<Input>,
}

impl Receive<ToWorker> for Inlet {
    fn receive(&self, messages: Vec<ToWorker>) {
        // A worker that is gone needs nothing any more.
        let _ = self.inbox.send(Input::FromScheduler(messages));
    }

    fn closed(&self, _reason: &str) {
        let _ = self.inbox.send(Input::Closed);
    }
}

/// A worker's mailbox, made before the worker, so that the scheduler can be told where to send.
pub struct Mail {
    inbox: Mailbox<Input>,
    sender: Sender<Input>,
}

impl Mail {
    /// A mailbox of the loop that `waker` wakes.
    pub fn new(waker: &Arc<Waker>) -> Mail {
        let (sender, inbox) = Mailbox::new(waker);
        Mail { inbox, sender }
    }

    /// The scheduler's way in.
    pub fn inlet(&self) -> Inlet {
        Inlet { inbox: self.sender.clone() }
    }

    pub(crate) fn sender(&self) -> Sender<Input> {
        self.sender.clone()
    }
}

impl Worker {
    /// A worker that the scheduler knows as `id` and that tells it things by `scheduler`.
    pub fn new(
        id: WorkerId,
        config: Config,
        clock: Clock,
        waker: &Arc<Waker>,
        mail: Mail,
        store: Arc<Store>,
        scheduler: Arc<dyn Receive<FromWorker>>,
    ) -> io::Result<Worker> {
        let config = Config { unix_offset_us: clock.unix_offset_us(), ..config };
        let mut host = Host::start(waker.clone()).map_err(io::Error::other)?;
        if config.prestart.contains(&Runtime::Rust { program: 0 }) {
            // Now and not with the first executor: who cannot start anything is told so at once.
            host.prepare(&Program::Own).map_err(io::Error::other)?;
        }
        Ok(Worker {
            core: Core::new(id, config),
            clock,
            host,
            python: PythonConfig::default(),
            disk: Disk::start(store.clone(), mail.sender())?,
            store,
            inbox: mail.inbox,
            scheduler,
            given: HashMap::new(),
            puts: GrantWaiters::default(),
            transfers: None,
            programs: HashMap::new(),
            wanted: HashMap::new(),
            next_ticket: 0,
            grants: Grants::default(),
            next_watch: Time::NEVER,
            trim: Trim::new(),
            closed: false,
            left: false,
            census: Arc::default(),
            inputs: Vec::new(),
            host_events: Vec::new(),
            actions: Vec::new(),
            to_scheduler: Vec::new(),
        })
    }

    /// Says where Python is; the [default](PythonConfig::default) holds for a worker that is not told.
    /// To be called before the first turn.
    pub fn use_python(&mut self, python: PythonConfig) {
        self.python = python;
    }

    /// Something has come that no turn has seen.
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty() || self.host.has_work()
    }

    /// When a turn is due even if nothing comes.
    pub fn next_tick(&self) -> Option<Time> {
        let soon = self.host.poll_soon().then(|| self.clock.now() + 1_000);
        let watch = (self.next_watch != Time::NEVER).then_some(self.next_watch);
        let look = self.host.next_look();
        [self.core.next_tick(), soon, watch, self.trim.next(), look].into_iter().flatten().min()
    }

    /// Makes its descriptor readable when its waker is written to as well, for [`Worker::sleep`]
    /// and for a loop that sleeps on the descriptor alone. Fails when the system refuses that.
    pub fn watch_waker(&self) -> io::Result<()> {
        self.host.watch_waker()
    }

    /// Sleeps until something comes, which the next turn finds, or so many milliseconds are over.
    /// The caller has prepared the waker.
    pub fn sleep(&mut self, limit_ms: Option<i64>) {
        self.host.sleep(limit_ms);
    }

    /// Readable when an executor has something to say.
    pub fn poll_fd(&self) -> impl AsFd + '_ {
        self.host.as_fd()
    }

    /// How many executors there are, for whoever wants to know.
    pub fn census(&self) -> Arc<Census> {
        self.census.clone()
    }

    /// The scheduler is gone, and with it the reason to go on.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The scheduler has said that the worker may go: nothing that is needed lies or runs here.
    pub fn has_left(&self) -> bool {
        self.left
    }

    /// The machine wants the worker to end: the scheduler is told with the next turn that it drains.
    pub fn drain(&mut self) {
        self.core.handle(self.clock.now(), Event::Drain, &mut self.actions);
    }

    /// How many objects lie here, and how many tasks: what would be lost.
    pub fn holdings(&self) -> (usize, usize) {
        self.core.holdings()
    }

    /// Gives it a way to others, and makes it a loop that can be
    /// [run](manyhands_transport::turn::run) beside links. Fails when the system refuses that.
    #[cfg(feature = "daemon")]
    pub fn connect(&mut self, peers: crate::Peers) -> io::Result<()> {
        self.transfers = Some(Box::new(peers));
        self.watch_waker()
    }

    /// Takes all that has come and acts on it.
    pub fn turn(&mut self) {
        let now = self.clock.now();
        self.host.look_after(now);
        self.take_from_executors(now);
        self.take_from_inbox(now);
        if self.next_watch <= now {
            self.watch(now);
        }
        for segment in self.trim.turn(now, &self.store) {
            self.drop_segment(segment);
        }
        if self.core.next_tick().is_some_and(|due| due <= now) {
            self.core.handle(now, Event::Tick, &mut self.actions);
        }
        self.core.round(now, &mut self.actions);
        self.act(now);
        self.host.flush();
        if !self.to_scheduler.is_empty() {
            self.scheduler.receive(std::mem::take(&mut self.to_scheduler));
        }
    }

    fn take_from_inbox(&mut self, now: Time) {
        let mut inputs = self.inbox.take(std::mem::take(&mut self.inputs));
        let mut fetched = false;
        for input in inputs.drain(..) {
            match input {
                Input::FromScheduler(messages) => {
                    for message in messages {
                        self.core.handle(now, Event::FromScheduler(message), &mut self.actions);
                    }
                }
                Input::Closed => self.closed = true,
                Input::PutRequested { task, size, grant } => {
                    let request = self.puts.wait(grant);
                    let executor = ExecutorId::CLIENT;
                    let event = Event::AllocRequested { executor, request, task, size };
                    self.core.handle(now, event, &mut self.actions);
                }
                Input::Put { object, meta, extent } => {
                    let (extent, executor) = (Some(extent), ExecutorId::CLIENT);
                    let event = Event::Stored { object, meta, extent, executor };
                    self.core.handle(now, event, &mut self.actions);
                }
                Input::Program { program, path } => {
                    self.programs.insert(program, path);
                    let event = Event::Program { program, news: ProgramNews::Here };
                    self.core.handle(now, event, &mut self.actions);
                }
                Input::Wanted { object, answer } => {
                    self.next_ticket += 1;
                    let ticket = self.next_ticket;
                    self.wanted.insert(ticket, answer);
                    let event = Event::Wanted { ticket, object };
                    self.core.handle(now, event, &mut self.actions);
                }
                Input::Event(event) => {
                    fetched |= matches!(event, Event::Fetched { .. });
                    self.core.handle(now, event, &mut self.actions);
                }
            }
        }
        if let Some(transfers) = self.transfers.as_ref().filter(|_| fetched) {
            let event = Event::Bandwidth { bandwidth: transfers.bandwidth() };
            self.core.handle(now, event, &mut self.actions);
        }
        self.inputs = inputs;
    }

    fn take_from_executors(&mut self, now: Time) {
        let mut events = std::mem::take(&mut self.host_events);
        self.host.poll(&mut events);
        self.census.count(self.host.len());
        for event in events.drain(..) {
            if let Some(event) = self.on_host_event(event) {
                self.core.handle(now, event, &mut self.actions);
            }
        }
        self.host_events = events;
    }

    fn on_host_event(&mut self, event: HostEvent) -> Option<Event> {
        Some(match event {
            HostEvent::Started { id, pid } => Event::ExecutorStarted { executor: id, pid },
            HostEvent::StartFailed { id, message } => {
                self.given.remove(&id);
                Event::StartFailed { executor: id, message }
            }
            HostEvent::Died { id, death, running: _ } => {
                self.grants.forget(id);
                self.forward_last_words(id);
                self.given.remove(&id);
                self.store.release_writer(writer(id));
                Event::ExecutorDied { executor: id, death }
            }
            HostEvent::Ended { id, end } => {
                if let Ok(outputs) = &end.result {
                    for (index, returned) in outputs.iter().enumerate() {
                        if let ReturnedBytes::Extent(extent) = returned.bytes {
                            let object = end.task.object(index as u32);
                            self.publish(id, object, returned.codec, extent);
                        }
                    }
                }
                // What it was granted and did not return, since it failed, is nobody's.
                for extent in self.grants.take(id, end.task) {
                    let _ = self.store.release(writer(id), extent);
                }
                if let Some((out, err)) = end.printed {
                    self.forward_output(id, end.task, Some((out, err)));
                }
                Event::TaskEnded { executor: id, end }
            }
            HostEvent::Message { id, message } => return self.on_message(id, message),
        })
    }

    fn on_message(&mut self, executor: ExecutorId, message: FromExecutor) -> Option<Event> {
        Some(match message {
            // The host has dealt with both.
            FromExecutor::Hello { .. } | FromExecutor::End(_) => return None,
            FromExecutor::Alloc { request, task, size } => {
                self.grants.asked(executor, request, task);
                Event::AllocRequested { executor, request, task, size }
            }
            FromExecutor::Stored { object, codec, extent } => {
                self.publish(executor, object, codec, extent);
                let meta = ObjectMeta { codec, size: extent.len, contains: Vec::new() };
                Event::Stored { object, meta, extent: Some(extent), executor }
            }
            FromExecutor::Read { task, object } => Event::ReadRequested { executor, task, object },
            FromExecutor::Client { task, attempt, message } => {
                Event::FromTask { executor, task, attempt, message }
            }
            FromExecutor::Blocked { task, attempt, waits_for } => {
                Event::Blocked { executor, task, attempt, waits_for }
            }
            FromExecutor::Unblocked { task, attempt } => {
                Event::Unblocked { executor, task, attempt }
            }
        })
    }

    fn publish(&mut self, by: ExecutorId, object: ObjectId, codec: Codec, extent: Extent) {
        self.grants.published(by, extent);
        // An extent that was never granted is an executor's lie; the object then cannot be read, and
        // whoever asks for it is told.
        if let Err(error) = self.store.publish(writer(by), object, codec, extent) {
            eprintln!("manyhands: worker: {error}");
        }
    }

    /// Looks at what runs long: what it prints and how much memory it has.
    fn watch(&mut self, now: Time) {
        let watched: Vec<_> = self.core.watched().collect();
        for executor in watched {
            if let Some(used) = self.host.memory_used(executor) {
                let event = Event::MemoryUsed { executor, used };
                self.core.handle(now, event, &mut self.actions);
            }
        }
        let busy: Vec<_> = self
            .given
            .keys()
            .filter_map(|&id| self.core.running(id).map(|(task, _)| (id, task)))
            .collect();
        for &(id, task) in &busy {
            self.forward_output(id, task, None);
        }
        self.next_watch = if busy.is_empty() { Time::NEVER } else { now + WATCH_INTERVAL_US };
    }

    /// Sends on what an executor printed before it died.
    fn forward_last_words(&mut self, id: ExecutorId) {
        if let Some((task, _)) = self.core.running(id) {
            self.forward_output(id, task, None);
        }
    }

    /// Sends on what an executor printed, up to the given sizes of its files or all of it.
    fn forward_output(&mut self, id: ExecutorId, task: TaskId, upto: Option<(u64, u64)>) {
        let (out, err) = self.host.output(id, upto);
        for (stream, bytes) in [(Stream::Stdout, out), (Stream::Stderr, err)] {
            if !bytes.is_empty() {
                let bytes = Bytes::from(bytes);
                self.to_scheduler.push(FromWorker::Output { task, stream, bytes });
            }
        }
    }
}

#[cfg(feature = "daemon")]
impl manyhands_transport::turn::Turn for Worker {
    fn turn(&mut self) {
        Worker::turn(self);
    }

    fn has_work(&self) -> bool {
        Worker::has_work(self)
    }

    fn next_tick(&self) -> Option<Time> {
        Worker::next_tick(self)
    }

    fn poll_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        Some(self.host.as_fd())
    }

    fn is_over(&self) -> bool {
        self.closed || self.left
    }
}

/// Who writes, as the store knows it: a client in this process writes as the daemon does.
fn writer(executor: ExecutorId) -> Writer {
    match executor {
        ExecutorId::CLIENT => Writer::DAEMON,
        ExecutorId(number) => Writer(number),
    }
}
