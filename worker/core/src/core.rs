//! The core itself: what it knows, and which handler an event goes to.

use manyhands_proto::{TaskId, Time, WorkerId};

use crate::action::Action;
use crate::config::Config;
use crate::event::{Event, ExecutorId};

/// The state machine of one worker.
#[derive(Debug)]
pub struct Core {
    worker: WorkerId,
    config: Config,
}

impl Core {
    /// A worker that has nothing yet.
    pub fn new(worker: WorkerId, config: Config) -> Core {
        Core { worker, config }
    }

    /// Something happened. What must be done at once is appended to `out`; the rest waits for
    /// [`Core::round`].
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        let _ = (now, event, out, self.worker, &self.config);
    }

    /// Acts on all that was handled since the last round: feeds executors, makes room, tells the
    /// scheduler what ended. Costs nothing when nothing has changed.
    pub fn round(&mut self, now: Time, out: &mut Vec<Action>) {
        let _ = (now, out);
    }

    /// When [`Event::Tick`] must come at the latest.
    pub fn next_tick(&self) -> Option<Time> {
        None
    }

    /// The executors whose memory the shell shall sample, to report it as [`Event::MemoryUsed`]:
    /// they run a task with a memory limit.
    pub fn watched(&self) -> impl Iterator<Item = ExecutorId> {
        std::iter::empty()
    }

    /// The attempt that an executor runs now, if any.
    pub fn running(&self, executor: ExecutorId) -> Option<(TaskId, u32)> {
        let _ = executor;
        None
    }

    /// Panics if the core's tables contradict each other.
    pub fn sanity_check(&self) {}
}
