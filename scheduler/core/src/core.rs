//! The state machine's entry points.

use manyhands_proto::Time;

use crate::{Action, Config, Event};

/// The scheduler, without clock, sockets or chance.
pub struct Core {
    config: Config,
}

impl Core {
    /// A core with no jobs, clients or workers.
    pub fn new(config: Config) -> Core {
        Core { config }
    }

    /// Takes in an event: changes the state and answers. Placement follows in [`Core::round`].
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        let _ = (now, event, out, self.config.seed);
    }

    /// Places what is ready, in batches by worker, and sends what was gathered meanwhile. The shell
    /// calls it once per turn, after the events; it costs nothing when nothing has changed.
    pub fn round(&mut self, now: Time, out: &mut Vec<Action>) {
        let _ = (now, out);
    }

    /// When the shell shall deliver [`Event::Tick`] next.
    pub fn next_tick(&self) -> Option<Time> {
        None
    }

    /// Panics on a broken invariant. Takes time in proportion to everything there is: for tests and
    /// the simulator.
    pub fn sanity_check(&self) {}
}
