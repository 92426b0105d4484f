//! Attempts end: results arrive, dependents become ready, failures spread.

use std::sync::Arc;

use manyhands_proto::task::{AttemptFailure, CHAIN_LIMIT, Failed, FailureKind, TaskFailure};
use manyhands_proto::value::{ObjectMeta, Value};
use manyhands_proto::worker::{Output, TaskEnd};
use manyhands_proto::{ObjectId, TaskId};

use crate::core::Core;
use crate::holders::WANTS;
use crate::objects::{ObjRef, ObjectState, There};
use crate::ready::Entry;
use crate::slab::{ContainsIdx, CopiesIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Flags, State};

/// Failed attempts of a task that are kept for its error.
const ATTEMPTS_KEPT: usize = 32;

impl Core {
    /// The task, if this is its current attempt and runs on this worker.
    #[inline]
    pub(crate) fn current_attempt(
        &mut self,
        worker: WorkerIdx,
        id: TaskId,
        attempt: u32,
    ) -> Option<TaskIdx> {
        let task = self.lanes.task(id)?;
        let record = &self.tasks[task];
        let current = record.worker() == Some(worker) && record.attempts == attempt.wrapping_add(1);
        current.then_some(task)
    }

    pub(crate) fn on_attempt_ended(&mut self, worker: WorkerIdx, end: TaskEnd) {
        let Some(task) = self.current_attempt(worker, end.task, end.attempt) else { return };
        self.workers[worker].refused = false;
        self.dirty = true;
        match end.result {
            Ok(outputs) if outputs.len() == self.tasks[task].outputs() => {
                self.on_task_succeeded(task, worker, end.duration_us, outputs);
            }
            Ok(outputs) => {
                let message = format!("it returned {} objects", outputs.len());
                self.unassign(task, Some(end.duration_us));
                self.on_attempt_failed(task, worker, end.pid, FailureKind::Value { message });
            }
            Err(kind) => {
                self.unassign(task, Some(end.duration_us));
                self.on_attempt_failed(task, worker, end.pid, *kind);
            }
        }
    }

    fn on_task_succeeded(
        &mut self,
        task: TaskIdx,
        worker: WorkerIdx,
        duration_us: u32,
        outputs: smallvec::SmallVec<[Output; 1]>,
    ) {
        let record = &self.tasks[task];
        let bytes = outputs.iter().map(|output| output.meta.size).sum();
        let duration = (!record.flags.has(Flags::HAS_WAITED)).then_some(duration_us);
        self.functions.get_mut(record.function).ended(duration, bytes);
        let job = self.unassign(task, Some(duration_us));
        self.workers[worker].stored_since += bytes;
        self.tasks[task].state = State::Done;
        if self.tasks[task].flags.has(Flags::STOPPING) {
            // It was faster.
            self.tasks[task].flags.clear(Flags::STOPPING);
            self.stops.remove(&task);
        }
        for (index, output) in (0..).zip(outputs) {
            self.on_output_made(ObjRef { task, index }, worker, output);
        }
        self.release_needs(task);
        self.end_attempt(task);
        self.count(job, |job| job.counts.done += 1);
        // Of several objects some may be needed and others not.
        if self.tasks[task].objects().any(|object| !object.is_alive()) {
            self.loose.push(task);
        }
    }

    /// An object exists at a worker, with its value if it is small.
    fn on_output_made(&mut self, object: ObjRef, worker: WorkerIdx, output: Output) {
        let record = self.object(object);
        if record.there().is_some() {
            // It was made again for the sake of another of the task's objects.
            return self.add_copy(object, worker);
        }
        let wanted = record.interests.any(WANTS);
        let codec = output.meta.codec;
        // What is delivered now, and needed by no task yet, will hardly be asked for again.
        let keep = record.needed_by > 0 || !wanted;
        let value = match &output.value {
            Some(bytes) if keep => self.cache(bytes, false),
            _ => ValueIdx::NONE,
        };
        self.arrive(object, output.meta, worker, value);
        if wanted {
            self.deliver(object, output.value.map(|bytes| Value { codec, bytes }));
        }
    }

    /// An object exists: those that waited for it go on.
    pub(crate) fn arrive(
        &mut self,
        object: ObjRef,
        meta: ObjectMeta,
        worker: WorkerIdx,
        value: ValueIdx,
    ) {
        let contains = self.note_contained(meta.contains);
        let more = CopiesIdx::NONE;
        let there = There { size: meta.size, copy: worker, more, value, contains };
        let record = self.object_mut(object);
        record.codec = meta.codec;
        let state = std::mem::replace(&mut record.state, ObjectState::There(there));
        if let ObjectState::Pending(waiters) = state {
            for waiter in waiters {
                self.on_input_there(waiter);
            }
        }
    }

    /// The handles inside an object keep what they name alive. Those to unknown objects cannot.
    fn note_contained(&mut self, ids: Vec<ObjectId>) -> ContainsIdx {
        if ids.is_empty() {
            return ContainsIdx::NONE;
        }
        let mut inner: Vec<ObjRef> = ids.iter().filter_map(|id| self.find_object(*id)).collect();
        inner.sort_unstable();
        inner.dedup();
        for object in &inner {
            self.object_mut(*object).contained_by += 1;
        }
        self.contains.insert(inner.into())
    }

    fn on_input_there(&mut self, task: TaskIdx) {
        let State::Waiting { missing } = &mut self.tasks[task].state else {
            unreachable!("only waiting tasks wait for objects");
        };
        *missing -= 1;
        if *missing == 0 {
            self.make_ready(task);
        }
    }

    /// Tells those that want an object; a value that is not here is asked for first.
    pub(crate) fn deliver(&mut self, object: ObjRef, value: Option<Value>) {
        let sessions = self.object(object).interests.wanting();
        if sessions.is_empty() {
            return;
        }
        let outcome = value.map(manyhands_proto::client::Outcome::Value);
        let Some(outcome) = outcome.or_else(|| self.outcome(object)) else {
            return self.ask_for_value(object);
        };
        let id = self.object_id(object);
        for session in sessions {
            self.queue_end(session, id, outcome.clone());
            self.unbind(session, object, WANTS);
        }
    }

    /// The task can run: it goes into the queue of its job.
    pub(crate) fn make_ready(&mut self, task: TaskIdx) {
        let record = &mut self.tasks[task];
        record.state = State::Ready;
        let (order, seq, root) = (record.order, record.seq as u32, record.is_root());
        let demand = self.options.get(record.options).demand;
        let job = self.job_of(task);
        let record = &mut self.jobs[job];
        if record.ready_tasks == 0 {
            record.served = record.served.max(self.served);
        }
        record.ready_tasks += 1;
        let ready = record.ready_for(demand);
        let queue = if root { &mut ready.roots } else { &mut ready.inner };
        queue.push(Entry { order, seq, task });
        self.dirty = true;
    }

    /// A ready task leaves its queue before its turn.
    pub(crate) fn leave_queue(&mut self, task: TaskIdx) {
        // From here on its entry is not valid.
        self.tasks[task].state = State::Waiting { missing: 0 };
        let root = self.tasks[task].is_root();
        let demand = self.options.get(self.tasks[task].options).demand;
        let job = self.job_of(task);
        let record = &mut self.jobs[job];
        record.ready_tasks -= 1;
        let ready = record.ready_for(demand);
        let mut queue = std::mem::take(if root { &mut ready.roots } else { &mut ready.inner });
        queue.left(|entry| self.is_in_queue(entry, job, demand, root));
        let ready = self.jobs[job].ready_for(demand);
        *(if root { &mut ready.roots } else { &mut ready.inner }) = queue;
    }

    /// Whether an entry's task is still the one that was put into this queue.
    pub(crate) fn is_in_queue(
        &self,
        entry: &Entry,
        job: crate::slab::JobIdx,
        demand: u32,
        root: bool,
    ) -> bool {
        self.tasks.get(entry.task).is_some_and(|task| {
            matches!(task.state, State::Ready)
                && (task.order, task.seq as u32) == (entry.order, entry.seq)
                && task.is_root() == root
                && self.options.get(task.options).demand == demand
                && self.lanes.table(task.lane).job == job
        })
    }

    /// An attempt came to nothing: another one follows, or the task fails. It is with no worker now.
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
            // Its worker came too late for an input that is being made again. That is nobody's fault.
            return self.wait_again(task);
        }
        let stop = self.stops.get(&task).cloned();
        let options = self.options.get(self.tasks[task].options).options.clone();
        let pid = (pid != 0).then_some(pid);
        let attempt = self.tasks[task].attempts - 1;
        let worker = self.workers.get(worker).map(|worker| worker.id);
        self.tasks[task].flags.set(Flags::HAS_FAILED);
        let history = self.history.entry(task).or_default();
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
            None if again => self.wait_again(task),
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
        let mut missing = 0;
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
            self.withdraw(task);
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
        if !self.tasks[task].flags.has(Flags::PUT) {
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
                ObjectState::There(there) => self.record_of_failed(object, there),
                ObjectState::Gone => {}
            }
        }
        self.tasks[task].state = State::Failed(Box::new(failed));
        for index in 0..self.tasks[task].outputs() as u32 {
            self.deliver(ObjRef { task, index }, None);
        }
        if !self.tasks[task].is_alive() {
            self.loose.push(task);
        }
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

    /// Answer to a request for small values.
    pub(crate) fn on_values(&mut self, worker: WorkerIdx, values: Vec<(ObjectId, Option<Value>)>) {
        for (id, value) in values {
            let Some(object) = self.find_object(id) else { continue };
            if !self.object(object).asked || self.object(object).there().is_none() {
                continue;
            }
            self.object_mut(object).asked = false;
            match value {
                Some(value) => self.deliver(object, Some(value)),
                None => {
                    self.remove_copy(object, worker);
                    if self.object(object).there().is_some() {
                        self.ask_for_value(object);
                    }
                }
            }
        }
    }

    /// Asks a worker that has an object for its value, for those that want it.
    pub(crate) fn ask_for_value(&mut self, object: ObjRef) {
        let record = self.object(object);
        if record.asked {
            return;
        }
        let there = record.there().expect("only what exists is asked for");
        let worker = there.copy;
        self.object_mut(object).asked = true;
        let id = self.object_id(object);
        self.outbox(worker).send.push(id);
    }
}
