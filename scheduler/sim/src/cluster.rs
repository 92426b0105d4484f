//! A whole cluster under one seed: the loop that takes what comes next and lets it happen.

mod ending;
mod members;
mod people;

use std::fmt::Write;
use std::hash::Hasher;

use manyhands_proto::client::FromClient;
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{ObjectId, SessionId, Time, WorkerId};
use manyhands_scheduler_core as scheduler;
use manyhands_worker_core as worker;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::client::Client;
use crate::cluster::members::{Member, Standing};
use crate::network::News;
use crate::record::{Fate, Record};
use crate::scenario::Scenario;
use crate::worker::Worker;
use crate::world::{Happening, Machine, World};

/// Microseconds without any progress after which a run is taken to hang.
const HANG_US: u64 = 60_000_000;

/// A cluster.
pub struct Cluster {
    world: World,
    scheduler: scheduler::Core,
    inbox: Vec<scheduler::Event>,
    turn_at: Time,
    workers: Vec<Worker>,
    /// How each of the workers stands with the scheduler.
    members: Vec<Member>,
    standing: Vec<Standing>,
    clients: Vec<Client>,
    sessions: FxHashMap<SessionId, usize>,
    /// Objects that the scheduler has freed, and not heard to exist again: they may yet lie
    /// somewhere.
    freed: FxHashSet<ObjectId>,
    actions: ActionLog,
    /// Sanity is checked after so many steps of a core.
    sanity_every: u32,
    steps: u32,
    ending: Ending,
}

/// How far the end of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Somebody still waits for something.
    NotYet,
    /// Clients have let go of everything; their jobs are still open.
    Released,
    /// Their jobs are closed as well.
    Closed,
    /// Nothing was left.
    Over,
}

/// What came of a run that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// A hash of all actions of all cores, in order.
    pub actions_hash: u64,
    /// How many actions.
    pub actions: u64,
    /// Virtual microseconds until the last task ended.
    pub makespan_us: u64,
    /// The most bytes of objects that lay in stores and on disks at one time.
    pub peak_bytes: u64,
    /// Tasks planned, and attempts that ended well.
    pub tasks: (u64, u64),
    /// Results that clients looked at.
    pub checked: u64,
    /// Objects that went to disk.
    pub spills: u64,
    /// Connections that were cut.
    pub cuts: u64,
    /// Workers that ever joined, and those of them that were given up.
    pub workers: (u64, u64),
    /// Attempts that ran what had run before: on a worker that was lost, or for an object that was.
    pub rerun: u64,
}

/// A hash of every action, without keeping them. Of long ones the beginning counts.
#[derive(Default)]
struct ActionLog {
    hasher: FxHasher,
    count: u64,
    /// Bytes that count of the present one.
    left: usize,
}

/// Bytes of an action in words that go into the hash: values can be long.
const HASHED: usize = 1_000;

impl Write for ActionLog {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.hasher.write(text.as_bytes());
        self.left = self.left.checked_sub(text.len()).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

impl ActionLog {
    fn add(&mut self, who: u64, action: &impl std::fmt::Debug) {
        self.count += 1;
        self.hasher.write_u64(who);
        self.left = HASHED;
        // The only error is that the rest does not count.
        let _ = write!(self, "{action:?}");
    }
}

impl Cluster {
    /// A cluster in which nothing has happened yet.
    pub fn new(scenario: Scenario, trace: bool) -> Cluster {
        let Scenario {
            plan,
            workers,
            clients,
            faults,
            scheduler,
            sanity_every,
            losses,
            troubles,
            rng,
            ..
        } = scenario;
        let mut world = World::new(plan, faults, rng, trace);
        world.calm_at = troubles.calm_at;
        let mut inbox = Vec::new();
        let mut sessions = FxHashMap::default();
        for (number, client) in clients.iter().enumerate() {
            let (session, lane) = (client.session, client.lane);
            inbox.push(scheduler::Event::ClientJoined { session, lane });
            sessions.insert(session, number);
            world.after(0, Happening::ClientStep(number));
        }
        for (at, happening) in losses {
            world.agenda.at(at, happening);
        }
        for (at, trouble) in troubles.list {
            world.agenda.at(at, Happening::Trouble(trouble));
        }
        let mut cluster = Cluster {
            world,
            scheduler: scheduler::Core::new(scheduler),
            inbox,
            turn_at: Time(0),
            workers: Vec::new(),
            members: Vec::new(),
            standing: Vec::new(),
            clients,
            sessions,
            freed: FxHashSet::default(),
            actions: ActionLog::default(),
            sanity_every,
            steps: 0,
            ending: Ending::NotYet,
        };
        for (like, config) in workers.into_iter().enumerate() {
            cluster.join(like, config);
        }
        cluster.world.after(0, Happening::SchedulerTurn);
        cluster
    }

    /// Runs to the end. An error says what was not as it must be.
    pub fn run(self) -> Result<Outline, String> {
        self.run_for_record().map(|(outline, _)| outline)
    }

    /// As [`Cluster::run`], with the record of what every task did.
    pub fn run_for_record(mut self) -> Result<(Outline, Record), String> {
        while let Some((now, happening)) = self.world.agenda.take_next() {
            self.world.now = now;
            self.happen(happening);
            self.judge_reruns();
            if let Some(failure) = self.world.failure.take() {
                return Err(failure);
            }
            if self.ending == Ending::Over {
                return Ok((self.outline(), self.world.record));
            }
            self.settle();
            if now.since(self.world.record.progress) > HANG_US {
                break;
            }
        }
        Err(self.describe_hang())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Client(client, flight) => self.client_flight(client, flight),
            Happening::Worker(worker, flight) => self.worker_flight(worker, flight),
            Happening::SchedulerTurn => self.scheduler_turn(),
            Happening::WorkerTurn(worker) => self.worker_turn(worker),
            Happening::Event(worker, event) => {
                if self.world.machines[worker].runs {
                    self.workers[worker].deliver(event, &mut self.world);
                }
            }
            Happening::Arriving { worker, object, number } => self.arrive(worker, object, number),
            Happening::ClientStep(client) => self.client_step(client),
            Happening::ClientLost(client) => self.lose_client(client),
            Happening::Goodbye(worker) => self.goodbye(worker),
            Happening::ProgramArriving { worker, from, program, workers } => {
                self.program_arrives(worker, from, program, workers);
            }
            Happening::Uploaded { client, worker, program } => {
                self.uploaded(client, worker, program);
            }
            Happening::Put(put) => self.put(put),
            Happening::Trouble(trouble) => self.befall(trouble),
            Happening::GraceOver(worker) => self.grace_over(worker),
            Happening::Outcast(worker) => self.outcast(worker),
            Happening::Reached(worker) => self.world.machines[worker].cut_off = false,
            Happening::AskAgain(client, object) => {
                self.clients[client].want(object, &mut self.world);
            }
            Happening::Quick(worker) => self.world.machines[worker].slowness = 1,
            Happening::Settled => self.settled(),
            other => self.in_a_worker(other),
        }
    }

    fn in_a_worker(&mut self, happening: Happening) {
        let world = &mut self.world;
        match happening {
            Happening::Step(worker, executor, frame) => {
                self.workers[worker].step(executor, frame, world);
            }
            Happening::Death(worker, executor, frame) => {
                self.workers[worker].strike(executor, frame, world);
            }
            Happening::Heard { worker, object, number, heard } if world.machines[worker].runs => {
                self.workers[worker].heard(object, number, heard, world);
            }
            Happening::Spilled { worker, object, value } if world.machines[worker].runs => {
                self.workers[worker].spilled(object, value, world);
            }
            Happening::Loaded { worker, object, on_disk } if world.machines[worker].runs => {
                self.workers[worker].loaded(object, on_disk, world);
            }
            Happening::Sample(worker) => self.workers[worker].sample(world),
            _ => {}
        }
    }

    fn client_flight(&mut self, number: usize, flight: crate::world::ClientFlight) {
        let (world, client) = (&mut self.world, &mut self.clients[number]);
        if client.lost {
            return;
        }
        let mut out = Vec::new();
        let arrival = match client.link.arrive(flight, &mut world.rng, &mut out) {
            Ok(arrival) => arrival,
            Err(error) => return world.fail(format!("client {number}'s link: {error}")),
        };
        world.depart_client(number, out);
        let session = client.session;
        for message in arrival.up {
            let event = scheduler::Event::FromClient { session, message };
            let twice = self.clients[number].link.twice(&mut self.world.rng);
            self.reach_scheduler(event, twice);
        }
        for message in arrival.down {
            let to_read = self.clients[number].told(message, &mut self.world);
            self.read(number, to_read);
        }
    }

    fn worker_flight(&mut self, number: usize, flight: crate::world::WorkerFlight) {
        let (world, peer) = (&mut self.world, &mut self.workers[number]);
        if self.members[number] == Member::Over {
            return;
        }
        let mut out = Vec::new();
        let arrival = match peer.link.arrive(flight, &mut world.rng, &mut out) {
            Ok(arrival) => arrival,
            Err(error) => return world.fail(format!("worker {number}'s link: {error}")),
        };
        world.depart_worker(number, out);
        let worker = WorkerId(number as u32);
        match arrival.news {
            Some(News::Away) => {
                self.reach_scheduler(scheduler::Event::WorkerAway { worker }, false)
            }
            Some(News::Back) => {
                self.reach_scheduler(scheduler::Event::WorkerBack { worker }, false)
            }
            None => {}
        }
        let heard = if self.world.machines[number].runs { arrival.down } else { Vec::new() };
        for message in heard {
            let event = worker::Event::FromScheduler(message);
            if self.workers[number].link.twice(&mut self.world.rng) {
                self.workers[number].deliver(event.clone(), &mut self.world);
                // Half of the repeated ones come when the first has had its effect.
                if self.world.rng.below(2) == 0 {
                    self.workers[number].wake_at(self.world.now, &mut self.world);
                    self.worker_turn(number);
                }
            }
            self.workers[number].deliver(event, &mut self.world);
        }
        for message in arrival.up {
            self.note_ends(number, &message);
            let twice = self.workers[number].link.twice(&mut self.world.rng);
            self.reach_scheduler(scheduler::Event::FromWorker { worker, message }, twice);
        }
    }

    fn reach_scheduler(&mut self, event: scheduler::Event, twice: bool) {
        if twice {
            self.inbox.push(event.clone());
            // Half of the repeated ones come when the first has had its effect.
            if self.world.rng.below(2) == 0 {
                self.wake_scheduler(self.world.now);
                self.scheduler_turn();
            }
        }
        self.inbox.push(event);
        let us = self.world.rng.below(self.world.faults.turn_us + 1);
        self.wake_scheduler(self.world.now + us);
    }

    fn wake_scheduler(&mut self, at: Time) {
        if at < self.turn_at {
            self.turn_at = at;
            self.world.agenda.at(at, Happening::SchedulerTurn);
        }
    }

    fn scheduler_turn(&mut self) {
        let now = self.world.now;
        if now < self.turn_at {
            return;
        }
        self.turn_at = Time::NEVER;
        let mut actions = Vec::new();
        for event in std::mem::take(&mut self.inbox) {
            if self.world.trace {
                println!("{:>9} scheduler <- {event:?}", now.0);
            }
            self.note_standing(&event);
            self.scheduler.handle(now, event, &mut actions);
            if self.is_sanity_due() {
                self.scheduler.sanity_check();
            }
        }
        if self.scheduler.next_tick().is_some_and(|at| at <= now) {
            self.scheduler.handle(now, scheduler::Event::Tick, &mut actions);
        }
        self.scheduler.round(now, &mut actions);
        if self.is_sanity_due() {
            self.scheduler.sanity_check();
        }
        for action in actions {
            self.scheduler_action(action);
        }
        self.end_sessions();
        if let Some(at) = self.scheduler.next_tick() {
            // A tick in the past would be a turn without end.
            self.wake_scheduler(at.max(now + 1));
        }
    }

    fn scheduler_action(&mut self, action: scheduler::Action) {
        if self.world.trace {
            println!("{:>9} scheduler -> {action:?}", self.world.now.0);
        }
        self.actions.add(u64::MAX, &action);
        let world = &mut self.world;
        match action {
            scheduler::Action::ToClient { session, message } => {
                let mut out = Vec::new();
                let Some(&client) = self.sessions.get(&session) else {
                    return world.fail(format!("the scheduler spoke to {session:?}, unknown"));
                };
                self.clients[client].link.send_down(message, &mut world.rng, &mut out);
                world.depart_client(client, out);
            }
            scheduler::Action::ToWorker { worker, message } => {
                let number = worker.0 as usize;
                if self.members[number] == Member::Over {
                    return world.fail(format!("the scheduler spoke to {worker}, which is gone"));
                }
                if let ToWorker::Free { objects } = &message {
                    self.freed.extend(objects);
                }
                self.judge_assignment(number, &message);
                let world = &mut self.world;
                let mut out = Vec::new();
                self.workers[number].link.send_down(message, &mut world.rng, &mut out);
                world.depart_worker(number, out);
            }
        }
    }

    fn worker_turn(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        let actions = worker.turn(&mut self.world);
        for action in &actions {
            self.actions.add(number as u64, action);
        }
        worker.act(actions, &mut self.world);
        for (put, message) in std::mem::take(&mut worker.placed) {
            let client = self.world.plan.jobs[put.job].client;
            self.world.put_at.insert(put.object, number);
            self.clients[client].placed(message, &mut self.world);
        }
        if self.is_sanity_due() {
            self.workers[number].core.sanity_check();
        }
    }

    fn is_sanity_due(&mut self) -> bool {
        self.steps = self.steps.wrapping_add(1);
        self.steps.is_multiple_of(self.sanity_every)
    }
}
