//! Small values in the scheduler's memory, packed: one allocation for many.

use bytes::{Bytes, BytesMut};

/// Values up to this many bytes are packed.
const PACKED_LIMIT: usize = 64;

/// Bytes that packed values share. One value that stays keeps all of them, so it is not much.
const BLOCK: usize = 1 << 10;

/// A small value in memory.
pub(crate) struct Cached {
    pub(crate) bytes: Bytes,
    /// Nobody else has it: it lives as long as its object.
    pub(crate) pinned: bool,
}

/// Copies values out of the messages that they came in.
#[derive(Default)]
pub(crate) struct Packer {
    /// What is left of the current block.
    block: BytesMut,
}

impl Packer {
    /// A copy of a value.
    pub(crate) fn copy(&mut self, value: &[u8]) -> Bytes {
        if value.len() > PACKED_LIMIT {
            return Bytes::copy_from_slice(value);
        }
        if self.block.capacity() < value.len() {
            self.block = BytesMut::with_capacity(BLOCK);
        }
        self.block.extend_from_slice(value);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes_over_the_ends_of_blocks() {
        let mut packer = Packer::default();
        let value = |i: usize| vec![i as u8; i % (PACKED_LIMIT + 2)];
        let copies: Vec<_> = (0..500).map(|i| packer.copy(&value(i))).collect();
        for (i, copy) in copies.iter().enumerate() {
            assert_eq!(*copy, value(i));
        }
    }
}
