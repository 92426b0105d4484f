//! Strangers, in few lines of log.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line at most in this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// Logs who was refused, and why: at most one line in ten seconds, however many come.
#[derive(Debug, Default)]
pub struct Refusals {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
    total: u64,
}

impl Refusals {
    /// Somebody was refused.
    pub fn note(&self, from: SocketAddr, why: &dyn Display) {
        if let Some(line) = self.line(from, why, Instant::now()) {
            log::warn!("{line}");
        }
    }

    /// The line that is due, if one is.
    fn line(&self, from: SocketAddr, why: &dyn Display, now: Instant) -> Option<String> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.total += 1;
        if told.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            told.untold += 1;
            return None;
        }
        told.last = Some(now);
        Some(match std::mem::take(&mut told.untold) {
            0 => format!("refused {from}: {why}"),
            untold => {
                format!("refused {from}: {why} (and {untold} others since the last such line)")
            }
        })
    }

    /// How many were refused.
    pub fn total(&self) -> u64 {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_one_line_in_ten_seconds() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let from = ([127, 0, 0, 1], 7).into();
        let first = refusals.line(from, &"no key", start).unwrap();
        assert_eq!(first, "refused 127.0.0.1:7: no key");
        for _ in 0..10_000 {
            assert_eq!(refusals.line(from, &"no key", start + INTERVAL / 2), None);
        }
        let next = refusals.line(from, &"no key", start + INTERVAL).unwrap();
        assert!(next.ends_with("(and 10000 others since the last such line)"), "{next}");
        assert_eq!(refusals.total(), 10_002);
    }
}
