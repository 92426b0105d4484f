//! The object store's segments as an executor maps them: for reading whole, once, and kept; for
//! writing only the extents that it was granted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::executor::Extent;
use rustc_hash::FxHashMap;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// Granted extents whose mappings are kept, since extents are used again and a kept mapping is ten
/// times as fast to fill.
const WINDOWS_LIMIT: usize = 64;

/// The segments that the worker has announced.
#[derive(Default)]
pub(crate) struct Segments {
    readable: FxHashMap<u32, Readable>,
    writable: FxHashMap<u32, (OwnedFd, u64)>,
    /// The one used last is last.
    windows: Vec<Window>,
}

struct Readable {
    file: OwnedFd,
    size: u64,
    mapping: Option<Arc<Mapping>>,
}

struct Window {
    segment: u32,
    offset: u64,
    mapping: Mapping,
}

impl Segments {
    pub(crate) fn announce(&mut self, segment: u32, writable: bool, size: u64, file: OwnedFd) {
        if writable {
            self.writable.insert(segment, (file, size));
        } else {
            self.readable.insert(segment, Readable { file, size, mapping: None });
        }
    }

    /// Forgets a segment. Its mapping goes when the last value in it does.
    pub(crate) fn forget(&mut self, segment: u32) {
        self.readable.remove(&segment);
        self.writable.remove(&segment);
        self.windows.retain(|window| window.segment != segment);
    }

    /// The bytes of an extent, where they lie.
    pub(crate) fn bytes(&mut self, extent: Extent) -> Result<Bytes, String> {
        let segment = self.readable.get_mut(&extent.segment);
        let segment =
            segment.ok_or_else(|| format!("segment {} was never announced", extent.segment))?;
        check(extent, segment.size)?;
        let mapping = match &segment.mapping {
            Some(mapping) => mapping.clone(),
            None => {
                let rights = ProtFlags::READ;
                let mapping = Mapping::new(segment.file.as_fd(), 0, segment.size, rights);
                let mapping =
                    mapping.map_err(|error| format!("segment {} : {error}", extent.segment))?;
                segment.mapping.insert(Arc::new(mapping)).clone()
            }
        };
        let range = extent.offset as usize..(extent.offset + extent.len) as usize;
        Ok(Bytes::from_owner(Whole(mapping)).slice(range))
    }

    /// Writes bytes to the start of an extent that was granted.
    pub(crate) fn write(&mut self, extent: Extent, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() as u64 > extent.len {
            return Err(format!("{} bytes do not fit into {}", bytes.len(), extent.len));
        }
        let mut window = match self.take_window(extent) {
            Some(window) => window,
            None => self.open_window(extent)?,
        };
        window.mapping.fill(bytes);
        if self.windows.len() >= WINDOWS_LIMIT {
            self.windows.remove(0);
        }
        self.windows.push(window);
        Ok(())
    }

    fn take_window(&mut self, extent: Extent) -> Option<Window> {
        let same = |window: &Window| {
            window.segment == extent.segment
                && window.offset == extent.offset
                && window.mapping.len as u64 >= extent.len
        };
        let index = self.windows.iter().position(same)?;
        Some(self.windows.remove(index))
    }

    fn open_window(&mut self, extent: Extent) -> Result<Window, String> {
        let Extent { segment, offset, len } = extent;
        let (file, size) = self
            .writable
            .get(&segment)
            .ok_or_else(|| format!("segment {segment} was never announced for writing"))?;
        check(extent, *size)?;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        let mapping = Mapping::new(file.as_fd(), offset, len, rights)
            .map_err(|error| format!("segment {segment}: {error}"))?;
        // What a task forks must not write into other tasks' values. Refused by no kernel we run on.
        mapping.not_for_children();
        Ok(Window { segment, offset, mapping })
    }
}

fn check(extent: Extent, size: u64) -> Result<(), String> {
    match extent.offset.checked_add(extent.len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(format!("{extent:?} is outside its segment of {size} bytes")),
    }
}

struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process; it is written through `&mut` alone.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A whole segment as the owner of the bytes in it.
struct Whole(Arc<Mapping>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped for reading while the mapping lives. The worker lets
        // nobody write to an extent while a task that was given it runs.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len) }
    }
}

impl Mapping {
    fn new(file: BorrowedFd<'_>, offset: u64, len: u64, rights: ProtFlags) -> io::Result<Mapping> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let start =
            unsafe { mmap(std::ptr::null_mut(), len, rights, MapFlags::SHARED, file, offset)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    /// Copies `bytes` to the start; the caller checked that they fit.
    fn fill(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len, "a window is as long as its extent");
        // SAFETY: `len` bytes are mapped for writing, and nobody else has this extent.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr(), bytes.len());
        }
    }

    fn not_for_children(&self) {
        // SAFETY: the range is our own mapping; the advice changes what a fork copies, and no data.
        let _ = unsafe { madvise(self.start.as_ptr().cast(), self.len, Advice::LinuxDontFork) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; nobody holds a reference into it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
