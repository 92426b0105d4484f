//! A host with a loop of its own, for tests and measurements: waits for events, never for a time.

#![allow(dead_code, reason = "each user of this file needs a part of it")]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_executor::function_id;
use manyhands_proto::executor::{End, Run};
use manyhands_proto::task::Death;
use manyhands_proto::value::Codec;
use manyhands_proto::{JobId, Lane, TaskId};
use manyhands_transport::Waker;
use manyhands_worker::host::{Host, HostEvent, POLL_SOON, Program};
use manyhands_worker_core::event::ExecutorId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uuid::Uuid;

/// How long anything may take, on the busiest machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Crew {
    pub(crate) host: Host,
    waker: Arc<Waker>,
    events: Vec<HostEvent>,
    next: u32,
}

impl Crew {
    pub(crate) fn new() -> Crew {
        let waker = Waker::new().unwrap();
        let mut host = Host::start(waker.clone()).unwrap();
        host.prepare(&Program::Own).unwrap();
        Crew { host, waker, events: Vec::new(), next: 0 }
    }

    /// Starts an executor, without waiting for it.
    pub(crate) fn executor(&mut self) -> ExecutorId {
        let id = ExecutorId(self.next);
        self.next += 1;
        self.host.start_executor(id, &Program::Own);
        id
    }

    pub(crate) fn feed(&mut self, id: ExecutorId, run: &Run) {
        self.host.feed(id, run).unwrap();
        self.host.flush();
    }

    /// Appends what has come to `out`, sleeping if it is nothing.
    pub(crate) fn turn(&mut self, out: &mut Vec<HostEvent>) {
        self.waker.prepare();
        if !self.host.has_work() {
            let limit = if self.host.poll_soon() { POLL_SOON } else { LIMIT };
            let limit =
                Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
            let host = self.host.as_fd();
            let mut sources = [
                PollFd::new(&*self.waker, PollFlags::IN),
                PollFd::from_borrowed_fd(host, PollFlags::IN),
            ];
            let _ = poll(&mut sources, Some(&limit));
        }
        self.waker.awake();
        self.host.poll(out);
    }

    /// Waits for the first event that `find` wants. Others before it are dropped, later ones kept.
    pub(crate) fn until<R>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&HostEvent) -> Option<R>,
    ) -> R {
        let start = Instant::now();
        loop {
            let mut found = None;
            self.events.retain(|event| {
                let before = found.is_none();
                if before {
                    found = find(event);
                }
                !before
            });
            if let Some(found) = found {
                return found;
            }
            assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
            let mut events = std::mem::take(&mut self.events);
            self.turn(&mut events);
            self.events = events;
        }
    }

    pub(crate) fn end(&mut self) -> End {
        self.until("the end of a task", |event| match event {
            HostEvent::Ended { end, .. } => Some(end.clone()),
            HostEvent::Died { death, .. } => panic!("an executor died: {death:?}"),
            _ => None,
        })
    }

    pub(crate) fn death(&mut self) -> (ExecutorId, Death, Option<(TaskId, u32)>) {
        self.until("the death of an executor", |event| match event {
            HostEvent::Died { id, death, running } => Some((*id, death.clone(), *running)),
            _ => None,
        })
    }
}

pub(crate) fn task(seq: u64) -> TaskId {
    TaskId { job: JobId(Uuid::from_u128(7)), lane: Lane(1), seq }
}

pub(crate) fn run(function: &str, seq: u64) -> Run {
    Run {
        task: task(seq),
        attempt: 0,
        function: function_id(function),
        outputs: 1,
        args: Bytes::new(),
        inputs: Vec::new(),
    }
}

/// An encoded argument: a value.
pub(crate) fn value(bytes: &[u8]) -> Vec<u8> {
    let mut args = vec![0, Codec::RAW.0];
    args.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    args.extend_from_slice(bytes);
    args
}

pub(crate) fn run_with(function: &str, seq: u64, bytes: &[u8]) -> Run {
    Run { args: value(bytes).into(), ..run(function, seq) }
}

/// Adds a function to the program's tasks under its own name.
#[macro_export]
macro_rules! tasks {
    ($($name:ident),* $(,)?) => { $(const _: () = {
        use manyhands_executor::linkme;
        #[linkme::distributed_slice(manyhands_executor::TASKS)]
        #[linkme(crate = manyhands_executor::linkme)]
        static ENTRY: manyhands_executor::TaskEntry = manyhands_executor::TaskEntry {
            name: stringify!($name),
            id: manyhands_executor::function_id(stringify!($name)),
            invoke: $name,
        };
    };)* };
}
