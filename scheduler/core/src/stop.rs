//! Tasks are stopped: somebody cancelled them, or their deadline has passed.

use std::cmp::Reverse;

use manyhands_proto::TaskId;
use manyhands_proto::task::FailureKind;
use manyhands_proto::worker::ToWorker;

use crate::action::Action;
use crate::core::Core;
use crate::slab::TaskIdx;
use crate::tasks::{Flags, State};

impl Core {
    pub(crate) fn on_cancel(&mut self, tasks: &[TaskId], reason: &str, out: &mut Vec<Action>) {
        for id in tasks {
            if let Some(task) = self.lanes.task(*id) {
                let kind = FailureKind::Cancelled { reason: reason.to_owned() };
                self.stop_task(task, kind, out);
            }
        }
    }

    /// A task that waits fails at once; one that is with a worker is stopped there, and fails when
    /// the worker says that it has. One that has ended stays as it is.
    pub(crate) fn stop_task(&mut self, task: TaskIdx, kind: FailureKind, out: &mut Vec<Action>) {
        match self.tasks[task].state {
            State::Waiting { .. } | State::Ready => self.fail(task, kind),
            State::Done | State::Failed(_) => {}
            State::Assigned { worker, .. } => {
                if self.tasks[task].flags.has(Flags::STOPPING) {
                    return;
                }
                self.tasks[task].flags.set(Flags::STOPPING);
                self.stops.insert(task, kind.clone());
                let attempt = self.tasks[task].attempts - 1;
                let tasks = vec![(self.task_id(task), attempt, kind)];
                let worker = self.workers[worker].id;
                out.push(Action::ToWorker { worker, message: ToWorker::Cancel { tasks } });
            }
        }
    }

    pub(crate) fn on_tick(&mut self, out: &mut Vec<Action>) {
        while let Some(Reverse((time, mark))) = self.deadlines.peek().copied() {
            if time > self.now {
                break;
            }
            self.deadlines.pop();
            if let Some(task) = self.marked(mark) {
                self.stop_task(task, FailureKind::Deadline, out);
            }
        }
        self.on_rested();
        self.on_drains_due();
        self.tell_progress(out);
    }
}
