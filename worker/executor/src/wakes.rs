//! When a sleeping worker is woken for an end.
//!
//! Waking costs a system call, and on a busy machine the core that the next task would run on. So
//! after a very short task, with more to do, the wake-up is postponed: the end lies in the ring,
//! and the worker looks there every millisecond while the ends it saw last were short. That is
//! enough, since a wake-up is postponed only if the end right before it was short as well (so the
//! worker has seen a short end lately, or was woken for it), and since a task is timed from the end
//! before it: when nothing has come for some milliseconds, the task that runs is long, and its end
//! will wake.

use std::time::{Duration, Instant};

/// A task up to this long (microseconds) is very short.
pub const SHORT_US: u32 = 20;

/// Ends that may wait for one wake-up.
const ENDS_LIMIT: u32 = 32;

/// How long the first of them may wait.
const TIME_LIMIT: Duration = Duration::from_micros(100);

#[derive(Debug, Default)]
pub(crate) struct Wakes {
    postponed: u32,
    since: Option<Instant>,
    short: bool,
}

impl Wakes {
    /// A task is about to begin whose function ran `last_us` the last time. `true`: wake first.
    pub(crate) fn before(&self, last_us: u32) -> bool {
        self.postponed > 0 && last_us > SHORT_US
    }

    /// A task has ended at `now`, and its end is in the ring. `more`: there is another one to run.
    /// `true`: wake now.
    pub(crate) fn after(&mut self, more: bool, duration_us: u32, now: Instant) -> bool {
        let short = duration_us <= SHORT_US;
        let both_short = std::mem::replace(&mut self.short, short) && short;
        self.postponed += 1;
        let since = *self.since.get_or_insert(now);
        !more || !both_short || self.postponed >= ENDS_LIMIT || now - since > TIME_LIMIT
    }

    /// There was nothing to do for a while: the next end is the first that the worker sees again.
    pub(crate) fn idle(&mut self) {
        self.short = false;
    }

    /// The worker has been woken, or did not sleep.
    pub(crate) fn woken(&mut self) {
        self.postponed = 0;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tasks_share_a_wake_up_and_long_ones_do_not() {
        let (mut wakes, now) = (Wakes::default(), Instant::now());
        assert!(wakes.after(true, 1, now), "the end before it was not known to be short");
        wakes.woken();
        assert!(!wakes.after(true, 1, now));
        assert!(!wakes.before(1));
        assert!(wakes.before(SHORT_US + 1), "the next one may take long");
        assert!(wakes.after(true, 1, now + 2 * TIME_LIMIT), "the first one has waited long enough");
        wakes.woken();
        assert!(wakes.after(false, 1, now), "there is nothing else to do");
        wakes.woken();
        assert!(wakes.after(true, SHORT_US + 1, now));
    }

    #[test]
    fn the_first_end_after_a_pause_wakes() {
        let (mut wakes, now) = (Wakes::default(), Instant::now());
        wakes.after(true, 1, now);
        wakes.woken();
        wakes.idle();
        assert!(wakes.after(true, 1, now), "the worker does not look by itself any more");
    }

    #[test]
    fn no_more_than_a_batch_waits() {
        let (mut wakes, now) = (Wakes::default(), Instant::now());
        wakes.after(true, 1, now);
        wakes.woken();
        let woken = (1..).find(|_| wakes.after(true, 1, now));
        assert_eq!(woken, Some(ENDS_LIMIT));
    }
}
