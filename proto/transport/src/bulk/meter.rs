//! How fast bytes come, while they come.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A sample is taken when bytes have been coming for so long.
const SAMPLE: Duration = Duration::from_millis(50);
/// A shorter one counts if it had so many bytes.
const SAMPLE_BYTES: u64 = 1 << 20;
/// What a new sample weighs, in parts of 1.
const WEIGHT: f64 = 0.3;

/// A moving average over the time in which something was received.
#[derive(Debug, Default)]
pub(super) struct Meter {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    active: u32,
    since: Option<Instant>,
    bytes: u64,
    rate: f64,
    total: u64,
}

impl Meter {
    /// A chunk begins to come.
    pub(super) fn begin(&self, now: Instant) {
        let mut inner = self.lock();
        inner.active += 1;
        inner.since.get_or_insert(now);
    }

    /// A chunk has ended, of which so many bytes have come.
    pub(super) fn end(&self, bytes: u64, now: Instant) {
        let mut inner = self.lock();
        inner.active -= 1;
        inner.bytes += bytes;
        inner.total += bytes;
        let Some(since) = inner.since else { return };
        let took = now.saturating_duration_since(since);
        if took >= SAMPLE || inner.bytes >= SAMPLE_BYTES && inner.active == 0 {
            let rate = inner.bytes as f64 / took.as_secs_f64().max(1e-6);
            inner.rate = if inner.rate == 0.0 {
                rate
            } else {
                WEIGHT.mul_add(rate - inner.rate, inner.rate)
            };
            (inner.bytes, inner.since) = (0, Some(now));
        }
        if inner.active == 0 {
            (inner.bytes, inner.since) = (0, None);
        }
    }

    /// Bytes a second; 0 if nothing of a size that says something has come.
    pub(super) fn rate(&self) -> u64 {
        self.lock().rate as u64
    }

    /// Bytes that have come since the start, of chunks that have ended.
    pub(super) fn total(&self) -> u64 {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_does_not_count_and_two_at_once_add_up() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        meter.begin(at(0));
        meter.begin(at(0));
        meter.end(10 << 20, at(60));
        meter.end(10 << 20, at(100));
        let first = meter.rate();
        assert!((150 << 20..280 << 20).contains(&first), "{first}");
        meter.begin(at(60_000));
        meter.end(20 << 20, at(60_100));
        let second = meter.rate();
        assert!((150 << 20..280 << 20).contains(&second), "the pause counted: {second}");
    }

    #[test]
    fn a_few_bytes_say_nothing() {
        let (meter, now) = (Meter::default(), Instant::now());
        meter.begin(now);
        meter.end(100, now + Duration::from_millis(1));
        assert_eq!(meter.rate(), 0);
    }
}
