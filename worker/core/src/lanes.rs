//! A table by id that hashes nothing on the hot path: a client numbers its tasks without gaps, so
//! that a lane's entries lie side by side, in pages.

use std::cell::Cell;
use std::collections::VecDeque;

use manyhands_proto::{JobId, Lane, ObjectId};
use rustc_hash::FxHashMap;

const PAGE: u64 = 64;

/// Pages between the lowest and the highest entry of a lane. What lies farther off is hashed.
const SPAN_LIMIT: u64 = 1 << 16;

/// Entries by object, or by task as its object number 0.
///
/// First results of a client's tasks are found by their number. Hashed are the others: further
/// results, and what tasks submit, since most such lanes have a few entries and would waste a page.
#[derive(Debug)]
pub(crate) struct ByLane<T> {
    ids: FxHashMap<(JobId, Lane), u32>,
    lanes: Vec<Option<Pages<T>>>,
    free: Vec<u32>,
    hashed: FxHashMap<ObjectId, T>,
    /// The lane asked for last: ids come in runs of one lane.
    last: Cell<Option<(JobId, Lane, u32)>>,
    len: usize,
}

#[derive(Debug)]
struct Pages<T> {
    id: (JobId, Lane),
    first: u64,
    pages: VecDeque<Option<Box<Page<T>>>>,
    live: usize,
}

#[derive(Debug)]
struct Page<T> {
    live: u32,
    entries: [Option<T>; PAGE as usize],
}

impl<T> Default for ByLane<T> {
    fn default() -> Self {
        ByLane {
            ids: FxHashMap::default(),
            lanes: Vec::new(),
            free: Vec::new(),
            hashed: FxHashMap::default(),
            last: Cell::new(None),
            len: 0,
        }
    }
}

impl<T> ByLane<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, id: ObjectId) -> Option<&T> {
        let paged = self.lane(id).and_then(|lane| self.lanes[lane as usize].as_ref()?.get(id));
        match paged {
            None if !self.hashed.is_empty() => self.hashed.get(&id),
            paged => paged,
        }
    }

    pub(crate) fn get_mut(&mut self, id: ObjectId) -> Option<&mut T> {
        let lane = self.lane(id);
        let paged = lane.and_then(|lane| self.lanes[lane as usize].as_mut()?.get_mut(id));
        match paged {
            None if !self.hashed.is_empty() => self.hashed.get_mut(&id),
            paged => paged,
        }
    }

    /// Enters something under an id that has no entry.
    pub(crate) fn insert(&mut self, id: ObjectId, entry: T) {
        self.len += 1;
        if let Some(lane) = self.lane_or_new(id)
            && let Some(slot) = self.lanes[lane as usize].as_mut().and_then(|l| l.slot(id.task.seq))
        {
            debug_assert!(slot.is_none(), "{id} has an entry");
            *slot = Some(entry);
            return;
        }
        let known = self.hashed.insert(id, entry);
        debug_assert!(known.is_none(), "{id} has an entry");
    }

    pub(crate) fn remove(&mut self, id: ObjectId) -> Option<T> {
        let removed = match self.lane(id) {
            Some(lane) => self.remove_paged(lane, id),
            None => None,
        };
        let removed = match removed {
            None if !self.hashed.is_empty() => self.hashed.remove(&id),
            removed => removed,
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    fn remove_paged(&mut self, lane: u32, id: ObjectId) -> Option<T> {
        let pages = self.lanes[lane as usize].as_mut()?;
        let removed = pages.take(id.task.seq);
        if removed.is_some() && pages.live == 0 {
            self.ids.remove(&pages.id);
            self.lanes[lane as usize] = None;
            self.free.push(lane);
            self.last.set(None);
        }
        removed
    }

    #[inline]
    fn lane(&self, id: ObjectId) -> Option<u32> {
        let key = (id.task.job, id.task.lane);
        if id.index != 0 || key.1.is_nested() {
            return None;
        }
        if let Some((job, lane, at)) = self.last.get()
            && (job, lane) == key
        {
            return Some(at);
        }
        let at = *self.ids.get(&key)?;
        self.last.set(Some((key.0, key.1, at)));
        Some(at)
    }

    /// The lane of an id that is to be entered, unless it is to be hashed.
    fn lane_or_new(&mut self, id: ObjectId) -> Option<u32> {
        let key = (id.task.job, id.task.lane);
        if id.index != 0 || key.1.is_nested() {
            return None;
        }
        self.lane(id).or_else(|| {
            let at = self.free.pop().unwrap_or(self.lanes.len() as u32);
            let new = Some(Pages { id: key, first: 0, pages: VecDeque::new(), live: 0 });
            match self.lanes.get_mut(at as usize) {
                Some(lane) => *lane = new,
                None => self.lanes.push(new),
            }
            self.ids.insert(key, at);
            Some(at)
        })
    }
}

impl<T> Pages<T> {
    fn at(&self, seq: u64) -> Option<usize> {
        usize::try_from((seq / PAGE).checked_sub(self.first)?).ok()
    }

    fn get(&self, id: ObjectId) -> Option<&T> {
        let page = self.pages.get(self.at(id.task.seq)?)?.as_ref()?;
        page.entries[(id.task.seq % PAGE) as usize].as_ref()
    }

    fn get_mut(&mut self, id: ObjectId) -> Option<&mut T> {
        let at = self.at(id.task.seq)?;
        let page = self.pages.get_mut(at)?.as_mut()?;
        page.entries[(id.task.seq % PAGE) as usize].as_mut()
    }

    /// The place of a new entry, counted as taken; `None` if it lies too far off.
    fn slot(&mut self, seq: u64) -> Option<&mut Option<T>> {
        let page = seq / PAGE;
        if self.pages.is_empty() {
            self.first = page;
        }
        let end = (self.first + self.pages.len() as u64).max(page + 1);
        if end - self.first.min(page) > SPAN_LIMIT {
            return None;
        }
        while page < self.first {
            self.pages.push_front(None);
            self.first -= 1;
        }
        let at = (page - self.first) as usize;
        while self.pages.len() <= at {
            self.pages.push_back(None);
        }
        let page = self.pages[at].get_or_insert_with(|| {
            Box::new(Page { live: 0, entries: [const { None }; PAGE as usize] })
        });
        page.live += 1;
        self.live += 1;
        Some(&mut page.entries[(seq % PAGE) as usize])
    }

    fn take(&mut self, seq: u64) -> Option<T> {
        let at = self.at(seq)?;
        let page = self.pages.get_mut(at)?.as_mut()?;
        let taken = page.entries[(seq % PAGE) as usize].take()?;
        page.live -= 1;
        self.live -= 1;
        if page.live == 0 {
            self.pages[at] = None;
            while let Some(None) = self.pages.front() {
                self.pages.pop_front();
                self.first += 1;
            }
            while let Some(None) = self.pages.back() {
                self.pages.pop_back();
            }
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use manyhands_proto::{JobId, Lane, ObjectId, TaskId};

    use super::ByLane;

    fn id(lane: u64, seq: u64, index: u32) -> ObjectId {
        TaskId { job: JobId(Default::default()), lane: Lane(lane), seq }.object(index)
    }

    #[test]
    fn it_holds_what_a_map_holds() {
        let (mut table, mut map) = (ByLane::default(), BTreeMap::new());
        let mut random = 1_u64;
        for step in 0..40_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let r = random >> 33;
            // Near numbers, far ones, a task's lane, second results.
            let seq = match r % 31 {
                0 => u64::MAX - r % 7,
                _ => step / 8 + r % 200,
            };
            let lane = match r % 13 {
                0 => (1 << 63) | (r % 3),
                _ => r % 2,
            };
            let id = id(lane, seq, u32::from((r % 17) < 1));
            assert_eq!(table.get(id), map.get(&id));
            assert_eq!(table.get_mut(id), map.get_mut(&id));
            match map.remove(&id) {
                Some(old) => assert_eq!(table.remove(id), Some(old)),
                None => {
                    table.insert(id, step);
                    map.insert(id, step);
                }
            }
            assert_eq!(table.len(), map.len());
        }
        for id in map.keys().copied().collect::<Vec<_>>() {
            assert_eq!(table.remove(id), map.remove(&id));
            assert_eq!(table.remove(id), None);
        }
        assert_eq!((table.len(), table.ids.len(), table.hashed.len()), (0, 0, 0));
    }
}
