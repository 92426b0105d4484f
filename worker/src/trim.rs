//! When memory that nobody uses is given back.

use manyhands_proto::Time;
use manyhands_store::Store;

/// How often, in microseconds. What is freed is kept for the next objects for one to two of these.
const INTERVAL_US: u64 = 3_000_000;

/// Wakes the worker only while there is something to give back.
pub(crate) struct Trim {
    next: Time,
}

impl Trim {
    pub(crate) fn new() -> Trim {
        Trim { next: Time::NEVER }
    }

    /// Something was freed.
    pub(crate) fn arm(&mut self, now: Time) {
        if self.next == Time::NEVER {
            self.next = now + INTERVAL_US;
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        (self.next != Time::NEVER).then_some(self.next)
    }

    /// Gives back, if it is time. Returns the segments that are no more.
    pub(crate) fn turn(&mut self, now: Time, store: &Store) -> Vec<u32> {
        if now < self.next {
            return Vec::new();
        }
        let before = store.stats();
        let dropped = store.trim();
        let more = before.free_kept + before.spill_kept > 0 || !dropped.is_empty();
        self.next = if more { now + INTERVAL_US } else { Time::NEVER };
        dropped
    }
}

#[cfg(test)]
mod tests {
    use manyhands_proto::value::Codec;
    use manyhands_proto::{JobId, Lane, TaskId};
    use manyhands_store::StoreConfig;

    use super::*;

    #[test]
    fn what_was_freed_is_given_back_and_then_there_is_peace() {
        let store = Store::new(StoreConfig::default()).unwrap();
        let job = JobId(uuid::Uuid::from_u128(1));
        let object = TaskId { job, lane: Lane(1), seq: 0 }.object(0);
        store.put(object, Codec::RAW, &[1; 100_000]).unwrap();
        let (mut trim, mut now, mut dropped) = (Trim::new(), Time(0), Vec::new());
        assert_eq!(trim.next(), None);
        store.free(object);
        trim.arm(now);
        let mut turns = 0;
        while let Some(next) = trim.next() {
            assert_eq!(trim.turn(now, &store), [0u32; 0], "before it is time");
            now = next;
            dropped.extend(trim.turn(now, &store));
            turns += 1;
            assert!(turns < 10, "it never rests");
        }
        assert_eq!(dropped, [0]);
        assert_eq!((store.stats().free_kept, store.stats().mapped), (0, 0));
    }
}
