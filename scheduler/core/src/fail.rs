//! Attempts fail: another one follows, or the task fails, and what depends on it with it.

use std::sync::Arc;

use manyhands_proto::ObjectId;
use manyhands_proto::task::{AttemptFailure, CHAIN_LIMIT, Failed, FailureKind, TaskFailure};

use crate::core::Core;
use crate::objects::{ObjRef, ObjectState, There};
use crate::slab::{TaskIdx, WorkerIdx};
use crate::tasks::{Flags, State};

/// Failed attempts of a task that are kept for its error.
const ATTEMPTS_KEPT: usize = 32;

impl Core {
    /// An attempt came to nothing: another one follows, or the task fails. It is with no worker
    /// now.
    pub(crate) fn on_attempt_failed(
        &mut self,
        task: TaskIdx,
        worker: WorkerIdx,
        pid: u32,
        kind: FailureKind,
    ) {
        self.end_attempt(task);
        if let FailureKind::LostInput { object } = &kind
            && self.is_being_made(*object)
        {
            // Its worker came too late for an input that is being made again. That is nobody's
            // fault.
            return self.wait_again(task);
        }
        let stop = self.stops.get(&task).cloned();
        let options = self.options.get(self.tasks[task].options).options.clone();
        let pid = (pid != 0).then_some(pid);
        let attempt = self.tasks[task].attempts - 1;
        let worker = self.workers.get(worker).map(|worker| worker.id);
        self.tasks[task].flags.set(Flags::HAS_FAILED);
        let history = self.history.entry(task).or_default();
        history.misses = 0;
        let crash = kind.is_crash() || matches!(kind, FailureKind::LostInput { .. });
        let (count, limit) = match crash {
            true => (&mut history.crashes, options.crash_retries),
            false => (&mut history.errors, options.retries),
        };
        *count = count.saturating_add(1);
        let again = *count <= limit && (kind.is_retriable() || crash);
        if history.attempts.len() < ATTEMPTS_KEPT {
            history.attempts.push(AttemptFailure { attempt, worker, pid, kind: kind.clone() });
        }
        match stop {
            Some(kind) => self.fail(task, kind),
            None if again => {
                // Of a lost worker's attempts it is not known here whether they had begun.
                self.rerun += u64::from(!matches!(kind, FailureKind::WorkerLost { .. }));
                self.wait_again(task)
            }
            None => self.fail(task, kind),
        }
    }

    /// What belonged to an attempt goes with it.
    pub(crate) fn end_attempt(&mut self, task: TaskIdx) {
        self.end_task_session(task);
        self.tasks[task].flags.clear(Flags::OF_ATTEMPT);
    }

    fn is_being_made(&mut self, id: ObjectId) -> bool {
        let object = self.find_object(id);
        object.is_some_and(|o| {
            !matches!(self.tasks[o.task].state, State::Failed(_))
                && self.object(o).there().is_none()
        })
    }

    /// A task that was placed goes back to where tasks wait. If nobody needs it, or it was told to
    /// stop, it ends there.
    pub(crate) fn wait_again(&mut self, task: TaskIdx) {
        self.tasks[task].state = State::Waiting { missing: 0 };
        if !self.tasks[task].is_alive() {
            self.loose.push(task);
        }
        if let Some(kind) = self.stops.get(&task).cloned() {
            return self.fail(task, kind);
        }
        self.count_missing(task);
    }

    /// Counts anew what a waiting task, known to no object as waiting, has to wait for.
    pub(crate) fn count_missing(&mut self, task: TaskIdx) {
        let mut missing = u32::from(self.tasks[task].flags.has(Flags::RESTS));
        for i in 0..self.tasks[task].inputs.len() {
            let input = self.tasks[task].inputs[i];
            if matches!(self.object(input).state, ObjectState::Gone) {
                self.remake(input);
                if self.tasks[task].has_ended() {
                    // It needed another object of the same task, and failed with it.
                    return;
                }
            }
            if let State::Failed(failed) = &self.tasks[input.task].state {
                let failed = self.link_of_chain(failed, task);
                return self.fail_with(task, failed);
            }
            if let ObjectState::Pending(waiters) = &mut self.object_mut(input).state {
                waiters.push(task);
                missing += 1;
            }
        }
        self.tasks[task].state = State::Waiting { missing };
        if missing == 0 {
            self.make_ready(task);
        }
    }

    /// A task that is with no worker, or was just taken from one, fails for good.
    pub(crate) fn fail(&mut self, task: TaskIdx, kind: FailureKind) {
        let id = self.task_id(task);
        let name = self.functions.name(self.tasks[task].function).to_owned();
        let inputs = self.tasks[task].inputs.clone();
        let args = inputs.iter().map(|input| self.object_id(*input)).collect();
        let history = self.history.get_mut(&task);
        let attempts = history.map_or(Vec::new(), |history| std::mem::take(&mut history.attempts));
        let failure = Arc::new(TaskFailure { task: id, name: name.clone(), args, kind, attempts });
        self.fail_with(task, Failed { failure, chain: vec![(id, name)] });
    }

    /// A task fails, and all that depend on it with it.
    pub(crate) fn fail_with(&mut self, task: TaskIdx, failed: Failed) {
        let mut failing = vec![(task, failed)];
        while let Some((task, failed)) = failing.pop() {
            // A task that needs two that failed is met twice.
            if !matches!(self.tasks[task].state, State::Failed(_)) {
                self.fail_one(task, failed, &mut failing);
            }
        }
    }

    fn fail_one(
        &mut self,
        task: TaskIdx,
        mut failed: Failed,
        failing: &mut Vec<(TaskIdx, Failed)>,
    ) {
        if failed.chain.is_empty()
            || failed.chain.last().is_some_and(|(id, _)| *id != self.task_id(task))
        {
            failed = self.link_of_chain(&failed, task);
        }
        if matches!(self.tasks[task].state, State::Waiting { .. } | State::Ready) {
            self.withdraw(task, true);
        }
        let job = self.job_of(task);
        if matches!(self.tasks[task].state, State::Done) {
            // It ended well once and cannot be made again: it has no inputs that it needs.
            debug_assert!(self.tasks[task].inputs.is_empty());
            self.uncount_done(task);
        }
        self.release_needs(task);
        self.release_inputs(task);
        self.release_args(task);
        if !self.tasks[task].flags.has(Flags::PUT | Flags::ITEM) {
            self.count(job, |job| job.counts.failed += 1);
        }
        for index in 0..self.tasks[task].outputs() as u32 {
            let object = ObjRef { task, index };
            let record = self.object_mut(object);
            let state = std::mem::replace(&mut record.state, ObjectState::Gone);
            match state {
                ObjectState::Pending(waiters) => {
                    // Those that wait fail next. They find themselves in no list of waiters here.
                    for waiter in waiters.into_iter().rev() {
                        failing.push((waiter, failed.clone()));
                    }
                }
                ObjectState::There(there) => {
                    // Those that need it wait for it no more, and yet it goes.
                    for user in self.users_of(object).into_iter().rev() {
                        failing.push((user, failed.clone()));
                    }
                    self.record_of_failed(object, there);
                }
                ObjectState::Gone => {}
            }
        }
        if self.tasks[task].flags.has(Flags::STREAM) {
            failing.extend(self.items_that_fail(task, &failed));
        }
        self.tasks[task].state = State::Failed(Box::new(failed));
        for index in 0..self.tasks[task].outputs() as u32 {
            self.deliver(ObjRef { task, index }, None);
        }
        if !self.tasks[task].is_alive() {
            self.loose.push(task);
        }
    }

    /// The tasks that have an object among their inputs and are with no worker. Looks at
    /// everything: tasks that had ended well seldom fail.
    fn users_of(&self, object: ObjRef) -> Vec<TaskIdx> {
        if self.object(object).needed_by == 0 {
            return Vec::new();
        }
        let waits = |state: &State| matches!(state, State::Waiting { .. } | State::Ready);
        let users = self.tasks.iter().filter(|(_, task)| waits(&task.state));
        users.filter(|(_, task)| task.inputs.contains(&object)).map(|(index, _)| index).collect()
    }

    /// An object of a task that failed when it was to run again for the sake of another object.
    fn record_of_failed(&mut self, object: ObjRef, there: There) {
        let id = self.object_id(object);
        let copies: Vec<WorkerIdx> = self.copies_of(&there).collect();
        for worker in copies {
            self.outbox(worker).free.push(id);
        }
        self.drop_there(there);
    }

    /// The failure of a task that failed because of another.
    fn link_of_chain(&self, failed: &Failed, task: TaskIdx) -> Failed {
        let mut chain = failed.chain.clone();
        if chain.len() >= CHAIN_LIMIT {
            // The cause and the one asked about tell the most.
            chain.pop();
        }
        chain.push((self.task_id(task), self.functions.name(self.tasks[task].function).to_owned()));
        Failed { failure: failed.failure.clone(), chain }
    }
}
