//! A file of the cache, mapped to be sent. The only module of this crate's programs with `unsafe`.

use std::fs::File;
use std::io;
use std::ptr::NonNull;

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags};

struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address and a length, valid in every thread until it is dropped, and only
// read.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the whole range is mapped until `self` is dropped. Nobody writes to the file: it
        // lies in the daemon's own directory, cannot be opened for writing, and is replaced by
        // renaming.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; slices of it are borrowed from `self`.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The content of a file of the cache.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    let len = file.metadata()?.len() as usize;
    if len == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
    let base = unsafe {
        let (null, flags) = (std::ptr::null_mut(), MapFlags::PRIVATE);
        rustix::mm::mmap(null, len, ProtFlags::READ, flags, file, 0)?
    };
    let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Bytes::from_owner(Mapping { base, len }))
}
