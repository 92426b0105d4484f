//! Jobs: their queues, their share of the slots, and how far they are.

use manyhands_proto::client::JobCounts;
use manyhands_proto::{JobId, Time};

use crate::ready::Queue;
use crate::slab::SessionIdx;

/// How often a watching client hears of a job at most, in microseconds.
pub(crate) const PROGRESS_EVERY_US: u64 = 100_000;

/// The tasks of a job that could run and ask for the same resources and labels.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Which demand: see [`crate::options::Demand`].
    pub(crate) demand: u32,
    /// Those with inputs: to run them frees memory.
    pub(crate) inner: Queue,
    /// Those without.
    pub(crate) roots: Queue,
    /// The round in which there was no room for more inner tasks, and for more roots.
    pub(crate) full: [u64; 2],
}

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) name: String,
    /// Counted from the first job that was ever opened.
    pub(crate) number: u64,
    pub(crate) opened: Time,
    pub(crate) weight: u32,
    /// Start-time fair queueing: the slot time that the job has had, over its weight.
    pub(crate) served: u64,
    pub(crate) ready: Vec<Ready>,
    /// Tasks in `ready`.
    pub(crate) ready_tasks: usize,
    /// Records of tasks and values.
    pub(crate) records: usize,
    pub(crate) counts: JobCounts,
    /// Sessions that have it open, in the order in which they opened it.
    pub(crate) open_by: Vec<SessionIdx>,
    pub(crate) watchers: Vec<SessionIdx>,
    /// The counts have changed since the watchers heard of them.
    pub(crate) changed: bool,
    pub(crate) told_at: Option<Time>,
}

impl Job {
    pub(crate) fn new(id: JobId, name: String, weight: u32, number: u64, opened: Time) -> Job {
        Job {
            id,
            name,
            number,
            opened,
            weight: weight.max(1),
            served: 0,
            ready: Vec::new(),
            ready_tasks: 0,
            records: 0,
            counts: JobCounts::default(),
            open_by: Vec::new(),
            watchers: Vec::new(),
            changed: false,
            told_at: None,
        }
    }

    /// The queues for one demand.
    pub(crate) fn ready_for(&mut self, demand: u32) -> &mut Ready {
        let at = match self.ready.iter().position(|ready| ready.demand == demand) {
            Some(at) => at,
            None => {
                self.ready.push(Ready { demand, ..Ready::default() });
                self.ready.len() - 1
            }
        };
        &mut self.ready[at]
    }

    /// What an amount of slot time adds to [`Job::served`].
    pub(crate) fn share(&self, slot_us: u64) -> u64 {
        (slot_us << 10) / u64::from(self.weight)
    }

    /// When the watchers are to hear of it.
    pub(crate) fn progress_due(&self) -> Option<Time> {
        let due = self.told_at.map_or(Time(0), |told| told + PROGRESS_EVERY_US);
        (self.changed && !self.watchers.is_empty()).then_some(due)
    }
}

impl Ready {
    /// How many tasks come before one of this order.
    pub(crate) fn ahead_of(&self, order: u64, root: bool) -> usize {
        let queue = if root { &self.roots } else { &self.inner };
        queue.before(order)
    }
}
