//! A worker leaves in good order: it gets no more tasks, gives back what has not begun and ends
//! what has, what lies only there is copied to others, and then it is told to go.

use std::collections::VecDeque;

use manyhands_proto::worker::ToWorker;
use manyhands_proto::{ObjectId, Time, WorkerId};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::action::Action;
use crate::core::Core;
use crate::objects::{ObjRef, There};
use crate::slab::{SessionIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Flags, Mark};

/// Objects of one worker that are copied at one time at most, in number and in bytes.
const COPIES: usize = 256;
const COPY_BYTES: u64 = 256 << 20;

/// How long objects that nobody could take rest before they are tried again, in microseconds.
const RETRY_US: u64 = 1_000_000;

/// After so many copies that failed an object that can be made again is left to that.
const TRIES: u32 = 12;

/// A worker that clients can reach stays at least so long, in microseconds: one that has just given
/// it a value is about to say so.
const LINGER_US: u64 = 200_000;

/// What is left to do before a worker can leave.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Objects that may lie only there.
    queue: VecDeque<Parcel>,
    /// Those of which a copy is under way.
    copying: Vec<Copying>,
    /// Those that nobody could take, until the time when they are tried again.
    resting: Vec<Parcel>,
    /// Those that are left to be made again.
    given_up: FxHashSet<(Mark, u32)>,
    /// Why the last copy failed.
    trouble: String,
    stays_until: Time,
    /// When it is to be looked at even if nothing happens.
    pub(crate) due: Option<Time>,
    /// There is no worker to take anything.
    alone: bool,
    /// It was told to go.
    left: bool,
}

/// An object that has to go elsewhere.
#[derive(Debug)]
struct Parcel {
    mark: Mark,
    index: u32,
    tries: u32,
    refused_by: SmallVec<[WorkerId; 2]>,
}

#[derive(Debug)]
struct Copying {
    parcel: Parcel,
    target: WorkerIdx,
    size: u64,
}

impl Parcel {
    fn is(&self, object: ObjRef) -> bool {
        (self.mark.task, self.index) == (object.task, object.index)
    }
}

impl Drain {
    fn copies(&self, object: ObjRef) -> bool {
        self.copying.iter().any(|copying| copying.parcel.is(object))
    }
}

impl Core {
    /// A client wants a worker to leave.
    pub(crate) fn on_drain(&mut self, session: SessionIdx, id: WorkerId, out: &mut Vec<Action>) {
        if self.sessions[session].client().is_none() {
            return self.refuse(session, "a task cannot drain workers: a client can".into(), out);
        }
        let Some(worker) = self.worker_ids.get(&id).copied() else {
            let message = format!("{id} is not there: it has left, or never was (see the workers)");
            return self.refuse(session, message, out);
        };
        if self.workers[worker].drain.is_none() {
            out.push(Action::ToWorker { worker: id, message: ToWorker::Drain });
            self.on_draining(worker);
        }
    }

    /// A worker is about to leave, by its own will or because it was told to.
    pub(crate) fn on_draining(&mut self, worker: WorkerIdx) {
        if self.workers[worker].drain.is_some() {
            return;
        }
        let reachable = !self.workers[worker].spec.addresses.is_empty();
        let stays_until = self.now + if reachable { LINGER_US } else { 0 };
        let mut drain = Drain { stays_until, ..Drain::default() };
        drain.queue.extend(self.at_stake(worker, &drain));
        self.workers[worker].drain = Some(Box::new(drain));
        self.draining.push(worker);
        self.reindex(worker);
        let mut assigned = self.workers[worker].assigned.clone();
        assigned.sort_unstable();
        for task in assigned {
            self.ask_back(task, worker);
        }
        self.dirty = true;
    }

    /// All objects that would be lost with a worker. Looks at everything: once when a drain begins,
    /// and whenever it seems to have ended.
    fn at_stake(&self, worker: WorkerIdx, drain: &Drain) -> Vec<Parcel> {
        let mut found = Vec::new();
        for (task, record) in self.tasks.iter() {
            for (index, object) in (0..).zip(record.objects()) {
                if object.there().is_some_and(|there| self.is_only_at(there, worker)) {
                    let parcel = self.parcel(ObjRef { task, index });
                    if !drain.given_up.contains(&(parcel.mark, index)) {
                        found.push(parcel);
                    }
                }
            }
        }
        found
    }

    fn parcel(&self, object: ObjRef) -> Parcel {
        let mark = self.mark(object.task);
        Parcel { mark, index: object.index, tries: 0, refused_by: SmallVec::new() }
    }

    /// Whether an object would be lost with a worker. Copies with those that drain too, or that
    /// have not been heard from, do not count.
    fn is_only_at(&self, there: &There, worker: WorkerIdx) -> bool {
        there.value == ValueIdx::NONE
            && self.copies_of(there).any(|copy| copy == worker)
            && !self.copies_of(there).any(|copy| copy != worker && self.workers[copy].takes_tasks())
    }

    /// A parcel's object, if it would still be lost with a worker.
    fn open(&self, parcel: &Parcel, worker: WorkerIdx) -> Option<(ObjRef, u64)> {
        let object = ObjRef { task: self.marked(parcel.mark)?, index: parcel.index };
        let there = self.object(object).there()?;
        self.is_only_at(there, worker).then_some((object, there.size))
    }

    /// A task has ended at a worker that drains: what it returned lies there.
    pub(crate) fn pack(&mut self, task: TaskIdx, worker: WorkerIdx) {
        for index in 0..self.tasks[task].outputs() as u32 {
            let parcel = self.parcel(ObjRef { task, index });
            if let Some(drain) = &mut self.workers[worker].drain {
                drain.queue.push_back(parcel);
            }
        }
    }

    /// Takes the drains of all workers as far as they go.
    pub(crate) fn advance_drains(&mut self) {
        for worker in self.draining.clone() {
            if self.workers[worker].away.is_none()
                && let Some(drain) = &mut self.workers[worker].drain
                && !drain.left
            {
                // An empty one stays, so that the worker is still seen to drain.
                let mut taken = std::mem::take(drain);
                self.advance(worker, &mut taken);
                self.workers[worker].drain = Some(taken);
            }
        }
    }

    fn advance(&mut self, worker: WorkerIdx, drain: &mut Drain) {
        let (open, saved) = std::mem::take(&mut drain.copying)
            .into_iter()
            .partition(|copying: &Copying| self.open(&copying.parcel, worker).is_some());
        drain.copying = open;
        for Copying { target, size, .. } in saved {
            self.workers[target].incoming -= size;
        }
        if drain.due.is_none() {
            drain.queue.extend(drain.resting.drain(..));
        }
        drain.alone = !self.workers.iter().any(|(_, other)| other.takes_tasks());
        if !drain.alone {
            self.send_copies(worker, drain);
        }
        let idle = drain.queue.is_empty() && drain.copying.is_empty() && drain.resting.is_empty();
        if !idle || !self.workers[worker].assigned.is_empty() {
            return;
        }
        if self.now < drain.stays_until {
            drain.due = Some(drain.stays_until);
            return;
        }
        drain.queue.extend(self.at_stake(worker, drain));
        if drain.queue.is_empty() {
            drain.left = true;
            self.outbox(worker).leave = true;
        } else if !drain.alone {
            self.send_copies(worker, drain);
        }
    }

    /// Has objects copied, as many as may be under way.
    fn send_copies(&mut self, worker: WorkerIdx, drain: &mut Drain) {
        let mut later = Vec::new();
        let mut under_way: u64 = drain.copying.iter().map(|copying| copying.size).sum();
        while drain.copying.len() < COPIES && under_way < COPY_BYTES {
            let Some(mut parcel) = drain.queue.pop_front() else { break };
            let Some((object, size)) = self.open(&parcel, worker) else { continue };
            if drain.copies(object) || self.is_being_copied(object) {
                // Another worker that has it may drain too.
                later.push(parcel);
                continue;
            }
            let Some(target) = self.target(&parcel, size) else {
                // All have refused it.
                parcel.refused_by.clear();
                drain.due.get_or_insert(self.now + RETRY_US);
                drain.resting.push(parcel);
                continue;
            };
            let there = self.object(object).there().expect("it lies at the worker");
            let (id, workers) = (self.object_id(object), self.sources(there, target));
            self.outbox(target).copy.push((id, size, workers));
            self.workers[target].incoming += size;
            under_way += size;
            drain.copying.push(Copying { parcel, target, size });
        }
        drain.queue.extend(later);
    }

    fn is_being_copied(&self, object: ObjRef) -> bool {
        let mut drains =
            self.draining.iter().filter_map(|worker| self.workers[*worker].drain.as_ref());
        drains.any(|drain| drain.copies(object))
    }

    /// Who is to take an object: one with room in its store, to which little is under way and that
    /// has little to do.
    fn target(&self, parcel: &Parcel, size: u64) -> Option<WorkerIdx> {
        let may = self
            .workers
            .iter()
            .filter(|(_, other)| other.takes_tasks() && !parcel.refused_by.contains(&other.id));
        let best = may.min_by_key(|(_, other)| {
            let filled = other.store_filled() + other.incoming;
            let full = filled + size > other.spec.store_limit;
            (full, other.incoming, other.wait_us(), filled)
        });
        best.map(|(target, _)| target)
    }

    /// A copy lies at a worker: if it was asked for, there is room for the next.
    pub(crate) fn on_copy_made(&mut self, target: WorkerIdx, object: ObjRef) {
        if self.draining.is_empty() {
            return;
        }
        self.end_copy(target, object);
        if self.workers[target].drain.is_some() {
            let parcel = self.parcel(object);
            if let Some(drain) = &mut self.workers[target].drain {
                drain.queue.push_back(parcel);
            }
        }
    }

    /// Takes a copy out of those that are under way. It is for the caller to say what comes of it.
    fn end_copy(&mut self, target: WorkerIdx, object: ObjRef) -> Option<(WorkerIdx, Parcel)> {
        for worker in self.draining.clone() {
            let Some(drain) = &mut self.workers[worker].drain else { continue };
            let at = drain.copying.iter().position(|c| c.target == target && c.parcel.is(object));
            if let Some(at) = at {
                let Copying { parcel, size, .. } = drain.copying.swap_remove(at);
                self.workers[target].incoming -= size;
                return Some((worker, parcel));
            }
        }
        None
    }

    /// A worker could not copy an object: another one is asked. What can be made again is left to
    /// that in the end.
    pub(crate) fn on_copy_failed(&mut self, target: WorkerIdx, id: ObjectId, message: &str) {
        self.dirty |= !self.draining.is_empty();
        let Some(object) = self.find_object(id) else { return };
        let Some((worker, mut parcel)) = self.end_copy(target, object) else { return };
        let refused_by = self.workers[target].id;
        let record = &self.tasks[object.task];
        let can_be_made = !record.flags.has(Flags::PUT | Flags::HOLLOW);
        let Some(drain) = &mut self.workers[worker].drain else { return };
        drain.trouble = format!("{refused_by}: {}", message.chars().take(200).collect::<String>());
        parcel.refused_by.push(refused_by);
        parcel.tries += 1;
        if can_be_made && parcel.tries >= TRIES {
            drain.given_up.insert((parcel.mark, parcel.index));
        } else {
            drain.queue.push_back(parcel);
        }
    }

    /// A worker is gone: what it was about to copy others are to, and what it was to leave behind
    /// in good order is lost like that of any.
    pub(crate) fn forget_drains_of(&mut self, lost: WorkerIdx) {
        self.draining.retain(|worker| *worker != lost);
        if let Some(drain) = self.workers[lost].drain.take() {
            for Copying { target, size, .. } in drain.copying {
                self.workers[target].incoming -= size;
            }
        }
        for worker in self.draining.clone() {
            let Some(drain) = &mut self.workers[worker].drain else { continue };
            let (lost, rest): (Vec<_>, Vec<_>) =
                std::mem::take(&mut drain.copying).into_iter().partition(|c| c.target == lost);
            drain.copying = rest;
            drain.queue.extend(lost.into_iter().map(|copying| copying.parcel));
        }
    }

    /// Bytes that are being copied to a worker, for the sanity check.
    pub(crate) fn copies_under_way(&self, target: WorkerIdx) -> u64 {
        let drains = self.draining.iter().filter_map(|worker| self.workers[*worker].drain.as_ref());
        let copies = drains.flat_map(|drain| &drain.copying).filter(|copy| copy.target == target);
        copies.map(|copying| copying.size).sum()
    }

    /// When a drain is to be looked at even if nothing happens.
    pub(crate) fn drain_due(&self) -> Option<Time> {
        let drains = self.draining.iter().filter_map(|worker| self.workers[*worker].drain.as_ref());
        drains.filter_map(|drain| drain.due).min()
    }

    pub(crate) fn on_drains_due(&mut self) {
        for worker in self.draining.clone() {
            if let Some(drain) = &mut self.workers[worker].drain
                && drain.due.is_some_and(|due| due <= self.now)
            {
                drain.due = None;
                self.dirty = true;
            }
        }
    }

    /// What keeps a worker that drains, in words; nothing if it does not.
    pub(crate) fn drain_words(&self, worker: WorkerIdx) -> Option<String> {
        let record = &self.workers[worker];
        let drain = record.drain.as_ref()?;
        if drain.left {
            return Some("nothing is left there: it was told that it can go".into());
        }
        let tasks = record.assigned.len();
        let (waiting, copying) = (drain.queue.len() + drain.resting.len(), drain.copying.len());
        let mut words = format!(
            "{tasks} tasks have to end or come back, {waiting} objects have to be copied to other \
             workers, {copying} are under way"
        );
        if drain.alone {
            words += "; there is no other worker that could take anything: it waits for one";
        }
        if !drain.trouble.is_empty() {
            words += &format!("; the last copy that failed: {}", drain.trouble);
        }
        Some(words)
    }
}
