//! Futures that are found inside values.

use std::cell::RefCell;

use manyhands_proto::{JobId, Lane, ObjectId, TaskId};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use uuid::Uuid;

use super::client::Client;
use super::future::Future;

thread_local! {
    /// The clients whose values are being read on this thread, innermost last.
    static READERS: RefCell<Vec<Py<Client>>> = const { RefCell::new(Vec::new()) };
}

/// Reads a value in the name of a client, whose futures those inside the value become.
pub(super) fn reading_for<R>(client: &Bound<'_, Client>, read: impl FnOnce() -> R) -> R {
    READERS.with_borrow_mut(|readers| readers.push(client.clone().unbind()));
    let result = read();
    let reader = READERS.with_borrow_mut(Vec::pop);
    // Outside of the borrow: what goes here may run Python code.
    drop(reader);
    result
}

/// What a future inside a value is written as: makes a future of whoever reads it.
#[pyfunction(name = "_future")]
pub(super) fn adopted<'py>(
    py: Python<'py>,
    job: [u8; 16],
    lane: u64,
    seq: u64,
    index: u32,
) -> PyResult<Bound<'py, Future>> {
    let task = TaskId { job: JobId(Uuid::from_bytes(job)), lane: Lane(lane), seq };
    let reader = READERS.with_borrow(|readers| readers.last().map(|it| it.clone_ref(py)));
    let (client, is_borrowed) = match reader {
        Some(client) => (client.into_bound(py), false),
        None => (of_task(py)?, true),
    };
    let (open, id) = (client.get().open()?, ObjectId { task, index });
    let object = if is_borrowed { open.client.borrow(id) } else { open.client.adopt(id) };
    Future::new(&client, object, intern!(py, ""))
}

/// The client of the running task.
fn of_task(py: Python<'_>) -> PyResult<Bound<'_, Client>> {
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let current = CURRENT.import(py, "manyhands._client", "current")?.call0()?;
    if current.is_none() {
        return Err(PyTypeError::new_err("a future can be read by a client or a task only"));
    }
    Ok(current.cast_into()?)
}
