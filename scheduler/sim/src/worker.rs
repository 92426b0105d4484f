//! A virtual worker: a real core in a virtual shell, which does what the core wants done.

mod data;
mod programs;
pub mod transfers;

use std::collections::{BTreeMap, BTreeSet};

use manyhands_proto::client::{FromClient, PutPlace, Runtime};
use manyhands_proto::executor::ToExecutor;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{FromWorker, ToWorker};
use manyhands_proto::{ObjectId, Time, WorkerId};
use manyhands_worker_core::event::LocalValue;
use manyhands_worker_core::{Action, Config, Core, Event, ExecutorId};

use crate::executor::{Around, Executor};
use crate::nested;
use crate::network::Link;
use crate::plan::{PutPlan, decode_value, encode_value, is_inline};
use crate::record::Fate;
use crate::store::Store;
use crate::worker::transfers::{Ticket, Transfer};
use crate::world::{Happening, World};

/// Bytes of a program.
pub const PROGRAM_SIZE: u64 = 3 << 20;

/// A worker.
pub struct Worker {
    number: usize,
    /// Its core.
    pub core: Core,
    /// As it was configured.
    pub config: Config,
    /// Its store.
    pub store: Store,
    /// Its link to the scheduler.
    pub link: Link<ToWorker, FromWorker>,
    executors: BTreeMap<ExecutorId, Executor>,
    inbox: Vec<Event>,
    turn_at: Time,
    sampling: bool,
    bytes: u64,
    /// Large values that a client in this process puts, by the number of the request.
    puts: BTreeMap<u64, PutPlan>,
    requests: u64,
    /// Objects that come from other workers.
    transfers: BTreeMap<ObjectId, Transfer>,
    transfers_begun: u64,
    tickets: BTreeMap<u64, Ticket>,
    /// The workers that it was told of and not told to be gone.
    pub peers: BTreeSet<WorkerId>,
    /// All that it was ever told of.
    met: BTreeSet<WorkerId>,
    /// Programs that are here.
    pub programs: BTreeSet<u128>,
    /// Puts that have found their place, and of which the scheduler may be told.
    pub placed: Vec<(PutPlan, FromClient)>,
}

impl Worker {
    /// A worker with nothing in it.
    pub fn new(number: usize, config: Config, weather: crate::network::Weather) -> Worker {
        Worker {
            number,
            core: Core::new(WorkerId(number as u32), config.clone()),
            config,
            store: Store::default(),
            link: Link::new(weather),
            executors: BTreeMap::new(),
            inbox: Vec::new(),
            turn_at: Time::NEVER,
            sampling: false,
            bytes: 0,
            puts: BTreeMap::new(),
            requests: 0,
            transfers: BTreeMap::new(),
            transfers_begun: 0,
            tickets: BTreeMap::new(),
            peers: BTreeSet::new(),
            met: BTreeSet::new(),
            programs: BTreeSet::from([0]),
            placed: Vec::new(),
        }
    }

    /// Something for the core; it takes it at its next turn.
    pub fn deliver(&mut self, event: Event, world: &mut World) {
        match &event {
            Event::ExecutorDied { executor, .. } => {
                self.executors.remove(executor);
            }
            Event::ExecutorStarted { executor, .. } => {
                if let Some(executor) = self.executors.get_mut(executor) {
                    executor.begin_life();
                }
            }
            _ => {}
        }
        self.inbox.push(event);
        let us = world.rng.below(world.faults.turn_us + 1);
        self.wake_at(world.now + us, world);
    }

    /// Makes sure of a turn at that time at the latest.
    pub fn wake_at(&mut self, at: Time, world: &mut World) {
        if at < self.turn_at {
            self.turn_at = at;
            world.agenda.at(at, Happening::WorkerTurn(self.number));
        }
    }

    /// Takes a turn: all that came in, then one round.
    pub fn turn(&mut self, world: &mut World) -> Vec<Action> {
        let mut actions = Vec::new();
        if !world.machines[self.number].runs || world.now < self.turn_at {
            return actions;
        }
        self.turn_at = Time::NEVER;
        for event in std::mem::take(&mut self.inbox) {
            if world.trace {
                println!("{:>9} worker {} <- {event:?}", world.now.0, self.number);
            }
            self.core.handle(world.now, event, &mut actions);
        }
        if self.core.next_tick().is_some_and(|at| at <= world.now) {
            self.core.handle(world.now, Event::Tick, &mut actions);
        }
        self.core.round(world.now, &mut actions);
        actions
    }

    /// Does what the core wanted, in order.
    pub fn act(&mut self, actions: Vec<Action>, world: &mut World) {
        for action in actions {
            if world.trace {
                println!("{:>9} worker {} -> {action:?}", world.now.0, self.number);
            }
            self.act_one(action, world);
            if !world.machines[self.number].runs {
                // It has left.
                return;
            }
        }
        self.check_slots(world);
        self.count_bytes(world);
        if let Some(at) = self.core.next_tick() {
            // A tick in the past would be a turn without end.
            self.wake_at(at.max(world.now + 1), world);
        }
        if !self.sampling && self.core.watched().next().is_some() {
            self.sampling = true;
            world.after(5_000, Happening::Sample(self.number));
        }
    }

    fn act_one(&mut self, action: Action, world: &mut World) {
        match action {
            Action::ToScheduler(message) => {
                let mut flights = Vec::new();
                self.link.send_up(message, &mut world.rng, &mut flights);
                world.depart_worker(self.number, flights);
            }
            Action::StartExecutor { executor, runtime } => self.start(executor, runtime, world),
            Action::TakeBack { executor, task, attempt } => {
                let found = self.executors.get_mut(&executor);
                let ok = found.is_some_and(|found| found.take_back(task, attempt));
                world.tell(self.number, 0, Event::TookBack { executor, task, attempt, ok });
            }
            Action::Kill { executor } => {
                self.with(executor, world, |it, around| it.die(Fate::Stopped, around));
            }
            Action::Retire { executor } => self.retire(executor, world),
            Action::Feed { executor, run } => {
                self.must_have(executor, world);
                self.with(executor, world, |it, around| it.feed(run, around));
            }
            Action::RunInPlace { executor, run } => {
                self.must_have(executor, world);
                self.with(executor, world, |it, around| it.run_in_place(run, around));
            }
            Action::Interrupt { executor, task, attempt } => {
                self.with(executor, world, |it, around| it.interrupt(task, attempt, around));
            }
            Action::ToExecutor { executor, message } => {
                self.tell_executor(executor, message, world)
            }
            Action::Grant { executor, request, size, on_disk } => {
                self.grant(executor, request, size, on_disk, world);
            }
            Action::Readable { executor, object, place } => {
                self.with(executor, world, |it, around| it.readable(object, place, around));
            }
            Action::Fetch { object, workers, size, on_disk } => {
                self.fetch(object, workers, size, on_disk, world);
            }
            Action::Spill { object, value } => self.spill(object, value, world),
            Action::Load { object, on_disk } => {
                let us = self.disk_us(object, world);
                world.after(us, Happening::Loaded { worker: self.number, object, on_disk });
            }
            Action::Serve { ticket, value } => self.serve_ticket(ticket, value, world),
            Action::Peers { peers } => {
                let workers = peers.iter().map(|peer| peer.worker);
                self.peers.extend(workers.clone());
                self.met.extend(workers);
            }
            Action::PeersGone { workers } => self.peers.retain(|it| !workers.contains(it)),
            Action::FetchProgram { program, workers } => {
                self.fetch_program(program, workers, world);
            }
            Action::Leave => self.leave(world),
            Action::Free { object } => {
                let freed = self.store.free(object);
                world.check(&format!("worker {}", self.number), freed);
            }
        }
    }

    /// Runs `deed` with an executor that lives. One that has just died hears nothing.
    fn with(
        &mut self,
        executor: ExecutorId,
        world: &mut World,
        deed: impl FnOnce(&mut Executor, &mut Around),
    ) {
        if let Some(found) = self.executors.get_mut(&executor) {
            deed(found, &mut Around { world, store: &mut self.store });
        }
    }

    fn must_have(&self, executor: ExecutorId, world: &mut World) {
        if !self.executors.contains_key(&executor) {
            world.fail(format!("worker {} used {executor:?}, which is gone", self.number));
        }
    }

    fn start(&mut self, executor: ExecutorId, runtime: Runtime, world: &mut World) {
        let program = match &runtime {
            Runtime::Rust { program } => *program,
            Runtime::Python(environment) => environment.archive,
        };
        if !self.programs.contains(&program) {
            world.fail(format!("worker {} starts program {program}, not here", self.number));
        }
        let us = world.rng.range(world.faults.start_us / 2, world.faults.start_us);
        let us = world.takes_us(self.number, us);
        if world.rng.chance(world.faults.start_failure) {
            let message = "no more processes".to_owned();
            return world.tell(self.number, us, Event::StartFailed { executor, message });
        }
        let process = Executor::new(self.number, executor, runtime);
        let pid = process.pid;
        self.executors.insert(executor, process);
        world.tell(self.number, us, Event::ExecutorStarted { executor, pid });
    }

    fn retire(&mut self, executor: ExecutorId, world: &mut World) {
        if self.executors.get(&executor).is_some_and(|found| !found.is_idle()) {
            world.fail(format!("worker {} retired {executor:?}, which is busy", self.number));
        }
        self.with(executor, world, |it, around| it.die(Fate::Stopped, around));
    }

    fn tell_executor(&mut self, executor: ExecutorId, message: ToExecutor, world: &mut World) {
        match message {
            ToExecutor::Client { task, message } => {
                self.with(executor, world, |it, around| it.told(task, message, around));
            }
            ToExecutor::Granted { request, extent } if executor == ExecutorId::CLIENT => {
                if extent.is_err() {
                    world.fail(format!("put {request} was refused: {extent:?}"));
                }
            }
            ToExecutor::Granted { request, extent } => {
                self.with(executor, world, |it, around| it.granted(request, extent, around));
            }
            ToExecutor::Readable { object, place } => {
                self.with(executor, world, |it, around| it.readable(object, place, around));
            }
            ToExecutor::Run(run) => {
                self.with(executor, world, |it, around| it.run_in_place(run, around));
            }
            ToExecutor::Exit => self.retire(executor, world),
            ToExecutor::Function { id, code, .. } => {
                self.with(executor, world, |it, around| it.told_of(id, &code, around));
            }
            ToExecutor::Segment { .. } | ToExecutor::DropSegment { .. } | ToExecutor::Ahead(_) => {
                world.fail("a core meddled with what only the shell knows".to_owned());
            }
        }
    }

    /// An executor's frame takes its next step.
    pub fn step(&mut self, executor: ExecutorId, frame: u64, world: &mut World) {
        self.with(executor, world, |it, around| it.step(frame, around));
        self.check_slots(world);
    }

    /// An executor dies of its own, if it still runs that frame.
    pub fn strike(&mut self, executor: ExecutorId, frame: u64, world: &mut World) {
        self.with(executor, world, |it, around| {
            if it.has(frame) {
                it.die(Fate::Died, around);
            }
        });
    }

    /// Looks how much memory the executors own that the core watches.
    pub fn sample(&mut self, world: &mut World) {
        self.sampling = false;
        let watched: Vec<ExecutorId> = self.core.watched().collect();
        for executor in watched {
            if let Some(found) = self.executors.get(&executor) {
                let used = found.memory(world);
                self.deliver(Event::MemoryUsed { executor, used }, world);
            }
        }
    }

    /// Nothing that anybody needs is here any more.
    fn leave(&mut self, world: &mut World) {
        let (_, attempts) = self.core.holdings();
        let busy = self.busy_executors();
        if attempts + busy > 0 {
            world.fail(format!(
                "worker {} leaves with {attempts} attempts and {busy} busy executors",
                self.number
            ));
        }
        if !world.machines[self.number].leaving {
            world.fail(format!("worker {} leaves unasked", self.number));
        }
        for put in self.lose(world) {
            world.after(1_000, Happening::Put(put));
        }
        world.after(0, Happening::Goodbye(self.number));
    }

    /// The machine is gone, with all that it ran and held. Hands out what clients were about to
    /// put.
    pub fn lose(&mut self, world: &mut World) -> Vec<PutPlan> {
        world.machines[self.number].runs = false;
        self.inbox.clear();
        for executor in self.executors.values_mut() {
            executor.abandon(Fate::Lost, &mut Around { world, store: &mut self.store });
        }
        self.executors.clear();
        self.transfers.clear();
        self.fall_silent(world);
        self.store = Store::default();
        self.count_bytes(world);
        let placed = std::mem::take(&mut self.placed).into_iter().map(|(put, _)| put);
        std::mem::take(&mut self.puts).into_values().chain(placed).collect()
    }

    /// Tasks never occupy more at one time than the worker has. One that was blocked and goes on
    /// again finds its slot lent: only until then may there be more.
    fn check_slots(&self, world: &mut World) {
        let plan = std::rc::Rc::clone(&world.plan);
        let running: Vec<_> = self.executors.values().filter_map(Executor::running).collect();
        let has = &self.config.spec.resources;
        let options = || running.iter().map(|&no| &plan.tasks[no].options.resources);
        let millicores: u32 = options().map(|resources| resources.millicores).sum();
        let memory: u64 = options().map(|resources| resources.memory).sum();
        if millicores > has.millicores || memory > has.memory {
            world.fail(format!(
                "worker {} runs {} tasks of {millicores} millicores and {memory} bytes at one time",
                self.number,
                running.len()
            ));
        }
        for (name, amount) in &has.named {
            let named = options().flat_map(|resources| &resources.named);
            let used: u64 = named.filter(|(n, _)| n == name).map(|(_, amount)| amount).sum();
            if used > *amount {
                world.fail(format!("worker {} lends {used} of {amount} {name}", self.number));
            }
        }
    }

    /// Follows the bytes that lie here.
    pub fn count_bytes(&mut self, world: &mut World) {
        let bytes = self.store.used + self.store.spilled;
        world.bytes.0 = world.bytes.0 + bytes - self.bytes;
        world.bytes.1 = world.bytes.1.max(world.bytes.0);
        self.bytes = bytes;
    }

    /// Executors that run or hold something, for the search for leaks.
    pub fn busy_executors(&self) -> usize {
        self.executors.values().filter(|executor| !executor.is_idle()).count()
    }
}
