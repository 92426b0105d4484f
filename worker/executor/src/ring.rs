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
//! it back after it has changed it from fed to taken. Both by compare-and-swap, so one of them wins.
//! The count of mail puts ring and socket into one order: an entry comes after as many frames.
//!
//! Whoever is about to sleep sets its flag, looks once more, and sleeps; whoever has written clears
//! a set flag and wakes: so an awake side costs no system call. What the executor writes is checked
//! by the worker before it is used: an executor that scribbles here costs itself.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use manyhands_proto::TaskId;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex;
use thiserror::Error;

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

/// The worker's end.
pub struct WorkerEnd {
    map: Arc<Map>,
    down_head: u64,
    /// As last read.
    down_tail: u64,
    up_tail: u64,
    up_head: u64,
    next_interrupt: usize,
}

/// Where a task is in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

impl WorkerEnd {
    /// A new ring file, and its descriptor for the executor.
    pub fn create() -> io::Result<(WorkerEnd, OwnedFd)> {
        let file = memfd_create("manyhands-ring", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, FILE_SIZE as u64)?;
        let map = Arc::new(Map::new(&file)?);
        map.header().magic.store(MAGIC, Ordering::Release);
        let end = WorkerEnd {
            map,
            down_head: 0,
            down_tail: 0,
            up_tail: 0,
            up_head: 0,
            next_interrupt: 0,
        };
        Ok((end, file))
    }

    /// Feeds a task; `mail` frames were sent on the socket before it. `None`: no room now.
    pub fn feed(
        &mut self,
        kind: Kind,
        mail: u32,
        message: &[u8],
    ) -> Result<Option<Position>, Corrupt> {
        debug_assert!(message.len() <= MESSAGE_LIMIT);
        let entry = Entry { kind, mail, message };
        let mut head = self.map.write(Ring::Down, self.down_head, self.down_tail, &entry);
        if head.is_none() {
            self.read_down_tail()?;
            head = self.map.write(Ring::Down, self.down_head, self.down_tail, &entry);
        }
        let Some(head) = head else { return Ok(None) };
        self.down_head = head;
        self.map.header().tasks_written.0.0.store(head, Ordering::Release);
        Ok(Some(Position(head - entry_size(message.len()) as u64)))
    }

    fn read_down_tail(&mut self) -> Result<(), Corrupt> {
        let tail = self.map.header().tasks_done.0.0.load(Ordering::Acquire);
        if tail < self.down_tail || tail > self.down_head || !tail.is_multiple_of(ENTRY as u64) {
            return Err(Corrupt("down_tail is out of bounds"));
        }
        self.down_tail = tail;
        Ok(())
    }

    /// Takes a fed task back. `false`: the executor has claimed it.
    pub fn take_back(&self, position: Position) -> bool {
        let state = &self.map.entry(Ring::Down, position.0).state;
        state.compare_exchange(FED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the executor has claimed a task that has not been taken back and has not ended.
    pub fn is_claimed(&self, position: Position) -> bool {
        self.map.entry(Ring::Down, position.0).state.load(Ordering::Acquire) == CLAIMED
    }

    /// Says that `count` frames have been sent on the socket by now.
    pub fn set_mail(&self, count: u32) {
        self.map.header().tasks_written.0.1.store(count, Ordering::Release);
    }

    /// Wakes the executor if it sleeps, after tasks were fed or mail was sent.
    pub fn wake(&self) {
        let [bell, sleeps, _] = &self.map.header().bell.0;
        fence(Ordering::SeqCst);
        if sleeps.load(Ordering::SeqCst) == 1 && sleeps.swap(0, Ordering::SeqCst) == 1 {
            ring(bell);
        }
    }

    /// Copies the next end into `message` and gives its count of mail, or `None` if there is none.
    /// Its room is the executor's again after [`WorkerEnd::release`].
    pub fn next_end(&mut self, message: &mut Vec<u8>) -> Result<Option<u32>, Corrupt> {
        loop {
            if self.up_tail == self.up_head && !self.read_up_head()? {
                return Ok(None);
            }
            let entry = self.map.entry(Ring::Up, self.up_tail);
            let kind = entry.kind.load(Ordering::Relaxed);
            let len = entry.len.load(Ordering::Relaxed) as usize;
            let mail = entry.mail.load(Ordering::Relaxed);
            let (address, contiguous) = self.map.at(Ring::Up, self.up_tail);
            let size = entry_size(len.min(CAPACITY));
            if size > contiguous || self.up_tail + size as u64 > self.up_head {
                return Err(Corrupt("an end is longer than the ring is filled"));
            }
            self.up_tail += size as u64;
            if kind == PADDING {
                continue;
            }
            message.clear();
            message.reserve(len);
            // SAFETY: `len` bytes behind the entry's header are within the ring, `message` has room
            // for them, and bytes are valid whatever a broken executor writes meanwhile.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    address.add(ENTRY).as_ptr(),
                    message.as_mut_ptr(),
                    len,
                );
                message.set_len(len);
            }
            return Ok(Some(mail));
        }
    }

    /// Whether there is an end that has not been read.
    pub fn has_ends(&self) -> bool {
        self.map.header().ends_written.0.load(Ordering::Acquire) != self.up_tail
    }

    fn read_up_head(&mut self) -> Result<bool, Corrupt> {
        let head = self.map.header().ends_written.0.load(Ordering::Acquire);
        let filled = head.wrapping_sub(self.up_tail);
        if filled > CAPACITY as u64 || !head.is_multiple_of(ENTRY as u64) {
            return Err(Corrupt("up_head is out of bounds"));
        }
        self.up_head = head;
        Ok(filled > 0)
    }

    /// Gives the room of all ends that were read back to the executor, which may wait for it.
    pub fn release(&self) {
        let header = self.map.header();
        header.ends_read.0.store(self.up_tail, Ordering::Release);
        let [bell, _, wants_space] = &header.bell.0;
        fence(Ordering::SeqCst);
        if wants_space.load(Ordering::SeqCst) == 1 && wants_space.swap(0, Ordering::SeqCst) == 1 {
            ring(bell);
        }
    }

    /// Whether the executor shall write to the eventfd when it has written an end. After `true` the
    /// worker must look once more before it sleeps.
    pub fn set_sleeping(&self, sleeps: bool) {
        self.map.header().worker_sleeps.0.store(u32::from(sleeps), Ordering::SeqCst);
    }

    /// Names an attempt that shall stop. `true`: it is the one that the executor runs right now, and
    /// must be signalled (the executor will wait for the signal if the attempt ends first).
    pub fn interrupt(&mut self, fingerprint: u64) -> bool {
        let (cells, signal_due) = &self.map.header().interrupts.0;
        signal_due.store(1, Ordering::SeqCst);
        cells[self.next_interrupt].store(fingerprint, Ordering::SeqCst);
        self.next_interrupt = (self.next_interrupt + 1) % cells.len();
        fence(Ordering::SeqCst);
        let running = self.map.header().tasks_done.0.1.load(Ordering::SeqCst) == fingerprint;
        if !running {
            signal_due.store(0, Ordering::SeqCst);
        }
        running
    }
}

fn ring(bell: &AtomicU32) {
    bell.fetch_add(1, Ordering::SeqCst);
    // Waking fails only for addresses that are not mapped.
    let _ = futex::wake(bell, futex::Flags::empty(), 1);
}

/// The executor's end of the tasks.
pub struct Tasks {
    map: Arc<Map>,
    tail: u64,
    /// As last read.
    head: Cell<u64>,
}

/// The executor's end of the ends, and of the words.
pub struct Ends {
    map: Arc<Map>,
    head: u64,
    /// As last read.
    tail: u64,
}

/// A task that was claimed, or taken back while it was on the socket.
#[derive(Debug)]
pub struct Claim {
    /// What the entry is.
    pub kind: Kind,
    /// It was taken back: skip it.
    pub taken: bool,
    /// Frames that must have been read from the socket before it runs.
    pub mail: u32,
    position: u64,
    len: usize,
}

/// Opens a ring file as the executor.
pub fn open(file: impl AsFd) -> io::Result<(Tasks, Ends)> {
    let map = Arc::new(Map::new(file)?);
    if map.header().magic.load(Ordering::Acquire) != MAGIC {
        return Err(io::Error::other("the ring file has another layout"));
    }
    Ok((Tasks { map: map.clone(), tail: 0, head: Cell::new(0) }, Ends { map, head: 0, tail: 0 }))
}

impl Tasks {
    /// Whether there is an entry, claimable or not.
    pub fn has_more(&self) -> bool {
        self.is_written(self.tail)
    }

    /// What lies behind a claimed task, if anything does: not claimed, so a hint at most.
    pub fn behind(&self, claim: &Claim) -> Option<&[u8]> {
        let position = claim.end();
        if !self.is_written(position) {
            return None;
        }
        let len = self.map.entry(Ring::Down, position).len.load(Ordering::Relaxed) as usize;
        let (address, contiguous) = self.map.at(Ring::Down, position);
        let len = len.min(contiguous - ENTRY);
        // SAFETY: within the ring; it was written before the head was, and the worker does not write
        // there again before it is released, which needs `self` to be borrowed by nobody.
        Some(unsafe { std::slice::from_raw_parts(address.add(ENTRY).as_ptr(), len) })
    }

    fn is_written(&self, position: u64) -> bool {
        if position == self.head.get() {
            self.head.set(self.map.header().tasks_written.0.0.load(Ordering::Acquire));
        }
        position != self.head.get()
    }

    /// How many frames the worker has sent on the socket.
    pub fn mail(&self) -> u32 {
        self.map.header().tasks_written.0.1.load(Ordering::Acquire)
    }

    /// Claims the next task. Those that were taken back are skipped, but for those on the socket.
    pub fn claim(&mut self) -> Result<Option<Claim>, Corrupt> {
        while self.has_more() {
            let entry = self.map.entry(Ring::Down, self.tail);
            let kind = entry.kind.load(Ordering::Relaxed);
            let len = entry.len.load(Ordering::Relaxed) as usize;
            let (_, contiguous) = self.map.at(Ring::Down, self.tail);
            if entry_size(len.min(CAPACITY)) > contiguous {
                return Err(Corrupt("a task is longer than the ring"));
            }
            let state = &entry.state;
            let claimed = kind != PADDING
                && state
                    .compare_exchange(FED, CLAIMED, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
            let kind = if kind == 1 { Kind::OnSocket } else { Kind::Message };
            let mail = entry.mail.load(Ordering::Relaxed);
            let claim = Claim { kind, taken: !claimed, mail, position: self.tail, len };
            if claimed || kind == Kind::OnSocket {
                return Ok(Some(claim));
            }
            self.release(claim);
        }
        Ok(None)
    }

    /// The message of a claimed task, where it lies.
    pub fn message(&self, claim: &Claim) -> &[u8] {
        let (address, _) = self.map.at(Ring::Down, claim.position);
        // SAFETY: `claim` checked that the message is within the ring; the worker does not write
        // there before `release`, which needs `self` to be borrowed by nobody.
        unsafe { std::slice::from_raw_parts(address.add(ENTRY).as_ptr(), claim.len) }
    }

    /// Gives the room of a task that is done with back to the worker.
    pub fn release(&mut self, claim: Claim) {
        self.tail = claim.end();
        self.map.header().tasks_done.0.0.store(self.tail, Ordering::Release);
    }

    /// Sleeps until the worker rings, unless `awake` says that there is something to do: it is asked
    /// after the flag is set.
    pub fn sleep(&mut self, awake: impl FnOnce(&Tasks) -> bool) {
        let map = self.map.clone();
        let [bell, sleeps, _] = &map.header().bell.0;
        let heard = bell.load(Ordering::SeqCst);
        sleeps.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if !awake(self) {
            // Interrupted, or rung before it began: the caller looks again in any case.
            let _ = futex::wait(bell, futex::Flags::empty(), heard, None);
        }
        sleeps.store(0, Ordering::SeqCst);
    }
}

impl Claim {
    fn end(&self) -> u64 {
        self.position + entry_size(self.len) as u64
    }
}

impl Ends {
    /// Writes an end, visible at once; `mail` frames were sent on the socket before it. `false`: no
    /// room.
    pub fn push(&mut self, mail: u32, message: &[u8]) -> bool {
        let entry = Entry { kind: Kind::Message, mail, message };
        let mut head = self.map.write(Ring::Up, self.head, self.tail, &entry);
        if head.is_none() {
            self.tail = self.map.header().ends_read.0.load(Ordering::Acquire);
            head = self.map.write(Ring::Up, self.head, self.tail, &entry);
        }
        let Some(head) = head else { return false };
        self.head = head;
        self.map.header().ends_written.0.store(head, Ordering::Release);
        true
    }

    /// Whether the worker sleeps and must be woken by its eventfd; asked after [`Ends::push`].
    pub fn worker_sleeps(&self) -> bool {
        fence(Ordering::SeqCst);
        self.map.header().worker_sleeps.0.load(Ordering::SeqCst) == 1
    }

    /// Clears the worker's flag. `true`: it was set, so the caller writes to the eventfd.
    pub fn wake_worker(&self) -> bool {
        fence(Ordering::SeqCst);
        let flag = &self.map.header().worker_sleeps.0;
        flag.load(Ordering::SeqCst) == 1 && flag.swap(0, Ordering::SeqCst) == 1
    }

    /// Sleeps until the worker has read some ends, or `limit` has passed.
    pub fn wait_for_space(&mut self, limit: Duration) {
        let [bell, _, wants_space] = &self.map.header().bell.0;
        let heard = bell.load(Ordering::SeqCst);
        wants_space.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.map.header().ends_read.0.load(Ordering::SeqCst) == self.tail {
            let limit = futex::Timespec {
                tv_sec: limit.as_secs() as _,
                tv_nsec: limit.subsec_nanos().into(),
            };
            let _ = futex::wait(bell, futex::Flags::empty(), heard, Some(&limit));
        }
        wants_space.store(0, Ordering::SeqCst);
    }

    /// Says which attempt runs (its [`fingerprint`]), 0 for none.
    pub fn set_current(&self, fingerprint: u64) {
        self.map.header().tasks_done.0.1.store(fingerprint, Ordering::SeqCst);
    }

    /// Whether the worker wants this attempt to stop.
    pub fn is_interrupted(&self, fingerprint: u64) -> bool {
        let (cells, _) = &self.map.header().interrupts.0;
        cells.iter().any(|cell| cell.load(Ordering::Relaxed) == fingerprint)
    }

    /// Whether a signal is on its way. Asked after the attempt that it is meant for has left
    /// `current`, so that the answer cannot become `true` later.
    pub fn signal_is_due(&self) -> bool {
        self.map.header().interrupts.0.1.load(Ordering::SeqCst) == 1
    }

    /// The word that a signal handler sets to 0.
    pub(crate) fn signal_due_word(&self) -> *const AtomicU32 {
        &self.map.header().interrupts.0.1
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
