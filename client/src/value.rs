//! How values become bytes and back.
//!
//! A vector or slice of plain old data is its own encoding ([`Codec::POD`]): it is written with one
//! copy, and read with none. Everything else is MessagePack.

use std::any::{Any, TypeId, type_name};

use bytes::Bytes;
use manyhands_proto::value::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::slice::{Slice, copy_elements};

/// What can be an argument or a result of a task: whatever serde can write and read. Vectors of
/// numbers (`Vec<u8>`, `Vec<f64>` and so on) and [`Slice`]s are stored raw.
pub trait Data: Serialize + DeserializeOwned + 'static {}

impl<T: Serialize + DeserializeOwned + 'static> Data for T {}

macro_rules! for_numbers {
    ($run:ident) => {
        $run!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, f32, f64, usize, isize)
    };
}

/// Whether values of this type are stored raw.
#[inline]
pub(crate) fn is_raw<T: 'static>() -> bool {
    let id = TypeId::of::<T>();
    macro_rules! any {
        ($($n:ty),*) => {
            $(id == TypeId::of::<Vec<$n>>() || id == TypeId::of::<Slice<$n>>() ||)* false
        };
    }
    for_numbers!(any)
}

/// Whether values of this type are so plain that no handle can be in them: nobody need look.
#[inline]
pub(crate) fn is_plain<T: 'static>() -> bool {
    let id = TypeId::of::<T>();
    macro_rules! any {
        ($($n:ty),*) => { $(id == TypeId::of::<$n>() ||)* false };
    }
    for_numbers!(any)
        || id == TypeId::of::<()>()
        || id == TypeId::of::<bool>()
        || id == TypeId::of::<char>()
        || id == TypeId::of::<String>()
}

/// The bytes of a value that is its own encoding.
pub(crate) fn raw_bytes<T: 'static>(value: &T) -> Option<&[u8]> {
    if !is_raw::<T>() {
        return None;
    }
    let value: &dyn Any = value;
    macro_rules! find {
        ($($n:ty),*) => {
            $(if let Some(vector) = value.downcast_ref::<Vec<$n>>() {
                return Some(bytemuck::cast_slice(vector));
            }
            if let Some(slice) = value.downcast_ref::<Slice<$n>>() {
                return Some(slice.as_bytes());
            })*
        };
    }
    for_numbers!(find);
    None
}

/// Appends a value's encoding to `out`.
pub(crate) fn encode<T: Serialize + 'static>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<Codec, String> {
    if let Some(bytes) = raw_bytes(value) {
        out.extend_from_slice(bytes);
        return Ok(Codec::POD);
    }
    encode_plain(value, out)
}

/// Appends a value's MessagePack to `out`.
pub(crate) fn encode_plain<T: Serialize + ?Sized>(
    value: &T,
    out: &mut impl std::io::Write,
) -> Result<Codec, String> {
    rmp_serde::encode::write(out, value).map(|()| Codec::MSGPACK).map_err(|e| e.to_string())
}

/// Encoded bytes, wherever they lie.
pub(crate) trait Encoded {
    fn as_slice(&self) -> &[u8];
    /// To keep: not copied if they lie in shared memory.
    fn to_bytes(&self) -> Bytes;
}

impl Encoded for Bytes {
    fn as_slice(&self) -> &[u8] {
        self
    }
    fn to_bytes(&self) -> Bytes {
        self.clone()
    }
}

impl Encoded for &[u8] {
    fn as_slice(&self) -> &[u8] {
        self
    }
    fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl Encoded for manyhands_executor::Loaded<'_> {
    fn as_slice(&self) -> &[u8] {
        manyhands_executor::Loaded::as_slice(self)
    }
    fn to_bytes(&self) -> Bytes {
        manyhands_executor::Loaded::to_bytes(self)
    }
}

/// Reads a value.
pub(crate) fn decode<T: Data>(codec: Codec, encoded: &impl Encoded) -> Result<T, String> {
    match codec {
        Codec::MSGPACK => rmp_serde::from_slice(encoded.as_slice()).map_err(|e| e.to_string()),
        Codec::POD => decode_raw(encoded),
        Codec::RAW if is_bytes::<T>() => decode_raw(encoded),
        Codec(other) => Err(format!("codec {other} is none that this client reads")),
    }
}

/// Whether this is a type for bytes.
fn is_bytes<T: 'static>() -> bool {
    let id = TypeId::of::<T>();
    id == TypeId::of::<Vec<u8>>() || id == TypeId::of::<Slice<u8>>()
}

fn decode_raw<T: Data>(encoded: &impl Encoded) -> Result<T, String> {
    let mut value: Option<T> = None;
    let place: &mut dyn Any = &mut value;
    macro_rules! find {
        ($($n:ty),*) => {
            $(if let Some(place) = place.downcast_mut::<Option<Vec<$n>>>() {
                *place = copy_elements(encoded.as_slice());
            } else if let Some(place) = place.downcast_mut::<Option<Slice<$n>>>() {
                *place = Slice::from_bytes(encoded.to_bytes());
            })*
        };
    }
    if is_raw::<T>() {
        for_numbers!(find);
    }
    value.ok_or_else(|| {
        let len = encoded.as_slice().len();
        format!("it holds {len} bytes of plain old data, which are no {}", type_name::<T>())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: Data + PartialEq + std::fmt::Debug>(value: T, codec: Codec) {
        let mut bytes = Vec::new();
        assert_eq!(encode(&value, &mut bytes).unwrap(), codec);
        assert_eq!(decode::<T>(codec, &bytes.as_slice()).unwrap(), value);
    }

    #[test]
    fn numbers_are_raw_and_the_rest_is_message_pack() {
        there_and_back(vec![1.5f64, -2.0], Codec::POD);
        there_and_back(Vec::<i64>::new(), Codec::POD);
        there_and_back(Slice::from(vec![1u8, 2, 3]), Codec::POD);
        there_and_back(vec![Some(1), None], Codec::MSGPACK);
        there_and_back("text".to_owned(), Codec::MSGPACK);
        there_and_back((1u8, vec![2.0f64]), Codec::MSGPACK);
    }

    #[test]
    fn bytes_of_other_languages_are_read() {
        let binary = [&[0xc4, 3], &[1u8, 2, 3][..]].concat();
        let binary = binary.as_slice();
        assert_eq!(decode::<Vec<u8>>(Codec::MSGPACK, &binary).unwrap(), [1, 2, 3]);
        assert_eq!(decode::<Slice<u8>>(Codec::RAW, &[4u8, 5].as_slice()).unwrap()[..], [4, 5]);
        assert!(decode::<String>(Codec::RAW, &[4u8, 5].as_slice()).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let error = decode::<Vec<u64>>(Codec::POD, &[1u8, 2, 3].as_slice()).unwrap_err();
        assert_eq!(error, "it holds 3 bytes of plain old data, which are no alloc::vec::Vec<u64>");
        assert!(decode::<String>(Codec::POD, &b"text".as_slice()).is_err());
        assert!(decode::<String>(Codec::MSGPACK, &[0xc1u8].as_slice()).is_err());
        assert!(decode::<u8>(Codec(9), &[1u8].as_slice()).unwrap_err().contains("codec 9"));
    }
}
