//! How attempts end, and what becomes of their results.

use manyhands_proto::executor::{End, Returned, ReturnedBytes};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{INLINE_LIMIT, ObjectMeta, RIDE_LIMIT};
use manyhands_proto::worker::{FromWorker, Output, TaskEnd};
use manyhands_proto::{ObjectId, TaskId, Time};
use smallvec::SmallVec;

use crate::action::Action;
use crate::attempts::{Attempt, AttemptIx, State, Taking};
use crate::core::{Core, Retracted};
use crate::event::ExecutorId;
use crate::executors::{Occupied, Phase};
use crate::objects::Residence;

pub(crate) type Outputs = SmallVec<[Output; 1]>;

impl Core {
    /// An executor says that an attempt ended. Mostly it is the one on top of its stack.
    pub(crate) fn on_task_ended(
        &mut self,
        now: Time,
        id: ExecutorId,
        end: End,
        out: &mut Vec<Action>,
    ) {
        let key = (end.task, end.attempt);
        let live = self.executors.get(&id).filter(|e| e.phase == Phase::Live);
        let top = live.and_then(|e| e.top()).filter(|ix| self.attempts[*ix].key() == key);
        let found = top.or_else(|| {
            live?;
            let ix = self.attempts.find(end.task, end.attempt)?;
            (self.attempts[ix].executor() == Some(id)).then_some(ix)
        });
        let Some(ix) = found else { return self.discard(end.task, end.result.ok(), out) };
        self.remove_from(id, ix);
        if end.leaves {
            self.on_leaving(id);
        }
        let executor = self.executors.get_mut(&id).expect("it was found above");
        executor.proven = true;
        let (pid, pool) = (executor.pid, executor.pool);
        let has_space = !executor.grants.is_empty() || executor.waiting_space > 0;
        self.pools[pool as usize].failed_starts = 0;
        self.measure(ix, end.duration_us);
        let attempt = &self.attempts[ix];
        let expected = attempt.assignment.outputs;
        let result = match (attempt.stop(), end.result) {
            (Some(stop), result) => {
                let failure = stop.failure.clone();
                self.discard(end.task, result.ok(), out);
                Err(Box::new(failure))
            }
            (None, Err(failure)) => Err(failure),
            (None, Ok(returned)) if returned.len() != expected as usize => {
                let message =
                    format!("{expected} results were expected and {} came", returned.len());
                self.discard(end.task, Some(returned), out);
                Err(Box::new(FailureKind::Value { message }))
            }
            (None, Ok(returned)) => Ok(self.keep(id, ix, returned)),
        };
        if has_space {
            self.drop_grants(id, Some(end.task));
            self.drop_waits(id, end.task, ix);
        }
        self.end_attempt(ix, end.duration_us, pid, result);
        self.go_on(now, id);
        self.free_doomed(out);
    }

    /// Takes an attempt out of its executor's stack or ring.
    pub(crate) fn remove_from(&mut self, id: ExecutorId, ix: AttemptIx) {
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        if executor.top() == Some(ix) {
            executor.stack.pop();
        } else if let Some(at) = executor.fed.iter().position(|i| *i == ix) {
            executor.fed.remove(at);
            let attempt = &self.attempts[ix];
            executor.fed_us -= u64::from(attempt.cost_us);
            executor.fed_bytes -= attempt.assignment.args.len() as u64;
        } else {
            executor.stack.retain(|i| *i != ix);
        }
    }

    /// Something left an executor's stack: what is uppermost now runs, or the next of its ring.
    pub(crate) fn go_on(&mut self, now: Time, id: ExecutorId) {
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        if executor.stack.is_empty() {
            match executor.fed.pop_front() {
                Some(next) => {
                    let attempt = &mut self.attempts[next];
                    executor.fed_us -= u64::from(attempt.cost_us);
                    executor.fed_bytes -= attempt.assignment.args.len() as u64;
                    executor.stack.push(next);
                    attempt.state = State::Running { executor: id, since: now };
                    // As a rule one plain task follows another, and the slot stays as it is.
                    let same = attempt.plain && matches!(executor.occupies, Occupied::Core);
                    if same && attempt.rare.is_none() {
                        return;
                    }
                }
                None => {
                    executor.idle_since = now;
                    self.pools[executor.pool as usize].idle.push(id);
                }
            }
        }
        self.settle(id);
        self.interrupt_late(now, id);
    }

    /// Learns how long tasks of a function take.
    fn measure(&mut self, ix: AttemptIx, duration_us: u32) {
        let slot = self.attempts[ix].assignment.function as usize;
        if let Some(Some(function)) = self.functions.get_mut(slot) {
            let sample = duration_us as f32;
            function.mean_us = Some(match function.mean_us {
                None => sample,
                Some(mean) => mean + (sample - mean) * 0.125,
            });
        }
    }

    /// Takes what an attempt returned into the table of objects.
    fn keep(
        &mut self,
        id: ExecutorId,
        ix: AttemptIx,
        returned: SmallVec<[Returned; 1]>,
    ) -> Outputs {
        let assignment = &self.attempts[ix].assignment;
        let (task, wanted) = (assignment.task, assignment.wanted);
        let mut outputs = Outputs::new();
        for (index, returned) in returned.into_iter().enumerate() {
            let Returned { codec, bytes, contains } = returned;
            let object = task.object(index as u32);
            let (size, residence, value) = match bytes {
                // Most are so small. Their bytes are moved on, since a clone would allocate.
                ReturnedBytes::Inline(bytes)
                    if self.objects.insert_small(object, codec, &bytes) =>
                {
                    let meta = ObjectMeta { codec, size: bytes.len() as u64, contains };
                    outputs.push(Output { meta, value: Some(bytes) });
                    continue;
                }
                ReturnedBytes::Inline(bytes) => {
                    let len = bytes.len();
                    let rides = len <= RIDE_LIMIT || (wanted && len <= INLINE_LIMIT);
                    let value = rides.then(|| bytes.clone());
                    (len as u64, Residence::Inline(bytes), value)
                }
                ReturnedBytes::Extent(extent) => {
                    let on_disk = self.publish(id, extent);
                    (extent.len, Residence::Extent { extent, on_disk }, None)
                }
            };
            self.add_object(object, codec, size, residence);
            outputs.push(Output { meta: ObjectMeta { codec, size, contains }, value });
        }
        outputs
    }

    /// What an attempt returned that nobody waits for any more: its extents go.
    pub(crate) fn discard(
        &mut self,
        task: TaskId,
        returned: Option<SmallVec<[Returned; 1]>>,
        out: &mut Vec<Action>,
    ) {
        for (index, returned) in returned.into_iter().flatten().enumerate() {
            let object: ObjectId = task.object(index as u32);
            let stored = matches!(returned.bytes, ReturnedBytes::Extent(_));
            if stored && !self.is_here(object) {
                out.push(Action::Free { object });
            }
        }
    }

    /// Whether the bytes of an object are here, in memory or on disk.
    pub(crate) fn is_here(&self, object: ObjectId) -> bool {
        let elsewhere = |it: &Residence| {
            matches!(it, Residence::Gone | Residence::Remote { .. } | Residence::Fetching { .. })
        };
        let recorded = self.objects.recorded(object).is_some_and(|it| !elsewhere(&it.residence));
        recorded || self.objects.small(object).is_some()
    }

    /// Ends an attempt that no executor has.
    pub(crate) fn fail_here(&mut self, ix: AttemptIx, failure: FailureKind) {
        self.leave(ix);
        self.end_attempt(ix, 0, 0, Err(Box::new(failure)));
    }

    /// The one place where attempts end. It must have left every queue, stack and ring.
    pub(crate) fn end_attempt(
        &mut self,
        ix: AttemptIx,
        duration_us: u32,
        pid: u32,
        result: Result<Outputs, Box<FailureKind>>,
    ) {
        let attempt = &self.attempts[ix];
        if matches!(attempt.state, State::Blocked { .. }) {
            self.blocked -= 1;
        }
        let (task, number) = attempt.key();
        if attempt.taking == Some(Taking::Retract) {
            self.retracted.kept.push((task, number));
        }
        self.ends.push(TaskEnd { task, attempt: number, duration_us, pid, result });
        if attempt.objects.is_empty() && attempt.rare.is_none() {
            self.attempts.forget(ix);
        } else {
            let attempt = self.attempts.remove(ix);
            self.let_go(ix, attempt);
        }
    }

    /// Gives up all that an attempt, already out of the table, kept: pins, needs, its timer.
    pub(crate) fn let_go(&mut self, ix: AttemptIx, attempt: Attempt) {
        if let Some(rare) = &attempt.rare {
            if let Some(timer) = rare.timer {
                self.timers.remove(&(timer, ix));
            }
            for object in &rare.reads {
                self.unpin(*object);
            }
        }
        for object in &attempt.objects {
            if attempt.pinned {
                self.unpin(*object);
            }
            self.objects.unneed(*object);
        }
    }

    /// Sends what has been gathered since the last round.
    pub(crate) fn flush(&mut self, out: &mut Vec<Action>) {
        let mut say = |message| out.push(Action::ToScheduler(message));
        if !self.copied.is_empty() {
            say(FromWorker::Copied { objects: std::mem::take(&mut self.copied) });
        }
        // Before the ends: an attempt that failed for a lost input makes more sense then.
        if !self.lost.is_empty() {
            say(FromWorker::Lost { objects: std::mem::take(&mut self.lost) });
        }
        if !self.ends.is_empty() {
            let room = self.ends.len();
            let ends = std::mem::replace(&mut self.ends, Vec::with_capacity(room));
            say(FromWorker::Ended { ends });
        }
        if !self.retracted.given.is_empty() || !self.retracted.kept.is_empty() {
            let Retracted { given, kept } = std::mem::take(&mut self.retracted);
            say(FromWorker::Retracted { given, kept });
        }
        if !self.values.is_empty() {
            say(FromWorker::Values { values: std::mem::take(&mut self.values) });
        }
    }
}
