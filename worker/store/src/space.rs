//! Room for objects: segments of one kind, in memory or on disk, cut into leases.

use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_proto::executor::Extent;
use rustc_hash::FxBuildHasher;

use crate::free::{Free, Taken};
use crate::segment::{Range, Segment};

/// Segments of one kind and what is free in them.
#[derive(Debug)]
pub(crate) struct Space {
    kind: Kind,
    /// Bytes that may be used and kept together.
    limit: u64,
    segment_size: u64,
    page: u64,
    /// Numbers are never used twice, by no space of the store.
    numbers: Arc<AtomicU32>,
    state: Mutex<State>,
}

/// Where the segments of a space lie.
#[derive(Debug)]
pub(crate) enum Kind {
    Memory,
    Disk(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    segments: HashMap<u32, Arc<Segment>, FxBuildHasher>,
    free: Free,
    used: u64,
    mapped: u64,
    peak: u64,
    /// Nothing is kept any more.
    closed: bool,
}

/// How full a space is, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    pub(crate) used: u64,
    pub(crate) kept: u64,
    pub(crate) mapped: u64,
    pub(crate) peak: u64,
    pub(crate) segments: usize,
}

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum NoRoom {
    /// The limit does not allow it.
    Full { needed: u64, used: u64, limit: u64 },
    /// The system does not.
    Io(io::Error),
}

impl From<io::Error> for NoRoom {
    fn from(error: io::Error) -> Self {
        NoRoom::Io(error)
    }
}

impl Space {
    pub(crate) fn new(
        kind: Kind,
        limit: u64,
        segment_size: u64,
        numbers: Arc<AtomicU32>,
    ) -> Arc<Space> {
        let page = rustix::param::page_size() as u64;
        let segment_size = segment_size.max(page).next_multiple_of(page);
        Arc::new(Space { kind, limit, segment_size, page, numbers, state: Mutex::default() })
    }

    /// Takes `size` bytes, rounded up to pages, for `writer`.
    pub(crate) fn lease(self: &Arc<Self>, writer: u32, size: u64) -> Result<Lease, NoRoom> {
        let mut state = self.lock();
        let full = |used| NoRoom::Full { needed: size, used, limit: self.limit };
        let len = size.max(1).checked_next_multiple_of(self.page).ok_or(full(state.used))?;
        if state.used.saturating_add(len) > self.limit {
            return Err(full(state.used));
        }
        let taken = match state.free.take(writer, len) {
            Some(taken) => taken,
            None => self.take_of_new_segment(&mut state, writer, len)?,
        };
        state.used += len;
        let total = state.used + state.free.kept_bytes();
        if total > self.limit {
            self.punch_kept(&mut state, total - self.limit);
        }
        state.peak = state.peak.max(state.used + state.free.kept_bytes());
        let segment = state.segments[&taken.segment].clone();
        drop(state);
        let range = Range::new(segment, taken.offset, len);
        if matches!(self.kind, Kind::Disk(_))
            && taken.fresh
            && let Err(error) = range.reserve()
        {
            self.put_back(&range, None);
            return Err(error.into());
        }
        Ok(Lease { range: Some(range), writer, home: self.clone() })
    }

    fn take_of_new_segment(
        &self,
        state: &mut State,
        writer: u32,
        len: u64,
    ) -> Result<Taken, NoRoom> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let size = self.size_class(len);
        let segment = match &self.kind {
            Kind::Memory => Segment::in_memory(number, size)?,
            Kind::Disk(dir) => Segment::on_disk(number, size, dir)?,
        };
        state.segments.insert(number, Arc::new(segment));
        state.free.add_segment(number, size);
        state.mapped += size;
        Ok(state.free.take(writer, len).expect("a new segment has room for what it was made for"))
    }

    /// The size of the segment for an object of `len` bytes: the usual one for all that fit, and
    /// for larger ones a class of their own in steps of an eighth, so that similar ones can follow.
    fn size_class(&self, len: u64) -> u64 {
        if len <= self.segment_size {
            return self.segment_size;
        }
        let step = (len.next_power_of_two() / 16).max(self.page);
        len.checked_next_multiple_of(step).unwrap_or(len)
    }

    /// Gives at least `bytes` of what is kept back to the system, if there are so many.
    fn punch_kept(&self, state: &mut State, bytes: u64) {
        for part in state.free.take_kept(bytes) {
            self.punch(state, part);
        }
    }

    fn punch(&self, state: &mut State, part: Taken) {
        let punched = state.segments[&part.segment].punch(part.offset, part.len);
        // A file system that cannot punch keeps the blocks, and so do we: they are used again.
        let writer = punched.is_err().then_some(NOBODY);
        state.free.give(part.segment, part.offset, part.len, writer);
    }

    fn put_back(&self, range: &Range, writer: Option<u32>) {
        let mut state = self.lock();
        state.used -= range.len;
        state.free.give(range.segment.number, range.offset, range.len, writer);
        if state.closed {
            self.punch_kept(&mut state, u64::MAX);
        }
    }

    /// Gives what is kept back to the system, and from now on whatever becomes free.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.punch_kept(&mut state, u64::MAX);
    }

    /// Gives back to the system what has been free since before the last call. Returns the segments
    /// that are no more.
    pub(crate) fn trim(&self) -> Vec<u32> {
        let mut state = self.lock();
        let state = &mut *state;
        let dropped = state.free.take_empty_segments();
        for number in &dropped {
            state.free.remove_segment(*number);
            let segment = state.segments.remove(number).expect("a free segment is a segment");
            state.mapped -= segment.size;
        }
        for part in state.free.take_old() {
            self.punch(state, part);
        }
        state.free.age();
        dropped
    }

    pub(crate) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.lock().segments.get(&number).cloned()
    }

    pub(crate) fn fill(&self) -> Fill {
        let state = self.lock();
        Fill {
            used: state.used,
            kept: state.free.kept_bytes(),
            mapped: state.mapped,
            peak: state.peak,
            segments: state.segments.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer that does not exist: its kept parts are used only as anybody's.
const NOBODY: u32 = u32::MAX - 1;

/// A range with an owner. Dropped, it is free again, and kept.
#[derive(Debug)]
pub(crate) struct Lease {
    range: Option<Range>,
    writer: u32,
    home: Arc<Space>,
}

impl Lease {
    /// Gives what lies behind the first `len` bytes back, up to the page.
    pub(crate) fn shrink(&mut self, len: u64) {
        let page = self.home.page;
        let range = self.range.as_mut().expect("a lease has its range until it is dropped");
        let keep = len.max(1).next_multiple_of(page).min(range.len);
        let tail = Range::new(range.segment.clone(), range.offset + keep, range.len - keep);
        range.len = keep;
        if tail.len > 0 {
            self.home.put_back(&tail, Some(self.writer));
        }
    }

    /// To write there.
    pub(crate) fn range_mut(&mut self) -> &mut Range {
        self.range.as_mut().expect("a lease has its range until it is dropped")
    }

    /// Where its first `len` bytes are, for the executors.
    pub(crate) fn extent(&self, len: u64) -> Extent {
        Extent { segment: self.segment.number, offset: self.offset, len }
    }
}

impl Deref for Lease {
    type Target = Range;
    fn deref(&self) -> &Range {
        self.range.as_ref().expect("a lease has its range until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(range) = self.range.take() {
            self.home.put_back(&range, Some(self.writer));
        }
    }
}
