//! What is known of the functions that were submitted: each is described to the cluster once.
//!
//! A function is known by its identity while it lives. `manyhands._functions.describe` says what it
//! is called and how an executor finds or makes it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use manyhands::foreign::{Arguments, Function, Large, Pieces};
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::Codec;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use rustc_hash::FxHashMap;

use super::options::Options;
use super::rust::RustFunction;

/// What is known of one function.
pub(crate) struct Known {
    pub(crate) function: Function,
    pub(crate) name: Py<PyString>,
    /// Its pickle, where that travels as an object: the first argument of each call.
    pub(crate) body: Option<Body>,
    /// It is a generator function: a call gives a stream of items.
    pub(crate) is_stream: bool,
    /// It is one of another language: its arguments are plain data.
    pub(crate) is_foreign: bool,
    /// What it asks for itself, if it is a task.
    pub(crate) options: Option<TaskOptions>,
    /// How many results it has, if it says so.
    pub(crate) outputs: Option<u16>,
}

/// A function that travels as an object: put once in each session.
pub(crate) struct Body(Large);

impl Body {
    fn new(pickle: Vec<u8>) -> Body {
        Body(Large::new(Codec::PICKLE5, Pieces::new(vec![Bytes::from(pickle)]), &[]))
    }

    pub(crate) fn append(&self, into: &mut Arguments) {
        into.large(&self.0);
    }
}

/// The functions of one client, or those of graphs. A clone is the same table.
#[derive(Clone, Default)]
pub(crate) struct Functions(Arc<Mutex<FxHashMap<usize, Entry>>>);

struct Entry {
    known: Arc<Known>,
    /// Weak reference to the function, whose end takes this entry away; or a function without end.
    _watch: Py<PyAny>,
}

impl Functions {
    /// What is known of a function.
    pub(crate) fn find(
        &self,
        remote: Option<bool>,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<Arc<Known>> {
        let id = function.as_ptr() as usize;
        let found = self.lock().get(&id).map(|entry| entry.known.clone());
        match found {
            Some(known) => Ok(known),
            None => self.add(remote, function),
        }
    }

    #[cold]
    fn add(&self, remote: Option<bool>, function: &Bound<'_, PyAny>) -> PyResult<Arc<Known>> {
        let known = Arc::new(describe(remote, function)?);
        let id = function.as_ptr() as usize;
        let forget = Forget { functions: Arc::downgrade(&self.0), id };
        let watch = weak_reference(function.py())?.call1((function, forget));
        let watch = match watch {
            Ok(watch) => Some(watch),
            // Methods of built-in types are there for ever.
            Err(_) if is_built_in(function)? => Some(function.clone()),
            // What cannot be watched could be replaced by another function of the same identity.
            Err(_) => None,
        };
        if let Some(watch) = watch {
            let entry = Entry { known: known.clone(), _watch: watch.unbind() };
            let replaced = self.lock().insert(id, entry);
            drop(replaced);
        }
        Ok(known)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashMap<usize, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a function that is part of graphs.
pub(crate) fn of_graphs(function: &Bound<'_, PyAny>) -> PyResult<Arc<Known>> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(Functions::default).find(None, function)
}

/// Takes an entry away when its function is no more.
#[pyclass(frozen)]
struct Forget {
    functions: Weak<Mutex<FxHashMap<usize, Entry>>>,
    id: usize,
}

#[pymethods]
impl Forget {
    #[pyo3(signature = (*_watch))]
    fn __call__(&self, _watch: &Bound<'_, PyTuple>) {
        let Some(functions) = self.functions.upgrade() else { return };
        let entry = functions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        drop(entry);
    }
}

/// The functions that the tasks of this process submit: each of them has a client of its own.
pub(crate) fn of_tasks() -> Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(Functions::default).clone()
}

/// Whether it is a method of a built-in type, as `str.upper` is.
fn is_built_in(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = function.get_type().qualname()?;
    Ok(["method_descriptor", "wrapper_descriptor"].iter().any(|built_in| name == *built_in))
}

/// The class `weakref.ref`.
pub(super) fn weak_reference<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS.import(py, "weakref", "ref")
}

/// Asks Python. `remote`: the client is one of other machines; not known for graphs.
fn describe(remote: Option<bool>, function: &Bound<'_, PyAny>) -> PyResult<Known> {
    static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = function.py();
    if let Ok(rust) = function.cast_exact::<RustFunction>() {
        return Ok(of_rust(rust));
    }
    if !function.is_callable() {
        let message = format!("{} cannot be called, so it is no task", function.repr()?);
        return Err(PyTypeError::new_err(message));
    }
    let describe = DESCRIBE.import(py, "manyhands._functions", "describe")?;
    let described = describe.call1((function, remote))?;
    let (name, code, kind, body): (String, Vec<u8>, u32, Option<Vec<u8>>) = described.extract()?;
    let mut known = Known {
        function: Function::described(&name, code.into()),
        name: PyString::new(py, &name).unbind(),
        body: body.map(Body::new),
        is_stream: kind == 1,
        is_foreign: false,
        options: None,
        outputs: None,
    };
    if function.get_type().is(TASK.import(py, "manyhands._task", "Task")?) {
        let options: Option<Bound<'_, Options>> = function.getattr("_options")?.extract()?;
        known.options = options.map(|options| options.get().0.clone());
        known.outputs = function.getattr("_nout")?.extract()?;
    }
    Ok(known)
}

/// What is known of a function in Rust.
fn of_rust(rust: &Bound<'_, RustFunction>) -> Known {
    let function = rust.get().function().clone();
    Known {
        name: PyString::new(rust.py(), function.name()).unbind(),
        function,
        body: None,
        is_stream: false,
        is_foreign: true,
        options: None,
        outputs: None,
    }
}
