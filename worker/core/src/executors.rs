//! The executor processes: which there are, what each has, starting and losing them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use manyhands_proto::client::Runtime;
use manyhands_proto::executor::Extent;
use manyhands_proto::task::{Death, FailureKind, TaskOptions};
use manyhands_proto::{FunctionId, TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State};
use crate::core::Core;
use crate::event::ExecutorId;
use crate::queue::Queue;

/// Pools that there may be before those are forgotten that have nothing: every round looks at all.
const POOLS: usize = 64;

/// Microseconds before another try, after an executor beside working ones could not be started.
const START_PAUSE_US: u64 = 1_000_000;

/// One executor process.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) pool: u32,
    pub(crate) pid: u32,
    pub(crate) phase: Phase,
    /// What it has begun and not ended, each on top of the one that waits for it. Only the topmost
    /// can run.
    pub(crate) stack: Vec<AttemptIx>,
    /// What lies in its ring behind that. Empty if the stack is: the first of them has then begun.
    pub(crate) fed: VecDeque<AttemptIx>,
    /// Sums over `fed`: expected microseconds, and bytes in messages.
    pub(crate) fed_us: u64,
    pub(crate) fed_bytes: u64,
    /// What it takes of the worker's resources now.
    pub(crate) occupies: Occupied,
    pub(crate) grants: Vec<GrantedSpace>,
    /// Requests of it that wait for space.
    pub(crate) waiting_space: u32,
    /// The functions that it was told of: those that its program does not have itself.
    pub(crate) told: BTreeSet<FunctionId>,
    pub(crate) told_bytes: usize,
    /// It was told of too many, or wants to end: it gets nothing more to do.
    pub(crate) worn: bool,
    /// It has ended a task: it works.
    pub(crate) proven: bool,
    pub(crate) idle_since: Time,
}

/// The life of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Live,
    /// Killed or sent away. Nothing that it says counts any more.
    Leaving,
}

/// What an executor takes of the worker's resources.
#[derive(Clone, Debug)]
pub(crate) enum Occupied {
    Nothing,
    Core,
    Other(Arc<TaskOptions>),
}

/// An extent that was granted and not yet published.
#[derive(Debug)]
pub(crate) struct GrantedSpace {
    pub(crate) request: u64,
    pub(crate) task: TaskId,
    /// What it counts in memory, bytes.
    pub(crate) bytes: u64,
    pub(crate) on_disk: bool,
    pub(crate) extent: Option<Extent>,
}

/// The executors of one runtime, and what waits for them.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) runtime: Runtime,
    /// Whether what runs them is here.
    pub(crate) has_program: bool,
    pub(crate) queue: Queue,
    /// Executors without a task, the one that worked last at the end.
    pub(crate) idle: Vec<ExecutorId>,
    pub(crate) starting: u32,
    pub(crate) live: u32,
    /// Executors that this round would like to have besides.
    pub(crate) demand: u32,
    /// Starts that failed in a row.
    pub(crate) failed_starts: u32,
    pub(crate) not_before: Time,
}

impl Executor {
    /// The attempt that it runs or that waits on it.
    pub(crate) fn top(&self) -> Option<AttemptIx> {
        self.stack.last().copied()
    }
}

impl Core {
    /// The pool of a runtime, made when it is first asked for.
    pub(crate) fn pool_of(&mut self, runtime: &Runtime) -> u32 {
        let runtime = self.known_as(runtime);
        if let Some(at) = self.pools.iter().position(|p| p.runtime == runtime) {
            return at as u32;
        }
        let pool = Pool {
            has_program: self.has_program(&runtime),
            runtime,
            queue: Queue::default(),
            idle: Vec::new(),
            starting: 0,
            live: 0,
            demand: 0,
            failed_starts: 0,
            not_before: Time(0),
        };
        match self.pool_to_forget() {
            Some(at) => {
                self.pools[at as usize] = pool;
                at
            }
            None => {
                self.pools.push(pool);
                self.pools.len() as u32 - 1
            }
        }
    }

    /// A pool that has nothing, where there are many: its place is another one's from now on. Functions
    /// that were its own find it again when they are called.
    fn pool_to_forget(&mut self) -> Option<u32> {
        if self.pools.len() < POOLS {
            return None;
        }
        let used: BTreeSet<u32> = self.attempts.iter().map(|(_, attempt)| attempt.pool).collect();
        let executors: BTreeSet<u32> = self.executors.values().map(|e| e.pool).collect();
        let unused = |at: &u32| !used.contains(at) && !executors.contains(at);
        let found = (0..self.pools.len() as u32).find(unused)?;
        for function in self.functions.iter_mut().flatten().filter(|f| f.pool == Some(found)) {
            function.pool = None;
        }
        Some(found)
    }

    /// Executor processes that count: those that leave are as good as gone.
    pub(crate) fn processes(&self) -> u32 {
        self.pools.iter().map(|p| p.starting + p.live).sum()
    }

    pub(crate) fn process_limit(&self) -> u32 {
        self.slots.saturating_mul(self.config.processes_per_slot.max(1))
    }

    /// Starts one more executor, if the worker may have one more now.
    pub(crate) fn start_executor(&mut self, now: Time, pool: u32, out: &mut Vec<Action>) -> bool {
        if now < self.pools[pool as usize].not_before {
            return false;
        }
        let p = &self.pools[pool as usize];
        // A pool without any may have one beyond the limit: tasks that only wait could have all.
        let has_one = p.starting + p.live > 0;
        if self.processes() >= self.process_limit()
            && !self.retire_of_another_pool(pool, out)
            && has_one
        {
            return false;
        }
        self.add_executor(now, pool, out);
        true
    }

    /// Starts one more executor, whatever the limit is.
    pub(crate) fn add_executor(&mut self, now: Time, pool: u32, out: &mut Vec<Action>) {
        let id = ExecutorId(self.next_executor);
        self.next_executor += 1;
        let executor = Executor {
            pool,
            pid: 0,
            phase: Phase::Starting,
            stack: Vec::new(),
            fed: VecDeque::new(),
            fed_us: 0,
            fed_bytes: 0,
            occupies: Occupied::Nothing,
            grants: Vec::new(),
            waiting_space: 0,
            told: BTreeSet::new(),
            told_bytes: 0,
            worn: false,
            proven: false,
            idle_since: now,
        };
        self.executors.insert(id, executor);
        let pool = &mut self.pools[pool as usize];
        pool.starting += 1;
        out.push(Action::StartExecutor { executor: id, runtime: pool.runtime.clone() });
    }

    /// Makes room under the limit on processes at the cost of a pool that has nothing to do.
    fn retire_of_another_pool(&mut self, pool: u32, out: &mut Vec<Action>) -> bool {
        let others = self.pools.iter().enumerate().filter(|(i, _)| *i as u32 != pool);
        let Some(idle) = others.filter_map(|(_, p)| p.idle.first().copied()).next() else {
            return false;
        };
        self.retire(idle, out);
        true
    }

    /// Lets an idle executor end.
    pub(crate) fn retire(&mut self, id: ExecutorId, out: &mut Vec<Action>) {
        self.leave_pool(id);
        out.push(Action::Retire { executor: id });
    }

    /// An executor claims nothing more: what it was fed goes to others, as if it had never had it.
    pub(crate) fn on_leaving(&mut self, id: ExecutorId) {
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        if !std::mem::replace(&mut executor.worn, true) {
            self.worn.push(id);
        }
        let fed = std::mem::take(&mut executor.fed);
        (executor.fed_us, executor.fed_bytes) = (0, 0);
        for ix in fed {
            self.give_back(ix);
        }
    }

    /// Sends away executors that get nothing more to do, those that are idle.
    pub(crate) fn retire_worn(&mut self, out: &mut Vec<Action>) {
        for id in std::mem::take(&mut self.worn) {
            match self.executors.get(&id) {
                Some(it) if it.phase == Phase::Live && it.stack.is_empty() => self.retire(id, out),
                Some(it) if it.phase != Phase::Leaving => self.worn.push(id),
                _ => {}
            }
        }
    }

    /// From now on the executor does not count, and nothing that it says does.
    fn leave_pool(&mut self, id: ExecutorId) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        let pool = &mut self.pools[executor.pool as usize];
        match executor.phase {
            Phase::Starting => pool.starting -= 1,
            Phase::Live => pool.live -= 1,
            Phase::Leaving => {}
        }
        executor.phase = Phase::Leaving;
        pool.idle.retain(|e| *e != id);
    }

    pub(crate) fn on_executor_started(&mut self, now: Time, id: ExecutorId, pid: u32) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        if executor.phase != Phase::Starting {
            return;
        }
        executor.phase = Phase::Live;
        executor.pid = pid;
        executor.idle_since = now;
        let pool = &mut self.pools[executor.pool as usize];
        pool.starting -= 1;
        pool.live += 1;
        pool.idle.push(id);
    }

    pub(crate) fn on_start_failed(&mut self, now: Time, id: ExecutorId, message: String) {
        let Some(executor) = self.executors.get(&id) else { return };
        let pool = executor.pool;
        if executor.phase == Phase::Starting {
            self.leave_pool(id);
            self.start_failed(now, pool, &message);
        }
        self.executors.remove(&id);
    }

    /// After some failed starts in a row the tasks that wait for one fail. Beside working executors
    /// it is only a pause.
    fn start_failed(&mut self, now: Time, pool: u32, message: &str) {
        let p = &mut self.pools[pool as usize];
        p.failed_starts += 1;
        if p.live > 0 {
            p.not_before = now + START_PAUSE_US;
        } else if p.failed_starts >= self.config.start_attempts {
            let times = p.failed_starts;
            self.fail_pool(pool, &format!(
                "no executor could be started on {}, {times} times in a row; the last one: {message}",
                self.worker
            ));
        }
    }

    /// Ends everything that waits for an executor of a pool.
    pub(crate) fn fail_pool(&mut self, pool: u32, message: &str) {
        let waiting = |(ix, a): (AttemptIx, &crate::attempts::Attempt)| {
            (a.pool == pool && a.executor().is_none()).then_some(ix)
        };
        let doomed: Vec<AttemptIx> = self.attempts.iter().filter_map(waiting).collect();
        for ix in doomed {
            self.fail_here(ix, FailureKind::Infeasible { message: message.to_owned() });
        }
    }

    pub(crate) fn on_executor_died(&mut self, now: Time, id: ExecutorId, death: Death) {
        let Some(executor) = self.executors.get(&id) else { return };
        let (phase, pool) = (executor.phase, executor.pool);
        let useless = !executor.proven && executor.stack.is_empty();
        if phase != Phase::Leaving {
            self.leave_pool(id);
            self.end_all_of(id, None, &death);
            if useless {
                self.start_failed(now, pool, &describe(&death));
            }
        }
        self.drop_grants(id, None);
        self.executors.remove(&id);
    }

    /// Kills an executor. What it ran ends now, with `failure` for `target` and as a death for the
    /// others; what it was fed goes back to the queue. The slot is free at once.
    pub(crate) fn kill(
        &mut self,
        id: ExecutorId,
        target: AttemptIx,
        failure: FailureKind,
        out: &mut Vec<Action>,
    ) {
        self.leave_pool(id);
        out.push(Action::Kill { executor: id });
        let death = Death {
            signal: Some(9),
            exit_code: None,
            peak_memory: 0,
            stderr_tail: "killed to stop another task that ran in the same executor".to_owned(),
        };
        self.end_all_of(id, Some((target, failure)), &death);
    }

    /// Ends what an executor had begun, and takes back what it had not.
    fn end_all_of(
        &mut self,
        id: ExecutorId,
        target: Option<(AttemptIx, FailureKind)>,
        death: &Death,
    ) {
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        let pid = executor.pid;
        let stack = std::mem::take(&mut executor.stack);
        let fed = std::mem::take(&mut executor.fed);
        (executor.fed_us, executor.fed_bytes) = (0, 0);
        self.settle(id);
        for ix in stack.into_iter().rev() {
            let failure = match &target {
                Some((at, failure)) if *at == ix => failure.clone(),
                _ => match self.attempts[ix].stop() {
                    Some(stop) => stop.failure.clone(),
                    None => FailureKind::Died(death.clone()),
                },
            };
            self.end_attempt(ix, 0, pid, Err(Box::new(failure)));
        }
        for ix in fed {
            self.give_back(ix);
        }
    }

    /// Puts an executor's use of the resources in accord with what it runs.
    pub(crate) fn settle(&mut self, id: ExecutorId) {
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        let running = executor.top().map(|ix| &self.attempts[ix]);
        let running = running.filter(|a| matches!(a.state, State::Running { .. }));
        let now = match running {
            None => Occupied::Nothing,
            Some(a) if a.plain => Occupied::Core,
            Some(a) => Occupied::Other(a.assignment.options.clone()),
        };
        if matches!((&executor.occupies, &now), (Occupied::Core, Occupied::Core)) {
            return;
        }
        match std::mem::replace(&mut executor.occupies, now.clone()) {
            Occupied::Nothing => {}
            Occupied::Core => self.room.millicores += 1000,
            Occupied::Other(options) => self.room.give(&options.resources),
        }
        match now {
            Occupied::Nothing => {}
            Occupied::Core => self.room.millicores -= 1000,
            Occupied::Other(options) => self.room.take(&options.resources),
        }
    }

    /// Sends away idle executors beyond the slots that have been idle for long.
    pub(crate) fn retire_spares(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some(id) = self.spare() {
            if now < self.executors[&id].idle_since + self.config.spare_idle_us {
                return;
            }
            self.retire(id, out);
        }
    }

    /// The longest idle executor, if there are more executors than slots.
    pub(crate) fn spare(&self) -> Option<ExecutorId> {
        if self.processes() <= self.slots {
            return None;
        }
        let idle = self.pools.iter().filter_map(|p| p.idle.first().copied());
        idle.min_by_key(|id| (self.executors[id].idle_since, *id))
    }
}

/// A death in words.
fn describe(death: &Death) -> String {
    let how = match (death.signal, death.exit_code) {
        (Some(signal), _) => format!("killed by signal {signal}"),
        (None, Some(code)) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    match death.stderr_tail.as_str() {
        "" => how,
        tail => format!("{how}; its last words: {tail}"),
    }
}
