//! The ring file as the worker has it: feeds, takes back, reads ends. Nothing that the executor has
//! written is used unchecked.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::thread::futex;

use super::{
    CAPACITY, CLAIMED, Corrupt, ENTRY, Entry, FED, FILE_SIZE, Kind, MAGIC, MESSAGE_LIMIT, Map,
    PADDING, Ring, TAKEN, entry_size,
};

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

    /// Names an attempt that shall stop. `true`: it is the one that the executor runs right now,
    /// and must be signalled (the executor will wait for the signal if the attempt ends first).
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
