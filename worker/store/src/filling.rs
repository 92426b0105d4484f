//! Filling an extent piece by piece, from several threads, while others may already read what is
//! there.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use manyhands_proto::executor::Extent;

use crate::space::Lease;
use crate::view;

/// An extent that is being filled by this process. Dropped without
/// [`Store::finish`](crate::Store::finish), it is free again when its last reader has let go.
#[derive(Debug)]
pub struct Filling {
    pub(crate) lease: Arc<Lease>,
    pub(crate) on_disk: bool,
    pub(crate) size: u64,
    pieces: Mutex<Pieces>,
}

/// Who may touch which bytes. What is being written is nobody else's, and what somebody reads is
/// never written again: that holds whatever the callers do.
#[derive(Debug, Default)]
struct Pieces {
    writing: Vec<(u64, u64)>,
    /// Sorted, disjoint, not adjacent.
    read: Vec<(u64, u64)>,
}

impl Pieces {
    /// Whether these bytes may be written now.
    fn are_free(&self, start: u64, end: u64) -> bool {
        let after = self.read.partition_point(|piece| piece.1 <= start);
        let unread = self.read.get(after).is_none_or(|piece| end <= piece.0);
        unread && self.are_still(start, end)
    }

    /// Whether nobody writes these bytes now.
    fn are_still(&self, start: u64, end: u64) -> bool {
        self.writing.iter().all(|piece| end <= piece.0 || piece.1 <= start)
    }

    fn freeze(&mut self, start: u64, end: u64) {
        let from = self.read.partition_point(|piece| piece.1 < start);
        let to = self.read.partition_point(|piece| piece.0 <= end);
        let first = self.read[from..to].first().map_or(start, |piece| piece.0.min(start));
        let last = self.read[from..to].last().map_or(end, |piece| piece.1.max(end));
        self.read.splice(from..to, [(first, last)]);
    }
}

impl Filling {
    pub(crate) fn new(lease: Lease, on_disk: bool, size: u64) -> Filling {
        Filling { lease: Arc::new(lease), on_disk, size, pieces: Mutex::default() }
    }

    /// Where it lies; `len` is the object's size.
    pub fn extent(&self) -> Extent {
        self.lease.extent(self.size)
    }

    /// Writes there. Refused are bytes beyond the size, bytes that another thread writes at this
    /// moment, and bytes that somebody has read.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let piece = self.piece(offset, bytes.len())?;
        if piece.0 == piece.1 {
            return Ok(());
        }
        {
            let mut pieces = self.lock();
            if !pieces.are_free(piece.0, piece.1) {
                return Err(io::Error::other("these bytes are being written, or have been read"));
            }
            pieces.writing.push(piece);
        }
        let written = match self.on_disk {
            true => self.lease.write_at(offset, bytes),
            // Until it leaves the list this thread alone touches the piece.
            false => self.lease.copy_to(offset, bytes),
        };
        self.lock().writing.retain(|other| *other != piece);
        written
    }

    /// What lies there: as it was written, if it was, and whatever was there before if not. It
    /// cannot be written again.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let piece = self.piece(offset, length)?;
        {
            let mut pieces = self.lock();
            if !pieces.are_still(piece.0, piece.1) {
                return Err(io::Error::other("these bytes are being written"));
            }
            pieces.freeze(piece.0, piece.1);
        }
        let whole = view(self.lease.clone(), self.size).map_err(io::Error::other)?;
        Ok(whole.slice(piece.0 as usize..piece.1 as usize))
    }

    /// Nothing is written from now on.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut pieces = self.lock();
        if !pieces.writing.is_empty() {
            return Err(io::Error::other("the object is still being written"));
        }
        pieces.freeze(0, self.size);
        Ok(())
    }

    fn piece(&self, offset: u64, length: usize) -> io::Result<(u64, u64)> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.size => Ok((offset, end)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the object")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_stays_and_neighbours_become_one() {
        let mut pieces = Pieces::default();
        for (start, end) in [(10, 20), (30, 40), (20, 25), (0, 5), (24, 31)] {
            pieces.freeze(start, end);
        }
        assert_eq!(pieces.read, [(0, 5), (10, 40)]);
        assert!(pieces.are_free(5, 10) && pieces.are_free(40, 50));
        assert!(!pieces.are_free(4, 6) && !pieces.are_free(39, 41) && !pieces.are_free(12, 13));
    }
}
