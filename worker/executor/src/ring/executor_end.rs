//! The ring file as the executor has it: claims tasks, writes ends, sleeps.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use rustix::thread::futex;

use super::{
    CAPACITY, CLAIMED, Corrupt, ENTRY, Entry, FED, Kind, MAGIC, Map, PADDING, Ring, entry_size,
};

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
        // SAFETY: within the ring; it was written before the head was, and the worker does not
        // write there again before it is released, which needs `self` to be borrowed by nobody.
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

    /// Sleeps until the worker rings or `limit` has passed, unless `awake` says that there is
    /// something to do: it is asked after the flag is set. `false`: the time was over first.
    pub fn sleep(&mut self, limit: Option<Duration>, awake: impl FnOnce(&Tasks) -> bool) -> bool {
        let map = self.map.clone();
        let [bell, sleeps, _] = &map.header().bell.0;
        let heard = bell.load(Ordering::SeqCst);
        sleeps.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let mut rung = true;
        if !awake(self) {
            let limit = limit.map(timespec);
            // Interrupted, or rung before it began: the caller looks again in any case.
            let slept = futex::wait(bell, futex::Flags::empty(), heard, limit.as_ref());
            rung = slept != Err(rustix::io::Errno::TIMEDOUT);
        }
        sleeps.store(0, Ordering::SeqCst);
        rung
    }
}

fn timespec(limit: Duration) -> futex::Timespec {
    let tv_sec = limit.as_secs().try_into().unwrap_or(i64::MAX);
    futex::Timespec { tv_sec, tv_nsec: limit.subsec_nanos().into() }
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
            let _ = futex::wait(bell, futex::Flags::empty(), heard, Some(&timespec(limit)));
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

    /// What a signal handler needs of the ring file, which stays mapped for it.
    pub(crate) fn signalled(&self) -> Signalled {
        Signalled(self.map.clone())
    }
}

/// The ring file as a signal handler uses it.
pub(crate) struct Signalled(Arc<Map>);

impl Signalled {
    /// The signal that was on its way has come. `true`: it is the current attempt that shall stop.
    /// Async-signal-safe.
    pub(crate) fn arrived(&self) -> bool {
        let header = self.0.header();
        let (cells, due) = &header.interrupts.0;
        due.store(0, Ordering::SeqCst);
        let current = header.tasks_done.0.1.load(Ordering::SeqCst);
        current != 0 && cells.iter().any(|cell| cell.load(Ordering::SeqCst) == current)
    }
}
