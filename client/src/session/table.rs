//! What a session knows of the objects it has handles to: a dense table by sequence number.
//!
//! A client that holds a million handles pays 24 bytes for each here, and nothing for the inner
//! nodes of its graphs. Pages come with the first handle in their range and go with the last.

use std::collections::VecDeque;

use manyhands_proto::client::Outcome;
use manyhands_proto::value::{Codec, Value};
use rustc_hash::FxHashMap;

const PAGE: u64 = 512;

/// Values up to this size (bytes) lie in their slot; larger ones are boxed.
pub(crate) const SMALL: usize = 13;

/// One object that somebody has a handle to.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) state: State,
    /// Handles to it in this process, and [`UNTIL_END`]. A slot with neither is vacant.
    pub(crate) handles: u32,
    /// Who waits for it: 0 for nobody, a waiter's number, or [`MANY`].
    pub(crate) waiter: u32,
}

/// The [`Slot::waiter`] of an object that several wait for.
pub(crate) const MANY: u32 = u32::MAX;

/// Among the [`Slot::handles`] of an object whose task is to end even if nobody has a handle any
/// more: the session's own share, until then.
pub(crate) const UNTIL_END: u32 = 1 << 31;

/// What is known of an object.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// Not that it is there.
    #[default]
    Pending,
    /// As before, and the scheduler will tell.
    Wanted,
    /// Its value, very small.
    Small { codec: Codec, len: u8, bytes: [u8; SMALL] },
    /// Its value, where it is, or why there is none.
    Known(Box<Outcome>),
}

impl State {
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, State::Small { .. } | State::Known(_))
    }
}

impl From<Outcome> for State {
    fn from(outcome: Outcome) -> State {
        match &outcome {
            Outcome::Value(Value { codec, bytes: value }) if value.len() <= SMALL => {
                let mut bytes = [0; SMALL];
                bytes[..value.len()].copy_from_slice(value);
                State::Small { codec: *codec, len: value.len() as u8, bytes }
            }
            _ => State::Known(Box::new(outcome)),
        }
    }
}

struct Page {
    live: u32,
    slots: [Slot; PAGE as usize],
}

/// The slots of one job's objects, by sequence number and index.
#[derive(Default)]
pub(crate) struct Table {
    /// Number of the first page.
    first: u64,
    pages: VecDeque<Option<Box<Page>>>,
    /// Slots of a task's second and further objects.
    further: FxHashMap<(u64, u32), Slot>,
}

impl Table {
    /// The slot of an object, if somebody has a handle to it.
    pub(crate) fn get(&mut self, seq: u64, index: u32) -> Option<&mut Slot> {
        if index > 0 {
            return self.further.get_mut(&(seq, index));
        }
        let page = (seq / PAGE).checked_sub(self.first)?;
        let page = self.pages.get_mut(page as usize)?.as_mut()?;
        let slot = &mut page.slots[(seq % PAGE) as usize];
        (slot.handles > 0).then_some(slot)
    }

    /// One more handle to an object; a vacant slot takes `state`. True if it was vacant.
    pub(crate) fn retain(&mut self, seq: u64, index: u32, state: State) -> bool {
        if let Some(slot) = self.get(seq, index) {
            slot.handles += 1;
            return false;
        }
        let slot = Slot { state, handles: 1, waiter: 0 };
        if index > 0 {
            self.further.insert((seq, index), slot);
        } else {
            let page = self.page(seq / PAGE);
            page.live += 1;
            page.slots[(seq % PAGE) as usize] = slot;
        }
        true
    }

    /// One handle less to an object, or, with [`UNTIL_END`] for a share, the session's own; hands
    /// out its state if nobody has a share any more.
    pub(crate) fn release(&mut self, seq: u64, index: u32, share: u32) -> Option<State> {
        let slot = self.get(seq, index)?;
        slot.handles = slot.handles.saturating_sub(share);
        if slot.handles > 0 {
            return None;
        }
        let slot = std::mem::take(slot);
        if index > 0 {
            self.further.remove(&(seq, index));
        } else {
            self.vacate(seq / PAGE);
        }
        Some(slot.state)
    }

    /// Objects whose tasks are not known to have ended.
    pub(crate) fn unended(&self) -> Vec<(u64, u32)> {
        let mut unended = Vec::new();
        let is_open = |slot: &Slot| slot.handles > 0 && !slot.state.is_done();
        for (page, number) in self.pages.iter().zip(self.first..) {
            let slots = page.iter().flat_map(|page| page.slots.iter().enumerate());
            let open = slots.filter(|(_, slot)| is_open(slot));
            unended.extend(open.map(|(place, _)| (number * PAGE + place as u64, 0)));
        }
        let further = self.further.iter().filter(|(_, slot)| is_open(slot));
        unended.extend(further.map(|(key, _)| *key));
        unended
    }

    /// Nobody has a handle to anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.further.is_empty()
    }

    /// The page with this number, made if there is none.
    fn page(&mut self, number: u64) -> &mut Page {
        if self.pages.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.pages.push_front(None);
            self.first -= 1;
        }
        let place = (number - self.first) as usize;
        if place >= self.pages.len() {
            self.pages.resize_with(place + 1, || None);
        }
        self.pages[place].get_or_insert_with(|| {
            Box::new(Page { live: 0, slots: std::array::from_fn(|_| Slot::default()) })
        })
    }

    fn vacate(&mut self, number: u64) {
        let place = (number - self.first) as usize;
        let Some(page) = self.pages[place].as_mut() else { return };
        page.live -= 1;
        if page.live > 0 {
            return;
        }
        self.pages[place] = None;
        while let Some(None) = self.pages.front() {
            self.pages.pop_front();
            self.first += 1;
        }
        while let Some(None) = self.pages.back() {
            self.pages.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Slot>(), 24);
    }

    #[test]
    fn pages_go_with_their_last_handle() {
        let mut table = Table::default();
        for seq in [5, PAGE * 3, PAGE * 9 + 1] {
            assert!(table.retain(seq, 0, State::Pending));
        }
        assert!(!table.retain(5, 0, State::Pending), "a second handle to the same object");
        assert!(table.release(5, 0, 1).is_none());
        assert_eq!(table.pages.len(), 10);
        assert!(table.release(5, 0, 1).is_some());
        assert_eq!((table.first, table.pages.len()), (3, 7));
        assert!(table.release(PAGE * 9 + 1, 0, 1).is_some());
        assert_eq!(table.pages.len(), 1);
        assert!(table.get(5, 0).is_none() && table.get(PAGE * 3, 0).is_some());
        assert!(table.retain(1, 0, State::Pending), "before the first page");
        assert!(table.get(1, 0).is_some() && table.get(PAGE * 3, 0).is_some());
    }

    #[test]
    fn several_objects_of_a_task_are_told_apart() {
        let mut table = Table::default();
        assert!(table.retain(7, 0, State::Pending));
        assert!(table.retain(7, 1, State::Wanted));
        assert!(table.release(7, 0, 1).is_some());
        assert!(table.get(7, 0).is_none() && table.get(7, 1).is_some());
        assert!(table.release(7, 1, 1).is_some());
        assert!(table.release(7, 1, 1).is_none(), "once more is harmless");
    }

    #[test]
    fn small_values_lie_in_their_slot() {
        let value = |n: usize| {
            Outcome::Value(Value { codec: Codec::MSGPACK, bytes: Bytes::from(vec![1; n]) })
        };
        assert!(matches!(State::from(value(SMALL)), State::Small { len: 13, .. }));
        assert!(matches!(State::from(value(SMALL + 1)), State::Known(_)));
    }
}
