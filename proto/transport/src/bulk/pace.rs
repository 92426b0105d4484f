//! No more bytes a second than are allowed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets bytes pass at a rate.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<u64>,
    /// When the next ones may pass.
    next: Mutex<Instant>,
}

impl Pace {
    /// `None`: without limit.
    pub(super) fn new(per_second: Option<u64>) -> Pace {
        Pace { per_second, next: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may pass.
    pub(super) async fn pass(&self, bytes: usize) {
        let Some(per_second) = self.per_second else { return };
        let at = self.reserve(bytes, per_second, Instant::now());
        tokio::time::sleep_until(at.into()).await;
    }

    fn reserve(&self, bytes: usize, per_second: u64, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now);
        *next = at + Duration::from_secs_f64(bytes as f64 / per_second.max(1) as f64);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_early_waits_and_silence_is_not_saved_up() {
        let (pace, start) = (Pace::new(Some(1000)), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        *pace.next.lock().unwrap() = start;
        assert_eq!(pace.reserve(100, 1000, at(0)), at(0));
        assert_eq!(pace.reserve(100, 1000, at(0)), at(100));
        assert_eq!(pace.reserve(100, 1000, at(5000)), at(5000));
        assert_eq!(pace.reserve(100, 1000, at(5000)), at(5100));
    }
}
