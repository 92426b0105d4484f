//! Stopping attempts: cancelled ones, those past their time or deadline, those that use too much
//! memory. First an interrupt, then, after the grace, the end of the process.

use manyhands_proto::task::FailureKind;
use manyhands_proto::{TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State, Stop, Taking};
use crate::core::Core;
use crate::event::ExecutorId;
use crate::executors::Phase;

impl Core {
    pub(crate) fn on_cancel(
        &mut self,
        now: Time,
        tasks: Vec<(TaskId, u32, FailureKind)>,
        out: &mut Vec<Action>,
    ) {
        for (task, attempt, failure) in tasks {
            if let Some(ix) = self.attempts.find(task, attempt) {
                self.stop(now, ix, failure, out);
            }
        }
    }

    /// Stops an attempt, wherever it is. Whatever its executor says from now on, it ends with
    /// `failure`.
    fn stop(&mut self, now: Time, ix: AttemptIx, failure: FailureKind, out: &mut Vec<Action>) {
        if self.attempts[ix].stop().is_some() {
            return;
        }
        if self.attempts[ix].executor().is_none() {
            return self.fail_here(ix, failure);
        }
        let stop = Stop { failure, kill_at: None, interrupted: false };
        self.attempts[ix].rare().stop = Some(stop);
        self.arm(ix);
        match self.attempts[ix].state {
            State::Fed { .. } => self.take_back(ix, Taking::Requeue, out),
            _ => self.interrupt_if_running(now, ix, out),
        }
    }

    /// Interrupts an attempt that is to be stopped. One that lies under another on its stack is
    /// interrupted when it comes to the top, but its grace runs already.
    pub(crate) fn interrupt_if_running(&mut self, now: Time, ix: AttemptIx, out: &mut Vec<Action>) {
        let attempt = &mut self.attempts[ix];
        if attempt.stop().is_none() || attempt.taking.is_some() || !attempt.has_begun() {
            return;
        }
        let Some(executor) = attempt.executor() else { return };
        let (task, number) = attempt.key();
        let is_top = self.executors[&executor].top() == Some(ix);
        let kill_at = now + self.config.interrupt_grace_us;
        let Some(stop) = &mut self.attempts[ix].rare().stop else { return };
        stop.kill_at.get_or_insert(kill_at);
        let interrupt = is_top && !stop.interrupted;
        stop.interrupted |= interrupt;
        self.arm(ix);
        if interrupt {
            out.push(Action::Interrupt { executor, task, attempt: number });
            self.take_all_back(executor, out);
        }
    }

    /// The same for what has just come to the top of an executor's stack; the interrupt leaves with
    /// the next round.
    pub(crate) fn interrupt_late(&mut self, now: Time, id: ExecutorId) {
        let Some(ix) = self.executors[&id].top() else { return };
        if self.attempts[ix].rare.is_some() {
            let mut out = std::mem::take(&mut self.later);
            self.interrupt_if_running(now, ix, &mut out);
            self.later = out;
        }
    }

    /// Puts an attempt's next point in time into the table of timers.
    pub(crate) fn arm(&mut self, ix: AttemptIx) {
        let attempt = &mut self.attempts[ix];
        let limit = attempt.assignment.options.time_limit_us;
        let began = match attempt.state {
            State::Running { since, .. } | State::Blocked { since, .. } => Some(since),
            _ => None,
        };
        if attempt.rare.is_none() && limit.is_none() {
            return;
        }
        let rare = attempt.rare();
        let next = match &rare.stop {
            Some(stop) => stop.kill_at,
            None => {
                let limit = began.zip(limit).map(|(since, limit)| since + limit);
                [limit, rare.deadline].into_iter().flatten().min()
            }
        };
        let before = std::mem::replace(&mut rare.timer, next);
        if let Some(before) = before {
            self.timers.remove(&(before, ix));
        }
        if let Some(next) = next {
            self.timers.insert((next, ix));
        }
    }

    /// Acts on all timers that are due.
    pub(crate) fn run_timers(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some((at, ix)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            self.attempts[ix].rare().timer = None;
            self.time_is_up(now, ix, out);
        }
    }

    fn time_is_up(&mut self, now: Time, ix: AttemptIx, out: &mut Vec<Action>) {
        let attempt = &self.attempts[ix];
        if let Some(stop) = attempt.stop() {
            let failure = stop.failure.clone();
            if let Some(id) = attempt.executor() {
                self.kill(id, ix, failure, out);
            }
            return;
        }
        let deadline = attempt.rare.as_ref().and_then(|r| r.deadline);
        let failure = match attempt.assignment.options.time_limit_us {
            Some(limit_us) if deadline.is_none_or(|d| d > now) => {
                FailureKind::TimeLimit { limit_us }
            }
            _ => FailureKind::Deadline,
        };
        self.stop(now, ix, failure, out);
    }

    /// An executor's own memory was measured.
    pub(crate) fn on_memory_used(&mut self, id: ExecutorId, used: u64, out: &mut Vec<Action>) {
        let Some(executor) = self.executors.get(&id) else { return };
        if executor.phase != Phase::Live {
            return;
        }
        let limit =
            |ix: &AttemptIx| Some((*ix, self.attempts[*ix].assignment.options.memory_limit?));
        let limited = executor.stack.iter().rev().find_map(limit);
        if let Some((ix, limit)) = limited.filter(|(_, limit)| used > *limit) {
            let failure = match self.attempts[ix].stop() {
                Some(stop) => stop.failure.clone(),
                None => FailureKind::MemoryLimit { limit, used },
            };
            self.kill(id, ix, failure, out);
        }
    }

    pub(crate) fn is_watched(&self, stack: &[AttemptIx]) -> bool {
        stack.iter().any(|ix| self.attempts[*ix].assignment.options.memory_limit.is_some())
    }
}
