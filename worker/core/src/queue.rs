//! What was assigned and waits: the queues in order of priority, and what the scheduler says of it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use manyhands_proto::task::FailureKind;
use manyhands_proto::worker::{Assignment, FromWorker, InputPlace};
use manyhands_proto::{ObjectId, TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State, Taking};
use crate::core::Core;
use crate::objects::Residence;

/// A place in a queue: `order`, then arrival; number and stamp of the attempt.
pub(crate) type Entry = (u64, u64, AttemptIx, u32);

/// Attempts that may be fed ahead, by order. Tasks arrive in order as a rule, so most of them pass
/// through a plain line; only those out of order cost a heap.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    line: VecDeque<Entry>,
    heap: BinaryHeap<Reverse<Entry>>,
    /// Entries that are not stale.
    pub(crate) len: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.len += 1;
        match self.line.back() {
            Some(last) if *last > entry => self.heap.push(Reverse(entry)),
            _ => self.line.push_back(entry),
        }
    }

    /// The first entry, stale or not.
    fn first(&self) -> Option<Entry> {
        match (self.line.front(), self.heap.peek()) {
            (Some(a), Some(Reverse(b))) => Some(*a.min(b)),
            (a, b) => a.copied().or(b.map(|b| b.0)),
        }
    }

    fn drop_first(&mut self) {
        match (self.line.front(), self.heap.peek()) {
            (Some(a), Some(Reverse(b))) if b < a => drop(self.heap.pop()),
            (Some(_), _) => drop(self.line.pop_front()),
            (None, _) => drop(self.heap.pop()),
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.line.iter().chain(self.heap.iter().map(|r| &r.0))
    }
}

impl Core {
    pub(crate) fn on_assign(&mut self, now: Time, tasks: Vec<Assignment>, out: &mut Vec<Action>) {
        for assignment in tasks {
            if let Some(ix) = self.attempts.insert(assignment) {
                self.take_in(now, ix, out);
            }
        }
    }

    /// Looks at a new attempt: what runs it, what it needs, whether it can be had.
    fn take_in(&mut self, now: Time, ix: AttemptIx, out: &mut Vec<Action>) {
        let function = self.attempts[ix].assignment.function;
        let Some(pool) = self.pool_of_function(function) else {
            let message = format!("{} does not know function {function}", self.worker);
            return self.fail_here(ix, FailureKind::Value { message });
        };
        let attempt = &mut self.attempts[ix];
        let options = attempt.assignment.options.clone();
        attempt.pool = pool;
        let resources = &options.resources;
        let limited = options.time_limit_us.is_some()
            || options.deadline_unix_us.is_some()
            || options.memory_limit.is_some();
        attempt.plain = !limited
            && resources.millicores == 1000
            && resources.memory == 0
            && resources.named.is_empty();
        if !attempt.plain && !self.total.fits(resources) {
            let message = format!("{} never has room for {resources}", self.worker);
            return self.fail_here(ix, FailureKind::Infeasible { message });
        }
        if !self.pools[pool as usize].has_program
            && let Err(message) = self.need_program(pool, out)
        {
            return self.fail_here(ix, FailureKind::Infeasible { message });
        }
        if !self.attempts[ix].assignment.inputs.is_empty() && !self.link_inputs(ix) {
            return;
        }
        if let Some(deadline) = options.deadline_unix_us {
            let deadline = Time(deadline.saturating_sub(self.config.unix_offset_us));
            self.attempts[ix].rare().deadline = Some(deadline);
            self.arm(ix);
            if deadline <= now {
                return self.fail_here(ix, FailureKind::Deadline);
            }
        }
        self.enqueue(ix);
    }

    /// Finds an attempt's inputs in the table of objects. False if one is lost, and the attempt
    /// with it.
    fn link_inputs(&mut self, ix: AttemptIx) -> bool {
        let order = self.attempts[ix].assignment.order;
        let inputs = std::mem::take(&mut self.attempts[ix].assignment.inputs);
        let mut lost = None;
        for input in &inputs {
            let object = match &input.place {
                InputPlace::Inline(_) => continue,
                InputPlace::Here => self.objects.find(input.object),
                InputPlace::Peers { workers, size } => {
                    let known = self.objects.find(input.object);
                    let codec = manyhands_proto::value::Codec::RAW;
                    let from = Residence::Remote { workers: workers.clone() };
                    Some(match known {
                        None => self.objects.insert(input.object, codec, *size, from),
                        Some(at) if matches!(self.objects[at].residence, Residence::Gone) => {
                            self.objects[at].size = *size;
                            self.objects.revive(at);
                            self.objects.set(at, from);
                            at
                        }
                        Some(at) => {
                            self.objects.revive(at);
                            // What was said last is nearest to the truth.
                            if let Residence::Remote { .. } = self.objects[at].residence {
                                self.objects.set(at, from);
                            }
                            at
                        }
                    })
                }
            };
            let Some(object) = object else {
                lost = Some(input.object);
                break;
            };
            self.objects.need(object, order);
            self.attempts[ix].objects.push(object);
        }
        self.attempts[ix].assignment.inputs = inputs;
        if let Some(object) = lost {
            self.fail_here(ix, FailureKind::LostInput { object });
        }
        lost.is_none()
    }

    /// Puts an attempt where it waits for its turn.
    pub(crate) fn enqueue(&mut self, ix: AttemptIx) {
        let stamp = self.attempts.restamp(ix);
        let attempt = &self.attempts[ix];
        let target = attempt.assignment.in_place_of;
        let (order, seq, pool) = (attempt.assignment.order, attempt.seq, attempt.pool);
        let plain = attempt.plain;
        if target.is_some_and(|t| self.waits_on_a_stack(t, pool)) {
            self.attempts[ix].state = State::InPlace;
            self.in_place.push(ix);
            return;
        }
        self.attempts[ix].state = State::Queued;
        if plain {
            self.pools[pool as usize].queue.push((order, seq, ix, stamp));
        } else {
            self.specials.insert((order, seq, ix));
        }
    }

    /// Takes an attempt that no executor has out of wherever it waits.
    pub(crate) fn leave(&mut self, ix: AttemptIx) {
        self.attempts.restamp(ix);
        let attempt = &self.attempts[ix];
        let key = (attempt.assignment.order, attempt.seq, ix);
        match attempt.state {
            State::Queued if attempt.plain => self.pools[attempt.pool as usize].queue.len -= 1,
            State::Queued => drop(self.specials.remove(&key)),
            State::WantsMemory => drop(self.wants_memory.remove(&key)),
            State::InPlace => self.in_place.retain(|i| *i != ix),
            _ => {}
        }
        if self.admitting == Some(ix) {
            self.admitting = None;
        }
    }

    /// The first attempt of a pool's queue.
    pub(crate) fn first_queued(&mut self, pool: u32) -> Option<Entry> {
        let queue = &mut self.pools[pool as usize].queue;
        while let Some(entry) = queue.first() {
            let (_, _, ix, stamp) = entry;
            let fresh = self.attempts.fresh(ix, stamp);
            if fresh && matches!(self.attempts[ix].state, State::Queued) {
                return Some(entry);
            }
            queue.drop_first();
        }
        None
    }

    /// Takes the first attempt, which [`Core::first_queued`] has just shown, out of its queue.
    pub(crate) fn pop_queued(&mut self, pool: u32) {
        let queue = &mut self.pools[pool as usize].queue;
        queue.drop_first();
        queue.len -= 1;
    }

    /// How many attempts of the same queue come before this one.
    pub(crate) fn ahead_of(&self, ix: AttemptIx) -> usize {
        let attempt = &self.attempts[ix];
        let key = (attempt.assignment.order, attempt.seq);
        let queue = &self.pools[attempt.pool as usize].queue;
        let before = queue.entries().filter(|e| {
            (e.0, e.1) < key
                && self.attempts.fresh(e.2, e.3)
                && matches!(self.attempts[e.2].state, State::Queued)
        });
        before.count() + self.specials.iter().filter(|s| (s.0, s.1) < key).count()
    }

    pub(crate) fn on_retract(&mut self, tasks: Vec<(TaskId, u32)>, out: &mut Vec<Action>) {
        for (task, attempt) in tasks {
            let found = self.attempts.find(task, attempt);
            let Some(ix) = found.filter(|ix| {
                !self.attempts[*ix].has_begun() && self.attempts[*ix].stop().is_none()
            }) else {
                self.retracted.kept.push((task, attempt));
                continue;
            };
            match self.attempts[ix].state {
                State::Fed { .. } => self.take_back(ix, Taking::Retract, out),
                _ => self.hand_over(ix),
            }
        }
    }

    /// An input cannot be had: the attempt is the scheduler's again, which may know more of it now.
    pub(crate) fn hand_back(
        &mut self,
        ix: AttemptIx,
        object: ObjectId,
        message: &str,
        out: &mut Vec<Action>,
    ) {
        self.leave(ix);
        let attempt = self.attempts.remove(ix);
        let ((task, number), message) = (attempt.key(), message.to_owned());
        out.push(Action::ToScheduler(FromWorker::Missing {
            task,
            attempt: number,
            object,
            message,
        }));
        self.let_go(ix, attempt);
    }

    /// The attempt is the scheduler's again.
    pub(crate) fn hand_over(&mut self, ix: AttemptIx) {
        self.leave(ix);
        let attempt = self.attempts.remove(ix);
        self.retracted.given.push(attempt.key());
        self.let_go(ix, attempt);
    }
}
