//! The tasks of a job that could run, in the order in which they shall.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::slab::TaskIdx;

/// A task in a queue: its order, then its number in its lane, so that equals run as submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) order: u64,
    pub(crate) seq: u32,
    pub(crate) task: TaskIdx,
}

/// Tasks in order. Most arrive in order and need no heap.
///
/// A task that leaves by another way than [`Queue::pop`] leaves its entry behind; the owner counts
/// such entries and skips them.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    run: VecDeque<Entry>,
    heap: BinaryHeap<Reverse<Entry>>,
    /// Entries of tasks that have left otherwise.
    stale: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, entry: Entry) {
        match self.run.back() {
            Some(last) if *last > entry => self.heap.push(Reverse(entry)),
            _ => self.run.push_back(entry),
        }
    }

    /// The first entry; `valid` tells whether its task is still meant.
    pub(crate) fn peek(&mut self, mut valid: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        loop {
            let entry = self.first()?;
            if self.stale == 0 || valid(&entry) {
                return Some(entry);
            }
            self.pop();
            self.stale -= 1;
        }
    }

    /// Whether every entry's task is still meant.
    pub(crate) fn is_clean(&self) -> bool {
        self.stale == 0
    }

    pub(crate) fn first(&self) -> Option<Entry> {
        match (self.run.front(), self.heap.peek()) {
            (Some(a), Some(Reverse(b))) => Some(*a.min(b)),
            (Some(a), None) => Some(*a),
            (None, b) => b.map(|Reverse(b)| *b),
        }
    }

    /// Takes the first entry away.
    pub(crate) fn pop(&mut self) {
        let from_run = match (self.run.front(), self.heap.peek()) {
            (Some(a), Some(Reverse(b))) => a <= b,
            (a, _) => a.is_some(),
        };
        if from_run {
            self.run.pop_front();
        } else {
            self.heap.pop();
        }
        if self.run.is_empty() && self.run.capacity() > 1024 {
            self.run = VecDeque::new();
        }
    }

    /// A task of this queue has left otherwise. When most entries are of that kind the queue is
    /// cleaned.
    pub(crate) fn left(&mut self, valid: impl FnMut(&Entry) -> bool) {
        self.stale += 1;
        if self.stale > 64 && self.stale > self.entries() / 2 {
            let mut entries: Vec<_> = self.run.drain(..).collect();
            entries.extend(self.heap.drain().map(|Reverse(entry)| entry));
            entries.retain(valid);
            entries.sort_unstable();
            entries.dedup();
            self.run = entries.into();
            self.stale = 0;
        }
    }

    /// How many entries have a smaller order. Looks at all.
    pub(crate) fn before(&self, order: u64) -> usize {
        let heap = self.heap.iter().map(|Reverse(entry)| entry);
        self.run.iter().chain(heap).filter(|entry| entry.order < order).count()
    }

    fn entries(&self) -> usize {
        self.run.len() + self.heap.len()
    }

    /// Tasks that are in it.
    pub(crate) fn len(&self) -> usize {
        self.entries() - self.stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(order: u64, task: u32) -> Entry {
        Entry { order, seq: task, task: TaskIdx(task) }
    }

    #[test]
    fn entries_come_out_in_order_however_they_went_in() {
        let mut queue = Queue::default();
        for order in [5, 7, 6, 1, 9, 8] {
            queue.push(entry(order, order as u32));
        }
        let mut out = Vec::new();
        while let Some(first) = queue.peek(|_| true) {
            out.push(first.order);
            queue.pop();
        }
        assert_eq!(out, [1, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn tasks_that_left_otherwise_are_skipped() {
        let mut queue = Queue::default();
        (0..200).for_each(|i| queue.push(entry(i, i as u32)));
        (0..150).for_each(|i| queue.left(|e| e.order > i));
        assert_eq!(queue.len(), 50);
        assert_eq!(queue.peek(|e| e.order >= 150).map(|e| e.order), Some(150));
    }
}
