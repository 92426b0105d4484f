//! Attempts end: results arrive, dependents become ready.

use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{ObjectMeta, Value};
use manyhands_proto::worker::{Output, TaskEnd};
use manyhands_proto::{ObjectId, TaskId};

use crate::core::Core;
use crate::holders::WANTS;
use crate::objects::{ObjRef, ObjectState, There};
use crate::ready::Entry;
use crate::slab::{ContainsIdx, CopiesIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Flags, State};

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
        let usual_us = self.functions.get(record.function).known_us();
        self.functions.get_mut(record.function).ended(duration, bytes);
        let job = self.unassign(task, Some(duration_us));
        if let Some(took_us) = duration.filter(|_| self.config.policies.pace) {
            self.note_pace(worker, usual_us, took_us);
        }
        self.workers[worker].stored_since += bytes;
        self.tasks[task].state = State::Done;
        if self.tasks[task].flags.has(Flags::STOPPING) {
            // It was faster.
            self.tasks[task].flags.clear(Flags::STOPPING);
            self.stops.remove(&task);
        }
        if self.tasks[task].flags.has(Flags::HAS_FAILED)
            && let Some(history) = self.history.get_mut(&task)
        {
            history.misses = 0;
        }
        for (index, output) in (0..).zip(outputs) {
            self.on_output_made(ObjRef { task, index }, worker, output);
        }
        if self.workers[worker].drain.is_some() {
            self.pack(task, worker);
        }
        self.release_needs(task);
        self.end_attempt(task);
        self.count(job, |job| job.counts.done += 1);
        // Of several objects some may be needed and others not.
        if self.tasks[task].objects().any(|object| !object.is_alive()) {
            self.loose.push(task);
        }
        if self.tasks[task].flags.has(Flags::STREAM) {
            self.on_stream_ended(task);
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
                // One that failed in the same event may still stand in a long list.
                if self.waits(waiter) {
                    self.on_input_there(waiter);
                }
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

    pub(crate) fn on_input_there(&mut self, task: TaskIdx) {
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
        let worker = self.best_copy(there);
        self.object_mut(object).asked = true;
        let id = self.object_id(object);
        self.outbox(worker).send.push(id);
    }
}
