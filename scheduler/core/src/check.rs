//! The invariants.

use crate::core::Core;

impl Core {
    /// Panics on a broken invariant. Takes time in proportion to everything there is: for tests and
    /// the simulator.
    pub fn sanity_check(&self) {}
}
