//! Microseconds, handed in by whoever owns a clock.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A point in time: microseconds since an origin that the shell chooses (the start of the daemon,
/// or 0 in the simulator). The cores compare and add times; they never ask for one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// A time that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// Microseconds from `earlier` to `self`, 0 when `earlier` is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Time {
    type Output = Time;
    fn add(self, us: u64) -> Time {
        Time(self.0.saturating_add(us))
    }
}

impl Sub<u64> for Time {
    type Output = Time;
    fn sub(self, us: u64) -> Time {
        Time(self.0.saturating_sub(us))
    }
}
