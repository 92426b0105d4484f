//! Who is told of ends in the order in which they come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands::{Error, foreign};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

use super::forks::Birth;
use super::future::Future;
use super::reading;

/// Tells which futures have ended, in the order of their ends. It keeps futures until then, and no
/// client.
#[pyclass(frozen, weakref, module = "manyhands._core")]
pub struct Watch {
    watch: Arc<foreign::Watch>,
    pending: Mutex<FxHashMap<u64, Py<Future>>>,
    closed: AtomicBool,
    /// It is of the running task's own client.
    is_task: bool,
    birth: Birth,
}

impl Watch {
    pub(super) fn new(watch: foreign::Watch, is_task: bool) -> Watch {
        Watch {
            watch: Arc::new(watch),
            pending: Mutex::default(),
            closed: AtomicBool::new(false),
            is_task,
            birth: Birth::here(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, FxHashMap<u64, Py<Future>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.birth.is_here() {
            // Never freed: its session is that of another process.
            std::mem::forget(self.watch.clone());
        }
    }
}

#[pymethods]
impl Watch {
    /// One more future whose end is to be told.
    fn add(&self, future: Bound<'_, Future>) -> PyResult<()> {
        self.birth.check()?;
        let object = future.get().object()?;
        // Its end is not told before it is entered.
        let mut pending = self.pending();
        let number = self.watch.add(object);
        pending.insert(number, future.clone().unbind());
        Ok(())
    }

    /// Those that have ended since the last call; waits for the first. Empty when the time is over,
    /// None when the watch was closed or, unless `keep` says so, nothing is left to wait for.
    #[pyo3(signature = (timeout=None, keep=false))]
    fn next(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        keep: bool,
    ) -> PyResult<Option<Vec<Py<Future>>>> {
        self.birth.check()?;
        let is_over = || self.closed.load(Ordering::SeqCst) || (!keep && self.pending().is_empty());
        if is_over() {
            return Ok(None);
        }
        let numbers = reading::in_slices(py, self.is_task, reading::deadline(timeout), |until| {
            let numbers = match self.watch.next(until) {
                // Nothing more will end.
                Err(Error::Closed { .. }) => return Ok(Some(Vec::new())),
                numbers => numbers?,
            };
            Ok((!numbers.is_empty() || self.closed.load(Ordering::SeqCst)).then_some(numbers))
        })?;
        if numbers.as_ref().is_some_and(|numbers| numbers.is_empty()) {
            return Ok(None);
        }
        let mut pending = self.pending();
        let ended = numbers.unwrap_or_default().into_iter();
        Ok(Some(ended.filter_map(|token| pending.remove(&token)).collect()))
    }

    /// Ends it: whoever waits gets None. In a process that was forked from its own it does nothing.
    fn close(&self) {
        if !self.birth.is_here() {
            return;
        }
        self.closed.store(true, Ordering::SeqCst);
        self.watch.close();
        let pending = std::mem::take(&mut *self.pending());
        drop(pending);
    }
}
