//! Plain old data, read where it lies.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytemuck::Pod;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Elements of plain old data that are not copied: a result of a task, or an argument, is read in
/// the mapped memory of the object store. Cloning it is cheap, and keeps the memory alive.
///
/// A function that takes a `Slice<f64>` accepts the result of one that returns a `Vec<f64>`, and
/// [`Handle::slice`](crate::Handle::slice) makes a handle's value readable this way.
///
/// ```
/// use manyhands::Slice;
/// let slice = Slice::from(vec![1.0, 2.0, 4.0]);
/// assert_eq!(slice.iter().sum::<f64>(), 7.0);
/// ```
pub struct Slice<T> {
    /// Aligned for `T`, and a whole number of them long: [`Slice::from_bytes`] sees to it.
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

/// A vector that lends out its bytes.
struct Owner<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Owner<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl<T: Pod + Send> Slice<T> {
    /// Elements in memory order. Copies only if the bytes are not aligned; `None` if they are not a
    /// whole number of elements.
    pub fn from_bytes(bytes: Bytes) -> Option<Slice<T>> {
        if bytemuck::try_cast_slice::<u8, T>(&bytes).is_ok() {
            return Some(Slice { bytes, of: PhantomData });
        }
        copy_elements(&bytes).map(Slice::from)
    }

    /// The bytes of the elements.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The elements whose bytes these are, wherever they lie; `None` if their number is not whole.
pub(crate) fn copy_elements<T: Pod>(bytes: &[u8]) -> Option<Vec<T>> {
    if let Ok(elements) = bytemuck::try_cast_slice(bytes) {
        return Some(elements.to_vec());
    }
    if size_of::<T>() == 0 || !bytes.len().is_multiple_of(size_of::<T>()) {
        return None;
    }
    let mut elements = vec![T::zeroed(); bytes.len() / size_of::<T>()];
    bytemuck::cast_slice_mut(&mut elements).copy_from_slice(bytes);
    Some(elements)
}

impl<T: Pod + Send> From<Vec<T>> for Slice<T> {
    fn from(elements: Vec<T>) -> Slice<T> {
        Slice { bytes: Bytes::from_owner(Owner(elements)), of: PhantomData }
    }
}

impl<T: Pod> Deref for Slice<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.bytes)
    }
}

impl<T: Pod> AsRef<[T]> for Slice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<'a, T: Pod> IntoIterator for &'a Slice<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        Slice { bytes: self.bytes.clone(), of: PhantomData }
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Slice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Pod + PartialEq> PartialEq for Slice<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

// Inside other values a slice travels as bytes, and is copied.
impl<T> Serialize for Slice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de, T: Pod + Send> Deserialize<'de> for Slice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let len = bytes.len();
        Slice::from_bytes(bytes).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "{len} bytes are not a whole number of {}",
                std::any::type_name::<T>()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_bytes_are_not_copied_and_others_are() {
        let whole = Slice::from(vec![1u64, 2, 3]);
        let again = Slice::<u64>::from_bytes(whole.bytes.clone()).unwrap();
        assert_eq!(again.as_ptr(), whole.as_ptr());
        let shifted = Bytes::from([&[0u8][..], whole.as_bytes()].concat()).slice(1..);
        assert_eq!(*Slice::<u64>::from_bytes(shifted).unwrap(), [1, 2, 3]);
        assert!(Slice::<u64>::from_bytes(Bytes::from_static(&[1, 2, 3])).is_none());
    }
}
