//! Objects in the order in which they come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::object::Object;
use crate::error::Error;
use crate::session::{Key, Order, Session};

/// Tells of objects in the order in which they come. Can be used from any thread.
pub struct Watch {
    session: Arc<Session>,
    order: Order,
    /// What was added, and has not been told of: the tokens of each.
    watched: Mutex<FxHashMap<Key, Vec<u64>>>,
    next: AtomicU64,
}

impl Watch {
    pub(super) fn new(session: Arc<Session>) -> Watch {
        let order = session.watch_order();
        Watch { session, order, watched: Mutex::default(), next: AtomicU64::new(0) }
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
        if is_new {
            self.session.watch_also(&self.order, key);
        }
        token
    }

    /// What has come since the last call, in order. Waits for the first, not longer than until the
    /// deadline; then, and after [`Watch::close`], there is nothing. Fails when the session is
    /// over.
    pub fn next(&self, deadline: Option<Instant>) -> Result<Vec<u64>, Error> {
        let pending = || self.watched().keys().copied().collect();
        let came = self.session.next_done(&self.order, &pending, deadline)?;
        let mut watched = self.watched();
        Ok(came.into_iter().filter_map(|key| watched.remove(&key)).flatten().collect())
    }

    /// Ends it: whoever waits is woken.
    pub fn close(&self) {
        // What is added from here on is not registered, and so need not be among these.
        if self.order.end() {
            let keys: Vec<Key> = self.watched().drain().map(|(key, _)| key).collect();
            self.session.end_order(&self.order, &keys);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.close();
    }
}
