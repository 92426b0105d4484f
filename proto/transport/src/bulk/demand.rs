//! What is being asked for: who asks, what each has been given, and what was found for them.
//!
//! While several ask for one object, each is told of the others, and is given what the others have
//! not got. What was found once is kept for a moment, since the next chunk is asked for soon.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manyhands_proto::WorkerId;
use manyhands_proto::link::{Key, Wanted};
use tokio::sync::Semaphore;

use super::chunks::{Chunks, Given};
use super::shelves::Held;

/// Chunks of one object that are given away at one time: so that the first are soon complete, and
/// can be passed on.
const SERVES_PER_KEY: usize = 4;
/// How long what was found is kept after the last request for it.
const HELD_FOR: Duration = Duration::from_millis(250);
/// How long it is known who asked.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// Askers that are remembered for one object.
const ASKER_LIMIT: usize = 256;
/// Others that one asker is told of at one time.
const OTHERS_LIMIT: usize = 8;
/// Objects that are remembered.
const KEY_LIMIT: usize = 4096;

/// What is being asked for.
#[derive(Default)]
pub(super) struct Demands {
    map: Mutex<HashMap<Key, Arc<Demand>>>,
}

/// The demand for one object.
pub(super) struct Demand {
    /// Who may be given a chunk now, in the order in which they asked.
    pub(super) turns: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    askers: Vec<(WorkerId, Instant)>,
    given: Given,
    held: Option<Held>,
    used: Instant,
    told: usize,
    /// The connection of each request that is served or waits for its turn.
    places: Vec<usize>,
}

/// A request's place among those that are served or wait.
pub(super) struct Place<'a> {
    demand: &'a Demand,
    peer: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let places = &mut self.demand.lock().places;
        if let Some(at) = places.iter().position(|peer| *peer == self.peer) {
            places.swap_remove(at);
        }
    }
}

impl Demands {
    /// The demand for `key`, from now on.
    pub(super) fn of(&self, key: Key) -> Arc<Demand> {
        let mut map = self.lock();
        if map.len() >= KEY_LIMIT && !map.contains_key(&key) {
            forget_oldest(&mut map);
        }
        let demand = map.entry(key).or_insert_with(|| Arc::new(Demand::new())).clone();
        demand.lock().used = Instant::now();
        demand
    }

    /// Forgets what nobody asks for any more.
    pub(super) fn sweep(&self) {
        self.lock().retain(|_, demand| {
            let mut state = demand.lock();
            if state.used.elapsed() > HELD_FOR {
                state.held = None;
            }
            state.used.elapsed() < ASKED_FOR
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Demand>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_oldest(map: &mut HashMap<Key, Arc<Demand>>) {
    let oldest = map.iter().min_by_key(|(_, demand)| demand.lock().used).map(|(key, _)| *key);
    oldest.and_then(|key| map.remove(&key));
}

impl Demand {
    fn new() -> Demand {
        let state = State {
            askers: Vec::new(),
            given: Given::default(),
            held: None,
            used: Instant::now(),
            told: 0,
            places: Vec::new(),
        };
        let turns = Arc::new(Semaphore::new(SERVES_PER_KEY));
        Demand { turns, state: Mutex::new(state) }
    }

    /// Somebody asks; returns some of the others that do.
    pub(super) fn asked(&self, asker: Option<WorkerId>) -> Vec<WorkerId> {
        let (mut state, now) = (self.lock(), Instant::now());
        state.used = now;
        state.askers.retain(|(worker, at)| at.elapsed() < ASKED_FOR && Some(*worker) != asker);
        // Each asker hears of other ones, and the next time of those after them.
        let count = state.askers.len();
        let first = if count > OTHERS_LIMIT { state.told % count } else { 0 };
        let turned = (0..count.min(OTHERS_LIMIT)).map(|i| state.askers[(first + i) % count].0);
        let others = turned.collect();
        state.told = state.told.wrapping_add(OTHERS_LIMIT);
        if let Some(asker) = asker {
            if count >= ASKER_LIMIT {
                state.askers.remove(0);
            }
            state.askers.push((asker, now));
        }
        others
    }

    /// A place for a request on a connection. `None` for a second one while others wait as well:
    /// what has been given to them can be had from them by the time it would be served.
    pub(super) fn place(&self, peer: usize) -> Option<Place<'_>> {
        let mut state = self.lock();
        let own = state.places.iter().filter(|other| **other == peer).count();
        let all = state.places.len();
        if all >= SERVES_PER_KEY && own > 0 && own < all {
            return None;
        }
        state.places.push(peer);
        Some(Place { demand: self, peer })
    }

    pub(super) fn held(&self) -> Option<Held> {
        self.lock().held.clone()
    }

    pub(super) fn keep(&self, held: &Held) {
        let mut state = self.lock();
        (state.held, state.used) = (Some(held.clone()), Instant::now());
    }

    pub(super) fn pick(&self, chunks: Chunks, wanted: &Wanted) -> Option<u32> {
        self.lock().given.pick(chunks, wanted, |_| true)
    }

    pub(super) fn returned(&self, chunk: u32) {
        self.lock().given.returned(chunk);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
