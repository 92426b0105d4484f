//! Streams: items that a task makes while it runs.

use pyo3::prelude::*;

use super::failures::raised;
use super::future::Future;

/// The items of a generator function that runs as a task.
#[pyclass(frozen, weakref, module = "manyhands._core")]
pub struct StreamSource {
    end: Py<Future>,
}

impl StreamSource {
    /// Of the task whose result this is.
    pub(super) fn new(end: Py<Future>) -> StreamSource {
        StreamSource { end }
    }
}

#[pymethods]
impl StreamSource {
    /// The result of the task: how many items there were.
    #[getter]
    fn end(&self, py: Python<'_>) -> Py<Future> {
        self.end.clone_ref(py)
    }

    /// Gives the task room for the items from number `first` to before `upto`; a future of each. One
    /// that never comes to be fails, and `end` tells why.
    fn room<'py>(
        &self,
        py: Python<'py>,
        first: u64,
        upto: u64,
    ) -> PyResult<Vec<Bound<'py, Future>>> {
        let end = self.end.bind(py).get();
        let (client, object) = (end.client().bind(py), end.object()?);
        let open = client.get().open()?;
        let items = py.detach(|| open.client.give_room(object, first, upto));
        let items = items.map_err(|error| raised(py, &error))?;
        let name = end.name().bind(py);
        items.into_iter().map(|item| Future::new(client, item, name)).collect()
    }
}
