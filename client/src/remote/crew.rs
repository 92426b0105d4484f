//! The workers as a client knows them, and the large values that go to them and come from them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::link::Key;
use manyhands_proto::value::ObjectMeta;
use manyhands_proto::worker::Peer;
use manyhands_transport::bulk::{Bulk, BulkConfig, Want};
use manyhands_transport::keys::Token;
use manyhands_transport::machine;

use super::wait::wait_for;

/// How long a value waits for a first worker to go to.
const NO_WORKER_PATIENCE: Duration = Duration::from_secs(30);

/// How long one worker is tried that cannot be reached, or gives nothing.
const WORKER_PATIENCE: Duration = Duration::from_secs(8);

/// All workers that the scheduler has told of.
pub(super) struct Crew {
    token: Token,
    name: String,
    /// This machine, as workers name theirs.
    host: String,
    state: Mutex<State>,
    /// A worker has joined, or the session is over.
    changed: Condvar,
    /// Which of two equal workers comes first: another one for each client.
    chance: RandomState,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<WorkerId, Known>,
    bulk: Option<Arc<Bulk>>,
    closed: Option<Arc<str>>,
}

struct Known {
    peer: Peer,
    /// Bytes that were put there.
    sent: u64,
}

impl Crew {
    pub(super) fn new(token: Token, name: &str) -> Arc<Crew> {
        Arc::new(Crew {
            token,
            name: name.to_owned(),
            host: machine::host(),
            state: Mutex::default(),
            changed: Condvar::new(),
            chance: RandomState::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Workers have come, have new addresses, or will not come back.
    pub(super) fn changed(&self, peers: Vec<Peer>, gone: &[WorkerId]) {
        let mut state = self.lock();
        for worker in gone {
            state.peers.remove(worker);
        }
        for peer in &peers {
            let known = state.peers.entry(peer.worker);
            known.or_insert_with(|| Known { peer: peer.clone(), sent: 0 }).peer = peer.clone();
        }
        if let Some(bulk) = &state.bulk {
            bulk.peers_gone(gone);
            bulk.peers(peers);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The session is over: nobody waits for workers any more.
    pub(super) fn close(&self, reason: &str) {
        self.lock().closed.get_or_insert_with(|| reason.into());
        self.changed.notify_all();
    }

    /// Why the session is over, if it is.
    pub(super) fn closed(&self) -> Option<Arc<str>> {
        self.lock().closed.clone()
    }

    /// The endpoint for large values, started now if it has not been.
    fn bulk(&self) -> Result<Arc<Bulk>, String> {
        let mut state = self.lock();
        if let Some(bulk) = &state.bulk {
            return Ok(bulk.clone());
        }
        let mut config = BulkConfig::new(None, self.token.clone(), &*self.name);
        config.host = self.host.clone();
        let bulk = Bulk::start(config, None)
            .map_err(|error| format!("no endpoint for large values can be opened: {error}"))?;
        bulk.peers(state.peers.values().map(|known| known.peer.clone()).collect());
        Ok(state.bulk.insert(Arc::new(bulk)).clone())
    }

    /// Brings an object from these workers.
    pub(super) fn read(
        &self,
        key: Key,
        size: u64,
        from: Vec<WorkerId>,
    ) -> Result<(ObjectMeta, Bytes), String> {
        // Workers are made known before they are named: those that are not known have gone, and
        // what they had has been moved, or will be made again. Whoever asks the scheduler anew is
        // told.
        let mut from = from;
        {
            let state = self.lock();
            from.retain(|worker| state.peers.contains_key(worker));
        }
        if from.is_empty() {
            return Err("the workers that had it have gone".to_owned());
        }
        let bulk = self.bulk()?;
        let want = Want { patience: WORKER_PATIENCE, ..Want::new(key, size, from) };
        wait_for(bulk.read(want)).map_err(|error| error.to_string())
    }

    /// Sends a value to a worker, which is returned: one on this machine if there is one, else the
    /// one that got least so far. If it does not take it, to the next.
    pub(super) fn put(
        &self,
        key: Key,
        meta: &ObjectMeta,
        bytes: Bytes,
    ) -> Result<WorkerId, String> {
        let bulk = self.bulk()?;
        let mut tried = Vec::new();
        let mut last = None;
        while let Some(worker) = self.choose(meta.size, &tried)? {
            let putting = bulk.put(worker, key, meta.clone(), bytes.clone(), WORKER_PATIENCE);
            match wait_for(putting) {
                Ok(()) => return Ok(worker),
                Err(error) => last = Some(error.to_string()),
            }
            tried.push(worker);
        }
        Err(last.unwrap_or_else(|| {
            format!("no worker has joined for {} s", NO_WORKER_PATIENCE.as_secs())
        }))
    }

    /// Sends the program to this worker.
    pub(super) fn put_program(
        &self,
        worker: WorkerId,
        program: u128,
        bytes: Bytes,
    ) -> Result<(), String> {
        let (codec, size) = (super::PROGRAM_CODEC, bytes.len() as u64);
        let meta = ObjectMeta { codec, size, contains: Vec::new() };
        let bulk = self.bulk()?;
        let key = Key::Program(program);
        wait_for(bulk.put(worker, key, meta, bytes, WORKER_PATIENCE)).map_err(|e| e.to_string())
    }

    /// Where to put a value of this size, besides those that were tried. Waits for the first
    /// worker.
    fn choose(&self, size: u64, tried: &[WorkerId]) -> Result<Option<WorkerId>, String> {
        let deadline = Instant::now() + NO_WORKER_PATIENCE;
        let mut state = self.lock();
        while state.peers.is_empty() && tried.is_empty() && state.closed.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(reason) = &state.closed {
            return Err(reason.to_string());
        }
        let rank = |known: &&mut Known| {
            let near = !self.host.is_empty() && known.peer.host == self.host;
            (Reverse(near), known.sent, self.chance.hash_one(known.peer.worker))
        };
        let untried = state.peers.values_mut().filter(|it| !tried.contains(&it.peer.worker));
        Ok(untried.min_by_key(rank).map(|chosen| {
            chosen.sent = chosen.sent.saturating_add(size);
            chosen.peer.worker
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_proto::frame::Role;
    use manyhands_transport::keys::ClusterSecret;

    fn crew(host: &str, workers: &[(u32, &str)]) -> Arc<Crew> {
        let crew = Crew::new(ClusterSecret::from_bytes([1; 32]).token(Role::Client), "test");
        let mut crew = Arc::into_inner(crew).unwrap();
        crew.host = host.to_owned();
        let peer = |&(id, host): &(u32, &str)| Peer {
            worker: WorkerId(id),
            addresses: Vec::new(),
            host: host.to_owned(),
        };
        crew.changed(workers.iter().map(peer).collect(), &[]);
        Arc::new(crew)
    }

    #[test]
    fn values_stay_on_this_machine_or_are_spread() {
        let near = crew("a", &[(1, "b"), (2, "a"), (3, "b")]);
        let chosen: Vec<_> = (0..3).map(|_| near.choose(10, &[]).unwrap().unwrap().0).collect();
        assert_eq!(chosen, [2, 2, 2]);
        let far = crew("z", &[(1, "b"), (2, "a"), (3, "b")]);
        let mut chosen: Vec<_> = (0..6).map(|_| far.choose(10, &[]).unwrap().unwrap().0).collect();
        chosen.sort_unstable();
        assert_eq!(chosen, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_worker_that_was_tried_or_is_gone_is_not_chosen() {
        let crew = crew("z", &[(1, "b"), (2, "a")]);
        assert_eq!(crew.choose(1, &[WorkerId(1)]).unwrap(), Some(WorkerId(2)));
        crew.changed(Vec::new(), &[WorkerId(2)]);
        assert_eq!(crew.choose(1, &[WorkerId(1)]).unwrap(), None);
        crew.close("enough");
        assert_eq!(crew.choose(1, &[]).unwrap_err(), "enough");
    }
}
