//! The daemon as a process of its own, and a scheduler that says what a test wants it to say.

#![cfg(feature = "daemon")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use manyhands_executor::{Arg, Invocation, function_id};
use manyhands_proto::client::FunctionSpec;
use manyhands_proto::frame::Role;
use manyhands_proto::link::Join;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::Codec;
use manyhands_proto::worker::{FromWorker, TaskEnd, ToWorker, WorkerSpec};
use manyhands_proto::{SessionId, TaskId, WorkerId};
use manyhands_transport::Receive;
use manyhands_transport::address::Address;
use manyhands_transport::keys::ClusterSecret;
use manyhands_transport::link::{Begun, Ends, Host, Outbox, Welcome, serve};
use manyhands_transport::quic::{self, Settings};
use manyhands_worker::daemon::{DaemonConfig, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

mod crew;
mod town;
use crew::{LIMIT, task, value};
use town::{Place, assignment};

type Outcome = Result<(), FailureKind>;

tasks!(echo, pids, forever);

const FUNCTIONS: [&str; 3] = ["echo", "pids", "forever"];

fn echo(call: &mut Invocation<'_>) -> Outcome {
    let Arg::One(given) = call.arg(0)? else { panic!("it is given no list") };
    let bytes = given.as_slice().to_vec();
    call.return_bytes(Codec::RAW, Vec::new(), &bytes)
}

/// The process ids of the executor, its template, and something that it has started.
fn pids(call: &mut Invocation<'_>) -> Outcome {
    #[expect(clippy::zombie_processes, reason = "that nobody waits for it is the test")]
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let pids = [std::process::id(), parent as u32, child.id()];
    let bytes: Vec<u8> = pids.iter().flat_map(|pid| pid.to_le_bytes()).collect();
    call.return_bytes(Codec::RAW, Vec::new(), &bytes)
}

fn forever(_call: &mut Invocation<'_>) -> Outcome {
    loop {
        let _ = poll(&mut [], None);
    }
}

/// The daemon of the tests: not a test of its own.
#[test]
#[ignore = "run by the other tests"]
fn daemon() {
    let variable = |name| std::env::var(name).unwrap();
    let mut config = DaemonConfig::new(variable("TEST_SCHEDULER").parse().unwrap());
    config.name = "under test".to_owned();
    config.state_dir = variable("TEST_STATE").into();
    config.cores = 1;
    config.gpus = 2;
    config.labels = vec![("zone".to_owned(), "a".to_owned())];
    config.resources = vec![("disk".to_owned(), 5000)];
    config.store_limit = 64 << 20;
    let timeout = variable("TEST_DRAIN_MS").parse().unwrap();
    config.drain_timeout = std::time::Duration::from_millis(timeout);
    run(config).unwrap();
}

/// What the scheduler of a test is told of.
enum News {
    Joined(Box<WorkerSpec>, Arc<Outbox<ToWorker>>),
    Said(Vec<FromWorker>),
    Lost(String),
}

struct Script {
    /// Locked, since a sender is for one thread at a time.
    news: Mutex<Sender<News>>,
    next: Mutex<u32>,
}

struct Ears(Mutex<Sender<News>>);

impl Receive<FromWorker> for Ears {
    fn receive(&self, messages: Vec<FromWorker>) {
        let _ = self.0.lock().unwrap().send(News::Said(messages));
    }

    fn closed(&self, _reason: &str) {}
}

impl Host for Script {
    fn begin(&self, join: Join, _from: SocketAddr) -> Result<Welcome, String> {
        let Join::Worker(spec) = join else { return Err("no clients".to_owned()) };
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let news = self.news.lock().unwrap().clone();
        let outbox = Outbox::<ToWorker>::new();
        let ends = Ends::new(outbox.clone(), Arc::new(Ears(Mutex::new(news.clone()))));
        outbox.bind(ends.bell().clone());
        let _ = news.send(News::Joined(Box::new(spec), outbox));
        let begun = Begun::Worker { worker: WorkerId(*next) };
        let grace = std::time::Duration::from_secs(5);
        Ok(Welcome { session: SessionId(u64::from(*next)), begun, ends, grace })
    }

    fn away(&self, _session: SessionId, _why: &str) {}

    fn back(&self, _session: SessionId) {}

    fn lost(&self, _session: SessionId, why: &str) {
        let _ = self.news.lock().unwrap().send(News::Lost(why.to_owned()));
    }
}

/// A scheduler and a daemon.
struct Pair {
    news: Receiver<News>,
    heard: Vec<FromWorker>,
    outbox: Arc<Outbox<ToWorker>>,
    daemon: Child,
    place: Place,
}

impl Pair {
    fn new(drain_ms: u32) -> (Pair, WorkerSpec) {
        let place = Place::new();
        let (address, news) = scheduler();
        let daemon = start(&address, place.0.clone(), drain_ms);
        let (heard, outbox) = (Vec::new(), Outbox::new());
        let mut pair = Pair { news, heard, outbox, daemon, place };
        let spec = pair.joined();
        (pair, spec)
    }

    fn next(&self, what: &str) -> News {
        let news = self.news.recv_timeout(LIMIT);
        news.unwrap_or_else(|_| panic!("waited {LIMIT:?} for {what}"))
    }

    /// Waits for the daemon to join, and tells it the functions.
    fn joined(&mut self) -> WorkerSpec {
        loop {
            let News::Joined(spec, outbox) = self.next("a worker to join") else { continue };
            self.outbox = outbox;
            let functions = (0..)
                .zip(FUNCTIONS)
                .map(|(slot, name)| (slot, FunctionSpec::rust(function_id(name), name, 0)));
            let functions = functions.collect();
            self.outbox.send(ToWorker::Functions { functions });
            return *spec;
        }
    }

    fn hear<R>(&mut self, what: &str, mut find: impl FnMut(&FromWorker) -> Option<R>) -> R {
        loop {
            while !self.heard.is_empty() {
                if let Some(found) = find(&self.heard.remove(0)) {
                    return found;
                }
            }
            match self.next(what) {
                News::Said(messages) => self.heard.extend(messages),
                News::Lost(why) => panic!("waited for {what}, and the worker is gone: {why}"),
                News::Joined(..) => panic!("waited for {what}, and the worker joined again"),
            }
        }
    }

    fn assign(&self, seq: u64, function: u32, args: &[u8]) -> TaskId {
        let tasks = vec![assignment(task(seq), function, value(args))];
        self.outbox.send(ToWorker::Assign { tasks });
        task(seq)
    }

    fn end(&mut self, task: TaskId) -> TaskEnd {
        self.hear("the end of a task", |message| match message {
            FromWorker::Ended { ends } => ends.iter().find(|end| end.task == task).cloned(),
            _ => None,
        })
    }

    fn returned(&mut self, task: TaskId) -> Vec<u8> {
        self.end(task).result.unwrap()[0].value.as_ref().unwrap().to_vec()
    }

    /// It has joined, and knows it: one that is told to end before that just ends.
    fn works(&mut self) {
        let task = self.assign(2000, 0, b"");
        self.returned(task);
    }

    /// The executor, its template, and something that a task has started.
    fn processes(&mut self) -> Vec<OwnedFd> {
        let task = self.assign(1000, 1, b"");
        let pids = self.returned(task);
        let pids = pids.chunks(4).map(|pid| i32::from_le_bytes(pid.try_into().unwrap()));
        let watch = |pid| pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        pids.map(watch).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.daemon.id() as i32).unwrap(), signal).unwrap();
    }

    fn draining(&mut self) {
        self.hear("a drain", |message| matches!(message, FromWorker::Draining).then_some(()));
    }

    fn lost(&mut self) -> String {
        loop {
            if let News::Lost(why) = self.next("the worker to be gone") {
                return why;
            }
        }
    }

    fn exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.daemon.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for the daemon to end");
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A scheduler on a thread of its own, that ends with the test; the line for workers.
fn scheduler() -> (Address, Receiver<News>) {
    let (news, told) = channel();
    let (ready, line) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let secret = ClusterSecret::generate().unwrap();
            let (token, settings) = (secret.token(Role::Scheduler), Settings::default());
            let server = quic::server_config(&token, &[Role::Worker], &settings);
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let endpoint = quic::bind(any, Some(server), &settings).unwrap();
            let (host, port) = ("127.0.0.1".to_owned(), endpoint.local_addr().unwrap().port());
            let token_of_workers = Some(secret.token(Role::Worker));
            ready.send(Address { host, port, token: token_of_workers }).unwrap();
            let script = Script { news: Mutex::new(news), next: Mutex::new(0) };
            serve(endpoint, token, "script".to_owned(), Arc::new(script)).await;
        });
    });
    (line.recv().unwrap(), told)
}

fn start(scheduler: &Address, state: PathBuf, drain_ms: u32) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "daemon", "--ignored", "--nocapture"]);
    command.env("TEST_SCHEDULER", scheduler.to_string()).env("TEST_STATE", state);
    command.env("TEST_DRAIN_MS", drain_ms.to_string()).stdout(std::process::Stdio::null());
    command.spawn().unwrap()
}

fn await_deaths(processes: &[OwnedFd]) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as _, tv_nsec: 0 };
    for process in processes {
        let died = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit));
        assert_eq!(died, Ok(1), "waited {LIMIT:?} for the end of a process of the daemon's");
    }
}

#[test]
fn a_daemon_joins_works_drains_and_leaves() {
    let (mut pair, spec) = Pair::new(60_000);
    assert_eq!(spec.name, "under test");
    assert_eq!(spec.resources.millicores, 1000);
    assert_eq!(spec.resources.named, [("disk".to_owned(), 5000), ("gpu".to_owned(), 2000)]);
    assert_eq!(spec.labels, [("zone".to_owned(), "a".to_owned())]);
    assert_eq!(spec.addresses.len(), 1, "{:?}", spec.addresses);
    assert!(spec.addresses[0].ip().is_loopback() && spec.addresses[0].port() != 0);
    assert!(!spec.host.is_empty() && spec.platform.contains(std::env::consts::ARCH));

    let first = pair.assign(1, 0, b"hello");
    assert_eq!(pair.returned(first), b"hello");
    let processes = pair.processes();
    pair.signal(Signal::TERM);
    pair.draining();
    // It works on while it drains.
    let second = pair.assign(2, 0, b"still here");
    assert_eq!(pair.returned(second), b"still here");
    pair.outbox.send(ToWorker::Leave);
    assert!(pair.lost().contains("has left"));
    assert!(pair.exit().success());
    await_deaths(&processes);
    assert!(pair.place.0.join("worker-0/programs").is_dir());
}

#[test]
fn a_second_signal_or_the_limit_of_time_ends_a_drain() {
    let (mut pair, _) = Pair::new(60_000);
    pair.works();
    pair.assign(1, 2, b"");
    pair.signal(Signal::INT);
    pair.draining();
    pair.signal(Signal::TERM);
    pair.lost();
    assert!(pair.exit().success());

    let (mut pair, _) = Pair::new(1);
    pair.works();
    pair.assign(1, 2, b"");
    pair.signal(Signal::TERM);
    pair.lost();
    assert!(pair.exit().success());
}

#[test]
fn a_session_that_is_over_is_followed_by_another_and_nothing_is_left_of_it() {
    let (mut pair, _) = Pair::new(60_000);
    let kept = pair.assign(1, 0, &[7; 5000]);
    assert!(pair.end(kept).result.is_ok());
    let processes = pair.processes();
    let outbox: Arc<dyn Receive<ToWorker>> = pair.outbox.clone();
    outbox.closed("the test wants it so");
    pair.joined();
    pair.heard.clear();
    await_deaths(&processes);
    pair.outbox.send(ToWorker::Send { objects: vec![kept.object(0)] });
    let values = pair.hear("an answer", |message| match message {
        FromWorker::Values { values } => Some(values.clone()),
        _ => None,
    });
    assert_eq!(values, [(kept.object(0), None)]);
    let again = pair.assign(1, 0, b"again");
    assert_eq!(pair.returned(again), b"again");
}

#[test]
fn a_killed_daemon_leaves_nobody() {
    let (mut pair, _) = Pair::new(60_000);
    let processes = pair.processes();
    assert_eq!(processes.len(), 3);
    pair.signal(Signal::KILL);
    await_deaths(&processes);
}

#[test]
fn two_daemons_share_a_state_directory_and_a_lost_scheduler_is_no_reason_to_end() {
    let (mut pair, _) = Pair::new(60_000);
    let (address, news) = scheduler();
    let mut nowhere = address.clone();
    // Nobody listens on the discard port.
    nowhere.port = 9;
    let mut waiting = start(&nowhere, pair.place.0.clone(), 1);
    let mut second = start(&address, pair.place.0.clone(), 1);
    while !matches!(news.recv_timeout(LIMIT), Ok(News::Joined(..))) {}
    let first = pair.assign(1, 0, b"hello");
    assert_eq!(pair.returned(first), b"hello");
    assert!(pair.place.0.join("worker-1").is_dir());
    assert!(waiting.try_wait().unwrap().is_none(), "it keeps trying");
    for daemon in [&mut waiting, &mut second] {
        kill_process(Pid::from_raw(daemon.id() as i32).unwrap(), Signal::TERM).unwrap();
        assert!(daemon.wait().unwrap().success());
    }
}
