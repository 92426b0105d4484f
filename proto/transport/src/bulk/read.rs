//! Fetching into memory.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use manyhands_proto::value::ObjectMeta;

use super::shelves::{BoxFuture, Sink};

/// A sink whose bytes the caller takes in the end.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: Mutex<Vec<u8>>,
}

impl Memory {
    /// Room for so many bytes; more is added if more come.
    pub(super) fn new(size: u64) -> Memory {
        Memory { bytes: Mutex::new(vec![0; size as usize]) }
    }

    pub(super) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.lock()).into()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Memory {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut room = self.lock();
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if room.len() < to {
            room.resize(to, 0);
        }
        room[from..to].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, _: u64, _: usize) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn finish(&self, _: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn abort(&self) {}
}
