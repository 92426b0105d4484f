//! What all parts of a run share: the time, the agenda, the seed's numbers, the plan and the record.

use std::collections::BTreeSet;
use std::rc::Rc;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::value::Value;
use manyhands_proto::worker::{FromWorker, ToWorker};
use manyhands_proto::{ObjectId, Time};
use manyhands_worker_core::{Event, ExecutorId};

use crate::agenda::Agenda;
use crate::network::{Departures, Flight, Weather};
use crate::plan::{Plan, TaskNo};
use crate::record::Record;
use crate::rng::Rng;

/// Something that will happen.
#[derive(Debug)]
pub enum Happening {
    /// Something arrives over a client's link.
    Client(usize, Flight<ToClient, FromClient>),
    /// Something arrives over a worker's link.
    Worker(usize, Flight<ToWorker, FromWorker>),
    /// The scheduler takes its next turn.
    SchedulerTurn,
    /// A worker takes its next turn.
    WorkerTurn(usize),
    /// Something reaches a worker's shell.
    Event(usize, Event),
    /// The frame of that number in an executor takes its next step.
    Step(usize, ExecutorId, u64),
    /// An executor dies of its own, if it still runs the frame of that number.
    Death(usize, ExecutorId, u64),
    /// The bytes of an object have come from a peer.
    Fetched {
        /// To whom.
        worker: usize,
        /// From whom.
        from: usize,
        /// What.
        object: ObjectId,
        /// Into a file.
        on_disk: bool,
    },
    /// A worker's disk has written an object.
    Spilled {
        /// Whose.
        worker: usize,
        /// What.
        object: ObjectId,
        /// Its value, if the core had it.
        value: Option<Value>,
    },
    /// A worker's disk has read an object.
    Loaded {
        /// Whose.
        worker: usize,
        /// What.
        object: ObjectId,
        /// It stays in a file.
        on_disk: bool,
    },
    /// A worker's shell looks how much memory its executors own.
    Sample(usize),
    /// A client goes on.
    ClientStep(usize),
    /// A worker's machine is lost.
    WorkerLost(usize),
    /// The news that clients have let go of everything has had time to reach everybody.
    Settled,
    /// A client is gone without a word.
    ClientLost(usize),
}

/// What flies over a client's link.
pub type ClientFlight = Flight<ToClient, FromClient>;

/// What flies over a worker's link.
pub type WorkerFlight = Flight<ToWorker, FromWorker>;

/// What goes wrong, and how slow things are. Parts are of 100,000.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The network.
    pub weather: Weather,
    /// Attempts under which the executor dies.
    pub executor_death: u32,
    /// Executors that do not start.
    pub start_failure: u32,
    /// Transfers that fail.
    pub fetch_failure: u32,
    /// Objects that the disk does not take.
    pub spill_failure: u32,
    /// Bytes a second between workers.
    pub bandwidth: u64,
    /// Bytes a second to and from disk.
    pub disk_bandwidth: u64,
    /// The most that a shell waits before it takes its turn, microseconds.
    pub turn_us: u64,
    /// How long an executor takes to start, microseconds.
    pub start_us: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            weather: Weather { latency_us: 30, jitter_us: 0, repeat: 0, cut: 0, twice: 0 },
            executor_death: 0,
            start_failure: 0,
            fetch_failure: 0,
            spill_failure: 0,
            bandwidth: 1 << 30,
            disk_bandwidth: 500 << 20,
            turn_us: 2,
            start_us: 1_500,
        }
    }
}

/// What all parts of a run share.
#[derive(Debug)]
pub struct World {
    /// The virtual time.
    pub now: Time,
    /// What will happen.
    pub agenda: Agenda<Happening>,
    /// Chance.
    pub rng: Rng,
    /// What is submitted.
    pub plan: Rc<Plan>,
    /// What the tasks did.
    pub record: Record,
    /// What goes wrong.
    pub faults: Faults,
    /// Tasks that a client has cancelled.
    pub cancelled: BTreeSet<TaskNo>,
    /// Bytes of objects in all stores and on all disks now, and the most there ever were.
    pub bytes: (u64, u64),
    /// When each worker's line is free again, outwards and inwards.
    pub lines: Vec<(Time, Time)>,
    /// Prints all that happens.
    pub trace: bool,
    /// The first thing that was not as it must be.
    pub failure: Option<String>,
}

impl World {
    /// A world at its beginning.
    pub fn new(plan: Rc<Plan>, faults: Faults, workers: usize, rng: Rng, trace: bool) -> World {
        World {
            now: Time(0),
            agenda: Agenda::default(),
            rng,
            record: Record::new(plan.tasks.len()),
            plan,
            faults,
            cancelled: BTreeSet::new(),
            bytes: (0, 0),
            lines: vec![(Time(0), Time(0)); workers],
            trace,
            failure: None,
        }
    }

    /// Enters something that happens so many microseconds from now.
    pub fn after(&mut self, us: u64, happening: Happening) {
        self.agenda.at(self.now + us, happening);
    }

    /// Something reaches a worker's shell.
    pub fn tell(&mut self, worker: usize, us: u64, event: Event) {
        self.after(us, Happening::Event(worker, event));
    }

    /// Something is not as it must be.
    pub fn fail(&mut self, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(format!("at {} us: {}", self.now.0, what.into()));
        }
    }

    /// As [`World::fail`], if it is an error.
    pub fn check(&mut self, context: &str, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(format!("{context}: {what}"));
        }
    }

    /// Sends what a link wants sent to or from a client.
    pub fn depart_client(&mut self, client: usize, flights: Departures<ToClient, FromClient>) {
        for (us, flight) in flights {
            self.after(us, Happening::Client(client, flight));
        }
    }

    /// Sends what a link wants sent to or from a worker.
    pub fn depart_worker(&mut self, worker: usize, flights: Departures<ToWorker, FromWorker>) {
        for (us, flight) in flights {
            self.after(us, Happening::Worker(worker, flight));
        }
    }

    /// When a transfer that is asked for now will be done: a line carries one at a time.
    pub fn transfer(&mut self, from: usize, to: usize, size: u64) -> Time {
        let begins = self.now.max(self.lines[from].0).max(self.lines[to].1);
        let ends = begins + size * 1_000_000 / self.faults.bandwidth;
        (self.lines[from].0, self.lines[to].1) = (ends, ends);
        ends + 2 * self.faults.weather.latency_us
    }
}
