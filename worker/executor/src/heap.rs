//! How an executor's heap keeps memory: what one task has freed serves the next one.
//!
//! The C library gives a large block back to the system when it is freed and faults the next one in
//! page by page, which costs three times as much as to fill it. An executor runs one task after the
//! other, so it keeps such memory, up to [`KEPT`] bytes, and gives it back when it has had nothing
//! to do for [`IDLE`].

use std::time::Duration;

/// Bytes of freed memory that are kept, and the size up to which blocks come from the heap.
const KEPT: i32 = 128 << 20;

/// The threshold that old versions of the C library accept at most.
const OLD_LIMIT: i32 = 32 << 20;

/// How long an executor does nothing before it gives memory back.
const IDLE: Duration = Duration::from_secs(1);

/// Tasks that are shorter than this have not filled much memory.
const SHORT: Duration = Duration::from_micros(500);

/// Has freed memory kept, in this process, from now on. Called while there is one thread.
pub(crate) fn keep_freed() {
    // SAFETY: sets limits of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        // Other heaps than the first are too small for large blocks, and the thread that runs tasks
        // would get one.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        if libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT) == 0 {
            libc::mallopt(libc::M_MMAP_THRESHOLD, OLD_LIMIT);
        }
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Whether the heap may keep much.
#[derive(Default)]
pub(crate) struct Heap {
    used: bool,
}

impl Heap {
    /// A task has run for this long.
    pub(crate) fn ran(&mut self, took: Duration) {
        self.used |= took > SHORT;
    }

    /// How long to sleep before there is something to give back.
    pub(crate) fn before_sleep(&self) -> Option<Duration> {
        self.used.then_some(IDLE)
    }

    /// Gives memory back if nobody rang meanwhile.
    pub(crate) fn after_sleep(&mut self, rung: bool) {
        if !rung && std::mem::take(&mut self.used) {
            // SAFETY: gives back what nobody uses.
            #[cfg(target_env = "gnu")]
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }
}
