//! A task for each item of an iterator, with a bounded number of them under way.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::client::Client;
use crate::error::Error;
use crate::handle::Handle;
use crate::lazy::Lazy;
use crate::session::{Key, Order};
use crate::value::Data;

/// Tasks under way at one time, unless [`Map::window`] says otherwise.
const WINDOW: usize = 1024;

/// Results in the order of the items: see [`Client::map`].
pub struct Map<I, F, T> {
    client: Client,
    items: I,
    call: F,
    window: usize,
    pending: VecDeque<Result<Handle<T>, Error>>,
}

impl<I: Iterator, T: Data, F: FnMut(I::Item) -> Lazy<T>> Map<I, F, T> {
    pub(crate) fn new(client: Client, items: I, call: F) -> Map<I, F, T> {
        Map { client, items, call, window: WINDOW, pending: VecDeque::new() }
    }

    /// At most so many tasks are under way at one time. 1,024 unless set; at least 1.
    pub fn window(mut self, tasks: usize) -> Self {
        self.window = tasks.max(1);
        self
    }

    /// Results as they come, each with the place of its item.
    pub fn as_completed(self) -> AsCompleted<I, F, T> {
        let order = self.client.session.watch_order();
        AsCompleted {
            map: self,
            order,
            next: 0,
            under_way: FxHashMap::default(),
            came: VecDeque::new(),
        }
    }

    fn submit_next(&mut self) -> Option<Result<Handle<T>, Error>> {
        let item = self.items.next()?;
        Some(self.client.submit((self.call)(item)))
    }
}

impl<I: Iterator, T: Data, F: FnMut(I::Item) -> Lazy<T>> Iterator for Map<I, F, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Result<T, Error>> {
        while self.pending.len() < self.window {
            let Some(submitted) = self.submit_next() else { break };
            self.pending.push_back(submitted);
        }
        let next = self.pending.pop_front()?;
        Some(next.and_then(|handle| handle.get()))
    }
}

/// Results as they come: see [`Map::as_completed`].
pub struct AsCompleted<I, F, T> {
    map: Map<I, F, T>,
    order: Order,
    /// Place of the next item.
    next: usize,
    under_way: FxHashMap<Key, (usize, Handle<T>)>,
    came: VecDeque<(usize, Result<T, Error>)>,
}

impl<I: Iterator, T: Data, F: FnMut(I::Item) -> Lazy<T>> AsCompleted<I, F, T> {
    fn fill(&mut self) {
        while self.under_way.len() + self.came.len() < self.map.window {
            let Some(submitted) = self.map.submit_next() else { return };
            let place = self.next;
            self.next += 1;
            match submitted {
                Ok(handle) => {
                    let key = handle.reference.key;
                    self.under_way.insert(key, (place, handle));
                    self.map.client.session.watch_also(&self.order, key);
                }
                Err(error) => self.came.push_back((place, Err(error))),
            }
        }
    }
}

impl<I: Iterator, T: Data, F: FnMut(I::Item) -> Lazy<T>> Iterator for AsCompleted<I, F, T> {
    type Item = (usize, Result<T, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        if self.came.is_empty() && !self.under_way.is_empty() {
            let pending = || self.under_way.keys().copied().collect();
            match self.map.client.session.next_done(&self.order, &pending, None) {
                Ok(keys) => {
                    let known = keys.iter().filter_map(|key| self.under_way.remove(key));
                    self.came.extend(known.map(|(place, handle)| (place, handle.get())));
                }
                // None of them will come any more.
                Err(error) => {
                    let lost = self.under_way.drain().map(|(_, (place, _))| place);
                    self.came.extend(lost.map(|place| (place, Err(error.clone()))));
                }
            }
        }
        self.came.pop_front()
    }
}

impl<I, F, T> Drop for AsCompleted<I, F, T> {
    fn drop(&mut self) {
        self.order.end();
        let keys: Vec<Key> = self.under_way.keys().copied().collect();
        self.map.client.session.end_order(&self.order, &keys);
    }
}
