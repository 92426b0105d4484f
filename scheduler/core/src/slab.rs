//! Records under dense 32-bit indices, in chunks, so that growing never copies.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;

/// A dense index that names records of one kind.
pub(crate) trait Key: Copy {
    fn new(index: u32) -> Self;
    fn raw(self) -> u32;
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);
        impl Key for $name {
            fn new(index: u32) -> Self {
                $name(index)
            }
            fn raw(self) -> u32 {
                self.0
            }
        }
        impl $name {
            /// Stands for no record.
            #[allow(dead_code, reason = "not every kind of record needs it")]
            pub(crate) const NONE: $name = $name(u32::MAX);
        }
    )* };
}

keys! {
    /// A task, or a value that was put.
    TaskIdx,
    /// A worker.
    WorkerIdx,
    /// A job.
    JobIdx,
    /// A client's session, or that of a task that speaks as a client.
    SessionIdx,
    /// A lane of a job.
    LaneIdx,
    /// A function: the slot number that workers know it by.
    FnIdx,
    /// A set of options that tasks share.
    OptIdx,
    /// A blob of encoded arguments that tasks share.
    BlobIdx,
    /// A small value in the scheduler's memory.
    ValueIdx,
    /// The handles inside an object.
    ContainsIdx,
    /// The second and further copies of an object.
    CopiesIdx,
}

/// Records with stable indices; freed ones are used again.
pub(crate) struct Slab<K, T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
    key: PhantomData<K>,
}

impl<K, T> Default for Slab<K, T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new(), len: 0, key: PhantomData }
    }
}

impl<K: Key, T> Slab<K, T> {
    pub(crate) fn insert(&mut self, value: T) -> K {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            self.chunks[index as usize >> CHUNK_BITS][index as usize & (CHUNK - 1)] = Some(value);
            return K::new(index);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as it fills: most slabs stay small.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let last = self.chunks.len() - 1;
        let index = last * CHUNK + self.chunks[last].len();
        self.chunks[last].push(Some(value));
        assert!(index < u32::MAX as usize, "four billion records at one time");
        K::new(index as u32)
    }

    pub(crate) fn remove(&mut self, key: K) -> T {
        let index = key.raw() as usize;
        let value = self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)].take();
        self.len -= 1;
        self.free.push(key.raw());
        value.expect("only live records are removed")
    }

    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<&T> {
        let index = key.raw() as usize;
        self.chunks.get(index >> CHUNK_BITS)?.get(index & (CHUNK - 1))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let index = key.raw() as usize;
        self.chunks.get_mut(index >> CHUNK_BITS)?.get_mut(index & (CHUNK - 1))?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One more than the largest index that was ever in use.
    pub(crate) fn slots(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    /// All live records, in the order of their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        let slots = self.chunks.iter().flatten();
        slots.enumerate().filter_map(|(i, slot)| Some((K::new(i as u32), slot.as_ref()?)))
    }

    /// The indices of all live records, ascending.
    pub(crate) fn keys(&self) -> Vec<K> {
        self.iter().map(|(key, _)| key).collect()
    }
}

impl<K: Key, T> Index<K> for Slab<K, T> {
    type Output = T;
    #[inline]
    fn index(&self, key: K) -> &T {
        let index = key.raw() as usize;
        self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)].as_ref().expect("a live record")
    }
}

impl<K: Key, T> IndexMut<K> for Slab<K, T> {
    #[inline]
    fn index_mut(&mut self, key: K) -> &mut T {
        let index = key.raw() as usize;
        self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)].as_mut().expect("a live record")
    }
}
