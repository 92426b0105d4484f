//! A reference to a result: there, on its way, or still to be computed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use manyhands::foreign::Object;
use manyhands_proto::client::TaskState;
use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};

use super::client::{Client, Open};
use super::forks::Birth;
use super::{reading, untracked};
use crate::codec;

/// The result of a task, or a value that was put. It can be waited for, awaited, and given to other
/// tasks before it is there.
///
/// It is a `concurrent.futures.Future` to whoever asks. What that keeps in each one (a lock, a list of
/// callbacks) is made only when somebody needs it, by `manyhands._futures`.
#[pyclass(frozen, weakref, generic, module = "manyhands._core")]
pub struct Future {
    object: Object,
    client: Py<Client>,
    /// Of its function.
    name: Py<PyString>,
    /// What `manyhands._futures` keeps with it.
    extra: Mutex<Option<Py<PyAny>>>,
    birth: Birth,
    /// Somebody has cancelled it here, and it has not ended.
    cancelled: AtomicBool,
}

impl Future {
    /// A future of this client for an object.
    pub(crate) fn new<'py>(
        client: &Bound<'py, Client>,
        object: Object,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, Future>> {
        let future = Future {
            object,
            client: client.clone().unbind(),
            name: name.clone().unbind(),
            extra: Mutex::new(None),
            birth: Birth::here(),
            cancelled: AtomicBool::new(false),
        };
        let future = Bound::new(client.py(), future)?;
        untracked::untrack(&future);
        Ok(future)
    }

    /// Neither has its task ended, nor has it been cancelled here.
    pub(crate) fn is_pending(&self) -> bool {
        !self.is_cancelled() && !self.object.is_done()
    }

    /// It counts as cancelled from now on, whatever becomes of the task.
    pub(crate) fn mark_cancelled(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Its object, in the process that it belongs to.
    pub(crate) fn object(&self) -> PyResult<&Object> {
        self.birth.check().map(|()| &self.object)
    }

    /// The client that it came from.
    pub(crate) fn client(&self) -> &Py<Client> {
        &self.client
    }

    fn open(&self) -> PyResult<&Open> {
        self.client.get().open()
    }

    fn extra_lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Future {
    /// Waits for the result, at most `timeout` seconds. Raises what the task raised.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(slf: &Bound<'py, Self>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        reading::result(slf, timeout)
    }

    /// Waits for the end; what was raised, or None.
    #[pyo3(signature = (timeout=None))]
    fn exception<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        reading::exception(slf, timeout)
    }

    /// Whether the task has ended, well or badly, or was cancelled.
    fn done(&self) -> PyResult<bool> {
        let object = self.object()?;
        Ok(object.is_done() || self.is_cancelled() || self.open()?.is_closed())
    }

    /// Whether an executor runs the task now. Asks the cluster: a message there and back, unless it
    /// has ended.
    fn running(&self, py: Python<'_>) -> PyResult<bool> {
        if self.done()? {
            return Ok(false);
        }
        let (open, task) = (self.open()?, self.object()?.id().task);
        let explained = py.detach(|| open.client.explain_task(task));
        Ok(explained.is_ok_and(|explained| explained.state == TaskState::Running))
    }

    /// Whether it was cancelled.
    fn cancelled(&self) -> PyResult<bool> {
        Ok(self._status()? == "CANCELLED")
    }

    /// Stops the task, which never starts, or is interrupted and then killed. False if it has ended.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        let object = self.object()?;
        if self.is_pending() {
            self.open()?.cancel(py, &[object], "its future was cancelled")?;
            self.mark_cancelled();
        }
        Ok(self._status()? == "CANCELLED")
    }

    /// Lets go of the result as if the future went out of scope: a task that has not ended goes on.
    fn release(&self) -> PyResult<()> {
        self.object()?.let_go();
        Ok(())
    }

    /// What is known without asking: `PENDING`, `VALUE`, `FAILED` or `CANCELLED`.
    fn _status(&self) -> PyResult<&'static str> {
        let object = self.object()?;
        Ok(match reading::status(object) {
            _ if self.is_cancelled() => "CANCELLED",
            "PENDING" if self.open()?.is_closed() => "FAILED",
            known => known,
        })
    }

    /// The name of its function.
    #[getter]
    pub(crate) fn name(&self) -> &Py<PyString> {
        &self.name
    }

    /// The object's id.
    #[getter]
    fn id(&self) -> PyResult<String> {
        Ok(self.object()?.id().to_string())
    }

    /// The task's id, as `manyhands explain` takes it.
    #[getter]
    fn task(&self) -> PyResult<String> {
        Ok(self.object()?.id().task.to_string())
    }

    #[getter(client)]
    fn own_client(&self) -> &Py<Client> {
        &self.client
    }

    #[getter(_extra)]
    fn extra(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.extra_lock().as_ref().map(|extra| extra.clone_ref(py))
    }

    #[setter(_extra)]
    fn set_extra(slf: &Bound<'_, Self>, extra: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut *slf.get().extra_lock(), extra);
        // Callbacks may well refer to the future.
        untracked::track(slf);
        drop(old);
    }

    /// Calls `fn` with this future when it is done, on a thread for callbacks.
    fn add_done_callback<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        of_futures(slf.py(), "add_done_callback")?.call1((slf, r#fn))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_futures(slf.py(), "wait_async")?.call1((slf,))
    }

    fn _get_snapshot<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_futures(slf.py(), "snapshot")?.call1((slf,))
    }

    #[getter(_condition)]
    fn condition<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_shadow(slf, "_condition")
    }

    #[getter(_state)]
    fn state<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_shadow(slf, "_state")
    }

    #[getter(_waiters)]
    fn waiters<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_shadow(slf, "_waiters")
    }

    #[getter(_result)]
    fn shadow_result<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_shadow(slf, "_result")
    }

    #[getter(_exception)]
    fn shadow_exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_shadow(slf, "_exception")
    }

    /// So that `isinstance` finds a future of the standard library.
    #[getter(__class__)]
    fn class<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        CLASS.import(py, "concurrent.futures", "Future").cloned()
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        codec::reduce_met(slf.as_any(), Some(slf.get().object()?.id()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let object = self.object()?;
        let state = match self._status()? {
            "VALUE" => "done",
            "FAILED" => "failed",
            "CANCELLED" => "cancelled",
            _ => "pending",
        };
        Ok(format!("<Future {} {} {state}>", self.name.bind(py), object.id().task))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.client)?;
        visit.call(&*self.extra_lock())
    }

    fn __clear__(&self) {
        let old = self.extra_lock().take();
        drop(old);
    }
}

impl Drop for Future {
    fn drop(&mut self) {
        if self.birth.is_here() {
            self.object.let_go();
        } else {
            self.object.forget();
        }
    }
}

/// A function of `manyhands._futures`.
fn of_futures<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || py.import("manyhands._futures").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// What the standard library looks for in a future.
fn of_shadow<'py>(future: &Bound<'py, Future>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    of_futures(future.py(), "shadow")?.call1((future,))?.getattr(name)
}
