//! One session with the scheduler: joined, drained, lost, left.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use manyhands_proto::WorkerId;
use manyhands_proto::client::Runtime;
use manyhands_proto::link::{Join, Opened};
use manyhands_proto::task::Resources;
use manyhands_proto::worker::{FromWorker, ToWorker, WorkerSpec};
use manyhands_store::{Store, StoreConfig};
use manyhands_transport::link::{Dial, DialError, Link, Outbox};
use manyhands_transport::{Clock, Receive, Waker, turn};
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::{Daemon, DaemonConfig, DaemonError, Signals, machine, system};
use crate::{Inlet, Mail, Worker};

/// Between two lines of log about what a drain waits for.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// How often a worker looks whether it is still reached where it said. The links notice by
/// themselves; those who want its objects have to be told.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How a session ended.
pub(super) enum Verdict {
    /// The worker has left, as it was told to.
    Left,
    /// There is no way back into it, for the reason given.
    Over(String),
}

/// A worker that has joined.
pub(super) struct Session {
    id: WorkerId,
    worker: Worker,
    link: Link,
    clock: Clock,
    waker: Arc<Waker>,
    words: Arc<LastWords>,
    outbox: Arc<Outbox<FromWorker>>,
    whereabouts: Whereabouts,
}

/// Where others reach the worker.
struct Whereabouts {
    bound: SocketAddr,
    /// Where the scheduler is; nothing if the addresses were given and are what they are.
    scheduler: Vec<SocketAddr>,
    /// What was told last.
    told: Vec<SocketAddr>,
}

impl Whereabouts {
    fn find(daemon: &Daemon) -> Result<Whereabouts, DaemonError> {
        let config = &daemon.config;
        let bound = daemon.exchange.local_addr().map_err(system("cannot see where it listens"))?;
        if !config.advertise.is_empty() {
            let given = config.advertise.iter();
            let told = given.map(|address| with_port(*address, bound.port())).collect();
            return Ok(Whereabouts { bound, scheduler: Vec::new(), told });
        }
        let scheduler = config.scheduler.resolve().map_err(|source| {
            let host = config.scheduler.host.clone();
            DaemonError::Join(DialError::Unresolved { host, source })
        })?;
        let told = machine::reached_at(bound, &scheduler);
        Ok(Whereabouts { bound, scheduler, told })
    }

    /// The new addresses, if they have changed and there are any.
    fn look(&mut self) -> Option<Vec<SocketAddr>> {
        let now = machine::reached_at(self.bound, &self.scheduler);
        if self.scheduler.is_empty() || now.is_empty() || now == self.told {
            return None;
        }
        self.told.clone_from(&now);
        Some(now)
    }
}

impl Session {
    /// Joins the scheduler as a new worker.
    pub(super) async fn join(daemon: &Daemon) -> Result<Session, DaemonError> {
        let config = &daemon.config;
        let waker = Waker::new().map_err(system("cannot make a waker"))?;
        let mail = Mail::new(&waker);
        let words = Arc::new(LastWords { inlet: mail.inlet(), words: Mutex::default() });
        let outbox = Outbox::<FromWorker>::new();
        let whereabouts = Whereabouts::find(daemon)?;
        let spec = spec(daemon, &whereabouts);
        let join = Join::Worker(spec.clone());
        let dial = Dial::new(config.scheduler.clone(), config.name.clone(), join);
        let opened = Link::open(dial, outbox.clone(), words.clone()).await;
        let (link, opened) = opened.map_err(DaemonError::Join)?;
        let Opened::Worker { worker: id, .. } = opened else {
            let (place, message) = (config.scheduler.place(), "it took us for a client".to_owned());
            return Err(DaemonError::Join(DialError::Refused { place, message, over: true }));
        };
        outbox.bind(link.bell());
        let addresses = spec.addresses.clone();
        let store = store(daemon)?;
        let clock = Clock::start();
        let peers = daemon.exchange.begin(id, store.clone(), &mail);
        let prestart = match config.prestart {
            true => vec![Runtime::Rust { program: 0 }],
            false => Vec::new(),
        };
        let own_program = daemon.own_program;
        let core = manyhands_worker_core::Config::new(spec);
        let core = manyhands_worker_core::Config { prestart, own_program, ..core };
        let worker = Worker::new(id, core, clock, &waker, mail, store, outbox.clone());
        let mut worker = worker.map_err(system("cannot start the worker"))?;
        worker.use_python(config.python());
        worker.connect(peers).map_err(system("cannot wait for executors"))?;
        log::info!(
            "joined the scheduler at {} as {id} ({}): {} cores, objects at {addresses:?}",
            config.scheduler.place(),
            config.name,
            config.cores,
        );
        Ok(Session { id, worker, link, clock, waker, words, outbox, whereabouts })
    }

    /// Works until the session is over, or until the worker has left after a signal.
    pub(super) async fn run(
        mut self,
        config: &DaemonConfig,
        signals: &mut Signals,
    ) -> Result<Verdict, DaemonError> {
        let mut told_to_end = false;
        while !told_to_end && !self.is_over() {
            self.look();
            let stop = async {
                tokio::select! {
                    () = signals.next() => told_to_end = true,
                    () = sleep(LOOK_INTERVAL) => {}
                }
            };
            self.turn_until(stop).await?;
        }
        if !self.is_over() {
            self.drain(config, signals).await?;
        }
        Ok(self.end().await)
    }

    /// Tells the scheduler where the worker is reached, if that has changed.
    fn look(&mut self) {
        if let Some(addresses) = self.whereabouts.look() {
            log::info!("{} has moved: objects at {addresses:?}", self.id);
            self.outbox.receive(vec![FromWorker::Moved { addresses }]);
        }
    }

    /// Finishes or hands back its tasks and has its objects copied, and then leaves. A second
    /// signal, or the limit of time, ends that.
    async fn drain(
        &mut self,
        config: &DaemonConfig,
        signals: &mut Signals,
    ) -> Result<(), DaemonError> {
        let (id, until) = (self.id, Instant::now() + config.drain_timeout);
        log::info!("{id} drains, for {:?} at most; a second signal ends it", config.drain_timeout);
        self.worker.drain();
        while !self.is_over() {
            let (objects, tasks) = self.worker.holdings();
            log::info!(
                "{id} waits for {tasks} tasks to end and for {objects} objects to be copied"
            );
            let mut why = None;
            let (again, report) = (&mut why, Instant::now() + REPORT_INTERVAL);
            let stop = async {
                tokio::select! {
                    () = signals.next() => *again = Some("a second signal came"),
                    () = sleep_until(until) => *again = Some("the time to drain is over"),
                    () = sleep_until(report) => {}
                }
            };
            self.turn_until(stop).await?;
            if let Some(why) = why.filter(|_| !self.is_over()) {
                let (objects, tasks) = self.worker.holdings();
                log::warn!(
                    "{id} leaves now, since {why}: {tasks} tasks have to run again elsewhere, and \
                     what lies only here of {objects} objects has to be made again"
                );
                return Ok(());
            }
        }
        Ok(())
    }

    async fn turn_until(&mut self, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let turns = turn::run(&mut self.worker, &self.waker, self.clock, stop);
        turns.await.map_err(system("the loop cannot wait"))
    }

    fn is_over(&self) -> bool {
        self.worker.is_closed() || self.worker.has_left()
    }

    /// Ends all executors, and the session if it is not over yet.
    async fn end(self) -> Verdict {
        let Session { id, worker, link, words, .. } = self;
        let (lost, left) = (worker.is_closed(), worker.has_left());
        drop(worker);
        if lost && !left {
            return Verdict::Over(words.take());
        }
        link.close("the worker has left").await;
        log::info!("{id} has left");
        Verdict::Left
    }
}

/// Passes on what the scheduler says, and keeps its last words.
struct LastWords {
    inlet: Inlet,
    words: Mutex<String>,
}

impl LastWords {
    fn take(&self) -> String {
        std::mem::take(&mut *self.words.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Receive<ToWorker> for LastWords {
    fn receive(&self, messages: Vec<ToWorker>) {
        self.inlet.receive(messages);
    }

    fn closed(&self, reason: &str) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = reason.to_owned();
        self.inlet.closed(reason);
    }
}

/// What the worker tells of itself.
fn spec(daemon: &Daemon, whereabouts: &Whereabouts) -> WorkerSpec {
    let config = &daemon.config;
    let mut named = config.resources.clone();
    if config.gpus > 0 && !named.iter().any(|(name, _)| name == "gpu") {
        named.push(("gpu".to_owned(), u64::from(config.gpus) * 1000));
    }
    named.sort();
    WorkerSpec {
        name: config.name.clone(),
        resources: Resources {
            millicores: config.cores.max(1).saturating_mul(1000),
            memory: config.memory,
            named,
        },
        labels: config.labels.clone(),
        store_limit: config.store_limit,
        addresses: whereabouts.told.clone(),
        host: config.host.clone(),
        platform: machine::platform(),
    }
}

/// An advertised address without a port has the one that is bound.
fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    if address.port() == 0 {
        address.set_port(port);
    }
    address
}

fn store(daemon: &Daemon) -> Result<Arc<Store>, DaemonError> {
    let config = &daemon.config;
    let store = Store::new(StoreConfig {
        memory_limit: config.store_limit,
        spill_dir: Some(config.spill_directory(&daemon.directory)),
        ..StoreConfig::default()
    });
    store.map_err(system("cannot make the object store"))
}
