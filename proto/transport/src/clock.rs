//! Where time comes from.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use manyhands_proto::Time;

/// A monotonic clock that starts with its daemon, and knows when that was.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    start_unix_us: u64,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { start: Instant::now(), start_unix_us: unix.as_micros() as u64 }
    }

    /// Microseconds since the start.
    pub fn now(&self) -> Time {
        Time(self.start.elapsed().as_micros() as u64)
    }

    /// Unix time of [`Time`] 0, in microseconds.
    pub fn unix_offset_us(&self) -> u64 {
        self.start_unix_us
    }
}
