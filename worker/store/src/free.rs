//! Which parts of the segments are free: pure bookkeeping, no files.
//!
//! A free part is *kept* while its pages still exist (somebody wrote there before) and *fresh* when
//! they do not. Kept parts are handed out first: those that the same writer filled last, whose page
//! tables still point there; then anybody's; fresh ones only then. Neighbours of the same writer
//! grow together, those of different ones only when nothing else is large enough.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// Where a free part begins.
type Place = (u32, u64);

/// The free parts of all segments.
#[derive(Debug, Default)]
pub(crate) struct Free {
    parts: BTreeMap<Place, Part>,
    sizes: BTreeMap<u32, u64>,
    /// Kept parts by (writer, length, place).
    by_writer: BTreeSet<(u32, u64, Place)>,
    /// Kept parts by (length, place).
    kept: BTreeSet<(u64, Place)>,
    /// Fresh parts by (length, place).
    fresh: BTreeSet<(u64, Place)>,
    kept_bytes: u64,
    generation: u32,
}

/// One free part.
#[derive(Clone, Copy, Debug)]
struct Part {
    len: u64,
    /// Who wrote there last; `None` when fresh.
    writer: Option<u32>,
    /// When it became free, in calls of [`Free::age`].
    since: u32,
}

/// A part that was free until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// It has no pages yet.
    pub(crate) fresh: bool,
}

impl Free {
    /// A new segment, all of it fresh.
    pub(crate) fn add_segment(&mut self, segment: u32, size: u64) {
        self.sizes.insert(segment, size);
        self.insert((segment, 0), Part { len: size, writer: None, since: self.generation });
    }

    /// Forgets a segment, all of which was taken.
    pub(crate) fn remove_segment(&mut self, segment: u32) {
        self.sizes.remove(&segment);
    }

    /// Takes `len` bytes for `writer`: the smallest part that fits, the warmest kind first.
    pub(crate) fn take(&mut self, writer: u32, len: u64) -> Option<Taken> {
        let own = self.by_writer.range((writer, len, (0, 0))..).next();
        let own = own.filter(|(owner, ..)| *owner == writer).map(|(_, _, place)| *place);
        let any = || first_of(&self.kept, len).or_else(|| first_of(&self.fresh, len));
        let place = own.or_else(any).or_else(|| self.first_of_joined(len))?;
        Some(self.cut(place, len))
    }

    /// Joins kept neighbours of different writers, if that can help: it costs a look at every part.
    fn first_of_joined(&mut self, len: u64) -> Option<Place> {
        if self.kept_bytes < len {
            return None;
        }
        let mut places: Vec<Place> = self.kept.iter().map(|(_, place)| *place).collect();
        places.sort_unstable();
        for pair in places.windows(2).rev() {
            let (first, second) = (self.parts[&pair[0]], self.parts[&pair[1]]);
            if (pair[0].0, pair[0].1 + first.len) == pair[1] {
                self.remove(pair[0]);
                self.remove(pair[1]);
                self.insert(pair[0], first.joined(second));
            }
        }
        first_of(&self.kept, len)
    }

    /// Takes kept parts, the largest first, to be given back to the system: together at least
    /// `bytes`, or all that there are.
    pub(crate) fn take_kept(&mut self, bytes: u64) -> Vec<Taken> {
        let (mut taken, mut sum) = (Vec::new(), 0);
        while sum < bytes {
            let Some((len, place)) = self.kept.last().copied() else { break };
            // The last one is cut, so that what is not needed stays warm.
            taken.push(self.cut(place, len.min(bytes - sum)));
            sum += len.min(bytes - sum);
        }
        taken
    }

    /// Takes the kept parts that have been free since before the last call of [`Free::age`].
    pub(crate) fn take_old(&mut self) -> Vec<Taken> {
        let old = |part: &Part| part.writer.is_some() && part.since < self.generation;
        let parts = self.parts.iter().filter(|(_, part)| old(part));
        let places: Vec<(Place, u64)> = parts.map(|(place, part)| (*place, part.len)).collect();
        places.into_iter().map(|(place, len)| self.cut(place, len)).collect()
    }

    /// Takes whole segments that have been fresh since before the last call of [`Free::age`].
    pub(crate) fn take_empty_segments(&mut self) -> Vec<u32> {
        let empty = |(place, part): (&Place, &Part)| {
            let whole = self.sizes.get(&place.0) == Some(&part.len);
            let old = part.writer.is_none() && part.since < self.generation;
            (whole && old).then_some((*place, part.len))
        };
        let places: Vec<(Place, u64)> = self.parts.iter().filter_map(empty).collect();
        places.into_iter().map(|(place, len)| self.cut(place, len).segment).collect()
    }

    /// Lets time pass for [`Free::take_old`] and [`Free::take_empty_segments`].
    pub(crate) fn age(&mut self) {
        self.generation += 1;
    }

    /// Gives a part back: kept and last written by `writer`, or fresh.
    pub(crate) fn give(&mut self, segment: u32, offset: u64, len: u64, writer: Option<u32>) {
        let mut place = (segment, offset);
        let mut part = Part { len, writer, since: self.generation };
        let joins = |other: &Part| other.writer == writer;
        let before = self.parts.range(..place).next_back().map(|(p, part)| (*p, *part));
        if let Some((at, other)) = before
            && at.0 == segment
            && at.1 + other.len == offset
            && joins(&other)
        {
            self.remove(at);
            part = part.joined(other);
            place = at;
        }
        let after = self.parts.range((Excluded((segment, offset)), Unbounded)).next();
        if let Some((at, other)) = after.map(|(p, part)| (*p, *part))
            && at == (segment, offset + len)
            && joins(&other)
        {
            self.remove(at);
            part = part.joined(other);
        }
        self.insert(place, part);
    }

    /// Bytes free that still have pages.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes free, kept and fresh.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.len).sum()
    }

    /// Takes the first `len` bytes of the part at `place`; the rest stays free.
    fn cut(&mut self, place: Place, len: u64) -> Taken {
        let part = self.remove(place);
        if part.len > len {
            let rest = Part { len: part.len - len, ..part };
            self.insert((place.0, place.1 + len), rest);
        }
        Taken { segment: place.0, offset: place.1, len, fresh: part.writer.is_none() }
    }

    fn insert(&mut self, place: Place, part: Part) {
        match part.writer {
            Some(writer) => {
                self.by_writer.insert((writer, part.len, place));
                self.kept.insert((part.len, place));
                self.kept_bytes += part.len;
            }
            None => {
                self.fresh.insert((part.len, place));
            }
        }
        let previous = self.parts.insert(place, part);
        assert!(previous.is_none(), "a part of segment {} became free twice", place.0);
    }

    fn remove(&mut self, place: Place) -> Part {
        let part = self.parts.remove(&place).expect("every indexed place has its part");
        match part.writer {
            Some(writer) => {
                self.by_writer.remove(&(writer, part.len, place));
                self.kept.remove(&(part.len, place));
                self.kept_bytes -= part.len;
            }
            None => {
                self.fresh.remove(&(part.len, place));
            }
        }
        part
    }
}

/// The smallest part of `len` bytes or more.
fn first_of(parts: &BTreeSet<(u64, Place)>, len: u64) -> Option<Place> {
    parts.range((len, (0, 0))..).next().map(|(_, place)| *place)
}

impl Part {
    /// Two neighbours as one: the larger one's writer, the younger one's age.
    fn joined(self, other: Part) -> Part {
        let larger = if self.len >= other.len { self } else { other };
        let since = self.since.max(other.since);
        Part { len: self.len + other.len, writer: larger.writer, since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warmest_part_that_fits_goes_first() {
        let mut free = Free::default();
        free.add_segment(0, 100);
        for _ in 0..4 {
            free.take(1, 10);
        }
        free.give(0, 0, 10, Some(1));
        free.give(0, 20, 10, Some(2));
        let offsets = [2, 2, 2].map(|writer| free.take(writer, 10).unwrap().offset);
        assert_eq!(offsets, [20, 0, 40], "its own, then another's, then a fresh one");
    }

    #[test]
    fn neighbours_grow_together_but_never_kept_with_fresh() {
        let mut free = Free::default();
        free.add_segment(0, 100);
        for _ in 0..3 {
            free.take(1, 10);
        }
        free.give(0, 0, 10, Some(1));
        free.give(0, 20, 10, Some(2));
        free.give(0, 10, 10, Some(1));
        assert_eq!((free.kept_bytes(), free.bytes()), (30, 100));
        assert!(free.take(3, 80).is_none());
        assert!(free.take(3, 70).unwrap().fresh);
        let taken = free.take(3, 30).expect("two writers' parts as one");
        assert_eq!((taken.offset, taken.fresh), (0, false));
        assert_eq!(free.bytes(), 0);
    }

    #[test]
    fn only_what_was_free_for_a_whole_age_is_old() {
        let mut free = Free::default();
        free.add_segment(0, 100);
        free.take(1, 50);
        free.give(0, 0, 50, Some(1));
        assert!(free.take_old().is_empty());
        free.age();
        let taken = free.take_old();
        assert_eq!((taken.len(), taken[0].len), (1, 50));
        free.give(0, 0, 50, None);
        assert!(free.take_empty_segments().is_empty(), "it is empty since now");
        free.age();
        assert_eq!(free.take_empty_segments(), [0]);
    }

    #[test]
    fn no_more_than_asked_for_loses_its_warmth() {
        let mut free = Free::default();
        free.add_segment(0, 100);
        free.take(1, 60);
        free.give(0, 0, 60, Some(1));
        let taken = free.take_kept(20);
        assert_eq!(taken, [Taken { segment: 0, offset: 0, len: 20, fresh: false }]);
        assert_eq!(free.kept_bytes(), 40);
    }
}
