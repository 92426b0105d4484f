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
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.total += 1;
        if told.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            told.untold += 1;
            return;
        }
        told.last = Some(Instant::now());
        let untold = std::mem::take(&mut told.untold);
        drop(told);
        if untold == 0 {
            log::warn!("refused {from}: {why}");
        } else {
            log::warn!("refused {from}: {why} (and {untold} others since the last such line)");
        }
    }

    /// How many were refused.
    pub fn total(&self) -> u64 {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}
