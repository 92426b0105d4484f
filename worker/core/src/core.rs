//! The core itself: what it knows, and which handler an event goes to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manyhands_proto::value::Value;
use manyhands_proto::worker::{FromWorker, TaskEnd, ToWorker, WorkerStatus};
use manyhands_proto::{ObjectId, TaskId, Time, WorkerId};

use crate::action::Action;
use crate::attempts::{AttemptIx, Attempts, State};
use crate::config::Config;
use crate::event::{Event, ExecutorId};
use crate::executors::{Executor, GrantedSpace, Occupied, Phase, Pool};
use crate::feed::Room;
use crate::functions::Function;
use crate::memory::SpaceWait;
use crate::objects::{ObjectIx, Objects, Residence, Spilled};
use crate::programs::Program;

/// The state machine of one worker.
#[derive(Debug)]
pub struct Core {
    pub(crate) worker: WorkerId,
    pub(crate) config: Config,
    pub(crate) slots: u32,
    /// All that the worker has, and what of it is free.
    pub(crate) total: Room,
    pub(crate) room: Room,
    /// By the scheduler's slots.
    pub(crate) functions: Vec<Option<Function>>,
    pub(crate) attempts: Attempts,
    pub(crate) objects: Objects,
    pub(crate) pools: Vec<Pool>,
    /// By their hashes: those that are here, awaited, or of no use.
    pub(crate) programs: BTreeMap<u128, Program>,
    /// Queued attempts that are not plain: by order, arrival, number.
    pub(crate) specials: BTreeSet<(u64, u64, AttemptIx)>,
    /// Attempts whose inputs are not in memory, in the same order.
    pub(crate) wants_memory: BTreeSet<(u64, u64, AttemptIx)>,
    /// The one of these that room is being made for. Its inputs are pinned.
    pub(crate) admitting: Option<AttemptIx>,
    /// Attempts that wait for their executor, to run in place.
    pub(crate) in_place: Vec<AttemptIx>,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    /// Those that are to end when they are idle.
    pub(crate) worn: Vec<ExecutorId>,
    pub(crate) next_executor: u32,
    /// Attempts in state `Blocked`.
    pub(crate) blocked: u32,
    /// Since when all executors wait and nothing that could go on has one.
    pub(crate) stuck_since: Option<Time>,
    pub(crate) space_waits: VecDeque<SpaceWait>,
    /// Objects of which a copy is wanted here, not begun to be fetched.
    pub(crate) copies: VecDeque<ObjectId>,
    /// Fetches under way of objects that were made here meanwhile: what comes of them is not needed.
    /// Into a file?
    pub(crate) strays: BTreeMap<ObjectId, bool>,
    /// Bytes granted in memory and not yet published.
    pub(crate) granted: u64,
    /// Those of clients in this process.
    pub(crate) client_grants: Vec<GrantedSpace>,
    /// No spill is begun before, since the disk refused one.
    pub(crate) spill_pause: Time,
    pub(crate) timers: BTreeSet<(Time, AttemptIx)>,
    /// What the next round tells the scheduler.
    pub(crate) ends: Vec<TaskEnd>,
    pub(crate) retracted: Retracted,
    pub(crate) copied: Vec<ObjectId>,
    pub(crate) lost: Vec<ObjectId>,
    pub(crate) values: Vec<(ObjectId, Option<Value>)>,
    /// Actions of handlers that had no list at hand.
    pub(crate) later: Vec<Action>,
    /// Doomed objects that may have lost their last pin.
    pub(crate) to_free: Vec<ObjectIx>,
    /// How fast objects lately came, in bytes a second.
    pub(crate) bandwidth: u64,
    pub(crate) told: WorkerStatus,
    pub(crate) next_status: Time,
    pub(crate) scratch: Vec<ExecutorId>,
    /// Something was handled since the last round.
    dirty: bool,
    last_round: Time,
    /// The round has to go through its steps once more.
    pub(crate) again: bool,
    prestarted: bool,
}

/// What became of attempts that the scheduler asked for.
#[derive(Debug, Default)]
pub(crate) struct Retracted {
    pub(crate) given: Vec<(TaskId, u32)>,
    pub(crate) kept: Vec<(TaskId, u32)>,
}

impl Core {
    /// A worker that has nothing yet.
    pub fn new(worker: WorkerId, config: Config) -> Core {
        let slots = (config.spec.resources.millicores / 1000).max(1);
        let room = Room::of(&config.spec.resources, slots);
        Core {
            worker,
            slots,
            total: room.clone(),
            room,
            functions: Vec::new(),
            attempts: Attempts::default(),
            objects: Objects::default(),
            pools: Vec::new(),
            programs: BTreeMap::new(),
            specials: BTreeSet::new(),
            wants_memory: BTreeSet::new(),
            admitting: None,
            in_place: Vec::new(),
            executors: BTreeMap::new(),
            worn: Vec::new(),
            next_executor: 0,
            blocked: 0,
            stuck_since: None,
            space_waits: VecDeque::new(),
            copies: VecDeque::new(),
            strays: BTreeMap::new(),
            granted: 0,
            client_grants: Vec::new(),
            spill_pause: Time(0),
            timers: BTreeSet::new(),
            ends: Vec::new(),
            retracted: Retracted::default(),
            copied: Vec::new(),
            lost: Vec::new(),
            values: Vec::new(),
            later: Vec::new(),
            to_free: Vec::new(),
            bandwidth: 0,
            told: WorkerStatus::default(),
            next_status: Time(0),
            scratch: Vec::new(),
            dirty: true,
            last_round: Time(0),
            again: false,
            prestarted: config.prestart.is_empty(),
            config,
        }
    }

    /// Something happened. What must be done at once is appended to `out`; the rest waits for
    /// [`Core::round`].
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        self.dirty = true;
        match event {
            Event::FromScheduler(message) => self.on_scheduler(now, message, out),
            Event::ExecutorStarted { executor, pid } => {
                self.on_executor_started(now, executor, pid);
            }
            Event::StartFailed { executor, message } => {
                self.on_start_failed(now, executor, message);
            }
            Event::ExecutorDied { executor, death } => self.on_executor_died(now, executor, death),
            Event::TaskEnded { executor, end } => {
                return self.on_task_ended(now, executor, end, out);
            }
            Event::TookBack { executor, task, attempt, ok } => {
                if let Some(ix) = self.attempts.find(task, attempt) {
                    self.on_took_back(now, executor, ix, ok, out);
                }
            }
            Event::Blocked { executor, task, attempt, waits_for } => {
                if let Some(ix) = self.begun(executor, task, attempt) {
                    self.on_blocked(executor, ix, waits_for, out);
                }
            }
            Event::Unblocked { executor, task, attempt } => {
                if let Some(ix) = self.begun(executor, task, attempt) {
                    self.on_unblocked(now, executor, ix, out);
                }
            }
            Event::FromTask { executor, task, attempt, message } => {
                if let Some(ix) = self.begun(executor, task, attempt) {
                    let message = self.translate(ix, message);
                    let message = FromWorker::FromTask { task, attempt, message };
                    out.push(Action::ToScheduler(message));
                }
            }
            Event::AllocRequested { executor, request, task, size } => {
                self.on_alloc_requested(now, executor, request, task, size, out);
            }
            Event::Granted { executor, request, extent } => {
                self.on_granted(executor, request, extent);
            }
            Event::ReadRequested { executor, task, object } => {
                self.on_read_requested(now, executor, task, object, out);
            }
            Event::Stored { object, meta, extent, executor } => {
                self.on_stored(object, meta, extent, executor);
            }
            Event::Spilled { object, ok } => self.on_spilled(now, object, ok, out),
            Event::Loaded { object, result } => self.on_loaded(object, result, out),
            Event::Fetched { object, result } => self.on_fetched(object, result, out),
            Event::Wanted { ticket, object } => self.on_wanted(ticket, object, out),
            Event::Program { program, news } => self.on_program_news(program, news, out),
            Event::Bandwidth { bandwidth } => self.bandwidth = bandwidth,
            Event::Drain => out.push(Action::ToScheduler(FromWorker::Draining)),
            Event::MemoryUsed { executor, used } => self.on_memory_used(executor, used, out),
            Event::Tick => self.run_timers(now, out),
        }
        self.free_doomed(out);
        out.append(&mut self.later);
    }

    fn on_scheduler(&mut self, now: Time, message: ToWorker, out: &mut Vec<Action>) {
        match message {
            ToWorker::Functions { functions } => self.on_functions(functions),
            ToWorker::Assign { tasks } => self.on_assign(now, tasks, out),
            ToWorker::Retract { tasks } => self.on_retract(tasks, out),
            ToWorker::Cancel { tasks } => self.on_cancel(now, tasks, out),
            ToWorker::Free { objects } => self.on_free(objects, out),
            ToWorker::Send { objects } => self.on_send(objects),
            ToWorker::ToTask { task, attempt, message } => {
                if let Some(ix) = self.attempts.find(task, attempt) {
                    self.on_to_task(ix, message, out);
                }
            }
            ToWorker::Explain { query, task } => self.on_explain(now, query, task, out),
            ToWorker::Peers { peers } => out.push(Action::Peers { peers }),
            ToWorker::PeersGone { workers } => out.push(Action::PeersGone { workers }),
            ToWorker::Copy { object, size, workers } => self.on_copy(object, size, workers),
            ToWorker::Program { program, source } => self.on_program_source(program, source, out),
            // What runs is finished, and what has not begun the scheduler takes back.
            ToWorker::Drain => out.push(Action::ToScheduler(FromWorker::Draining)),
            ToWorker::Leave => out.push(Action::Leave),
        }
    }

    /// The attempt, if this executor has begun it and still counts.
    fn begun(&self, executor: ExecutorId, task: TaskId, attempt: u32) -> Option<AttemptIx> {
        let ix = self.attempts.find(task, attempt)?;
        let begun = &self.attempts[ix];
        (begun.has_begun() && begun.executor() == Some(executor)).then_some(ix)
    }

    /// Acts on all that was handled since the last round: feeds executors, makes room, tells the
    /// scheduler what ended. Costs nothing when nothing has changed.
    pub fn round(&mut self, now: Time, out: &mut Vec<Action>) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        self.last_round = now;
        self.prestart(now, out);
        self.retire_worn(out);
        loop {
            self.again = false;
            self.feed(now, out);
            self.serve_memory(now, out);
            self.free_doomed(out);
            if !self.again {
                break;
            }
        }
        self.retire_spares(now, out);
        out.append(&mut self.later);
        self.flush(out);
        self.tell_status(now, out);
    }

    /// Starts the executors that shall be there before the first task.
    fn prestart(&mut self, now: Time, out: &mut Vec<Action>) {
        if std::mem::replace(&mut self.prestarted, true) {
            return;
        }
        for runtime in self.config.prestart.clone() {
            let pool = self.pool_of(&runtime);
            // What needs a program that is not here begins when that has come.
            let is_here = self.pools[pool as usize].has_program;
            for _ in 0..if is_here { self.slots } else { 0 } {
                self.start_executor(now, pool, out);
            }
        }
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn next_tick(&self) -> Option<Time> {
        let spare = self.spare().map(|id| self.executors[&id].idle_since);
        let spare = spare.map(|since| since + self.config.spare_idle_us);
        let status = self.status_changed().then_some(self.next_status);
        let wants_memory = !self.space_waits.is_empty() || !self.wants_memory.is_empty();
        let disk = wants_memory.then_some(self.spill_pause);
        let starts = self.pools.iter().filter(|p| p.demand > p.starting).map(|p| p.not_before);
        let all = [spare, status, disk, self.relief_due(), self.next_long_run()]
            .into_iter()
            .flatten()
            .chain(starts);
        // What was due in the last round has been seen to, as far as it could be.
        let due = all.filter(|at| *at > self.last_round).min();
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(due).min()
    }

    /// The executors whose memory the shell shall sample, to report it as [`Event::MemoryUsed`]:
    /// they run a task with a memory limit.
    pub fn watched(&self) -> impl Iterator<Item = ExecutorId> {
        self.executors.iter().filter(|(_, e)| self.is_watched(&e.stack)).map(|(id, _)| *id)
    }

    /// The attempt that an executor runs now, if any: the one on top, if it waits for others.
    pub fn running(&self, executor: ExecutorId) -> Option<(TaskId, u32)> {
        let top = self.executors.get(&executor)?.top()?;
        Some(self.attempts[top].key())
    }

    /// Bytes that a client in this process may put into memory; beyond that a value goes to disk.
    pub fn free_bytes(&self) -> u64 {
        self.config.spec.store_limit.saturating_sub(self.used())
    }

    /// A small object that lies in the core's own memory, for a peer that fetches it.
    pub fn value(&self, object: ObjectId) -> Option<Value> {
        if let Some(small) = self.objects.small(object) {
            return Some(small);
        }
        let found = self.objects.recorded(object)?;
        let bytes = match &found.residence {
            Residence::Inline(bytes) | Residence::Spilling { from: Spilled::Inline(bytes), .. } => {
                bytes.clone()
            }
            _ => return None,
        };
        Some(Value { codec: found.codec, bytes })
    }

    /// How many objects and how many attempts the core knows: nothing, when nobody needs it.
    pub fn holdings(&self) -> (usize, usize) {
        (self.objects.len(), self.attempts.len())
    }

    /// Panics if the core's tables contradict each other.
    pub fn sanity_check(&self) {
        self.attempts.sanity_check();
        self.objects.sanity_check();
        self.check_executors();
        self.check_attempts();
        let mut granted: u64 = self.client_grants.iter().map(|g| g.bytes).sum();
        let mut room = self.total.clone();
        for executor in self.executors.values() {
            granted += executor.grants.iter().map(|g| g.bytes).sum::<u64>();
            match &executor.occupies {
                Occupied::Nothing => {}
                Occupied::Core => room.millicores -= 1000,
                Occupied::Other(options) => room.take(&options.resources),
            }
        }
        assert_eq!(granted, self.granted, "bytes granted");
        assert_eq!(format!("{room:?}"), format!("{:?}", self.room), "free resources");
    }

    fn check_executors(&self) {
        for (id, executor) in &self.executors {
            let pool = &self.pools[executor.pool as usize];
            let idle = executor.phase == Phase::Live && executor.stack.is_empty();
            assert_eq!(pool.idle.contains(id), idle, "{id:?} is idle or is not");
            assert!(
                !executor.stack.is_empty() || executor.fed.is_empty(),
                "{id:?} runs none of its tasks"
            );
            for ix in &executor.stack {
                assert!(self.attempts[*ix].has_begun());
                assert_eq!(self.attempts[*ix].executor(), Some(*id));
            }
            let mut sum = 0;
            for ix in &executor.fed {
                assert!(
                    matches!(self.attempts[*ix].state, State::Fed { executor } if executor == *id)
                );
                sum += u64::from(self.attempts[*ix].cost_us);
            }
            assert_eq!(sum, executor.fed_us, "{id:?}'s backlog");
            let runs = executor.top().map(|ix| &self.attempts[ix].state);
            let runs = matches!(runs, Some(State::Running { .. }));
            assert_eq!(runs, !matches!(executor.occupies, Occupied::Nothing), "{id:?}'s slot");
        }
        for pool in &self.pools {
            let count = |phase| {
                let same = |e: &&Executor| {
                    e.phase == phase && self.pools[e.pool as usize].runtime == pool.runtime
                };
                self.executors.values().filter(same).count() as u32
            };
            assert_eq!((pool.starting, pool.live), (count(Phase::Starting), count(Phase::Live)));
        }
    }

    fn check_attempts(&self) {
        let (mut queued, mut blocked) = (0, 0);
        for (ix, attempt) in self.attempts.iter() {
            let key = (attempt.assignment.order, attempt.seq, ix);
            match &attempt.state {
                State::InHand => panic!("{:?} was let fall", attempt.key()),
                State::Queued if attempt.plain => queued += 1,
                State::Queued => assert!(self.specials.contains(&key)),
                State::WantsMemory => assert!(self.wants_memory.contains(&key)),
                State::Loading { missing } => assert!(*missing > 0, "{:?} hangs", attempt.key()),
                State::InPlace => assert!(self.in_place.contains(&ix)),
                State::Fed { executor } => assert!(self.executors[executor].fed.contains(&ix)),
                State::Running { executor, .. } => {
                    assert!(self.executors[executor].stack.contains(&ix));
                }
                State::Blocked { executor, .. } => {
                    blocked += 1;
                    assert!(self.executors[executor].stack.contains(&ix));
                }
            }
            let with_executor = attempt.executor().is_some();
            for object in &attempt.objects {
                let object = &self.objects[*object];
                assert!(object.needed > 0);
                assert!(
                    !with_executor || (object.pins > 0 && object.is_resident()),
                    "{}",
                    object.id
                );
            }
        }
        assert_eq!(queued, self.pools.iter().map(|p| p.queue.len).sum::<usize>(), "queued");
        assert_eq!(blocked, self.blocked, "blocked");
    }
}
