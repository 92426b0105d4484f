//! Workers in one process, with data links between them over loopback, and a scheduler that says
//! what a test wants it to say.

#![allow(dead_code, reason = "each user of this file needs a part of it")]

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use manyhands_executor::function_id;
use manyhands_proto::client::FunctionSpec;
use manyhands_proto::frame::Role;
use manyhands_proto::task::{Resources, TaskOptions};
use manyhands_proto::worker::{
    AssignedInput, Assignment, FromWorker, Peer, TaskEnd, ToWorker, WorkerSpec,
};
use manyhands_proto::{TaskId, WorkerId};
use manyhands_store::{Store, StoreConfig};
use manyhands_transport::bulk::{Bulk, BulkConfig};
use manyhands_transport::keys::ClusterSecret;
use manyhands_transport::{Clock, Receive, Waker};
use manyhands_worker::{Exchange, Inlet, Mail, Worker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::crew::LIMIT;

/// A directory of a test's own, removed in the end.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new() -> Place {
        let path = std::env::temp_dir().join(format!("manyhands-town-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a worker has said and the test has not looked at.
#[derive(Default)]
struct Heard(Mutex<VecDeque<FromWorker>>);

impl Receive<FromWorker> for Heard {
    fn receive(&self, messages: Vec<FromWorker>) {
        self.0.lock().unwrap().extend(messages);
    }

    fn closed(&self, _reason: &str) {}
}

pub(crate) struct Node {
    pub(crate) worker: Worker,
    pub(crate) store: Arc<Store>,
    pub(crate) peer: Peer,
    inlet: Inlet,
    heard: Arc<Heard>,
    _exchange: Exchange,
}

/// Some workers that know each other.
pub(crate) struct Town {
    pub(crate) nodes: Vec<Node>,
    secret: ClusterSecret,
    waker: Arc<Waker>,
    _place: Place,
}

impl Town {
    /// So many workers of one slot each, with stores of so many bytes. They know the functions of
    /// this program, in slots 0 and on.
    pub(crate) fn new(workers: u32, store_limit: u64, functions: &[&str]) -> Town {
        let (secret, waker, place) =
            (ClusterSecret::generate().unwrap(), Waker::new().unwrap(), Place::new());
        let nodes = (0..workers).map(|number| {
            let directory = place.0.join(number.to_string());
            Node::new(WorkerId(number), &secret, &waker, directory, store_limit)
        });
        let nodes: Vec<Node> = nodes.collect();
        let peers: Vec<Peer> = nodes.iter().map(|node| node.peer.clone()).collect();
        let mut town = Town { nodes, secret, waker, _place: place };
        for node in 0..town.nodes.len() {
            town.say(node, ToWorker::Peers { peers: peers.clone() });
            for (slot, name) in functions.iter().enumerate() {
                town.describe(node, slot as u32, name, 0);
            }
        }
        town
    }

    pub(crate) fn describe(&mut self, node: usize, slot: u32, name: &str, program: u128) {
        let spec = FunctionSpec::rust(function_id(name), name, program);
        self.say(node, ToWorker::Functions { functions: vec![(slot, spec)] });
    }

    /// A client of the cluster, that knows all workers.
    pub(crate) fn client(&self) -> Bulk {
        let token = self.secret.token(Role::Client);
        let bulk = Bulk::start(BulkConfig::new(None, token, "client"), None).unwrap();
        bulk.peers(self.nodes.iter().map(|node| node.peer.clone()).collect());
        bulk
    }

    pub(crate) fn say(&mut self, node: usize, message: ToWorker) {
        self.nodes[node].inlet.receive(vec![message]);
    }

    pub(crate) fn assign(&mut self, node: usize, assignment: Assignment) {
        self.say(node, ToWorker::Assign { tasks: vec![assignment] });
    }

    /// Lets all workers work until one has said what `find` wants. What it said before is dropped.
    pub(crate) fn hear<R>(
        &mut self,
        node: usize,
        what: &str,
        mut find: impl FnMut(FromWorker) -> Option<R>,
    ) -> R {
        let (start, mut said) = (Instant::now(), Vec::new());
        loop {
            while let Some(message) = self.nodes[node].next() {
                said.push(format!("{message:?}"));
                if let Some(found) = find(message) {
                    return found;
                }
            }
            assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}; it said {said:#?}");
            self.turn();
        }
    }

    /// The end of a task.
    pub(crate) fn end(&mut self, node: usize, task: TaskId) -> TaskEnd {
        self.hear(node, "the end of a task", |message| match message {
            FromWorker::Ended { ends } => ends.into_iter().find(|end| end.task == task),
            _ => None,
        })
    }

    /// Runs something that waits for the workers on another thread, and lets them work meanwhile.
    pub(crate) fn meanwhile<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> R {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let waker = self.waker.clone();
            let thread = scope.spawn(move || {
                let result = work();
                waker.wake();
                result
            });
            while !thread.is_finished() {
                assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for another thread");
                self.turn();
            }
            thread.join().unwrap()
        })
    }

    /// One turn of everybody, and a sleep if there is nothing to do.
    pub(crate) fn turn(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.worker.turn());
        self.waker.prepare();
        if !self.nodes.iter().any(|node| node.worker.has_work()) {
            let fds = self.nodes.iter().map(|node| {
                let fd = node.worker.poll_fd();
                fd.as_fd().try_clone_to_owned().unwrap()
            });
            let fds: Vec<OwnedFd> = fds.collect();
            let mut sources: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            sources.push(PollFd::new(&*self.waker, PollFlags::IN));
            // Whatever is due by then, is looked at.
            let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let _ = poll(&mut sources, Some(&pause));
        }
        self.waker.awake();
    }
}

impl Node {
    fn new(
        id: WorkerId,
        secret: &ClusterSecret,
        waker: &Arc<Waker>,
        directory: PathBuf,
        store_limit: u64,
    ) -> Node {
        let token = secret.token(Role::Worker);
        let bulk = BulkConfig::new(Some(([127, 0, 0, 1], 0).into()), token, id.to_string());
        let exchange = Exchange::start(bulk, directory.join("programs"), 1 << 30).unwrap();
        let store = Store::new(StoreConfig {
            memory_limit: store_limit,
            spill_dir: Some(directory),
            ..StoreConfig::default()
        });
        let store = store.unwrap();
        let (mail, heard) = (Mail::new(waker), Arc::new(Heard::default()));
        let inlet = mail.inlet();
        let addresses = vec![exchange.local_addr().unwrap()];
        let peer = Peer { worker: id, addresses: addresses.clone(), host: String::new() };
        let resources = Resources { millicores: 1000, memory: 0, named: Vec::new() };
        let spec = WorkerSpec { resources, store_limit, addresses, ..WorkerSpec::default() };
        let peers = exchange.begin(id, store.clone(), &mail);
        let config = manyhands_worker_core::Config::new(spec);
        let clock = Clock::start();
        let worker = Worker::new(id, config, clock, waker, mail, store.clone(), heard.clone());
        let mut worker = worker.unwrap();
        worker.connect(peers).unwrap();
        Node { worker, store, peer, inlet, heard, _exchange: exchange }
    }

    fn next(&mut self) -> Option<FromWorker> {
        self.heard.0.lock().unwrap().pop_front()
    }
}

pub(crate) fn assignment(task: TaskId, function: u32, args: Vec<u8>) -> Assignment {
    Assignment {
        task,
        attempt: 0,
        function,
        outputs: 1,
        wanted: false,
        order: task.seq,
        expected_us: 0,
        expected_bytes: 0,
        options: Arc::new(TaskOptions::default()),
        inputs: Vec::<AssignedInput>::new(),
        args: args.into(),
        in_place_of: None,
    }
}
