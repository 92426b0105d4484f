//! Who keeps what alive, and what happens to that which nobody keeps.

use bytes::Bytes;
use manyhands_proto::value::{Codec, RIDE_LIMIT, Value};
use smallvec::SmallVec;

use crate::core::Core;
use crate::holders::{HOLDS, WANTS};
use crate::objects::{ObjRef, ObjectState, There};
use crate::slab::{BlobIdx, ContainsIdx, CopiesIdx, SessionIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Args, Flags, State};
use crate::values::Cached;

/// A list of waiters that is longer than this is not searched for each that leaves it.
const CROWD: usize = 32;

impl Core {
    /// A session holds, wants, or has in its graph an object from now on.
    pub(crate) fn bind(&mut self, session: SessionIdx, object: ObjRef, bits: u32) {
        let had = self.object_mut(object).interests.add(session, bits);
        if bits & (HOLDS | WANTS) != 0 && had & (HOLDS | WANTS) == 0 {
            let record = &mut self.sessions[session];
            record.held += 1;
            record.holds.push(object);
        }
    }

    /// It does not any more.
    pub(crate) fn unbind(&mut self, session: SessionIdx, object: ObjRef, bits: u32) {
        let record = self.object_mut(object);
        let had = record.interests.remove(session, bits);
        if had & bits == 0 {
            return;
        }
        if !record.is_alive() {
            self.loose.push(object.task);
        }
        let (before, after) = (had & (HOLDS | WANTS), had & !bits & (HOLDS | WANTS));
        if before != 0 && after == 0 {
            self.sessions[session].held -= 1;
            self.tidy_holds(session);
        }
    }

    /// Strikes from a session's list what it has let go of, once that is most of it.
    fn tidy_holds(&mut self, session: SessionIdx) {
        let record = &self.sessions[session];
        if record.holds.len() <= 2 * record.held + 64 {
            return;
        }
        let mut holds = std::mem::take(&mut self.sessions[session].holds);
        holds.retain(|object| {
            let task = self.tasks.get(object.task);
            let record = task.and_then(|task| task.object(object.index));
            record.is_some_and(|o| o.interests.of(session) & (HOLDS | WANTS) != 0)
        });
        // In an order of their own: a task that was released and held again is in it twice.
        holds.sort_unstable();
        holds.dedup();
        self.sessions[session].holds = holds;
    }

    /// Looks at everything that may have lost its last holder: frees objects, drops tasks that
    /// nobody needs, forgets records. Each step may let go of more.
    pub(crate) fn collect(&mut self) {
        while let Some(task) = self.loose.pop() {
            if self.tasks.get(task).is_some() {
                self.collect_one(task);
            }
        }
        while self.lineage_bytes > self.config.lineage_limit {
            let Some(mark) = self.lineage.pop_front() else { break };
            if let Some(task) = self.marked(mark) {
                self.hollow(task);
            }
            while let Some(task) = self.loose.pop() {
                if self.tasks.get(task).is_some() {
                    self.collect_one(task);
                }
            }
        }
        self.thin_crowds();
    }

    fn collect_one(&mut self, task: TaskIdx) {
        if self.is_kept_put(task) {
            return self.keep_as_lineage(task);
        }
        // While what it counts for is still there.
        if self.tasks[task].refs == 0 {
            self.leave_lineage(task);
        }
        for index in 0..self.tasks[task].outputs() as u32 {
            let object = ObjRef { task, index };
            if !self.object(object).is_alive() {
                self.free_object(object);
            }
        }
        let record = &self.tasks[task];
        if record.is_alive() {
            return;
        }
        match record.state {
            State::Assigned { .. } => {}
            State::Waiting { .. } | State::Ready => self.drop_task(task),
            State::Done | State::Failed(_) if record.refs == 0 => self.forget_task(task),
            State::Done | State::Failed(_) => self.keep_as_lineage(task),
        }
    }

    /// An object that exists is freed wherever it is.
    fn free_object(&mut self, object: ObjRef) {
        if self.object(object).there().is_none() {
            return;
        }
        let there = self.take_there(object);
        let id = self.object_id(object);
        let copies: SmallVec<[WorkerIdx; 4]> = self.copies_of(&there).collect();
        for worker in copies {
            self.outbox(worker).free.push(id);
            // Room for what waits for it.
            self.dirty = true;
        }
        self.drop_there(there);
    }

    /// The object is no more.
    pub(crate) fn take_there(&mut self, object: ObjRef) -> There {
        let record = self.object_mut(object);
        record.asked = false;
        match std::mem::replace(&mut record.state, ObjectState::Gone) {
            ObjectState::There(there) => there,
            _ => unreachable!("only objects that exist are taken"),
        }
    }

    /// Lets go of all that belonged to an object.
    pub(crate) fn drop_there(&mut self, there: There) {
        if there.value != ValueIdx::NONE {
            self.drop_value(there.value);
        }
        if there.more != CopiesIdx::NONE {
            self.copies.remove(there.more);
        }
        if there.contains != ContainsIdx::NONE {
            for inner in self.contains.remove(there.contains) {
                let record = self.object_mut(inner);
                record.contained_by -= 1;
                if !record.is_alive() {
                    self.loose.push(inner.task);
                }
            }
        }
    }

    pub(crate) fn drop_value(&mut self, value: ValueIdx) {
        let cached = self.values.remove(value);
        if !cached.pinned {
            self.cached_bytes -= cached.bytes.len() as u64;
        }
    }

    /// Keeps a value, if there is room.
    pub(crate) fn cache(&mut self, bytes: &Bytes, pinned: bool) -> ValueIdx {
        let size = bytes.len() as u64;
        if !pinned && self.cached_bytes + size > self.config.cache_limit {
            return ValueIdx::NONE;
        }
        // A small value may be part of a large message: it must not keep all of that.
        let small = bytes.len() <= RIDE_LIMIT;
        let bytes = if small { self.packer.copy(bytes) } else { bytes.clone() };
        if !pinned {
            self.cached_bytes += size;
        }
        self.values.insert(Cached { bytes, pinned })
    }

    pub(crate) fn cached_value(&self, codec: Codec, there: &There) -> Option<Value> {
        let cached = self.values.get(there.value)?;
        Some(Value { codec, bytes: cached.bytes.clone() })
    }

    /// The workers that have an object.
    pub(crate) fn copies_of(&self, there: &There) -> impl Iterator<Item = WorkerIdx> {
        let first = (there.copy != WorkerIdx::NONE).then_some(there.copy);
        let more = self.copies.get(there.more).into_iter().flatten().copied();
        first.into_iter().chain(more)
    }

    /// A task that nobody needs will not run. If it had ended before and was to run again it counts
    /// as ended.
    fn drop_task(&mut self, task: TaskIdx) {
        self.withdraw(task, true);
        self.release_needs(task);
        let outputs = self.tasks[task].outputs() as u32;
        for index in 0..outputs {
            let record = self.object_mut(ObjRef { task, index });
            if let ObjectState::Pending(_) = record.state {
                // Those that still stand in its list, if any, do not wait any more.
                debug_assert_eq!(record.needed_by, 0, "a task that is needed is not dropped");
                record.state = ObjectState::Gone;
            }
        }
        self.tasks[task].state = State::Done;
        if self.tasks[task].refs == 0 {
            self.forget_task(task);
        } else {
            if !self.tasks[task].flags.has(Flags::ITEM) {
                let job = self.job_of(task);
                self.count(job, |job| job.counts.done += 1);
            }
            self.keep_as_lineage(task);
        }
    }

    /// Takes a task that has not been placed out of where it waits. If that is `for_good` it may
    /// stand in long lists of waiters until the next [`Core::collect`], which every event ends
    /// with.
    pub(crate) fn withdraw(&mut self, task: TaskIdx, for_good: bool) {
        match self.tasks[task].state {
            State::Waiting { .. } if self.tasks[task].flags.has(Flags::ITEM) => {
                self.withdraw_item(task);
            }
            State::Waiting { .. } => {
                if for_good {
                    self.tasks[task].flags.clear(Flags::RESTS);
                }
                for i in 0..self.tasks[task].inputs.len() {
                    let input = self.tasks[task].inputs[i];
                    let ObjectState::Pending(waiters) = &mut self.object_mut(input).state else {
                        continue;
                    };
                    if for_good && waiters.len() > CROWD {
                        self.crowds.push(input);
                    } else if let Some(at) = waiters.iter().position(|waiter| *waiter == task) {
                        waiters.swap_remove(at);
                    }
                }
            }
            State::Ready => self.leave_queue(task),
            _ => unreachable!("only tasks that wait are withdrawn"),
        }
    }

    /// Strikes out of long lists of waiters, all at once, those that were withdrawn: one by one
    /// each would cost a walk along the list. Until then they do not wait again, and no new task
    /// has the index of one.
    fn thin_crowds(&mut self) {
        if self.crowds.is_empty() {
            return;
        }
        let mut crowds = std::mem::take(&mut self.crowds);
        crowds.sort_unstable();
        crowds.dedup();
        for object in crowds {
            let Some(record) = self.tasks.get_mut(object.task) else { continue };
            let Some(record) = record.object_mut(object.index) else { continue };
            let ObjectState::Pending(waiters) = &mut record.state else { continue };
            let mut waiters = std::mem::take(waiters);
            waiters.retain(|waiter| self.waits(*waiter));
            self.object_mut(object).state = ObjectState::Pending(waiters);
        }
    }

    /// Whether a task waits for its inputs.
    pub(crate) fn waits(&self, task: TaskIdx) -> bool {
        self.tasks.get(task).is_some_and(|task| matches!(task.state, State::Waiting { .. }))
    }

    /// The task ends: it does not need its inputs any more.
    pub(crate) fn release_needs(&mut self, task: TaskIdx) {
        for i in 0..self.tasks[task].inputs.len() {
            let input = self.tasks[task].inputs[i];
            let record = self.object_mut(input);
            record.needed_by -= 1;
            if record.needed_by == 0 && !record.is_alive() {
                self.loose.push(input.task);
            }
        }
    }

    /// A small value that a client put, that nobody holds, and that a descendant's lineage begins
    /// with: unlike the result of a task it cannot be made again.
    pub(crate) fn is_kept_put(&self, task: TaskIdx) -> bool {
        let record = &self.tasks[task];
        record.flags.has(Flags::PUT)
            && !record.flags.has(Flags::HOLLOW)
            && record.refs > 0
            && !record.is_alive()
            && self.pinned_value(task).is_some()
    }

    /// A value that a client put and that only the scheduler is sure to have.
    fn pinned_value(&self, task: TaskIdx) -> Option<&Cached> {
        let record = Some(&self.tasks[task]).filter(|record| record.flags.has(Flags::PUT))?;
        let value = self.values.get(record.object(0)?.there()?.value)?;
        value.pinned.then_some(value)
    }

    /// What a record counts for as lineage.
    pub(crate) fn bytes_of_lineage(&self, task: TaskIdx) -> u64 {
        let pinned = self.pinned_value(task).map_or(0, |value| value.bytes.len() as u64);
        self.tasks[task].bytes() + pinned
    }

    /// Nobody holds a task that ended, but a descendant may need to be made again.
    fn keep_as_lineage(&mut self, task: TaskIdx) {
        if self.tasks[task].flags.has(Flags::LINEAGE | Flags::HOLLOW) {
            return;
        }
        self.tasks[task].flags.set(Flags::LINEAGE);
        self.lineage_bytes += self.bytes_of_lineage(task);
        let mark = self.mark(task);
        self.lineage.push_back(mark);
        // Records that came back to life and left again leave marks behind.
        if self.lineage.len() > 2 * self.tasks.len() + 1024 {
            let mut marks = std::mem::take(&mut self.lineage);
            marks.retain(|m| self.marked(*m).is_some_and(|t| self.is_lineage(t)));
            self.lineage = marks;
        }
    }

    fn is_lineage(&self, task: TaskIdx) -> bool {
        self.tasks[task].flags.has(Flags::LINEAGE)
    }

    /// A record is more than lineage again, or goes.
    pub(crate) fn leave_lineage(&mut self, task: TaskIdx) {
        if self.is_lineage(task) {
            self.tasks[task].flags.clear(Flags::LINEAGE);
            self.lineage_bytes -= self.bytes_of_lineage(task);
        }
    }

    /// There is too much lineage: this task will not run again.
    fn hollow(&mut self, task: TaskIdx) {
        self.leave_lineage(task);
        let record = &mut self.tasks[task];
        if record.is_alive() || !record.has_ended() || record.flags.has(Flags::HOLLOW) {
            return;
        }
        record.flags.set(Flags::HOLLOW);
        if record.flags.has(Flags::PUT) {
            // Its value goes.
            self.loose.push(task);
        }
        self.release_inputs(task);
        self.release_args(task);
    }

    /// Forgets what a task was made of. It must not need it any more.
    pub(crate) fn release_inputs(&mut self, task: TaskIdx) {
        for input in std::mem::take(&mut self.tasks[task].inputs) {
            let producer = &mut self.tasks[input.task];
            producer.refs -= 1;
            if producer.refs == 0 && producer.has_ended() {
                self.loose.push(input.task);
            }
        }
    }

    pub(crate) fn release_args(&mut self, task: TaskIdx) {
        let args = std::mem::replace(&mut self.tasks[task].args, Args::NONE);
        if args.blob != BlobIdx::NONE {
            self.release_blob(args.blob);
        }
    }

    pub(crate) fn release_blob(&mut self, blob: BlobIdx) {
        self.blobs[blob].refs -= 1;
        if self.blobs[blob].refs == 0 {
            self.blobs.remove(blob);
        }
    }

    /// A record that nobody refers to goes.
    fn forget_task(&mut self, task: TaskIdx) {
        self.leave_lineage(task);
        self.release_inputs(task);
        self.release_args(task);
        let record = self.tasks.remove(task);
        debug_assert!(record.objects().all(|object| object.there().is_none()));
        self.options.release(record.options);
        if record.flags.has(Flags::HAS_FAILED) {
            self.history.remove(&task);
        }
        if record.flags.has(Flags::STOPPING) {
            self.stops.remove(&task);
        }
        if record.flags.has(Flags::STREAM) {
            self.streams.remove(&task);
        }
        let job = self.lanes.table(record.lane).job;
        self.lanes.clear(record.lane, record.seq);
        self.jobs[job].records -= 1;
        if self.jobs[job].records == 0 {
            self.drop_job_if_over(job);
        }
    }
}
