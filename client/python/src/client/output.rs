//! What tasks print, kept until Python asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use manyhands::{Stream, TaskId};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::reading;

/// Bytes that are kept at most for a program that does not ask; the oldest go first.
const LIMIT: usize = 16 << 20;

/// As long as anybody waits without looking again.
const LONG: Duration = Duration::from_secs(3600);

/// Pieces that are handed out at one time at most.
const TOGETHER: usize = 1024;

struct Piece {
    task: TaskId,
    name: String,
    stream: Stream,
    bytes: Vec<u8>,
}

/// What has come and was not asked for.
#[derive(Default)]
pub(super) struct Queue {
    kept: Mutex<Kept>,
    news: Condvar,
}

#[derive(Default)]
struct Kept {
    pieces: VecDeque<Piece>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, task: TaskId, name: &str, stream: Stream, bytes: &[u8]) {
        let mut kept = self.lock();
        kept.bytes += bytes.len();
        kept.pieces.push_back(Piece { task, name: name.to_owned(), stream, bytes: bytes.into() });
        while kept.bytes > LIMIT
            && let Some(oldest) = kept.pieces.pop_front()
        {
            kept.bytes -= oldest.bytes.len();
        }
        drop(kept);
        self.news.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_all();
    }

    /// What has come; none when the time is over, `None` when nothing more will.
    fn take(&self, until: Option<Instant>) -> Option<Vec<Piece>> {
        let mut kept = self.lock();
        while kept.pieces.is_empty() && !kept.closed {
            let left = until.map_or(LONG, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Some(Vec::new());
            }
            kept = self.news.wait_timeout(kept, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if kept.pieces.is_empty() {
            return None;
        }
        let count = kept.pieces.len().min(TOGETHER);
        let taken: Vec<Piece> = kept.pieces.drain(..count).collect();
        kept.bytes -= taken.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        Some(taken)
    }
}

/// What the tasks of a client print.
#[pyclass(frozen, weakref, module = "manyhands._core")]
pub struct Output {
    queue: Arc<Queue>,
}

impl Output {
    pub(super) fn new(queue: Arc<Queue>) -> Output {
        Output { queue }
    }
}

/// Task, its number, its function, the stream, what was printed.
type Printed<'py> = (String, u64, String, &'static str, Bound<'py, PyBytes>);

#[pymethods]
impl Output {
    /// What has been printed since the last call; waits for the first. Empty when the time is over,
    /// None when the client is closed and all has been taken.
    #[pyo3(signature = (timeout=None))]
    fn next<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Vec<Printed<'py>>>> {
        let taken = reading::in_slices(py, false, reading::deadline(timeout), |until| {
            Ok(match self.queue.take(until) {
                Some(pieces) if pieces.is_empty() => None,
                other => Some(other),
            })
        })?;
        let Some(pieces) = taken.unwrap_or(Some(Vec::new())) else { return Ok(None) };
        Ok(Some(pieces.into_iter().map(|piece| piece.into_python(py)).collect()))
    }
}

impl Piece {
    fn into_python(self, py: Python<'_>) -> Printed<'_> {
        let stream = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let Piece { task, name, bytes, .. } = self;
        (task.to_string(), task.seq, name, stream, PyBytes::new(py, &bytes))
    }
}
