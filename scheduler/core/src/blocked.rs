//! Running tasks that wait for objects: they lend their slot away, and where no more processes can
//! be had what they wait for runs on top of them.

use manyhands_proto::{ObjectId, TaskId};
use rustc_hash::FxHashSet;

use crate::core::Core;
use crate::slab::{TaskIdx, WorkerIdx};
use crate::tasks::{Flags, Mark, State};

/// Tasks that are looked at to find one that helps a blocked task.
const WALK_LIMIT: usize = 4096;

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) waits_for: Vec<ObjectId>,
    /// Its worker has as many processes as it may.
    pub(crate) at_limit: bool,
    /// The task that was sent to run on top of it.
    helper: Option<Mark>,
}

impl Core {
    pub(crate) fn on_blocked(
        &mut self,
        worker: WorkerIdx,
        id: TaskId,
        attempt: u32,
        waits_for: Vec<ObjectId>,
        at_limit: bool,
    ) {
        let Some(task) = self.current_attempt(worker, id, attempt) else { return };
        self.on_unblocked(worker, id, attempt);
        // While others are stuck there nothing is placed there, so this one too must be helped in
        // place, even if a process has become free meanwhile.
        let at_limit = at_limit || self.workers[worker].stuck > 0;
        // A stream that waits for room: only its consumer helps.
        let at_limit = at_limit && !waits_for.is_empty();
        let State::Assigned { expected_us, .. } = self.tasks[task].state else { return };
        self.occupy(task, worker, expected_us, false);
        self.tasks[task].flags.set(Flags::BLOCKED);
        self.tasks[task].flags.set(Flags::HAS_WAITED);
        self.blocked.insert(task, Blocked { waits_for, at_limit, helper: None });
        if at_limit {
            self.stuck.push(task);
            self.workers[worker].stuck += 1;
            self.reindex(worker);
        }
        self.dirty = true;
    }

    pub(crate) fn on_unblocked(&mut self, worker: WorkerIdx, id: TaskId, attempt: u32) {
        let Some(task) = self.current_attempt(worker, id, attempt) else { return };
        if !self.tasks[task].flags.has(Flags::BLOCKED) {
            return;
        }
        self.forget_blocked(task, worker);
        self.tasks[task].flags.clear(Flags::BLOCKED);
        let State::Assigned { expected_us, .. } = self.tasks[task].state else { return };
        self.occupy(task, worker, expected_us, true);
    }

    /// The task does not wait any more. What it takes up is the caller's to settle.
    pub(crate) fn forget_blocked(&mut self, task: TaskIdx, worker: WorkerIdx) {
        let blocked = self.blocked.remove(&task);
        if blocked.is_some_and(|blocked| blocked.at_limit) {
            self.stuck.retain(|stuck| *stuck != task);
            self.workers[worker].stuck -= 1;
            self.reindex(worker);
        }
        self.dirty = true;
    }

    /// Sends to each stuck task one of those that it waits for, to run on top of it.
    pub(crate) fn help_stuck(&mut self) {
        for stuck in self.stuck_tasks() {
            let Some(worker) = self.tasks[stuck].worker() else { continue };
            if self.workers[worker].away.is_some() {
                continue;
            }
            let helper = self.blocked.get(&stuck).and_then(|blocked| blocked.helper);
            let helper = helper.and_then(|mark| self.marked(mark));
            if helper.is_some_and(|helper| self.tasks[helper].worker() == Some(worker)) {
                continue;
            }
            if let Some(task) = self.find_help(stuck, worker) {
                self.leave_queue(task);
                // What makes a stream for the task that is stuck would wait for that one below it.
                let streams = self.tasks[task].flags.has(Flags::STREAM);
                let id = (!streams).then(|| self.task_id(stuck));
                self.assign(task, worker, id);
                let mark = self.mark(task);
                if let Some(blocked) = self.blocked.get_mut(&stuck) {
                    blocked.helper = Some(mark);
                }
            }
        }
    }

    /// Blocked tasks that wait for what may run nowhere but on top of them: their worker has as
    /// many processes as it may, or drains and there is no other.
    fn stuck_tasks(&self) -> Vec<TaskIdx> {
        let mut stuck = self.stuck.clone();
        for worker in &self.draining {
            let blocked = self.workers[*worker]
                .assigned
                .iter()
                .filter(|task| self.blocked.get(task).is_some_and(|blocked| !blocked.at_limit));
            let known = stuck.len();
            stuck.extend(blocked);
            stuck[known..].sort_unstable();
        }
        stuck
    }

    /// Whether a task that lends its slot away may have its children run on top of it.
    fn may_help(&self, task: TaskIdx, stuck: TaskIdx, worker: WorkerIdx) -> bool {
        let at_limit = self.blocked.get(&stuck).is_some_and(|blocked| blocked.at_limit);
        let elsewhere = |(other, record): (WorkerIdx, &crate::workers::Worker)| {
            record.takes_tasks() && self.could_run(task, other)
        };
        self.could_run(task, worker) && (at_limit || !self.workers.iter().any(elsewhere))
    }

    /// A ready task among those that a stuck one waits for, directly or through others. Those that
    /// lie unstarted at a worker that is stuck are asked back; only what the task waits for
    /// directly its own worker runs on top of it by itself.
    fn find_help(&mut self, stuck: TaskIdx, worker: WorkerIdx) -> Option<TaskIdx> {
        let mut seen: FxHashSet<TaskIdx> = FxHashSet::default();
        let mut next = self.waited_for(stuck);
        let direct = next.clone();
        while let Some(task) = next.pop() {
            if seen.len() >= WALK_LIMIT || !seen.insert(task) {
                continue;
            }
            let record = &self.tasks[task];
            match record.state {
                State::Ready if self.may_help(task, stuck, worker) && !self.has_orphans(task) => {
                    return Some(task);
                }
                State::Waiting { .. } if record.flags.has(Flags::ITEM) => {
                    let maker = record.inputs[0].task;
                    let begun = self.tasks[maker].worker().is_some();
                    if !begun || self.tasks[maker].flags.has(Flags::BLOCKED) {
                        next.push(maker);
                    }
                }
                State::Waiting { .. } => {
                    next.extend(record.inputs.iter().rev().map(|input| input.task));
                }
                State::Assigned { .. } if record.flags.has(Flags::BLOCKED) => {
                    next.extend(self.waited_for(task));
                }
                State::Assigned { worker: other, .. }
                    if self.workers[other].stuck > 0
                        && !(other == worker && direct.contains(&task)) =>
                {
                    self.ask_back(task, other);
                }
                _ => {}
            }
        }
        None
    }

    /// Whether what an earlier attempt of a task has submitted still goes on. The next attempt
    /// waits for it: on top of the very executor that has it below it would wait for ever.
    fn has_orphans(&self, task: TaskIdx) -> bool {
        let id = self.task_id(task);
        let mut children = self.lanes.tasks_of(id.job, id.child_lane());
        children.any(|child| !self.tasks[child].has_ended())
    }

    /// The tasks that a blocked one waits for, the first one last.
    fn waited_for(&mut self, task: TaskIdx) -> Vec<TaskIdx> {
        let objects = self.blocked.get(&task).map_or(Vec::new(), |b| b.waits_for.clone());
        objects.iter().rev().filter_map(|id| self.lanes.task(id.task)).collect()
    }

    /// Whether a worker has what a task asks for.
    pub(crate) fn could_run(&self, task: TaskIdx, worker: WorkerIdx) -> bool {
        let demand = self.options.get(self.tasks[task].options).demand;
        self.options.demand(demand).misses(&self.workers[worker].spec).is_none()
    }

    /// Asks a worker for a task that it may not have begun.
    pub(crate) fn ask_back(&mut self, task: TaskIdx, worker: WorkerIdx) {
        const NOT: u16 =
            Flags::RETRACTING | Flags::KEPT | Flags::BLOCKED | Flags::IN_PLACE | Flags::STOPPING;
        if self.tasks[task].flags.has(NOT) {
            return;
        }
        let record = &mut self.tasks[task];
        record.flags.set(Flags::RETRACTING);
        let attempt = record.attempts - 1;
        let id = self.task_id(task);
        self.workers[worker].retracting += 1;
        self.outbox(worker).retract.push((id, attempt));
    }

    /// A worker answers what was asked back of it.
    pub(crate) fn on_retracted(
        &mut self,
        worker: WorkerIdx,
        given: &[(TaskId, u32)],
        kept: &[(TaskId, u32)],
    ) {
        for (id, attempt) in kept {
            let Some(task) = self.current_attempt(worker, *id, *attempt) else { continue };
            if self.tasks[task].flags.has(Flags::RETRACTING) {
                self.tasks[task].flags.clear(Flags::RETRACTING);
                self.tasks[task].flags.set(Flags::KEPT);
                self.thieves.remove(&task);
                self.workers[worker].retracting -= 1;
                self.workers[worker].refused |= given.is_empty();
                self.dirty = true;
            }
        }
        for (id, attempt) in given {
            let Some(task) = self.current_attempt(worker, *id, *attempt) else { continue };
            let thief = self.thieves.get(&task).copied();
            self.unassign(task, None);
            self.end_attempt(task);
            if self.workers[worker].drain.is_none() {
                self.tasks[task].flags.set(Flags::MOVED);
            }
            if !thief.is_some_and(|thief| self.hand_over(task, thief)) {
                self.wait_again(task);
            }
        }
    }
}
