//! Which chunks of an object there are, which of them an asker lacks, and which of those to give
//! it.

use manyhands_proto::link::{CHUNK, WANTED_LIMIT, Wanted};

/// How an object of a certain size falls into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Bytes of the whole.
    pub(super) size: u64,
}

impl Chunks {
    /// `None` for sizes that no chunk number can reach.
    pub(super) fn of(size: u64) -> Option<Chunks> {
        u32::try_from(size / CHUNK + 1).is_ok().then_some(Chunks { size })
    }

    /// At least one: that of an empty object is empty.
    pub(super) fn count(self) -> u32 {
        self.size.div_ceil(CHUNK).max(1) as u32
    }

    /// Where a chunk begins.
    pub(super) fn offset(self, chunk: u32) -> u64 {
        u64::from(chunk) * CHUNK
    }

    /// Bytes of a chunk; 0 for one beyond the end.
    pub(super) fn length(self, chunk: u32) -> u64 {
        self.size.saturating_sub(self.offset(chunk)).min(CHUNK)
    }
}

/// The chunks for which `lacks` says so, as many of them as fit a request, from the first one on.
pub(super) fn wanted(count: u32, prefer: u32, lacks: impl Fn(u32) -> bool) -> Wanted {
    let first = (0..count).find(|chunk| lacks(*chunk)).unwrap_or(0);
    let window = (count - first).min(8 * WANTED_LIMIT as u32);
    let mut bits = vec![0u8; window.div_ceil(8) as usize];
    for bit in (0..window).filter(|bit| lacks(first + bit)) {
        bits[(bit / 8) as usize] |= 1 << (bit % 8);
    }
    Wanted { first, bits: bits.into(), prefer }
}

/// Whether an asker lacks a chunk.
pub(super) fn lacks(wanted: &Wanted, chunk: u32) -> bool {
    let Some(bit) = chunk.checked_sub(wanted.first) else { return false };
    wanted.bits.get((bit / 8) as usize).is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
}

/// How often each chunk of an object has been given away.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    times: Vec<u32>,
}

impl Given {
    /// The chunk to give: one that the asker wants and the giver `has`, given least often so far,
    /// and of several such the first from the one that the asker prefers. It counts as given.
    pub(super) fn pick(
        &mut self,
        chunks: Chunks,
        wanted: &Wanted,
        has: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let count = chunks.count();
        self.times.resize(count as usize, 0);
        let end = count.min(wanted.first.saturating_add(8 * wanted.bits.len() as u32));
        let window = wanted.first.min(end)..end;
        let turn = |chunk: u32| chunk.wrapping_sub(wanted.prefer);
        let chosen = window
            .filter(|chunk| lacks(wanted, *chunk) && has(*chunk))
            .min_by_key(|chunk| (self.times[*chunk as usize], turn(*chunk)))?;
        self.times[chosen as usize] += 1;
        Some(chosen)
    }

    /// A chunk that was picked was not taken.
    pub(super) fn returned(&mut self, chunk: u32) {
        if let Some(times) = self.times.get_mut(chunk as usize) {
            *times = times.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_around_the_bounds_of_chunks() {
        let counts = |size| Chunks::of(size).unwrap().count();
        assert_eq!([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK].map(counts), [1, 1, 1, 1, 2, 2]);
        let lengths = |size| {
            let chunks = Chunks::of(size).unwrap();
            (0..chunks.count()).map(|chunk| chunks.length(chunk)).sum::<u64>()
        };
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            assert_eq!(lengths(size), size);
        }
        assert_eq!(Chunks::of(u64::MAX), None);
        assert_eq!(Chunks { size: 1 }.length(7), 0, "beyond the end there is nothing");
    }

    #[test]
    fn the_least_given_chunk_goes_first_and_the_preferred_one_of_several() {
        let chunks = Chunks::of(4 * CHUNK).unwrap();
        let mut given = Given::default();
        let all = wanted(4, 2, |_| true);
        let mut next = || given.pick(chunks, &all, |_| true).unwrap();
        assert_eq!([next(), next(), next(), next(), next()], [2, 3, 0, 1, 2]);
        given.returned(2);
        assert_eq!(given.pick(chunks, &all, |_| true), Some(2));
        assert_eq!(given.pick(chunks, &all, |chunk| chunk == 1), Some(1));
        assert_eq!(given.pick(chunks, &all, |_| false), None);
    }

    #[test]
    fn what_a_stranger_wants_is_never_trusted() {
        let chunks = Chunks::of(2 * CHUNK).unwrap();
        let bits = vec![0xff; 9].into();
        let pick = |wanted| Given::default().pick(chunks, &wanted, |_| true);
        assert_eq!(pick(Wanted { first: u32::MAX, bits, prefer: 7 }), None);
        assert_eq!(pick(Wanted::default()), None);
        let beyond = Wanted { first: 1, bits: vec![0b10].into(), prefer: 0 };
        assert_eq!(pick(beyond), None, "chunk 2 of an object that has two");
    }

    #[test]
    fn a_request_holds_a_window_of_a_very_large_object() {
        let count = 8 * WANTED_LIMIT as u32 + 100;
        let all = wanted(count, 0, |chunk| chunk >= 50);
        assert_eq!((all.first, all.bits.len()), (50, WANTED_LIMIT));
        assert!(lacks(&all, 50) && !lacks(&all, 49) && !lacks(&all, count - 1));
    }
}
