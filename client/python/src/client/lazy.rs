//! Nodes of graphs: calls that run when somebody asks for their results.

use manyhands::Error;
use manyhands::foreign::{self, Node, Object, Purpose};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::client::{Client, Open};
use super::failures::raised;
use super::forks::Birth;
use super::future::Future;
use super::options::Options;
use super::{call, functions};
use crate::codec;

/// A result of a call that has not run.
#[pyclass(frozen, weakref, generic, module = "manyhands._core")]
pub struct Lazy {
    node: Node,
    index: u32,
    name: Py<PyString>,
    birth: Birth,
}

type Reduced<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>);

impl Lazy {
    /// Its call, and which of the call's results it is.
    pub(crate) fn parts(&self) -> (&Node, u32) {
        (&self.node, self.index)
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        if !self.birth.is_here() {
            // Never freed: there may be futures of another process among its arguments.
            std::mem::forget(self.node.clone());
        }
    }
}

#[pymethods]
impl Lazy {
    /// The name of its function.
    #[getter]
    fn name(&self) -> &Py<PyString> {
        &self.name
    }

    /// Runs it, and what it needs; its value.
    #[pyo3(signature = (**settings))]
    fn compute<'py>(
        slf: &Bound<'py, Self>,
        settings: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        of_task(slf.py(), "lazy_compute")?.call((slf,), settings)
    }

    /// Runs it, and what it needs; a future.
    #[pyo3(signature = (**settings))]
    fn persist<'py>(
        slf: &Bound<'py, Self>,
        settings: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        of_task(slf.py(), "lazy_persist")?.call((slf,), settings)
    }

    /// As `persist`.
    #[pyo3(signature = (**settings))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        settings: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Lazy::persist(slf, settings)
    }

    /// A picture of the graph, written to a file if one is named.
    #[pyo3(signature = (filename=None))]
    fn visualize<'py>(
        slf: &Bound<'py, Self>,
        filename: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        of_task(slf.py(), "lazy_visualize")?.call1((slf, filename))
    }

    fn _repr_svg_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        of_task(slf.py(), "lazy_svg")?.call1((slf,))
    }

    /// Runs only after these have ended well, though it takes no result of them.
    #[pyo3(signature = (*others))]
    fn after<'py>(
        slf: Bound<'py, Self>,
        others: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, Self>> {
        for other in others.iter() {
            slf.get().node.after(&other.cast::<Lazy>()?.get().node);
        }
        Ok(slf)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        codec::reduce_met(slf.as_any(), None)
    }

    fn __bool__(&self) -> PyResult<bool> {
        Err(PyTypeError::new_err(format!(
            "whether {} is true is known only when it has run: ask its result, or decide within a \
             task",
            self.__repr__()
        )))
    }

    fn __repr__(&self) -> String {
        format!("<Lazy {}>", self.name)
    }
}

/// A function of `manyhands._task`.
fn of_task<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("manyhands._task").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// A call that runs when its result is asked for; a list of its results if `nout` is given.
#[pyfunction]
#[pyo3(signature = (function, args, kwargs=None, options=None, nout=None))]
pub(super) fn lazy<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    options: Option<&Bound<'py, Options>>,
    nout: Option<u16>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let known = functions::of_graphs(function)?;
    if known.is_stream {
        return Err(PyTypeError::new_err(format!(
            "{} is a generator function: a node of a graph has a value, and not a stream of items; \
             submit it (`client.submit(..)`), or return a list",
            known.name
        )));
    }
    let outputs = nout.or(known.outputs);
    let arguments = call::arguments(call::Target::Node, &known, args, kwargs)?;
    let node = Node::new(&known.function, outputs.unwrap_or(1), arguments);
    let own = options.map(|options| &options.get().0).or(known.options.as_ref());
    if let Some(options) = own {
        node.options(options.clone());
    }
    let make = |index: u32| {
        Bound::new(
            py,
            Lazy {
                node: node.clone(),
                index,
                name: known.name.clone_ref(py),
                birth: Birth::here(),
            },
        )
    };
    match outputs {
        None => make(0).map(Bound::into_any),
        Some(outputs) => {
            let all: Vec<_> = (0..u32::from(outputs)).map(make).collect::<PyResult<_>>()?;
            Ok(PyList::new(py, all)?.into_any())
        }
    }
}

fn roots(lazies: &Bound<'_, PyList>) -> PyResult<Vec<(Node, u32)>> {
    let part = |lazy: Bound<'_, PyAny>| {
        let (node, index) = lazy.cast::<Lazy>()?.get().parts();
        Ok((node.clone(), index))
    };
    lazies.iter().map(part).collect()
}

/// The graph of these in the language of Graphviz.
#[pyfunction]
fn dot(lazies: &Bound<'_, PyList>) -> PyResult<String> {
    Ok(foreign::dot(&roots(lazies)?))
}

/// A picture of the graph of these.
#[pyfunction]
fn svg(lazies: &Bound<'_, PyList>) -> PyResult<String> {
    Ok(foreign::svg(&roots(lazies)?))
}

/// Submits the graph of these; a future for each.
pub(super) fn run<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    lazies: &Bound<'py, PyList>,
    purpose: Purpose,
) -> PyResult<Vec<Bound<'py, Future>>> {
    let nodes = roots(lazies)?;
    submitted(client, open, lazies, || open.client.submit_nodes(&nodes, purpose))
}

/// Submits the graph of these, to run in the order of the nodes of `order`, which are all of it.
/// The results stay in the cluster if `keep` is set; otherwise their values are wanted here.
#[pyfunction]
fn run_in_order<'py>(
    client: &Bound<'py, Client>,
    lazies: &Bound<'py, PyList>,
    order: &Bound<'py, PyList>,
    keep: bool,
) -> PyResult<Vec<Bound<'py, Future>>> {
    let open = client.get().accepting()?;
    let nodes = roots(lazies)?;
    let order: Vec<Node> = roots(order)?.into_iter().map(|(node, _)| node).collect();
    let purpose = if keep { Purpose::Persist } else { Purpose::Submit };
    let submit = || open.client.submit_nodes_in_order(&nodes, &order, purpose);
    submitted(client, open, lazies, submit)
}

fn submitted<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    lazies: &Bound<'py, PyList>,
    submit: impl FnOnce() -> Result<Vec<Object>, Error> + Send,
) -> PyResult<Vec<Bound<'py, Future>>> {
    let py = client.py();
    let objects = open.submit_slowly(py, submit).map_err(|error| raised(py, &error))?;
    let mut futures = Vec::with_capacity(objects.len());
    for (object, lazy) in objects.into_iter().zip(lazies.iter()) {
        futures.push(Future::new(client, object, lazy.cast::<Lazy>()?.get().name.bind(py))?);
    }
    Ok(futures)
}

/// Adds the functions of graphs to the module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(lazy, module)?)?;
    module.add_function(wrap_pyfunction!(run_in_order, module)?)?;
    module.add_function(wrap_pyfunction!(dot, module)?)?;
    module.add_function(wrap_pyfunction!(svg, module)?)
}
