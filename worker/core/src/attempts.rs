//! The attempts that were assigned and have not been answered: a table with dense numbers.

use manyhands_proto::task::FailureKind;
use manyhands_proto::worker::Assignment;
use manyhands_proto::{ObjectId, TaskId, Time, WorkerId};

use crate::event::ExecutorId;
use crate::lanes::ByLane;
use crate::objects::ObjectIx;

/// An attempt's number in the table; used again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttemptIx(pub(crate) u32);

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) assignment: Assignment,
    /// The inputs that are objects of the table, in the order of the assignment; those that came
    /// inside the assignment are left out.
    pub(crate) objects: Vec<ObjectIx>,
    pub(crate) state: State,
    /// Which came first, among equals in `order`.
    pub(crate) seq: u64,
    /// Changes whenever the attempt leaves a queue or a list of waiters, so that what they still
    /// hold of it is known to be stale.
    pub(crate) stamp: u32,
    pub(crate) pool: u32,
    /// One core, nothing else, no limits: may be fed ahead.
    pub(crate) plain: bool,
    /// Its objects are pinned for it.
    pub(crate) pinned: bool,
    /// A `TakeBack` is under way, and what for.
    pub(crate) taking: Option<Taking>,
    /// Microseconds by which it counts in its executor's backlog while it is fed.
    pub(crate) cost_us: u32,
    /// An earlier attempt of the same task that has not ended.
    pub(crate) older: Option<AttemptIx>,
    pub(crate) rare: Option<Box<Rare>>,
}

/// What few attempts have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// It is being stopped.
    pub(crate) stop: Option<Stop>,
    /// Objects that it asked to read, pinned until it ends.
    pub(crate) reads: Vec<ObjectIx>,
    /// Where objects lie that it was told of as a client.
    pub(crate) elsewhere: Vec<(ObjectId, Vec<WorkerId>, u64)>,
    /// Its entry in the table of timers.
    pub(crate) timer: Option<Time>,
    /// When it must have ended.
    pub(crate) deadline: Option<Time>,
}

/// An attempt that is being stopped ends with this failure, whatever its executor says.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) failure: FailureKind,
    /// When its executor is killed; set with the interrupt.
    pub(crate) kill_at: Option<Time>,
    pub(crate) interrupted: bool,
}

/// Where an attempt is.
#[derive(Debug)]
pub(crate) enum State {
    /// In no list: the core is just moving it. No round leaves it so.
    InHand,
    /// In its queue. Its objects are here, or their absence has not been noticed yet.
    Queued,
    /// Some of its objects are not in memory, and there was no room to bring them.
    WantsMemory,
    /// Room is reserved and objects are on their way: so many.
    Loading { missing: u32 },
    /// Waits for the executor on which it shall run in place.
    InPlace,
    /// In an executor's ring behind the attempt that runs.
    Fed { executor: ExecutorId },
    /// On an executor's stack. Runs, if it is the topmost there.
    Running { executor: ExecutorId, since: Time },
    /// On an executor's stack, waiting for objects. If it is the topmost, its slot is lent.
    Blocked {
        executor: ExecutorId,
        since: Time,
        /// Sorted.
        waits_for: Vec<ObjectId>,
        /// Those of them that it has not been told of. Sorted.
        untold: Vec<ObjectId>,
        /// The scheduler was told that only what it waits for, run in place, helps.
        at_limit: bool,
    },
}

/// Why an attempt is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    /// To run it elsewhere in this worker, or to end it.
    Requeue,
    /// The scheduler asked for it.
    Retract,
}

impl Attempt {
    pub(crate) fn key(&self) -> (TaskId, u32) {
        (self.assignment.task, self.assignment.attempt)
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn stop(&self) -> Option<&Stop> {
        self.rare.as_ref()?.stop.as_ref()
    }

    /// The executor that has it.
    pub(crate) fn executor(&self) -> Option<ExecutorId> {
        match self.state {
            State::Fed { executor }
            | State::Running { executor, .. }
            | State::Blocked { executor, .. } => Some(executor),
            _ => None,
        }
    }

    /// An executor has begun it, as far as the worker knows.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Blocked { .. })
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    slots: Vec<Option<Attempt>>,
    free: Vec<AttemptIx>,
    /// By the tasks' first objects.
    newest: ByLane<AttemptIx>,
    next_stamp: u32,
    next_seq: u64,
}

impl Attempts {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes in a new one; `None` if it is known already, or older than one that is.
    pub(crate) fn insert(&mut self, assignment: Assignment) -> Option<AttemptIx> {
        let ix = self.free.last().copied().unwrap_or(AttemptIx(self.slots.len() as u32));
        let older = self.newest(assignment.task);
        match older {
            None => self.newest.insert(assignment.task.object(0), ix),
            Some(o) if self[o].assignment.attempt >= assignment.attempt => return None,
            Some(_) => self.set_newest(assignment.task, ix),
        }
        self.free.pop();
        self.next_seq += 1;
        let attempt = Attempt {
            assignment,
            objects: Vec::new(),
            state: State::InHand,
            seq: self.next_seq,
            stamp: 0,
            pool: 0,
            plain: true,
            pinned: false,
            taking: None,
            cost_us: 0,
            older,
            rare: None,
        };
        match self.slots.get_mut(ix.0 as usize) {
            Some(slot) => *slot = Some(attempt),
            None => self.slots.push(Some(attempt)),
        }
        self.restamp(ix);
        Some(ix)
    }

    /// Forgets one and hands it out.
    pub(crate) fn remove(&mut self, ix: AttemptIx) -> Attempt {
        self.unlink(ix);
        self.free.push(ix);
        self.slots[ix.0 as usize].take().expect("an attempt ends once")
    }

    /// Forgets one without a copy.
    pub(crate) fn forget(&mut self, ix: AttemptIx) {
        self.unlink(ix);
        self.free.push(ix);
        self.slots[ix.0 as usize] = None;
    }

    /// Takes it out of the chain of its task's attempts.
    fn unlink(&mut self, ix: AttemptIx) {
        let (task, older) = (self[ix].assignment.task, self[ix].older);
        let newest = self.newest(task);
        let mut at = match (newest, older) {
            (Some(newest), _) if newest != ix => newest,
            (_, Some(older)) => return self.set_newest(task, older),
            (_, None) => {
                self.newest.remove(task.object(0));
                return;
            }
        };
        while let Some(next) = self.get(at).and_then(|a| a.older) {
            if next == ix {
                self[at].older = older;
                return;
            }
            at = next;
        }
    }

    fn set_newest(&mut self, task: TaskId, ix: AttemptIx) {
        if let Some(newest) = self.newest.get_mut(task.object(0)) {
            *newest = ix;
        }
    }

    pub(crate) fn get(&self, ix: AttemptIx) -> Option<&Attempt> {
        self.slots.get(ix.0 as usize)?.as_ref()
    }

    /// The attempt, if what held its number and stamp is not stale.
    pub(crate) fn fresh(&self, ix: AttemptIx, stamp: u32) -> bool {
        self.get(ix).is_some_and(|a| a.stamp == stamp)
    }

    /// The latest attempt of a task.
    pub(crate) fn newest(&self, task: TaskId) -> Option<AttemptIx> {
        self.newest.get(task.object(0)).copied()
    }

    /// A certain attempt of a task.
    pub(crate) fn find(&self, task: TaskId, attempt: u32) -> Option<AttemptIx> {
        let mut at = self.newest(task);
        while let Some(ix) = at {
            if self[ix].assignment.attempt == attempt {
                return Some(ix);
            }
            at = self[ix].older;
        }
        None
    }

    /// Makes all that queues and lists hold of an attempt stale.
    pub(crate) fn restamp(&mut self, ix: AttemptIx) -> u32 {
        self.next_stamp = self.next_stamp.wrapping_add(1);
        let stamp = self.next_stamp;
        self[ix].stamp = stamp;
        stamp
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AttemptIx, &Attempt)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(i, slot)| Some((AttemptIx(i as u32), slot.as_ref()?)))
    }

    pub(crate) fn sanity_check(&self) {
        for (ix, attempt) in self.iter() {
            let (task, number) = attempt.key();
            assert_eq!(self.find(task, number), Some(ix), "{task} is not found by its name");
        }
        assert_eq!(self.slots.iter().filter(|s| s.is_none()).count(), self.free.len());
    }
}

impl std::ops::Index<AttemptIx> for Attempts {
    type Output = Attempt;
    fn index(&self, ix: AttemptIx) -> &Attempt {
        self.slots[ix.0 as usize].as_ref().expect("the number of a live attempt")
    }
}

impl std::ops::IndexMut<AttemptIx> for Attempts {
    fn index_mut(&mut self, ix: AttemptIx) -> &mut Attempt {
        self.slots[ix.0 as usize].as_mut().expect("the number of a live attempt")
    }
}
