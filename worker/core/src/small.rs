//! Objects of a few bytes that nobody here needs. There may be millions: each is its bytes and
//! nothing else, until an attempt here wants it.

use bytes::Bytes;
use manyhands_proto::value::{Codec, Value};

use crate::objects::ObjectIx;

/// The largest of them, in bytes.
const LIMIT: usize = 21;

/// What is known of an id.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It has a record in the table of objects.
    Known(ObjectIx),
    /// This is all.
    Small(Small),
}

/// A value of a few bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small {
    codec: Codec,
    len: u8,
    bytes: [u8; LIMIT],
}

impl Small {
    /// `None`: it has to have a record.
    pub(crate) fn new(codec: Codec, from: &[u8]) -> Option<Small> {
        let mut bytes = [0; LIMIT];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Small { codec, len: from.len() as u8, bytes })
    }

    pub(crate) fn value(&self) -> Value {
        let bytes = Bytes::copy_from_slice(&self.bytes[..usize::from(self.len)]);
        Value { codec: self.codec, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_takes_three_words() {
        for bytes in [&b""[..], b"x", &[7; LIMIT]] {
            let small = Small::new(Codec::POD, bytes).unwrap();
            assert_eq!(small.value(), Value { codec: Codec::POD, bytes: bytes.into() });
        }
        assert!(Small::new(Codec::POD, &[7; LIMIT + 1]).is_none());
        assert_eq!(size_of::<Option<Entry>>(), 24);
    }
}
