//! The object store's segments as an executor maps them: for reading whole, once, and kept; for
//! writing only the extents that it was granted.
//!
//! The worker lets an extent be used again when the tasks that were given it have ended. A view that
//! a task keeps beyond its end is therefore taken off the extent there: private pages with the same
//! bytes take the place of the shared ones, at the same address ([`Segments::part`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use manyhands_proto::executor::Extent;
use rustc_hash::FxHashMap;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous,
    mprotect, mremap_fixed, munmap,
};

use crate::context;

/// Granted extents whose mappings are kept, since extents are used again and a kept mapping is ten
/// times as fast to fill. A process may have some 65,000 mappings.
const WINDOWS_LIMIT: usize = 1024;

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

    /// The bytes of an extent, where they lie, and whether somebody has them still.
    pub(crate) fn bytes(&mut self, extent: Extent) -> Result<(Bytes, Weak<View>), String> {
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
        let (offset, len) = (extent.offset as usize, extent.len as usize);
        let view = Arc::new(View { mapping, segment: extent.segment, offset, len });
        let alive = Arc::downgrade(&view);
        Ok((Bytes::from_owner(Viewed(view)), alive))
    }

    /// Takes those of the views that are still alive off their extents: the task that was given them
    /// has ended, and the extents may be written to as soon as the worker knows.
    pub(crate) fn part(&mut self, views: &[Weak<View>]) -> io::Result<()> {
        for view in views.iter().filter_map(Weak::upgrade) {
            view.mapping.make_private(view.offset, view.len)?;
            // Later tasks must see what is written there, so they get a mapping of their own.
            if let Some(segment) = self.readable.get_mut(&view.segment) {
                segment.mapping.take_if(|mapping| Arc::ptr_eq(mapping, &view.mapping));
            }
        }
        Ok(())
    }

    /// Writes bytes, one piece after the other, to the start of an extent that was granted.
    pub(crate) fn write(&mut self, extent: Extent, pieces: &[&[u8]]) -> Result<(), String> {
        let size = context::total(pieces);
        if size as u64 > extent.len {
            return Err(format!("{size} bytes do not fit into {}", extent.len));
        }
        let mut window = match self.take_window(extent) {
            Some(window) => window,
            None => {
                let window = self.open_window(extent)?;
                window.mapping.populate(size);
                window
            }
        };
        window.mapping.fill(pieces);
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
        let index = self.windows.iter().rposition(same)?;
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

/// A part of a segment that somebody reads.
pub(crate) struct View {
    mapping: Arc<Mapping>,
    segment: u32,
    offset: usize,
    len: usize,
}

/// A view as the owner of its bytes.
struct Viewed(Arc<View>);

impl AsRef<[u8]> for Viewed {
    fn as_ref(&self) -> &[u8] {
        let View { mapping, offset, len, .. } = &*self.0;
        // SAFETY: the range was checked to be in the segment, all of which is mapped for reading
        // while the mapping lives. The worker lets nobody write to an extent while a task that was
        // given it runs, and at its end `part` takes the view off the extent.
        unsafe { std::slice::from_raw_parts(mapping.start.add(*offset).as_ptr(), *len) }
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

    /// Copies the pieces to the start; the caller checked that they fit.
    fn fill(&mut self, pieces: &[&[u8]]) {
        let mut offset = 0;
        for piece in pieces {
            assert!(piece.len() <= self.len - offset, "a window is as long as its extent");
            // SAFETY: `len` bytes are mapped for writing, and nobody else has this extent.
            unsafe {
                let target = self.start.add(offset).as_ptr();
                std::ptr::copy_nonoverlapping(piece.as_ptr(), target, piece.len());
            }
            offset += piece.len();
        }
    }

    /// Faults the first `len` bytes in at once: half of what the faults would cost one by one.
    fn populate(&self, len: usize) {
        // SAFETY: the range is our own mapping; nothing that is there changes. What cannot be
        // populated (an old kernel) is faulted in when it is written.
        let _ = unsafe { madvise(self.start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
    }

    /// Puts private pages with the same bytes in the place of those of a range. Whoever reads there,
    /// in whatever thread, notices nothing. `offset` is a page's.
    fn make_private(&self, offset: usize, len: usize) -> io::Result<()> {
        let len = len.next_multiple_of(rustix::param::page_size()).min(self.len - offset);
        if len == 0 {
            return Ok(());
        }
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the copy is a new mapping that aliases nothing. Its pages replace those of the
        // range in one step of the kernel's, with the same bytes and the same rights, so that
        // references into the range stay valid and what they refer to stays unchanged. The mapping
        // is unmapped as a whole in any case.
        unsafe {
            let place = self.start.add(offset);
            let copy = mmap_anonymous(std::ptr::null_mut(), len, rights, MapFlags::PRIVATE)?;
            std::ptr::copy_nonoverlapping(place.as_ptr(), copy.cast(), len);
            let moved = mprotect(copy, len, MprotectFlags::READ).and_then(|()| {
                let flags = MremapFlags::MAYMOVE;
                mremap_fixed(copy, len, len, flags, place.as_ptr().cast())
            });
            if let Err(error) = moved {
                let _ = munmap(copy, len);
                return Err(error.into());
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(size: u64) -> OwnedFd {
        let file = rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, size).unwrap();
        file
    }

    #[test]
    fn a_view_that_is_kept_no_longer_follows_its_extent_and_its_neighbours_do() {
        let page = rustix::param::page_size();
        let file = segment(4 * page as u64);
        let write = |byte: u8, offset: usize, len: usize| {
            rustix::io::pwrite(&file, &vec![byte; len], offset as u64).unwrap();
        };
        let extent = |offset: usize, len: usize| Extent {
            segment: 7,
            offset: offset as u64,
            len: len as u64,
        };
        let mut segments = Segments::default();
        segments.announce(7, false, 4 * page as u64, file.try_clone().unwrap());
        write(1, 0, 4 * page);
        let (before, of_before) = segments.bytes(extent(0, page)).unwrap();
        let (kept, of_kept) = segments.bytes(extent(page, page + 10)).unwrap();
        let (gone, of_gone) = segments.bytes(extent(3 * page, page)).unwrap();
        drop(gone);
        segments.part(&[of_kept, of_gone]).unwrap();
        write(2, 0, 4 * page);
        assert!(kept.iter().all(|byte| *byte == 1), "it changed under its reader");
        assert!(before.iter().all(|byte| *byte == 2), "a task that runs still shares it");
        let (again, _) = segments.bytes(extent(page, page)).unwrap();
        assert!(again.iter().all(|byte| *byte == 2), "a later task sees what is there now");
        segments.part(&[of_before]).unwrap();
        write(3, 0, 4 * page);
        assert!(before.iter().all(|byte| *byte == 2));
    }

    #[test]
    fn what_is_written_into_a_grant_is_in_the_segment_and_its_mapping_is_kept() {
        let file = segment(1 << 20);
        let mut segments = Segments::default();
        segments.announce(1, true, 1 << 20, file.try_clone().unwrap());
        let extent = Extent { segment: 1, offset: 4096, len: 8192 };
        for byte in [5u8, 6] {
            segments.write(extent, &[&[byte; 3000], &[], &[byte; 5000]]).unwrap();
            let mut there = [0; 8000];
            rustix::io::pread(&file, &mut there, 4096).unwrap();
            assert_eq!((there, segments.windows.len()), ([byte; 8000], 1));
        }
        assert!(segments.write(extent, &[&[1; 8193]]).is_err());
        assert!(segments.write(Extent { offset: 1 << 20, ..extent }, &[&[1]]).is_err());
    }
}
