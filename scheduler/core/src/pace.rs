//! How fast workers are: what comes to them, and what they run.

use crate::core::Core;
use crate::slab::WorkerIdx;

/// A measured bandwidth is taken to be no less than this, in bytes a second: a few small objects take
/// long for what they are.
const LEAST_BANDWIDTH: u64 = 1 << 20;

impl Core {
    /// Bytes a second that are reckoned with when something is to go to a worker.
    pub(crate) fn bandwidth_to(&self, worker: WorkerIdx) -> u64 {
        match self.workers[worker].status.bandwidth {
            0 => self.config.bandwidth.max(1),
            measured => measured.max(LEAST_BANDWIDTH),
        }
    }
}
