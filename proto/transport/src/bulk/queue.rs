//! The fetches of a node: which run, which wait for their turn, and how they are found.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_proto::link::Key;

use super::FetchId;
use super::fetch::Fetch;

/// All fetches that have not ended.
pub(super) struct Fetches {
    at_once: usize,
    may_wait: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    by_id: HashMap<FetchId, Arc<Fetch>>,
    /// Those whose chunks can be given to others: of two for one object only the first.
    by_key: HashMap<Key, Arc<Fetch>>,
    waiting: VecDeque<FetchId>,
    started: HashSet<FetchId>,
    running: usize,
}

impl Fetches {
    pub(super) fn new(at_once: usize, may_wait: usize) -> Fetches {
        Fetches { at_once, may_wait, inner: Mutex::default() }
    }

    pub(super) fn next_id(&self) -> FetchId {
        let mut inner = self.lock();
        inner.next_id += 1;
        FetchId(inner.next_id)
    }

    /// Queues a fetch; an error is the number that may wait.
    pub(super) fn enter(&self, fetch: Arc<Fetch>) -> Result<(), usize> {
        let mut inner = self.lock();
        if inner.waiting.len() >= self.may_wait {
            return Err(self.may_wait);
        }
        inner.waiting.push_back(fetch.id);
        inner.by_id.insert(fetch.id, fetch);
        Ok(())
    }

    /// Those whose turn has come: they run from now on.
    pub(super) fn next(&self) -> Option<Arc<Fetch>> {
        let mut inner = self.lock();
        while inner.running < self.at_once {
            let id = inner.waiting.pop_front()?;
            // One that was cancelled in the meantime is not there any more.
            if let Some(fetch) = inner.by_id.get(&id).cloned() {
                inner.running += 1;
                inner.started.insert(id);
                inner.by_key.entry(fetch.want.key).or_insert_with(|| fetch.clone());
                return Some(fetch);
            }
        }
        None
    }

    /// Takes a fetch back whose turn has not come; says whether it was so.
    pub(super) fn withdraw(&self, fetch: &Arc<Fetch>) -> bool {
        let mut inner = self.lock();
        // Its place in the queue stays, and is passed over.
        let waits = !inner.started.contains(&fetch.id);
        waits && inner.by_id.remove(&fetch.id).is_some()
    }

    /// One that cannot do anything just now lets others have its turn.
    pub(super) fn step_aside(&self) {
        self.lock().running -= 1;
    }

    /// It goes on, however many run by now.
    pub(super) fn step_back(&self) {
        self.lock().running += 1;
    }

    /// A fetch has ended.
    pub(super) fn leave(&self, fetch: &Arc<Fetch>) {
        let mut inner = self.lock();
        inner.by_id.remove(&fetch.id);
        inner.started.remove(&fetch.id);
        let own = inner.by_key.get(&fetch.want.key).is_some_and(|other| other.id == fetch.id);
        if own {
            inner.by_key.remove(&fetch.want.key);
        }
    }

    pub(super) fn by_id(&self, id: FetchId) -> Option<Arc<Fetch>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// A fetch for an object whose turn has come.
    pub(super) fn by_key(&self, key: Key) -> Option<Arc<Fetch>> {
        self.lock().by_key.get(&key).cloned()
    }

    /// How many run, and how many wait for their turn.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.started.len(), inner.by_id.len() - inner.started.len())
    }

    pub(super) fn all(&self) -> Vec<Arc<Fetch>> {
        self.lock().by_id.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
