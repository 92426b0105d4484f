//! Segments: files in memory or on disk whose ranges hold objects, and how they are mapped.
//!
//! The only module with `unsafe`. A segment is mapped as a whole, once for reading and once for
//! writing, when that is first needed; the mappings are kept, since filling a page that is mapped
//! already is ten times faster than faulting it in. Nobody outside sees an address: bytes are
//! reached through a [`Range`], which the allocator hands out once at a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// A file, in memory or on disk, that many objects share.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) size: u64,
    file: OwnedFd,
    read: OnceLock<Mapping>,
    write: OnceLock<Mapping>,
}

impl Segment {
    /// A segment in memory. Its size is sealed: nobody who gets the descriptor can shrink it under
    /// those who read it.
    pub(crate) fn in_memory(number: u32, size: u64) -> io::Result<Segment> {
        let name = format!("manyhands-{number}");
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&file, size)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Segment::over(file, number, size))
    }

    /// A segment in a file that has no name, so that nothing is left of it however the process
    /// ends. It takes no room until [`Range::reserve`].
    pub(crate) fn on_disk(number: u32, size: u64, dir: &Path) -> io::Result<Segment> {
        Ok(Segment::over(nameless_file(dir)?, number, size))
    }

    fn over(file: OwnedFd, number: u32, size: u64) -> Segment {
        Segment { number, size, file, read: OnceLock::new(), write: OnceLock::new() }
    }

    /// A descriptor for another process. One that is not `writable` is opened anew for reading, so
    /// that the kernel refuses to map it for writing.
    pub(crate) fn descriptor(&self, writable: bool) -> io::Result<OwnedFd> {
        if writable {
            return self.file.try_clone();
        }
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Gives the memory or the disk blocks of a range back to the system. Nobody may own a part of
    /// it. What is read there afterwards is zeros.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, offset, len)?)
    }

    fn mapping(&self, writable: bool) -> io::Result<&Mapping> {
        let slot = if writable { &self.write } else { &self.read };
        if let Some(mapping) = slot.get() {
            return Ok(mapping);
        }
        let mapping = Mapping::new(&self.file, self.size as usize, writable)?;
        // Of two threads that come here at once the second's mapping is dropped again.
        Ok(slot.get_or_init(|| mapping))
    }
}

/// Makes a file without a name in `dir`.
fn nameless_file(dir: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(dir, flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(file),
        // Some file systems (NFS, old overlayfs) cannot: there a name lives for a moment.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let count = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!(".manyhands-spill-{}-{count}", std::process::id()));
            let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
            rustix::fs::unlink(&path)?;
            Ok(file)
        }
        Err(error) => Err(error.into()),
    }
}

/// A whole segment in this process's address space.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address and a length. It is valid in every thread until it is dropped,
// and what may be done through it is decided by `Range`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &OwnedFd, len: usize, writable: bool) -> io::Result<Mapping> {
        let protection =
            if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let base = unsafe {
            let (null, shared) = (std::ptr::null_mut(), MapFlags::SHARED);
            rustix::mm::mmap(null, len, protection, shared, file.as_fd(), 0)?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mapping = Mapping { base, len };
        if writable {
            // A forked child must not be able to write into other people's objects.
            // SAFETY: the range is the mapping just made; the advice changes nothing in this
            // process.
            unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork)? };
        }
        Ok(mapping)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `Mapping::new` with this length. Every slice into it was
        // borrowed from a `Range`, which keeps its segment, and so this mapping, alive.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A part of a segment that has one owner.
///
/// That no two ranges overlap is what makes [`Range::fill`] sound, and it is the allocator's
/// promise: only [`crate::space`] makes ranges, from what it has taken out of its free list.
/// Another process can write to a range that was granted to it; it has been told to stop when the
/// range is published.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) segment: Arc<Segment>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Range {
    /// The range of `segment` at `offset`, which nobody else may own a part of.
    pub(crate) fn new(segment: Arc<Segment>, offset: u64, len: u64) -> Range {
        assert!(offset.checked_add(len).is_some_and(|end| end <= segment.size));
        Range { segment, offset, len }
    }

    /// Its bytes, to read where they lie.
    pub(crate) fn bytes(&self) -> io::Result<&[u8]> {
        let mapping = self.segment.mapping(false)?;
        // SAFETY: the range lies within the segment (asserted in `new`) and so within its mapping,
        // which lives as long as the segment that `self` keeps. Nobody writes there: `fill` needs
        // the only reference to this range, and a process that was granted it has published it.
        Ok(unsafe {
            let start = mapping.base.as_ptr().add(self.offset as usize);
            std::slice::from_raw_parts(start, self.len as usize)
        })
    }

    /// Its bytes, to write. They hold what was there before.
    pub(crate) fn fill(&mut self) -> io::Result<&mut [u8]> {
        let mapping = self.segment.mapping(true)?;
        // SAFETY: as in `bytes`; `&mut self` is the only way to the only range of these bytes, so
        // that no slice of them lives elsewhere in this process.
        Ok(unsafe {
            let start = mapping.base.as_ptr().add(self.offset as usize);
            std::slice::from_raw_parts_mut(start, self.len as usize)
        })
    }

    /// Copies to a part of it through the mapping. No other thread may touch that part meanwhile,
    /// nor anybody hold a slice of it: [`crate::filling`] keeps watch over that.
    pub(crate) fn copy_to(&self, from: u64, bytes: &[u8]) -> io::Result<()> {
        let mapping = self.segment.mapping(true)?;
        let end = from.checked_add(bytes.len() as u64);
        assert!(end.is_some_and(|end| end <= self.len), "beyond the end of a range");
        // SAFETY: the part lies within the range (asserted) and so within the mapping, which lives
        // as long as the segment that `self` keeps. `Filling::write_at`, the only caller, lets one
        // thread at a time have these bytes, and none after they were first read.
        unsafe {
            let start = mapping.base.as_ptr().add((self.offset + from) as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
        Ok(())
    }

    /// Makes sure that the file has room for the range: writing to a mapping of a full disk would
    /// kill the writer (SIGBUS).
    pub(crate) fn reserve(&self) -> io::Result<()> {
        let file = &self.segment.file;
        match rustix::fs::fallocate(file, FallocateFlags::empty(), self.offset, self.len) {
            Err(rustix::io::Errno::OPNOTSUPP) => self.write_zeros(),
            other => Ok(other?),
        }
    }

    fn write_zeros(&self) -> io::Result<()> {
        let zeros = vec![0; (self.len as usize).min(1 << 20)];
        let mut at = 0;
        while at < self.len {
            let part = &zeros[..zeros.len().min((self.len - at) as usize)];
            self.write_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes `bytes` at its start through the file, and not through a mapping: a full or broken
    /// disk is then an error and not a signal.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(0, bytes)
    }

    /// As [`Range::write`], one piece behind the other.
    pub(crate) fn write_pieces(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        let mut at = 0;
        for piece in pieces {
            self.write_at(at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes to a part of it through the file.
    pub(crate) fn write_at(&self, from: u64, mut bytes: &[u8]) -> io::Result<()> {
        let mut at = self.offset + from;
        assert!(at + bytes.len() as u64 <= self.offset + self.len);
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.segment.file, bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    at += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads from its start through the file until `into` is full.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<()> {
        let (mut done, len) = (0, into.len());
        assert!(len as u64 <= self.len);
        while done < len {
            let at = self.offset + done as u64;
            match rustix::io::pread(&self.segment.file, &mut into[done..], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_cannot_map_for_writing_nor_shrink() {
        let segment = Segment::in_memory(1, 1 << 16).unwrap();
        let reader = segment.descriptor(false).unwrap();
        assert!(Mapping::new(&reader, 1 << 16, false).is_ok());
        let refused = Mapping::new(&reader, 1 << 16, true).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let writer = segment.descriptor(true).unwrap();
        assert!(Mapping::new(&writer, 1 << 16, true).is_ok());
        assert!(rustix::fs::ftruncate(&writer, 0).is_err(), "the size is sealed");
    }

    #[test]
    fn what_is_written_is_what_is_read_and_no_child_inherits_the_way_to_write() {
        let segment = Arc::new(Segment::in_memory(77_001, 1 << 16).unwrap());
        let mut range = Range::new(segment, 4096, 8192);
        range.fill().unwrap().fill(3);
        assert!(range.bytes().unwrap().iter().all(|byte| *byte == 3));
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut own = maps.split("VmFlags").collect::<Vec<_>>();
        let flags: Vec<&str> = own.split_off(1);
        let written = maps.split("VmFlags").zip(flags).find(|(map, _)| {
            map.lines().any(|line| line.contains("rw-s") && line.contains("manyhands-77001"))
        });
        let line = written.expect("the mapping is in smaps").1.lines().next().unwrap();
        assert!(line.split_whitespace().any(|flag| flag == "dc"), "not DONTFORK: {line}");
    }

    #[test]
    fn what_is_punched_is_gone() {
        let segment = Arc::new(Segment::in_memory(1, 1 << 16).unwrap());
        let mut range = Range::new(segment.clone(), 0, 1 << 16);
        range.fill().unwrap().fill(3);
        segment.punch(0, 1 << 15).unwrap();
        let bytes = range.bytes().unwrap();
        assert_eq!((bytes[0], bytes[1 << 15]), (0, 3));
    }
}
