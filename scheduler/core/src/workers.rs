//! Workers: what they have, what they were given, and an index of them by load.

use manyhands_proto::client::FunctionSpec;
use manyhands_proto::worker::{Assignment, WorkerSpec, WorkerStatus};
use manyhands_proto::{ObjectId, TaskId, Time, WorkerId};
use rustc_hash::FxHashMap;

use crate::drain::Drain;
use crate::objects::ObjRef;
use crate::options::Demand;
use crate::pace::Fetch;
use crate::slab::{FnIdx, TaskIdx, WorkerIdx};

/// What is sent ahead to a slot, in microseconds of work.
pub(crate) const AHEAD_US: u64 = 5_000;

/// Tasks sent to a slot at one time at most.
pub(crate) const TASKS_A_SLOT: u64 = 1024;

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) spec: WorkerSpec,
    /// Everything that is with it, in no order that matters.
    pub(crate) assigned: Vec<TaskIdx>,
    /// Thousandths of cores that its tasks ask for, without those that are blocked.
    pub(crate) load: u64,
    /// Expected slot time of its tasks, in microseconds, without those that are blocked.
    pub(crate) work_us: u64,
    /// Memory and named resources that its tasks ask for.
    pub(crate) memory: u64,
    pub(crate) named: Vec<(String, u64)>,
    /// Bytes that its tasks are expected to return.
    pub(crate) reserved: u64,
    /// Bytes that are on their way there from other workers.
    pub(crate) incoming: u64,
    /// The objects of those that come for the sake of its tasks.
    pub(crate) fetching: FxHashMap<ObjRef, Fetch>,
    pub(crate) status: WorkerStatus,
    /// Bytes of objects that came to lie there since it last told its status.
    pub(crate) stored_since: u64,
    /// Blocked tasks that only a task in place can help.
    pub(crate) stuck: u32,
    /// Tasks that it was asked to give back and has not answered for.
    pub(crate) retracting: u32,
    /// It gave nothing back when it was asked last, and nothing has ended there since.
    pub(crate) refused: bool,
    /// Since when its link is broken.
    pub(crate) away: Option<Time>,
    /// It is about to leave.
    pub(crate) drain: Option<Box<Drain>>,
    /// How long its tasks take in relation to what was expected, in thousandths: a moving average.
    pub(crate) slowness: u32,
    /// How many programs it has.
    pub(crate) programs: usize,
    /// Functions that were described to it, a bit each.
    functions: Vec<u64>,
    pub(crate) outbox: Outbox,
    /// Where it stands in the [`LoadIndex`].
    pub(crate) level: u8,
    pub(crate) position: u32,
}

/// What a worker will be told at the end of the round.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) functions: Vec<(u32, FunctionSpec)>,
    pub(crate) assign: Vec<Assignment>,
    /// What the arguments and values in `assign` take, in bytes.
    pub(crate) assign_bytes: usize,
    /// How many tasks the last message assigned.
    pub(crate) assigned_last: usize,
    pub(crate) retract: Vec<(TaskId, u32)>,
    pub(crate) free: Vec<ObjectId>,
    pub(crate) send: Vec<ObjectId>,
    /// Objects that it is to copy: size, and who has them.
    pub(crate) copy: Vec<(ObjectId, u64, Vec<WorkerId>)>,
    /// It can go.
    pub(crate) leave: bool,
    /// It stands in the list of outboxes to empty.
    pub(crate) listed: bool,
}

impl Worker {
    pub(crate) fn new(id: WorkerId, spec: WorkerSpec) -> Worker {
        Worker {
            id,
            spec,
            assigned: Vec::new(),
            load: 0,
            work_us: 0,
            memory: 0,
            named: Vec::new(),
            reserved: 0,
            incoming: 0,
            fetching: FxHashMap::default(),
            status: WorkerStatus::default(),
            stored_since: 0,
            stuck: 0,
            retracting: 0,
            refused: false,
            away: None,
            drain: None,
            slowness: 1000,
            programs: 0,
            functions: Vec::new(),
            outbox: Outbox::default(),
            level: 0,
            position: 0,
        }
    }

    /// Whether it may get tasks, objects and copies.
    pub(crate) fn takes_tasks(&self) -> bool {
        self.away.is_none() && self.drain.is_none()
    }

    /// Thousandths of cores that it has.
    pub(crate) fn capacity(&self) -> u64 {
        u64::from(self.spec.resources.millicores)
    }

    /// How long a new task would wait for a slot, in microseconds.
    pub(crate) fn wait_us(&self) -> u64 {
        if self.load < self.capacity() {
            0
        } else {
            self.work_us * self.pace() / self.capacity().max(1)
        }
    }

    /// Whether it was told of a function; from now on it was.
    pub(crate) fn learn(&mut self, function: FnIdx) -> bool {
        let (word, bit) = (function.0 as usize / 64, 1 << (function.0 % 64));
        if self.functions.len() <= word {
            self.functions.resize(word + 1, 0);
        }
        let known = self.functions[word] & bit != 0;
        self.functions[word] |= bit;
        known
    }

    /// A function's slot will stand for another one, which is to be described to the worker.
    pub(crate) fn unlearn(&mut self, function: FnIdx) {
        if let Some(word) = self.functions.get_mut(function.0 as usize / 64) {
            *word &= !(1 << (function.0 % 64));
        }
    }

    /// Whether what a demand asks for besides cores is free now.
    pub(crate) fn has_free(&self, demand: &Demand) -> bool {
        let have = &self.spec.resources;
        let used = |name: &str| self.named.iter().find(|(n, _)| n == name).map_or(0, |(_, a)| *a);
        self.memory + demand.resources.memory <= have.memory.max(demand.resources.memory)
            && demand.resources.named.iter().all(|(name, amount)| {
                let there = have.named.iter().find(|(n, _)| n == name).map_or(0, |(_, a)| *a);
                used(name) + amount <= there
            })
    }

    /// A task takes what it asks for besides cores, or gives it back.
    pub(crate) fn occupy(&mut self, demand: &Demand, take: bool) {
        let change = |old: u64, by: u64| if take { old + by } else { old.saturating_sub(by) };
        self.memory = change(self.memory, demand.resources.memory);
        for (name, amount) in &demand.resources.named {
            match self.named.iter_mut().find(|(n, _)| n == name) {
                Some((_, used)) => *used = change(*used, *amount),
                None => self.named.push((name.clone(), change(0, *amount))),
            }
        }
    }

    /// Bytes that its store holds or is about to, as far as is known.
    pub(crate) fn store_filled(&self) -> u64 {
        self.status.store_used + self.stored_since + self.reserved
    }

    /// Its load in a few steps: below [`LoadIndex::FULL`] a slot is free.
    fn level_now(&self) -> u8 {
        let capacity = self.capacity();
        if capacity == 0 || self.stuck > 0 || !self.takes_tasks() {
            return LoadIndex::LEVELS as u8 - 1;
        }
        if self.load < capacity {
            let level = (self.load * u64::from(LoadIndex::FULL) / capacity) as u8;
            // A slow one comes after others that have a slot free.
            return if self.is_slow() { (level + LoadIndex::FULL) / 2 } else { level };
        }
        // Two steps for every doubling of the work that waits.
        let wait = (self.work_us * self.pace() / capacity) | 1;
        let log = wait.ilog2();
        let half = if log > 0 { (wait >> (log - 1) & 1) as u32 } else { 0 };
        (u32::from(LoadIndex::FULL) + 2 * log + half).min(LoadIndex::LEVELS as u32 - 2) as u8
    }
}

/// Workers by load, so that the least loaded is found without looking at all.
#[derive(Debug)]
pub(crate) struct LoadIndex {
    levels: Vec<Vec<WorkerIdx>>,
    /// A bit for each level that has workers.
    mask: u64,
}

impl Default for LoadIndex {
    fn default() -> Self {
        LoadIndex { levels: vec![Vec::new(); Self::LEVELS], mask: 0 }
    }
}

impl LoadIndex {
    pub(crate) const LEVELS: usize = 64;
    /// From this level on a worker has no free slot.
    pub(crate) const FULL: u8 = 8;

    pub(crate) fn add(&mut self, index: WorkerIdx, worker: &mut Worker) {
        let level = worker.level_now();
        let list = &mut self.levels[level as usize];
        worker.level = level;
        worker.position = list.len() as u32;
        list.push(index);
        self.mask |= 1 << level;
    }

    /// Takes a worker out. Returns the one that now stands in its place, if another does.
    pub(crate) fn remove(&mut self, worker: &Worker) -> Option<WorkerIdx> {
        let list = &mut self.levels[worker.level as usize];
        list.swap_remove(worker.position as usize);
        if list.is_empty() {
            self.mask &= !(1 << worker.level);
        }
        list.get(worker.position as usize).copied()
    }

    /// Whether a worker stands where it should.
    pub(crate) fn is_current(&self, worker: &Worker) -> bool {
        worker.level == worker.level_now()
    }

    /// All workers, the least loaded first.
    pub(crate) fn ascending(&self) -> impl Iterator<Item = WorkerIdx> {
        let levels = std::iter::successors(next(self.mask), |level| {
            next(self.mask & !(u64::MAX >> (63 - level)))
        });
        levels.flat_map(|level| self.levels[level as usize].iter().rev().copied())
    }

    /// All workers that have no free slot, the most loaded first.
    pub(crate) fn descending(&self) -> impl Iterator<Item = WorkerIdx> {
        let full = Self::FULL as usize;
        self.levels[full..].iter().rev().flat_map(|level| level.iter().copied())
    }

    /// Whether any worker has a free slot.
    pub(crate) fn has_free_slots(&self) -> bool {
        self.mask & ((1 << Self::FULL) - 1) != 0
    }

    /// Where a worker stands, for the sanity check.
    pub(crate) fn at(&self, worker: &Worker) -> Option<WorkerIdx> {
        self.levels[worker.level as usize].get(worker.position as usize).copied()
    }
}

fn next(mask: u64) -> Option<u32> {
    (mask != 0).then(|| mask.trailing_zeros())
}
