//! Why a task is where it is, in words; and how full the worker is.

use manyhands_proto::client::{Explanation, TaskState};
use manyhands_proto::words::{Bytes, Span};
use manyhands_proto::worker::{FromWorker, WorkerStatus};
use manyhands_proto::{ObjectId, TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State};
use crate::core::Core;
use crate::objects::Residence;

impl Core {
    pub(crate) fn on_explain(
        &mut self,
        now: Time,
        query: u64,
        task: TaskId,
        out: &mut Vec<Action>,
    ) {
        let explanation = match self.attempts.newest(task) {
            None => Explanation {
                state: TaskState::Unknown,
                reason: format!("{} does not have it", self.worker),
            },
            Some(ix) => self.explain(now, ix),
        };
        out.push(Action::ToScheduler(FromWorker::Explained { query, explanation }));
    }

    fn explain(&self, now: Time, ix: AttemptIx) -> Explanation {
        let attempt = &self.attempts[ix];
        let worker = self.worker;
        let pid = |id| self.executors.get(id).map_or(0, |e| e.pid);
        let (state, mut reason) = match &attempt.state {
            State::InHand | State::Queued => (TaskState::Assigned, self.why_queued(ix)),
            State::WantsMemory => (TaskState::Assigned, self.why_wants_memory(ix)),
            State::Loading { .. } => (TaskState::Assigned, self.why_loading(ix)),
            State::InPlace => {
                let target = attempt.assignment.in_place_of.unwrap_or(attempt.assignment.task);
                let reason =
                    format!("waits on {worker} to run in place of {target}, which waits for it");
                (TaskState::Assigned, reason)
            }
            State::Fed { executor } => {
                let head = self.executors[executor].stack.first();
                let head = head.map_or_else(String::new, |h| {
                    format!(" behind the running task {}", self.name(*h))
                });
                let reason = format!("fed to the executor with pid {}{head}", pid(executor));
                (TaskState::Assigned, reason)
            }
            State::Running { executor, since } => {
                let span = Span(now.since(*since));
                (TaskState::Running, format!("has run for {span}, with pid {}", pid(executor)))
            }
            State::Blocked { executor, since, waits_for, .. } => {
                let (span, what) = (Span(now.since(*since)), objects(waits_for));
                let reason = format!(
                    "has run for {span}, with pid {}; it waits for {what} and has lent its slot",
                    pid(executor)
                );
                (TaskState::Running, reason)
            }
        };
        if attempt.stop().is_some() {
            reason.push_str("; it is being stopped");
        }
        Explanation { state, reason }
    }

    fn why_queued(&self, ix: AttemptIx) -> String {
        let attempt = &self.attempts[ix];
        let worker = self.worker;
        let pool = &self.pools[attempt.pool as usize];
        let resources = &attempt.assignment.options.resources;
        if let Some(reason) = self.why_no_program(attempt.pool) {
            return reason;
        }
        if !attempt.plain && !self.room.fits(resources) {
            return format!("queued on {worker} until running tasks leave room for {resources}");
        }
        match self.ahead_of(ix) {
            0 if pool.live == 0 => format!("next on {worker}, whose executor is starting"),
            0 => format!("next on {worker}, as soon as an executor is free"),
            n => format!("queued on {worker} behind {n} others"),
        }
    }

    fn why_wants_memory(&self, ix: AttemptIx) -> String {
        let missing = self.attempts[ix].objects.iter().filter(|o| !self.objects[**o].is_resident());
        let bytes: u64 = missing.map(|o| self.objects[*o].size).sum();
        format!(
            "waits on {} for memory: its inputs need {} more, and {} of {} are used",
            self.worker,
            Bytes(bytes),
            Bytes(self.used()),
            Bytes(self.config.spec.store_limit)
        )
    }

    fn why_loading(&self, ix: AttemptIx) -> String {
        let missing = |o: &&crate::objects::ObjectIx| !self.objects[**o].is_resident();
        let Some(first) = self.attempts[ix].objects.iter().find(missing) else {
            return format!("is about to be queued on {}", self.worker);
        };
        let object = &self.objects[*first];
        let id = object.id;
        match &object.residence {
            Residence::Fetching { from: Some(from), .. } => {
                format!("waits for input {id}, which is being fetched from {from}")
            }
            Residence::Fetching { .. } => format!("waits for input {id}, which is being fetched"),
            _ => format!("waits for input {id}, which is being loaded from disk"),
        }
    }

    /// A task with its function's name, for people.
    fn name(&self, ix: AttemptIx) -> String {
        let assignment = &self.attempts[ix].assignment;
        match self.functions.get(assignment.function as usize).and_then(Option::as_ref) {
            Some(function) => format!("{} ({})", function.name, assignment.task),
            None => assignment.task.to_string(),
        }
    }

    fn status(&self) -> WorkerStatus {
        WorkerStatus {
            bandwidth: self.bandwidth,
            store_used: self.used(),
            spilled: self.objects.spilled,
            executors: self.processes(),
        }
    }

    /// Whether the scheduler's picture of this worker is off by much.
    pub(crate) fn status_changed(&self) -> bool {
        let (now, told) = (self.status(), self.told);
        let much = self.config.spec.store_limit / 20;
        now.executors != told.executors
            || now.store_used.abs_diff(told.store_used) > much
            || now.spilled.abs_diff(told.spilled) > much
            || now.bandwidth.abs_diff(told.bandwidth) > told.bandwidth / 4
    }

    /// Tells the scheduler how full the worker is, when that has changed by much, and not too often.
    pub(crate) fn tell_status(&mut self, now: Time, out: &mut Vec<Action>) {
        if now < self.next_status || !self.status_changed() {
            return;
        }
        self.told = self.status();
        self.next_status = now + self.config.status_interval_us;
        out.push(Action::ToScheduler(FromWorker::Status(self.told)));
    }
}

/// Some objects in words: the first, and how many more.
fn objects(ids: &[ObjectId]) -> String {
    match ids {
        [] => "nothing".to_owned(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}
