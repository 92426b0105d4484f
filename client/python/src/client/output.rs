//! What tasks print, kept until Python asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use manyhands::{Stream, TaskId};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::forks::Birth;
use super::reading;

/// Bytes that are kept at most for a program that does not ask, with what the pieces themselves
/// take; the oldest go first.
const LIMIT: usize = 16 << 20;

/// As long as anybody waits without looking again.
const LONG: Duration = Duration::from_secs(3600);

/// Pieces that are handed out at one time at most.
const TOGETHER: usize = 1024;

struct Piece {
    /// None of what the client itself has to say.
    task: Option<TaskId>,
    name: String,
    stream: &'static str,
    bytes: Vec<u8>,
}

impl Piece {
    /// Bytes of memory that it takes.
    fn weight(&self) -> usize {
        size_of::<Piece>() + self.name.len() + self.bytes.len()
    }
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
    /// What they weigh.
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, task: TaskId, name: &str, stream: Stream, bytes: &[u8]) {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.add(Piece { task: Some(task), name: name.to_owned(), stream, bytes: bytes.into() });
    }

    /// Something that the client itself has to say.
    pub(super) fn notice(&self, text: &str) {
        self.add(Piece { task: None, name: String::new(), stream: "notice", bytes: text.into() });
    }

    fn add(&self, piece: Piece) {
        let mut kept = self.lock();
        kept.bytes += piece.weight();
        kept.pieces.push_back(piece);
        while kept.bytes > LIMIT
            && let Some(oldest) = kept.pieces.pop_front()
        {
            kept.bytes -= oldest.weight();
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
        kept.bytes -= taken.iter().map(Piece::weight).sum::<usize>();
        Some(taken)
    }
}

/// What the tasks of a client print.
#[pyclass(frozen, weakref, module = "manyhands._core")]
pub struct Output {
    queue: Arc<Queue>,
    birth: Birth,
}

impl Output {
    pub(super) fn new(queue: Arc<Queue>) -> Output {
        Output { queue, birth: Birth::here() }
    }
}

/// Task, its number, its function, the stream, what was printed. Of no task: a notice.
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
        self.birth.check()?;
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
        let Piece { task, name, stream, bytes } = self;
        let (id, number) = task.map_or_else(Default::default, |task| (task.to_string(), task.seq));
        (id, number, name, stream, PyBytes::new(py, &bytes))
    }
}
