//! Workers come and go; copies of objects with them. What is lost is made again from its lineage.

use manyhands_proto::task::FailureKind;
use manyhands_proto::worker::WorkerSpec;
use manyhands_proto::{ObjectId, WorkerId};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::action::Action;
use crate::core::Core;
use crate::objects::{ObjRef, ObjectState};
use crate::slab::{CopiesIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Flags, State};
use crate::workers::Worker;

impl Core {
    /// A worker that joins again has lost all that it had.
    pub(crate) fn on_worker_joined(
        &mut self,
        id: WorkerId,
        spec: WorkerSpec,
        out: &mut Vec<Action>,
    ) {
        if self.worker_ids.contains_key(&id) {
            self.on_worker_lost(id, out);
        }
        let worker = self.workers.insert(Worker::new(id, spec));
        self.worker_ids.insert(id, worker);
        self.load.add(worker, &mut self.workers[worker]);
        self.introduce(worker, out);
        self.dirty = true;
    }

    pub(crate) fn on_worker_lost(&mut self, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.worker_ids.remove(&id) else { return };
        self.answer_for(worker, out);
        self.take_leave(worker, out);
        self.forget_drains_of(worker);
        self.forget_programs_of(worker, out);
        // Its objects first: tasks that are tried again shall not be sent to look there.
        let at_worker = self.objects_at(worker);
        let mut gone = Vec::new();
        for object in at_worker {
            if self.strike_copy(object, worker) {
                gone.push(object);
            } else if std::mem::take(&mut self.object_mut(object).asked) {
                // It may have been the one that was asked for the value: another one is.
                self.deliver(object, None);
            }
        }
        self.take_all_from(worker, id);
        if let Some(moved) = self.load.remove(&self.workers[worker]) {
            self.workers[moved].position = self.workers[worker].position;
        }
        self.workers.remove(worker);
        self.to_send.retain(|w| *w != worker);
        self.restore(gone);
        self.dirty = true;
    }

    /// All objects of which a worker has a copy. Looks at everything: workers are lost rarely.
    fn objects_at(&self, worker: WorkerIdx) -> Vec<ObjRef> {
        let mut found = Vec::new();
        for (task, record) in self.tasks.iter() {
            for (index, object) in (0..).zip(record.objects()) {
                let there = object.there();
                if there.is_some_and(|there| self.copies_of(there).any(|w| w == worker)) {
                    found.push(ObjRef { task, index });
                }
            }
        }
        found
    }

    /// The attempts that ran on a lost worker have failed.
    fn take_all_from(&mut self, worker: WorkerIdx, id: WorkerId) {
        let mut assigned = self.workers[worker].assigned.clone();
        // In the order in which they came to be, not in that in which they lay there.
        assigned.sort_unstable();
        let begun = self.begun_at(worker);
        for task in assigned {
            self.unassign(task, None);
            let kind = FailureKind::WorkerLost { worker: id };
            self.on_attempt_failed(task, worker, 0, kind);
            self.rerun += u64::from(begun.contains(&task) && !self.tasks[task].has_ended());
        }
    }

    /// Which of a worker's tasks had begun, as far as can be known from here: those of which it
    /// said something that only a running task does, and of the others as many as it has slots, in
    /// the order in which it runs them.
    fn begun_at(&self, worker: WorkerIdx) -> FxHashSet<TaskIdx> {
        const BEGUN: u16 =
            Flags::BLOCKED | Flags::HAS_WAITED | Flags::SPEAKS | Flags::KEPT | Flags::IN_PLACE;
        let record = &self.workers[worker];
        let begun = |task: &TaskIdx| self.tasks[*task].flags.has(BEGUN);
        let (known, mut others): (Vec<TaskIdx>, Vec<TaskIdx>) =
            record.assigned.iter().copied().partition(begun);
        others.sort_unstable_by_key(|task| (self.tasks[*task].order, self.tasks[*task].seq));
        let slots = record.capacity().div_ceil(1000) as usize;
        known.into_iter().chain(others.into_iter().take(slots)).collect()
    }

    /// A worker does not have an object any more. `true` when nobody has.
    fn strike_copy(&mut self, object: ObjRef, worker: WorkerIdx) -> bool {
        let record = self.tasks[object.task].object_mut(object.index);
        let Some(ObjectState::There(there)) = record.map(|object| &mut object.state) else {
            return false;
        };
        let mut copies: SmallVec<[WorkerIdx; 4]> = SmallVec::new();
        if there.copy != WorkerIdx::NONE {
            copies.push(there.copy);
        }
        if there.more != CopiesIdx::NONE {
            copies.extend(self.copies.remove(there.more));
        }
        copies.retain(|copy| *copy != worker);
        there.copy = copies.first().copied().unwrap_or(WorkerIdx::NONE);
        there.more = CopiesIdx::NONE;
        if copies.len() > 1 {
            there.more = self.copies.insert(SmallVec::from_slice(&copies[1..]));
        }
        copies.is_empty() && there.value == ValueIdx::NONE
    }

    /// Another worker has an object too.
    pub(crate) fn add_copy(&mut self, object: ObjRef, worker: WorkerIdx) {
        let there = self.object(object).there().expect("only what exists is copied");
        if self.copies_of(there).any(|copy| copy == worker) {
            return;
        }
        let record = self.tasks[object.task].object_mut(object.index);
        let Some(ObjectState::There(there)) = record.map(|object| &mut object.state) else {
            return;
        };
        if there.copy == WorkerIdx::NONE {
            there.copy = worker;
        } else if there.more == CopiesIdx::NONE {
            there.more = self.copies.insert(SmallVec::from_slice(&[worker]));
        } else {
            self.copies[there.more].push(worker);
        }
    }

    /// A worker told of copies that it has. Of objects that are no more it must let go.
    pub(crate) fn on_copied(&mut self, worker: WorkerIdx, objects: &[ObjectId]) {
        self.dirty |= !self.draining.is_empty();
        for id in objects {
            match self.find_object(*id) {
                Some(object) if self.object(object).there().is_some() => {
                    self.add_copy(object, worker);
                    self.on_fetched(worker, object);
                    self.on_copy_made(worker, object);
                }
                _ => self.outbox(worker).free.push(*id),
            }
        }
    }

    pub(crate) fn on_objects_lost(&mut self, worker: WorkerIdx, objects: &[ObjectId]) {
        for id in objects {
            if let Some(object) = self.find_object(*id)
                && self.object(object).there().is_some()
            {
                self.remove_copy(object, worker);
            }
        }
    }

    pub(crate) fn remove_copy(&mut self, object: ObjRef, worker: WorkerIdx) {
        if self.strike_copy(object, worker) {
            self.restore(vec![object]);
        } else if std::mem::take(&mut self.object_mut(object).asked) {
            // It was the one that was asked for the value.
            self.deliver(object, None);
        }
    }

    /// Objects of which no copy is left: those that somebody needs are made again, and what was
    /// about to use them waits until they are.
    fn restore(&mut self, mut gone: Vec<ObjRef>) {
        let mut needed = false;
        // The task of some may have failed meanwhile, and its objects with it.
        gone.retain(|object| self.object(*object).there().is_some());
        for object in &gone {
            let there = self.take_there(*object);
            self.drop_there(there);
            needed |= self.object(*object).needed_by > 0;
        }
        if needed {
            self.hold_up_ready();
        }
        for object in gone {
            if self.object(object).is_alive() {
                self.remake(object);
            }
        }
    }

    /// Ready tasks that lost an input wait again. Looks at everything.
    fn hold_up_ready(&mut self) {
        for task in self.tasks.keys() {
            let record = &self.tasks[task];
            if !matches!(record.state, State::Ready | State::Waiting { .. })
                || record.flags.has(Flags::ITEM)
            {
                continue;
            }
            let gone = |input: &ObjRef| matches!(self.object(*input).state, ObjectState::Gone);
            if record.inputs.iter().any(gone) {
                self.withdraw(task, false);
                self.tasks[task].state = State::Waiting { missing: 0 };
                self.remaking.push(task);
            }
        }
    }

    /// An object that is gone is made again by running its task again, and whatever that needs. If
    /// it cannot be, its task fails for good.
    pub(crate) fn remake(&mut self, object: ObjRef) {
        let task = object.task;
        match self.tasks[task].state {
            State::Failed(_) => {}
            State::Done if self.tasks[task].flags.has(Flags::PUT | Flags::HOLLOW) => {
                let object = self.object_id(object);
                self.fail(task, FailureKind::LostInput { object });
            }
            State::Done if self.tasks[task].flags.has(Flags::ITEM) => self.remake_item(task),
            State::Done => self.restart(task),
            _ => self.expect_again(task),
        }
    }

    pub(crate) fn restart(&mut self, task: TaskIdx) {
        self.rerun += 1;
        self.leave_lineage(task);
        self.uncount_done(task);
        self.tasks[task].state = State::Waiting { missing: 0 };
        self.expect_again(task);
        for i in 0..self.tasks[task].inputs.len() {
            let input = self.tasks[task].inputs[i];
            self.object_mut(input).needed_by += 1;
        }
        // A lineage can be long: what it needs in turn is looked at in a loop, and not in depth.
        self.remaking.push(task);
    }

    /// What is gone of a task's objects is expected again.
    pub(crate) fn expect_again(&mut self, task: TaskIdx) {
        for index in 0..self.tasks[task].outputs() as u32 {
            let record = self.object_mut(ObjRef { task, index });
            if matches!(record.state, ObjectState::Gone) {
                record.state = ObjectState::Pending(SmallVec::new());
            }
        }
    }

    pub(crate) fn uncount_done(&mut self, task: TaskIdx) {
        if !self.tasks[task].flags.has(Flags::PUT | Flags::ITEM) {
            let job = self.job_of(task);
            self.count(job, |job| job.counts.done = job.counts.done.saturating_sub(1));
        }
    }

    /// Links the tasks that are to run again to what they need.
    pub(crate) fn link_remade(&mut self) {
        while let Some(task) = self.remaking.pop() {
            let unlinked = self.tasks.get(task);
            if unlinked.is_some_and(|t| matches!(t.state, State::Waiting { missing: 0 })) {
                self.count_missing(task);
            }
        }
    }
}
