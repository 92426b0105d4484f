//! Tasks that wait for other tasks: their slot is lent, and past the limit on processes what they
//! wait for runs on top of them.

use manyhands_proto::client::Outcome;
use manyhands_proto::worker::FromWorker;
use manyhands_proto::{ObjectId, TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State, Taking};
use crate::core::Core;
use crate::event::ExecutorId;
use crate::memory::Ready;

/// How long (microseconds) all executors may wait while there may be no more of them.
const RELIEF_US: u64 = 100_000;

/// How many times as many executors as there may be there are then at most.
const RELIEF_LIMIT: u32 = 4;

impl Core {
    pub(crate) fn on_blocked(
        &mut self,
        id: ExecutorId,
        ix: AttemptIx,
        waits_for: Vec<ObjectId>,
        out: &mut Vec<Action>,
    ) {
        let State::Running { since, .. } = self.attempts[ix].state else { return };
        if self.executors[&id].top() != Some(ix) {
            return;
        }
        let (task, attempt) = self.attempts[ix].key();
        // What waits for room for its stream nothing can help that runs on top of it.
        let at_limit = !waits_for.is_empty() && !self.can_lend(self.executors[&id].pool);
        let mut sorted = waits_for.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let untold = sorted.clone();
        self.attempts[ix].state =
            State::Blocked { executor: id, since, waits_for: sorted, untold, at_limit };
        self.settle(id);
        self.blocked += 1;
        self.take_all_back(id, out);
        let message = FromWorker::Blocked { task, attempt, waits_for, at_limit };
        out.push(Action::ToScheduler(message));
    }

    pub(crate) fn on_unblocked(
        &mut self,
        now: Time,
        id: ExecutorId,
        ix: AttemptIx,
        out: &mut Vec<Action>,
    ) {
        let State::Blocked { since, .. } = self.attempts[ix].state else { return };
        let (task, attempt) = self.attempts[ix].key();
        self.attempts[ix].state = State::Running { executor: id, since };
        self.blocked -= 1;
        self.settle(id);
        out.push(Action::ToScheduler(FromWorker::Unblocked { task, attempt }));
        self.interrupt_if_running(now, ix, out);
    }

    /// Another executor of the pool could use a lent slot.
    fn can_lend(&self, pool: u32) -> bool {
        let pool = &self.pools[pool as usize];
        !pool.idle.is_empty() || pool.starting > 0 || self.processes() < self.process_limit()
    }

    /// The executor of this pool on whose stack a task waits, and whether something can run there
    /// now: what lies uppermost, if not the task itself, waits too.
    fn waiting_executor(&self, task: TaskId, pool: u32) -> Option<(ExecutorId, bool)> {
        let ix = self.attempts.newest(task).filter(|ix| self.attempts[*ix].pool == pool)?;
        let executor = self.attempts[ix].executor()?;
        let top = self.executors[&executor].top();
        self.waits(ix).then(|| (executor, top.is_some_and(|top| self.waits(top))))
    }

    /// The attempt waits, as far as is known. One that has been told all that it asked for is about
    /// to go on, and one that is being stopped is not given more to wait for.
    fn waits(&self, ix: AttemptIx) -> bool {
        let attempt = &self.attempts[ix];
        matches!(attempt.state, State::Blocked { ref untold, .. } if !untold.is_empty())
            && attempt.stop().is_none()
    }

    /// A task is told what became of objects.
    pub(crate) fn count_told(&mut self, ix: AttemptIx, ends: &[(ObjectId, Outcome)]) {
        if let State::Blocked { untold, .. } = &mut self.attempts[ix].state {
            // The same may be said twice: what is told once is not awaited any more.
            let mut told: Vec<ObjectId> = ends.iter().map(|(id, _)| *id).collect();
            told.sort_unstable();
            untold.retain(|awaited| told.binary_search(awaited).is_err());
        }
    }

    /// A task waits where what belongs to this pool can run on top of it.
    pub(crate) fn waits_on_a_stack(&self, task: TaskId, pool: u32) -> bool {
        self.waiting_executor(task, pool).is_some()
    }

    /// Runs what the scheduler sent to run on top of a blocked task. If that one waits no more, it
    /// is a task like any other.
    pub(crate) fn place_in_place(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.in_place.is_empty() {
            return;
        }
        for ix in std::mem::take(&mut self.in_place) {
            let (target, pool) = (self.attempts[ix].assignment.in_place_of, self.attempts[ix].pool);
            match target.and_then(|t| self.waiting_executor(t, pool)) {
                None => self.enqueue(ix),
                Some((id, true)) if self.has_room_in_place(ix) => {
                    if self.make_ready(ix) == Ready::Yes {
                        self.run_on_top(now, id, ix, out);
                    }
                }
                Some(_) => self.in_place.push(ix),
            }
        }
    }

    /// What runs in place takes the slot that the blocked one lent, unless others have it now.
    fn has_room_in_place(&self, ix: AttemptIx) -> bool {
        self.room.fits(&self.attempts[ix].assignment.options.resources) || !self.anything_runs()
    }

    /// Every slot is taken by something that runs.
    fn is_full_of_runs(&self) -> bool {
        !self.room.has_core() && self.anything_runs()
    }

    pub(crate) fn anything_runs(&self) -> bool {
        let tops = self.executors.values().filter_map(|e| e.top());
        let mut tops = tops.map(|ix| &self.attempts[ix].state);
        tops.any(|state| matches!(state, State::Running { .. }))
    }

    fn run_on_top(&mut self, now: Time, id: ExecutorId, ix: AttemptIx, out: &mut Vec<Action>) {
        self.introduce(id, ix, out);
        let run = self.run_of(ix);
        out.push(Action::RunInPlace { executor: id, run });
        self.begin(now, id, ix);
    }

    /// Where no executor can be had, looks among the attempts that wait here for those that blocked
    /// tasks wait for, and runs them in place.
    pub(crate) fn help_in_place(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.blocked == 0 {
            return;
        }
        if !self.is_full_of_runs() {
            self.help_blocked(now, out);
        }
        self.tell_limit(out);
    }

    fn help_blocked(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut waiting = std::mem::take(&mut self.scratch);
        waiting.clear();
        waiting.extend(
            self.executors.iter().filter_map(|(id, e)| {
                (self.waits(e.top()?) && !self.can_lend(e.pool)).then_some(*id)
            }),
        );
        for id in &waiting {
            if self.is_full_of_runs() {
                break;
            }
            if let Some(ix) = self.helper_for(*id) {
                self.help(now, *id, ix, out);
            }
        }
        self.scratch = waiting;
    }

    /// The most urgent attempt that waits here and that an executor's blocked task waits for.
    fn helper_for(&self, id: ExecutorId) -> Option<AttemptIx> {
        let executor = &self.executors[&id];
        let State::Blocked { waits_for, .. } = &self.attempts[executor.top()?].state else {
            return None;
        };
        let usable = |ix: &AttemptIx| {
            let attempt = &self.attempts[*ix];
            attempt.pool == executor.pool
                && attempt.stop().is_none()
                && matches!(attempt.state, State::Queued | State::InPlace | State::Fed { .. })
        };
        let urgency = |ix: &AttemptIx| {
            let attempt = &self.attempts[*ix];
            (matches!(attempt.state, State::Fed { .. }), attempt.assignment.order, attempt.seq)
        };
        // Whichever of the two lists is shorter is gone through.
        if waits_for.len() <= self.attempts.len() {
            let newest = waits_for.iter().filter_map(|o| self.attempts.newest(o.task));
            return newest.filter(usable).min_by_key(urgency);
        }
        let waited = |ix: &AttemptIx| {
            let task = self.attempts[*ix].assignment.task;
            waits_for.binary_search_by(|o| o.task.cmp(&task)).is_ok()
        };
        let all = self.attempts.iter().map(|(ix, _)| ix);
        all.filter(usable).filter(waited).min_by_key(urgency)
    }

    fn help(&mut self, now: Time, id: ExecutorId, ix: AttemptIx, out: &mut Vec<Action>) {
        if let State::Fed { .. } = self.attempts[ix].state {
            return self.take_back(ix, Taking::Requeue, out);
        }
        self.leave(ix);
        if self.make_ready(ix) == Ready::Yes {
            self.run_on_top(now, id, ix, out);
        }
    }

    /// Nothing runs and no executor can be had: the scheduler must know this of every blocked task,
    /// also of those that blocked when there were more. It must know as well when one can be had
    /// again, or it would send this worker nothing but help for them.
    fn tell_limit(&mut self, out: &mut Vec<Action>) {
        let still = !self.anything_runs();
        let mut told = Vec::new();
        for executor in self.executors.values() {
            let lends = self.can_lend(executor.pool);
            for ix in &executor.stack {
                let State::Blocked { ref waits_for, at_limit, .. } = self.attempts[*ix].state
                else {
                    continue;
                };
                let is_top = executor.top() == Some(*ix);
                let lends = lends || waits_for.is_empty();
                let now = if lends { false } else { at_limit || (still && is_top) };
                if now != at_limit {
                    told.push(*ix);
                }
            }
        }
        for ix in told {
            let (task, attempt) = self.attempts[ix].key();
            let State::Blocked { waits_for, at_limit, .. } = &mut self.attempts[ix].state else {
                continue;
            };
            *at_limit = !*at_limit;
            let (waits_for, at_limit) = (waits_for.clone(), *at_limit);
            let message = FromWorker::Blocked { task, attempt, waits_for, at_limit };
            out.push(Action::ToScheduler(message));
        }
    }

    /// All executors wait, there may be no more of them, and none of what waits for one can run on
    /// top of another: it belongs to another runtime, or makes a stream for what would lie below
    /// it. If that lasts there is one executor more, or nothing would ever go on.
    pub(crate) fn relieve(&mut self, now: Time, out: &mut Vec<Action>) {
        let stuck = self.blocked > 0 && self.is_stuck();
        match self.stuck_since.filter(|_| stuck) {
            None => self.stuck_since = stuck.then_some(now),
            Some(since) if now < since + RELIEF_US => {}
            Some(_) if self.processes() >= RELIEF_LIMIT * self.process_limit() => {}
            Some(_) => {
                self.stuck_since = None;
                let wants = |pool: &u32| self.pools[*pool as usize].demand > 0;
                let mut pools: Vec<u32> = (0..self.pools.len() as u32).filter(wants).collect();
                // A special task is in no queue: it comes last.
                let first =
                    |core: &mut Core, pool| core.first_queued(pool).map(|(o, seq, ..)| (o, seq));
                pools.sort_by_cached_key(|pool| first(self, *pool).unwrap_or((u64::MAX, u64::MAX)));
                if let Some(pool) = pools.first() {
                    self.add_executor(now, *pool, out);
                }
            }
        }
    }

    fn is_stuck(&self) -> bool {
        let wanting = self.pools.iter().any(|p| p.demand > 0);
        wanting && !self.anything_runs() && self.pools.iter().all(|p| p.starting == 0)
    }

    /// When [`Core::relieve`] has to look again.
    pub(crate) fn relief_due(&self) -> Option<Time> {
        self.stuck_since.map(|since| since + RELIEF_US)
    }
}
