//! The ring file: tasks down, ends up, in memory that the worker and one executor share.
//!
//! A memfd of [`FILE_SIZE`] bytes: one page of words, then two rings of [`CAPACITY`] bytes, tasks
//! first. Each ring has one writer and one reader. All words are little endian and atomic.
//!
//! | offset | type | written by | what |
//! | --- | --- | --- | --- |
//! | 0 | u32 | worker | [`MAGIC`] |
//! | 128 | u64 | worker | `down_head`: bytes of tasks ever written |
//! | 136 | u32 | worker | `mail`: frames ever sent down the control socket (wraps) |
//! | 192 | u64 | worker | `up_tail`: bytes of ends ever read |
//! | 256 | u64 | executor | `down_tail`: bytes of tasks ever done with |
//! | 264 | u64 | executor | `current`: fingerprint of the innermost running attempt, 0 for none |
//! | 320 | u64 | executor | `up_head`: bytes of ends ever written |
//! | 384 | u32 | worker | `bell`: futex that a sleeping executor waits on |
//! | 388 | u32 | both | `executor_sleeps`: 1 while the executor wants the bell |
//! | 392 | u32 | both | `wants_space`: 1 while the executor waits for room in the ring of ends |
//! | 448 | u32 | both | `worker_sleeps`: 1 while the worker wants its eventfd written |
//! | 512 | 4 × u64 | worker | `interrupts`: fingerprints of the attempts that shall stop |
//! | 544 | u32 | both | `signal_due`: 1 from when the worker decides to signal until the signal came |
//!
//! An entry begins at a multiple of 16 and never wraps around the end of its ring:
//!
//! | offset | type | what |
//! | --- | --- | --- |
//! | 0 | u32 | state: 0 fed, 1 claimed, 2 taken back (ends: always 0) |
//! | 4 | u32 | kind: 0 a message, 1 it is on the socket ([`Kind::OnSocket`]), 2 nothing, up to the end |
//! | 8 | u32 | length of the message in bytes |
//! | 12 | u32 | mail: frames that its writer had sent on the control socket before it |
//! | 16 | | the message, padded to a multiple of 16 |
//!
//! The executor may run an entry after it has changed its state from fed to claimed; the worker has
//! it back after it has changed it from fed to taken. Both by compare-and-swap, so one of them
//! wins. The count of mail puts ring and socket into one order: an entry comes after as many
//! frames.
//!
//! Whoever is about to sleep sets its flag, looks once more, and sleeps; whoever has written clears
//! a set flag and wakes: so an awake side costs no system call. What the executor writes is checked
//! by the worker before it is used: an executor that scribbles here costs itself.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use manyhands_proto::TaskId;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use thiserror::Error;

mod executor_end;
mod worker_end;

pub(crate) use executor_end::Signalled;
pub use executor_end::{Claim, Ends, Tasks, open};
pub use worker_end::{Position, WorkerEnd};

/// Bytes of each ring.
pub const CAPACITY: usize = 256 << 10;
/// The largest message that goes into a ring, in bytes; larger ones go over the control socket.
pub const MESSAGE_LIMIT: usize = CAPACITY / 4;
/// Bytes of the file.
pub const FILE_SIZE: usize = PAGE + 2 * CAPACITY;
/// The first word of the file: the layout's version is its last digit.
pub const MAGIC: u32 = 0x6d68_7201;

const PAGE: usize = 4096;
const ENTRY: usize = 16;
const FED: u32 = 0;
const CLAIMED: u32 = 1;
const TAKEN: u32 = 2;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// The place of a task that was too large for the ring and travels over the socket.
    OnSocket,
}

const PADDING: u32 = 2;

/// The other side wrote something into the ring file that breaks its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the ring file is corrupt: {0}")]
pub struct Corrupt(pub &'static str);

#[repr(C, align(64))]
struct Words<T>(T);

#[repr(C)]
struct Header {
    magic: AtomicU32,
    _0: [u8; 124],
    tasks_written: Words<(AtomicU64, AtomicU32)>,
    ends_read: Words<AtomicU64>,
    tasks_done: Words<(AtomicU64, AtomicU64)>,
    ends_written: Words<AtomicU64>,
    bell: Words<[AtomicU32; 3]>,
    worker_sleeps: Words<AtomicU32>,
    interrupts: Words<([AtomicU64; 4], AtomicU32)>,
}

// The table above is the contract with other languages.
const _: () = {
    assert!(std::mem::offset_of!(Header, tasks_written) == 128);
    assert!(std::mem::offset_of!(Header, ends_read) == 192);
    assert!(std::mem::offset_of!(Header, tasks_done) == 256);
    assert!(std::mem::offset_of!(Header, ends_written) == 320);
    assert!(std::mem::offset_of!(Header, bell) == 384);
    assert!(std::mem::offset_of!(Header, worker_sleeps) == 448);
    assert!(std::mem::offset_of!(Header, interrupts) == 512);
    assert!(std::mem::offset_of!((AtomicU64, AtomicU32), 0) == 0);
};

#[repr(C)]
struct EntryHeader {
    state: AtomicU32,
    kind: AtomicU32,
    len: AtomicU32,
    mail: AtomicU32,
}

/// The file, mapped.
struct Map {
    start: NonNull<u8>,
}

// SAFETY: the mapping belongs to the process and not to a thread; all that several threads or
// processes touch at the same time is atomic, and a message is owned by one side at a time.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

#[derive(Clone, Copy)]
enum Ring {
    Down,
    Up,
}

impl Map {
    fn new(file: impl AsFd) -> io::Result<Map> {
        let (flags, rights) = (MapFlags::SHARED, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let start =
            unsafe { mmap(std::ptr::null_mut(), FILE_SIZE, rights, flags, file.as_fd(), 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { start })
    }

    fn header(&self) -> &Header {
        // SAFETY: the first page is mapped, aligned, and holds atomics alone; any bits are valid.
        unsafe { self.start.cast::<Header>().as_ref() }
    }

    /// The address of a position in a ring, with what is left up to the ring's end.
    fn at(&self, ring: Ring, position: u64) -> (NonNull<u8>, usize) {
        let base = PAGE + if matches!(ring, Ring::Down) { 0 } else { CAPACITY };
        let offset = position as usize % CAPACITY;
        // SAFETY: base + offset < FILE_SIZE, all of which is mapped.
        (unsafe { self.start.add(base + offset) }, CAPACITY - offset)
    }

    fn entry(&self, ring: Ring, position: u64) -> &EntryHeader {
        debug_assert!(position.is_multiple_of(ENTRY as u64));
        let (address, _) = self.at(ring, position);
        // SAFETY: positions are multiples of 16 and so is the capacity: 16 bytes are there, they
        // are aligned, and atomics are valid with any bits.
        unsafe { address.cast::<EntryHeader>().as_ref() }
    }

    /// Writes an entry at `position` and gives the position behind it, or `None` if the ring, read
    /// up to `tail`, has no room. The caller publishes the new position.
    fn write(&self, ring: Ring, position: u64, tail: u64, entry: &Entry<'_>) -> Option<u64> {
        let size = entry_size(entry.message.len());
        let (_, contiguous) = self.at(ring, position);
        let padding = if contiguous < size { contiguous } else { 0 };
        if position + (padding + size) as u64 - tail > CAPACITY as u64 {
            return None;
        }
        if padding > 0 {
            let header = self.entry(ring, position);
            header.kind.store(PADDING, Ordering::Relaxed);
            header.len.store((padding - ENTRY) as u32, Ordering::Relaxed);
            header.state.store(FED, Ordering::Relaxed);
        }
        let position = position + padding as u64;
        let header = self.entry(ring, position);
        header.kind.store(u32::from(entry.kind == Kind::OnSocket), Ordering::Relaxed);
        header.len.store(entry.message.len() as u32, Ordering::Relaxed);
        header.mail.store(entry.mail, Ordering::Relaxed);
        header.state.store(FED, Ordering::Relaxed);
        let (address, _) = self.at(ring, position);
        // SAFETY: `size` bytes from here are within the ring, and the reader does not look at them
        // before the new head is published.
        unsafe {
            let target = address.add(ENTRY).as_ptr();
            std::ptr::copy_nonoverlapping(entry.message.as_ptr(), target, entry.message.len());
        }
        Some(position + size as u64)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; nobody holds a reference into it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), FILE_SIZE) };
    }
}

struct Entry<'a> {
    kind: Kind,
    mail: u32,
    message: &'a [u8],
}

fn entry_size(len: usize) -> usize {
    ENTRY + len.next_multiple_of(ENTRY)
}

/// What names an attempt in the words `current` and `interrupts`: never 0.
pub fn fingerprint(task: TaskId, attempt: u32) -> u64 {
    fn mix(x: u64) -> u64 {
        let x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        x ^ (x >> 32)
    }
    let job = task.job.0.as_u128();
    let job = (job as u64) ^ (job >> 64) as u64;
    mix(mix(mix(job ^ task.lane.0) ^ task.seq) ^ u64::from(attempt)) | 1
}

#[cfg(test)]
mod tests;
