//! What all parts of a run share: the time, the agenda, the seed's numbers, the plan and the record.

use std::collections::BTreeSet;
use std::rc::Rc;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::value::Value;
use manyhands_proto::worker::{FromWorker, ToWorker};
use manyhands_proto::{ObjectId, Time, WorkerId};
use manyhands_worker_core::{Event, ExecutorId};
use rustc_hash::FxHashMap;

use crate::agenda::Agenda;
use crate::network::{Departures, Flight, Weather};
use crate::plan::{Plan, PutPlan, TaskNo};
use crate::record::{Began, Fate, Record};
use crate::rng::Rng;
use crate::troubles::Trouble;
use crate::worker::transfers::Heard;

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
    /// The last bytes of an object that a worker fetches would be here by now.
    Arriving {
        /// To whom.
        worker: usize,
        /// What.
        object: ObjectId,
        /// Which transfer of the worker's.
        number: u64,
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
    /// What a worker hears of the source of a transfer.
    Heard {
        /// Who hears it.
        worker: usize,
        /// What it fetches.
        object: ObjectId,
        /// Which transfer of the worker's.
        number: u64,
        /// What it hears.
        heard: Heard,
    },
    /// The last bytes of a program would be here by now.
    ProgramArriving {
        /// To whom.
        worker: usize,
        /// From whom.
        from: usize,
        /// Which.
        program: u128,
        /// Who else may have it.
        workers: Vec<WorkerId>,
    },
    /// A client has sent a program to a worker.
    Uploaded {
        /// Which client.
        client: usize,
        /// To whom.
        worker: usize,
        /// Which.
        program: u128,
    },
    /// A worker that leaves has said everything, if all of it was heard.
    Goodbye(usize),
    /// A worker's shell looks how much memory its executors own.
    Sample(usize),
    /// A client goes on.
    ClientStep(usize),
    /// A client puts a large value, which has found no place yet.
    Put(PutPlan),
    /// Something befalls a worker.
    Trouble(Trouble),
    /// A worker's grace time is over, if its connection is still that which broke.
    GraceOver(usize),
    /// A worker hears that its session is over.
    Outcast(usize),
    /// A worker is as fast as before.
    Quick(usize),
    /// Others reach a worker again.
    Reached(usize),
    /// A client asks again for an object that it could not read.
    AskAgain(usize, ObjectId),
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
    /// Attempts after which the executor wants to end.
    pub leaves: u32,
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
            leaves: 0,
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

/// A machine on which a worker runs, as others find it.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// When its line is free again, outwards and inwards.
    line: (Time, Time),
    /// It has neither died nor gone.
    pub runs: bool,
    /// No other machine can reach it.
    pub cut_off: bool,
    /// The scheduler has given it up: what goes on there counts for nothing.
    pub given_up: bool,
    /// How many times longer everything takes there.
    pub slowness: u64,
    /// It was asked to leave, or has said that it will.
    pub leaving: bool,
    /// It is configured as that worker.
    pub like: usize,
}

impl Machine {
    /// Where nothing has gone wrong yet.
    pub fn new(like: usize) -> Machine {
        let line = (Time(0), Time(0));
        let (runs, cut_off, given_up, leaving) = (true, false, false, false);
        Machine { line, runs, cut_off, given_up, slowness: 1, leaving, like }
    }

    /// Whether others can get something from it.
    pub fn serves(&self) -> bool {
        self.runs && !self.cut_off
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
    /// The workers' machines.
    pub machines: Vec<Machine>,
    /// After this nothing befalls a worker any more.
    pub calm_at: Time,
    /// Machines that died or were given up.
    pub losses: u32,
    /// Where large values that clients put lay first.
    pub put_at: FxHashMap<ObjectId, usize>,
    /// Tasks that began again although they had ended well on that worker.
    pub reruns: Vec<(TaskNo, usize)>,
    /// Prints all that happens.
    pub trace: bool,
    /// The first thing that was not as it must be.
    pub failure: Option<String>,
}

impl World {
    /// A world at its beginning.
    pub fn new(plan: Rc<Plan>, faults: Faults, rng: Rng, trace: bool) -> World {
        World {
            now: Time(0),
            agenda: Agenda::default(),
            rng,
            record: Record::new(plan.tasks.len()),
            plan,
            faults,
            cancelled: BTreeSet::new(),
            bytes: (0, 0),
            machines: Vec::new(),
            calm_at: Time(0),
            losses: 0,
            put_at: FxHashMap::default(),
            reruns: Vec::new(),
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
        let (outwards, inwards) = (&self.machines[from], &self.machines[to]);
        if !outwards.runs {
            return self.now + 2 * self.faults.weather.latency_us;
        }
        let slowness = outwards.slowness.max(inwards.slowness);
        let begins = self.now.max(outwards.line.0).max(inwards.line.1);
        let ends = begins + size * slowness * 1_000_000 / self.faults.bandwidth;
        (self.machines[from].line.0, self.machines[to].line.1) = (ends, ends);
        ends + 2 * self.faults.weather.latency_us
    }

    /// Whether two machines reach each other.
    pub fn reach(&self, a: usize, b: usize) -> bool {
        self.machines[a].serves() && self.machines[b].serves()
    }

    /// How long something takes on a machine that would take so long on a quick one.
    pub fn takes_us(&self, worker: usize, us: u64) -> u64 {
        us.saturating_mul(self.machines[worker].slowness)
    }

    /// An executor claims an attempt.
    pub fn claimed(&mut self, no: TaskNo, attempt: u32, worker: usize, anew: bool) {
        if self.machines[worker].given_up {
            return;
        }
        match self.record.claim(no, attempt, worker, self.now, anew) {
            Ok(Began::AfterWell(before)) => self.reruns.push((no, before)),
            Ok(_) => {}
            Err(what) => self.fail(format!("{}: {what}", self.plan.tasks[no].id)),
        }
    }

    /// An attempt ended.
    pub fn ended(&mut self, no: TaskNo, attempt: u32, worker: usize, fate: Fate) {
        if !self.machines[worker].given_up {
            self.record.end(no, attempt, worker, fate, self.now);
        }
    }

    /// Whether any machine has died or was given up.
    pub fn is_lossy(&self) -> bool {
        self.losses > 0
    }
}
