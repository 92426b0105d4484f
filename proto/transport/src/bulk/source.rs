//! Somebody who may have an object: how the requests to it ended, and when it may be asked again.

use std::time::{Duration, Instant};

use manyhands_proto::WorkerId;

use super::error::SourceError;

/// How long a source that could not be reached is left alone: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a source that said "later" is left alone: at first, and at most.
const LATER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// With a chunk.
    Got,
    /// The chunk that was offered is coming from elsewhere.
    Declined,
    /// Not now.
    Later {
        /// It has all, and is busy.
        whole: bool,
    },
    /// It has none of it.
    Refused(String),
    /// It sent what cannot be.
    Corrupt(String),
    /// No connection, or it broke, or nothing came for too long.
    Unreachable(String),
}

/// Somebody who may have the object, or some of it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) worker: WorkerId,
    /// The caller named it: it should have all. Others were named by sources.
    pub(super) named: bool,
    /// On the same machine.
    pub(super) near: bool,
    /// It said so.
    pub(super) whole: Option<bool>,
    pub(super) asks: usize,
    pub(super) retry_at: Instant,
    pub(super) backoff: Duration,
    /// The first failure after the last success, and the last words.
    pub(super) unreachable: Option<(Instant, String)>,
    pub(super) ended: Option<SourceError>,
}

impl Source {
    pub(super) fn new(worker: WorkerId, named: bool, near: bool, now: Instant) -> Source {
        Source {
            worker,
            named,
            near,
            whole: named.then_some(true),
            asks: 0,
            retry_at: now,
            backoff: Duration::ZERO,
            unreachable: None,
            ended: None,
        }
    }

    /// Takes in how a request to it ended; says whether that gives reason to hope.
    pub(super) fn note(&mut self, how: Asked, now: Instant) -> bool {
        match how {
            Asked::Got | Asked::Declined => {
                (self.backoff, self.unreachable) = (Duration::ZERO, None);
                self.retry_at = now;
                how == Asked::Got
            }
            Asked::Later { whole } => {
                self.whole = Some(whole);
                self.unreachable = None;
                self.back_off(LATER, now);
                whole
            }
            Asked::Refused(message) => {
                self.ended.get_or_insert(SourceError::Refused(message));
                false
            }
            Asked::Corrupt(message) => {
                self.ended.get_or_insert(SourceError::Corrupt(message));
                false
            }
            Asked::Unreachable(message) => {
                let since = self.unreachable.take().map_or(now, |(since, _)| since);
                if !self.named {
                    let error = SourceError::Unreachable { since: Duration::ZERO, message };
                    self.ended.get_or_insert(error);
                    return false;
                }
                self.unreachable = Some((since, message));
                self.back_off(RETRY, now);
                false
            }
        }
    }

    fn back_off(&mut self, (first, most): (Duration, Duration), now: Instant) {
        // Of several requests that end together only the first one counts.
        if self.retry_at <= now {
            self.backoff = (self.backoff * 2).clamp(first, most);
            self.retry_at = now + self.backoff;
        }
    }

    /// Nothing speaks against it.
    pub(super) fn is_well(&self) -> bool {
        self.ended.is_none() && self.unreachable.is_none()
    }

    /// Why it gives nothing, of a fetch to which nothing has come for `silent`.
    pub(super) fn reason(&self, now: Instant, silent: Duration) -> SourceError {
        match (&self.ended, &self.unreachable) {
            (Some(error), _) => error.clone(),
            (None, Some((since, message))) => SourceError::Unreachable {
                since: now.saturating_duration_since(*since),
                message: message.clone(),
            },
            (None, None) => SourceError::Silent(silent),
        }
    }
}
