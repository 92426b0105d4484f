//! Work moves from the loaded to the idle: confirmed by the loaded, so that nothing runs twice.
//! What comes back goes to the one for which it was asked back.

use crate::core::Core;
use crate::slab::{TaskIdx, WorkerIdx};
use crate::tasks::Flags;
use crate::workers::LoadIndex;

/// Idle workers served in one round.
const THIEVES: usize = 64;

/// Loaded workers looked at for one idle one.
const VICTIMS: usize = 8;

/// A wait shorter than this is not worth two messages, in microseconds.
const WORTH_US: u64 = 500;

impl Core {
    /// Asks loaded workers for tasks, for those that have nothing left to do.
    pub(crate) fn steal(&mut self) {
        if !self.config.policies.steal || self.workers.len() < 2 || !self.load.has_free_slots() {
            return;
        }
        let idle = |worker: &WorkerIdx| self.workers[*worker].level < LoadIndex::FULL;
        let thieves: Vec<_> = self.load.ascending().take_while(idle).take(THIEVES).collect();
        for thief in thieves {
            let Some(victim) = self.victim() else { return };
            self.steal_from(victim, thief);
        }
    }

    /// A worker with more tasks than slots that was not asked already.
    fn victim(&self) -> Option<WorkerIdx> {
        self.load.descending().take(VICTIMS).find(|worker| {
            let record = &self.workers[*worker];
            record.retracting == 0
                && record.takes_tasks()
                && !record.refused
                && record.assigned.len() as u64 * 1000 > record.capacity()
                && record.wait_us() >= WORTH_US
        })
    }

    /// Asks for half of what waits at the victim, those first that would run there last.
    fn steal_from(&mut self, victim: WorkerIdx, thief: WorkerIdx) {
        let record = &self.workers[victim];
        let wait_us = record.wait_us();
        let slots = (record.capacity() / 1000) as usize;
        let waiting = record.assigned.len().saturating_sub(slots);
        let mut tasks = record.assigned.clone();
        tasks.sort_unstable_by_key(|task| {
            let task = &self.tasks[*task];
            std::cmp::Reverse((task.order, task.seq))
        });
        // Two idle workers share what one loaded worker has; the rest is asked for in later rounds.
        for task in tasks.into_iter().take(waiting.div_ceil(2)) {
            if self.is_worth_moving(task, victim, thief, wait_us) {
                self.ask_back(task, victim);
                if self.tasks[task].flags.has(Flags::RETRACTING) {
                    self.thieves.insert(task, thief);
                }
            }
        }
        // If nothing was worth it nothing will be until something ends there.
        self.workers[victim].refused = self.workers[victim].retracting == 0;
    }

    /// Gives a task that came back to the worker for which it was asked back, unless it has found
    /// other work, or the task has to wait again.
    pub(crate) fn hand_over(&mut self, task: TaskIdx, thief: WorkerIdx) -> bool {
        let inputs = &self.tasks[task].inputs;
        let can_go = self.tasks[task].is_alive()
            && !self.stops.contains_key(&task)
            && inputs.iter().all(|input| self.object(*input).there().is_some())
            && self.workers.get(thief).is_some()
            && self.has_room_for(task, thief);
        if can_go {
            self.assign(task, thief, None);
        }
        can_go
    }

    fn is_worth_moving(
        &self,
        task: TaskIdx,
        victim: WorkerIdx,
        thief: WorkerIdx,
        wait_us: u64,
    ) -> bool {
        if self.tasks[task].flags.has(Flags::BLOCKED | Flags::MOVED) || !self.could_run(task, thief)
        {
            return false;
        }
        // A slow thief may take longer than the task waits and runs where it is.
        let expected_us = u64::from(self.functions.get(self.tasks[task].function).expected_us());
        let runs_us = |worker: WorkerIdx| expected_us * self.workers[worker].pace() / 1000;
        if runs_us(thief) > wait_us + runs_us(victim) {
            return false;
        }
        let missing = self.tasks[task].inputs.iter().filter_map(|input| {
            let there = self.object(*input).there()?;
            let here = self.copies_of(there).any(|worker| worker == thief);
            (!here).then_some(there.size)
        });
        let bytes: u64 = missing.sum();
        self.transfer_us(thief, bytes) < wait_us
    }
}
