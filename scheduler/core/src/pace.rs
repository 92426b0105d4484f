//! How fast workers are: what comes to them, and what they run.

use crate::core::Core;
use crate::objects::ObjRef;
use crate::slab::{TaskIdx, WorkerIdx};
use crate::workers::Worker;

/// A measured bandwidth is taken to be no less than this, in bytes a second: a few small objects
/// take long for what they are.
const LEAST_BANDWIDTH: u64 = 1 << 20;

/// Tasks of functions that usually take less than this, in microseconds, say little of their
/// worker.
const TELLING_US: u32 = 1000;

/// How much of the average one task makes, as a divisor.
const WEIGHT: u64 = 8;

/// The average stays between these.
const FASTEST: u64 = 100;
const SLOWEST: u64 = 16_000;

/// Up to this (thousandths) a worker is as fast as the others: tasks of one function differ too.
const USUAL: u32 = 1500;

/// From this pace on (thousandths) a worker gets nothing ahead while others could begin at once.
const SLOW: u64 = 2000;

/// An object that comes to a worker for the sake of tasks.
#[derive(Debug)]
pub(crate) struct Fetch {
    size: u64,
    tasks: u32,
}

impl Worker {
    /// How long a task takes here in relation to others, in thousandths.
    pub(crate) fn pace(&self) -> u64 {
        if self.slowness <= USUAL { 1000 } else { u64::from(self.slowness) }
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.pace() >= SLOW
    }
}

impl Core {
    /// Bytes a second that are reckoned with when something is to go to a worker.
    pub(crate) fn bandwidth_to(&self, worker: WorkerIdx) -> u64 {
        match self.workers[worker].status.bandwidth {
            0 => self.config.bandwidth.max(1),
            measured => measured.max(LEAST_BANDWIDTH),
        }
    }

    /// How long so many bytes take to a worker, in microseconds.
    pub(crate) fn transfer_us(&self, worker: WorkerIdx, bytes: u64) -> u64 {
        bytes.saturating_mul(1_000_000) / self.bandwidth_to(worker)
    }

    /// A task has ended at a worker: was that as fast as its like usually is?
    #[inline]
    pub(crate) fn note_pace(&mut self, worker: WorkerIdx, usual_us: u32, took_us: u32) {
        if usual_us < TELLING_US || self.workers.len() < 2 {
            return;
        }
        let slowness = u64::from(self.workers[worker].slowness);
        let ratio = u64::from(took_us) * 1000 / u64::from(usual_us);
        // One task that takes much longer than its like says nothing of its worker.
        let ratio = ratio.clamp(slowness / 2, slowness * 2);
        let slowness = (slowness * (WEIGHT - 1) + ratio) / WEIGHT;
        self.workers[worker].slowness = slowness.clamp(FASTEST, SLOWEST) as u32;
        self.reindex(worker);
    }

    /// An input of a task comes to its worker.
    pub(crate) fn note_fetch(&mut self, worker: WorkerIdx, object: ObjRef, size: u64) {
        let record = &mut self.workers[worker];
        let fetch = record.fetching.entry(object).or_insert(Fetch { size, tasks: 0 });
        if fetch.tasks == 0 {
            record.incoming += fetch.size;
        }
        fetch.tasks += 1;
    }

    /// It is there.
    pub(crate) fn on_fetched(&mut self, worker: WorkerIdx, object: ObjRef) {
        let record = &mut self.workers[worker];
        if let Some(fetch) = record.fetching.remove(&object) {
            record.incoming -= fetch.size;
        }
    }

    /// A task leaves its worker: what comes there for no other need not be reckoned with.
    pub(crate) fn forget_fetches(&mut self, worker: WorkerIdx, task: TaskIdx) {
        let record = &mut self.workers[worker];
        for object in &self.tasks[task].inputs {
            if record.fetching.is_empty() {
                return;
            }
            let Some(fetch) = record.fetching.get_mut(object) else { continue };
            fetch.tasks -= 1;
            if fetch.tasks == 0 {
                record.incoming -= fetch.size;
                record.fetching.remove(object);
            }
        }
    }

    /// Bytes and number of a task's inputs that are on their way to a worker.
    pub(crate) fn on_their_way(&self, worker: WorkerIdx, task: TaskIdx) -> (u64, u64) {
        let fetching = &self.workers[worker].fetching;
        if fetching.is_empty() {
            return (0, 0);
        }
        let found = self.tasks[task].inputs.iter().filter_map(|input| fetching.get(input));
        found.fold((0, 0), |(bytes, objects), fetch| (bytes + fetch.size, objects + 1))
    }

    /// What comes to a worker, counted anew, for the sanity check.
    pub(crate) fn incoming(&self, worker: WorkerIdx) -> u64 {
        let fetches = self.workers[worker].fetching.values();
        self.copies_under_way(worker) + fetches.map(|fetch| fetch.size).sum::<u64>()
    }
}
