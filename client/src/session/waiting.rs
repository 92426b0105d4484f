//! Who waits for what.
//!
//! Whoever waits registers once for all that it waits for, and is woken once: when as much has come
//! as it needs. An object that nobody waits for wakes nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::thread::Thread;
use std::time::Instant;

use manyhands_proto::ObjectId;
use rustc_hash::FxHashMap;

use super::Session;
use super::state::{Key, State};
use super::table::MANY;
use crate::error::Error;

/// Wakes one thread.
pub(crate) struct Signal {
    set: AtomicBool,
    thread: Thread,
}

impl Signal {
    /// Wakes the thread that calls this.
    pub(crate) fn here() -> Arc<Signal> {
        Arc::new(Signal { set: AtomicBool::new(false), thread: std::thread::current() })
    }

    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        self.thread.unpark();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(crate) fn clear(&self) {
        self.set.store(false, Ordering::Release);
    }
}

/// What happens when enough has come.
pub(super) enum Wake {
    Thread(Arc<Signal>),
    Future(Waker),
}

impl Wake {
    pub(super) fn wake(self) {
        match self {
            Wake::Thread(signal) => signal.set(),
            Wake::Future(waker) => waker.wake(),
        }
    }
}

struct Waiter {
    /// Objects that have to come before it is woken.
    missing: usize,
    wake: Option<Wake>,
    /// What has come, for those who ask in which order.
    came: Option<Vec<Key>>,
}

/// Objects in the order in which they come, for whoever asks again and again.
pub(crate) struct Order {
    number: u32,
    /// The number may be another's by now. Looked at under the session's lock, and set before that
    /// is taken for the end.
    ended: AtomicBool,
}

impl Order {
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// From now on nothing is noted. Whether it was not so before: whoever is told so has to
    /// [`Session::end_order`].
    pub(crate) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }
}

/// All who wait, by number (from 1).
#[derive(Default)]
pub(super) struct Waiters {
    all: Vec<Option<Waiter>>,
    free: Vec<u32>,
    /// The waiters of objects that several wait for ([`MANY`]).
    many: FxHashMap<Key, Vec<u32>>,
}

impl Waiters {
    fn add(&mut self, waiter: Waiter) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.all.push(None);
            self.all.len() as u32 - 1
        });
        self.all[place as usize] = Some(waiter);
        place + 1
    }

    fn get(&mut self, number: u32) -> Option<&mut Waiter> {
        self.all.get_mut((number as usize).checked_sub(1)?)?.as_mut()
    }

    fn remove(&mut self, number: u32) -> Option<Waiter> {
        let waiter = self.all.get_mut((number as usize).checked_sub(1)?)?.take();
        if waiter.is_some() {
            self.free.push(number - 1);
        }
        waiter
    }

    /// How many objects a waiter still has to wait for.
    pub(super) fn missing(&mut self, number: u32) -> usize {
        self.get(number).map_or(0, |waiter| waiter.missing)
    }

    /// An object has come: whom to wake of those who wait for it.
    pub(super) fn on_done(&mut self, key: Key, waiter: u32, woken: &mut Vec<Wake>) {
        if waiter == MANY {
            for number in self.many.remove(&key).unwrap_or_default() {
                self.count(key, number, woken);
            }
        } else if waiter > 0 {
            self.count(key, waiter, woken);
        }
    }

    fn count(&mut self, key: Key, number: u32, woken: &mut Vec<Wake>) {
        let Some(waiter) = self.get(number) else { return };
        if let Some(came) = &mut waiter.came {
            came.push(key);
        }
        waiter.missing = waiter.missing.saturating_sub(1);
        if waiter.missing == 0 {
            woken.extend(waiter.wake.take());
        }
    }

    /// Everybody: the session is over, or somebody's message was refused.
    pub(super) fn take_all(&mut self, woken: &mut Vec<Wake>) {
        woken.extend(self.all.iter_mut().flatten().filter_map(|waiter| waiter.wake.take()));
    }
}

impl State {
    /// Adds a waiter to an object that has not come. False if it has.
    fn wait_on(&mut self, key: Key, number: u32) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        if slot.state.is_done() {
            return false;
        }
        match slot.waiter {
            0 => slot.waiter = number,
            MANY => self.waiters.many.entry(key).or_default().push(number),
            other => {
                slot.waiter = MANY;
                self.waiters.many.insert(key, vec![other, number]);
            }
        }
        true
    }

    fn stop_waiting_on(&mut self, key: Key, number: u32) {
        let Some(slot) = self.slot(key) else { return };
        if slot.waiter == number {
            slot.waiter = 0;
        } else if slot.waiter == MANY
            && let Some(many) = self.waiters.many.get_mut(&key)
        {
            many.retain(|other| *other != number);
        }
    }

    fn missing(&mut self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| !self.is_done(**key)).count()
    }

    pub(super) fn is_done(&mut self, key: Key) -> bool {
        self.slot(key).is_none_or(|slot| slot.state.is_done())
    }

    /// Fails if the session is over, or was just refused something.
    pub(super) fn check_waiting(&mut self) -> Result<(), Error> {
        self.check_open()?;
        match self.refused.take() {
            Some(message) => Err(Error::Refused { message }),
            None => Ok(()),
        }
    }

    /// Registers a waiter for `need` of these, none of which need have come.
    fn register(&mut self, keys: &[Key], need: usize, wake: Wake, order: bool) -> u32 {
        let came = order.then(Vec::new);
        let number = self.waiters.add(Waiter { missing: need, wake: Some(wake), came });
        for &key in keys {
            self.wait_on(key, number);
        }
        number
    }

    /// Takes a waiter away; whom to wake of it.
    fn end_waiter(&mut self, keys: &[Key], number: u32) -> Option<Wake> {
        for &key in keys {
            self.stop_waiting_on(key, number);
        }
        self.waiters.remove(number).and_then(|waiter| waiter.wake)
    }

    fn unregister(&mut self, keys: &[Key], number: u32) -> Vec<Key> {
        for &key in keys {
            self.stop_waiting_on(key, number);
        }
        self.waiters.remove(number).and_then(|waiter| waiter.came).unwrap_or_default()
    }
}

impl Session {
    /// Waits until at least `need` of these have come, or `deadline` has passed; how many have.
    pub(crate) fn wait(
        &self,
        keys: &[Key],
        need: usize,
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let need = need.min(keys.len());
        let signal = Signal::here();
        let mut state = self.lock();
        state.want(keys);
        let done = keys.len() - state.missing(keys);
        if done >= need {
            return Ok(done);
        }
        state.check_waiting()?;
        let number = state.register(keys, need - done, Wake::Thread(signal.clone()), false);
        self.poke_if_mail(state);
        let blocked = self.block(keys, &signal, deadline);
        let mut state = self.lock();
        state.unregister(keys, number);
        let done = keys.len() - state.missing(keys);
        if done < need {
            state.check_waiting()?;
            blocked?;
        }
        Ok(done)
    }

    pub(super) fn poke_if_mail(&self, state: std::sync::MutexGuard<'_, State>) {
        if state.has_mail() {
            self.poke(state);
        }
    }

    /// Blocks this thread until the signal, without the lock.
    pub(super) fn block(
        &self,
        keys: &[Key],
        signal: &Signal,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let waits_for = || -> Vec<ObjectId> {
            let mut state = self.lock();
            let missing: Vec<Key> = keys.iter().copied().filter(|k| !state.is_done(*k)).collect();
            missing.into_iter().map(|key| state.object(key)).collect()
        };
        let blocked = self.connection.block(&waits_for, &|| signal.is_set(), deadline);
        blocked.map_err(|reason| Error::Closed { reason: reason.into() })
    }

    /// For a future: true if the object has come (or never will, since the session is over), else
    /// it is woken when it does.
    pub(crate) fn poll_done(&self, key: Key, number: &mut Option<u32>, waker: &Waker) -> bool {
        let mut state = self.lock();
        if let Some(old) = number.take() {
            state.unregister(&[key], old);
        }
        if state.is_done(key) || state.closed.is_some() {
            return true;
        }
        state.want(&[key]);
        *number = Some(state.register(&[key], 1, Wake::Future(waker.clone()), false));
        self.poke_if_mail(state);
        false
    }

    pub(crate) fn forget_waiter(&self, number: u32, keys: &[Key]) {
        self.lock().unregister(keys, number);
    }

    /// Sets the signal when all of these have come.
    pub(super) fn watch_all(&self, keys: &[Key], signal: Arc<Signal>) -> u32 {
        let mut state = self.lock();
        state.want(keys);
        let missing = state.missing(keys);
        let number = state.register(keys, missing, Wake::Thread(signal), false);
        self.poke_if_mail(state);
        number
    }

    /// Starts to note the order in which objects come.
    pub(crate) fn watch_order(&self) -> Order {
        let number = self.lock().register(&[], usize::MAX, Wake::Thread(Signal::here()), true);
        Order { number, ended: AtomicBool::new(false) }
    }

    /// One more object whose coming is noted, unless the order has ended.
    pub(crate) fn watch_also(&self, order: &Order, key: Key) {
        let mut state = self.lock();
        if order.is_ended() {
            return;
        }
        state.want(&[key]);
        let mut woken = Vec::new();
        if !state.wait_on(key, order.number) {
            state.waiters.count(key, order.number, &mut woken);
        }
        self.poke_if_mail(state);
        woken.into_iter().for_each(Wake::wake);
    }

    /// Takes an order away that [`Order::end`] has ended: whoever waits for it is woken and gets
    /// nothing. `keys` are all that have not come of it.
    pub(crate) fn end_order(&self, order: &Order, keys: &[Key]) {
        let woken = self.lock().end_waiter(keys, order.number);
        if let Some(wake) = woken {
            wake.wake();
        }
    }

    /// What has come since the last call; waits for the first if nothing has, not longer than until
    /// the deadline; nothing once the order has ended. `pending` are those that may still come.
    pub(crate) fn next_done(
        &self,
        order: &Order,
        pending: &dyn Fn() -> Vec<Key>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Key>, Error> {
        loop {
            let signal = Signal::here();
            let mut state = self.lock();
            if order.is_ended() {
                return Ok(Vec::new());
            }
            let Some(waiter) = state.waiters.get(order.number) else { return Ok(Vec::new()) };
            let came = waiter.came.replace(Vec::new()).unwrap_or_default();
            if !came.is_empty() || deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok(came);
            }
            waiter.missing = 1;
            waiter.wake = Some(Wake::Thread(signal.clone()));
            state.check_waiting()?;
            self.poke_if_mail(state);
            // Only a task says what it waits for.
            let keys = if self.is_pumped() { pending() } else { Vec::new() };
            self.block(&keys, &signal, deadline)?;
        }
    }
}
