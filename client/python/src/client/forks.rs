//! Processes that were forked from one that has clients.
//!
//! A forked child has a copy of its parent's clients, and none of the threads behind them; their
//! locks may be held for ever. It is told so in words, and nothing of them is touched there, not
//! even to be freed.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use super::failures::misuse;

/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth(u32);

impl Birth {
    /// This process.
    pub(crate) fn here() -> Birth {
        static WATCH: Once = Once::new();
        // SAFETY: the handler does nothing but to count, which a handler of `fork` may do.
        WATCH.call_once(|| unsafe {
            libc::pthread_atfork(None, None, Some(count));
        });
        Birth(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this is the process that it was made in.
    pub(crate) fn is_here(self) -> bool {
        self.0 == FORKS.load(Ordering::Relaxed)
    }

    /// Fails in any other process than the one that it was made in.
    pub(crate) fn check(self) -> PyResult<()> {
        if self.is_here() { Ok(()) } else { Err(elsewhere()) }
    }
}

#[cold]
fn elsewhere() -> PyErr {
    misuse(
        "this client belongs to the process that this one was forked from: make a client here \
         (`manyhands.Client()`), or submit in the parent",
    )
}

extern "C" fn count() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
