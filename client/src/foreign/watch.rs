//! Objects in the order in which they come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::object::Object;
use crate::error::Error;
use crate::session::{Key, Session};

/// Tells of objects in the order in which they come. Can be used from any thread.
pub struct Watch {
    session: Arc<Session>,
    waiter: u32,
    /// What was added, and has not been told of: the tokens of each.
    watched: Mutex<FxHashMap<Key, Vec<u64>>>,
    next: AtomicU64,
    /// The number of its waiter may be another's by now.
    closed: AtomicBool,
}

impl Watch {
    pub(super) fn new(session: Arc<Session>) -> Watch {
        let waiter = session.watch_order(&[]);
        Watch {
            session,
            waiter,
            watched: Mutex::default(),
            next: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, FxHashMap<Key, Vec<u64>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an object, which [`Watch::next`] tells of by the token that this gives. Somebody must
    /// refer to it until then.
    pub fn add(&self, object: &Object) -> u64 {
        let (key, token) = (object.key(), self.next.fetch_add(1, Ordering::Relaxed));
        let is_new = {
            let mut watched = self.watched();
            let tokens = watched.entry(key).or_default();
            tokens.push(token);
            tokens.len() == 1
        };
        if is_new && !self.closed.load(Ordering::Acquire) {
            self.session.watch_also(self.waiter, key);
        }
        token
    }

    /// How many were added and have not been told of.
    pub fn pending(&self) -> usize {
        self.watched().values().map(Vec::len).sum()
    }

    /// What has come since the last call, in order. Waits for the first, not longer than until the
    /// deadline; then, and after [`Watch::close`], there is nothing. Fails when the session is over.
    pub fn next(&self, deadline: Option<Instant>) -> Result<Vec<u64>, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let pending = || self.watched().keys().copied().collect();
        let came = self.session.next_done(self.waiter, &pending, deadline)?;
        let mut watched = self.watched();
        Ok(came.into_iter().filter_map(|key| watched.remove(&key)).flatten().collect())
    }

    /// Ends it: whoever waits is woken.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let keys: Vec<Key> = self.watched().drain().map(|(key, _)| key).collect();
        self.session.end_watch(self.waiter, &keys);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.close();
    }
}
