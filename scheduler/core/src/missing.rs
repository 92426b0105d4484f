//! A worker cannot get an input of a task from anybody that it was told of: it hands the task back,
//! which is placed again with what is known by then.
//!
//! Where an object's holder has died, the worker that asks it notices before the scheduler does. So
//! a task that is handed back again and again rests between, until the scheduler knows what the
//! matter is: then the object is made again, or found elsewhere. Only when that does not come about
//! the task fails.

use std::cmp::Reverse;

use manyhands_proto::task::{AttemptFailure, FailureKind};
use manyhands_proto::{ObjectId, TaskId, Time};

use crate::core::Core;
use crate::slab::{TaskIdx, WorkerIdx};
use crate::tasks::Flags;

/// How often in a row a task is handed back before it fails. With the rests between that takes half
/// a minute: longer than a lost worker stays unnoticed.
const MISSES: u32 = 34;

/// The first rest, in microseconds; each is twice the last, up to the longest.
const FIRST_REST_US: u64 = 50_000;
const LONGEST_REST_US: u64 = 1_000_000;

impl Core {
    pub(crate) fn on_missing(
        &mut self,
        worker: WorkerIdx,
        id: TaskId,
        attempt: u32,
        object: ObjectId,
        message: String,
    ) {
        let Some(task) = self.current_attempt(worker, id, attempt) else { return };
        self.unassign(task, None);
        self.end_attempt(task);
        let known = self.find_object(object);
        if known.is_none_or(|object| self.object(object).there().is_none()) {
            // It is being made again, or has failed: that is known by now.
            return self.wait_again(task);
        }
        self.tasks[task].flags.set(Flags::HAS_FAILED);
        let history = self.history.entry(task).or_default();
        history.misses += 1;
        let misses = history.misses;
        if misses > MISSES {
            let worker = Some(self.workers[worker].id);
            let message = format!("its input {object} could not be fetched: {message}");
            let kind = FailureKind::Value { message };
            history.attempts.push(AttemptFailure { attempt, worker, pid: None, kind });
            return self.fail(task, FailureKind::LostInput { object });
        }
        if misses > 1 {
            // The first time another place may help at once.
            self.rest(task, misses - 2);
        }
        self.wait_again(task);
    }

    /// Keeps a task from being placed for a while.
    fn rest(&mut self, task: TaskIdx, times: u32) {
        let us = (FIRST_REST_US << times.min(16)).min(LONGEST_REST_US);
        self.tasks[task].flags.set(Flags::RESTS);
        let mark = self.mark(task);
        self.resting.push(Reverse((self.now + us, mark)));
    }

    /// When the next task has rested enough.
    pub(crate) fn rested_at(&self) -> Option<Time> {
        self.resting.peek().map(|Reverse((time, _))| *time)
    }

    pub(crate) fn on_rested(&mut self) {
        while let Some(Reverse((time, mark))) = self.resting.peek().copied() {
            if time > self.now {
                break;
            }
            self.resting.pop();
            if let Some(task) = self.marked(mark)
                && self.tasks[task].flags.has(Flags::RESTS)
            {
                self.tasks[task].flags.clear(Flags::RESTS);
                self.on_input_there(task);
            }
        }
    }

    /// A task whose inputs could not be fetched goes where they are, if there is room.
    pub(crate) fn has_missed(&self, task: TaskIdx) -> bool {
        self.tasks[task].flags.has(Flags::HAS_FAILED)
            && self.history.get(&task).is_some_and(|history| history.misses > 0)
    }
}
