//! What is known of the functions that were submitted: each is described to the cluster once.
//!
//! A function is known by its identity while it lives. `manyhands._functions` says what it is
//! called, and whether executors find it in a module. Others are pickled: a short pickle is the
//! function's code, which executors are told of; a long one, or one of many, travels as an object,
//! which is the first argument of each call.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use manyhands::foreign::{Arguments, Function, Large, Pieces};
use manyhands_proto::FunctionId;
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::Codec;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};
use rustc_hash::FxHashSet;

use super::large::content;
use super::options::Options;
use super::rust::RustFunction;
use super::watched::Watched;
use crate::codec::{self, Encoded};

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

/// A function that travels as an object: put once in each session. Executors know it again by the
/// hash of its content.
pub(crate) struct Body {
    content: blake3::Hash,
    large: Large,
}

impl Body {
    /// What the function closes over is copied: it is taken as it is now, and may change.
    fn new(Encoded { codec, pieces, .. }: Encoded) -> Body {
        let mut bytes = Vec::new();
        pieces.append_to(&mut bytes);
        let pieces = Pieces::new(vec![bytes.into()]);
        Body { content: content(&pieces), large: Large::new(codec, pieces, &[]) }
    }

    pub(crate) fn append(&self, into: &mut Arguments) {
        into.value(Codec::RAW, self.content.as_bytes());
        into.large(&self.large);
    }
}

/// The functions of one client, or those of graphs. A clone is the same table.
#[derive(Clone, Default)]
pub(crate) struct Functions {
    known: Watched<Arc<Known>>,
    told: Arc<Mutex<Told>>,
}

/// What the cluster was told of: it takes a limited number of functions from each session.
#[derive(Default)]
struct Told {
    ids: FxHashSet<FunctionId>,
    /// Of their code.
    bytes: usize,
}

impl Functions {
    /// What is known of a function.
    pub(crate) fn find(
        &self,
        remote: Option<bool>,
        function: &Bound<'_, PyAny>,
    ) -> PyResult<Arc<Known>> {
        match self.known.get(function) {
            Some(known) => Ok(known),
            None => self.add(remote, function),
        }
    }

    #[cold]
    fn add(&self, remote: Option<bool>, function: &Bound<'_, PyAny>) -> PyResult<Arc<Known>> {
        let known = Arc::new(match function.cast_exact::<RustFunction>() {
            Ok(rust) => of_rust(rust),
            Err(_) => self.describe(remote, function)?,
        });
        self.known.keep(function, known.clone())?;
        Ok(known)
    }

    /// Asks Python. `remote`: the client is one of other machines; not known for graphs.
    fn describe(&self, remote: Option<bool>, function: &Bound<'_, PyAny>) -> PyResult<Known> {
        static TASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = function.py();
        if !function.is_callable() {
            let message = format!("{} cannot be called, so it is no task", function.repr()?);
            return Err(PyTypeError::new_err(message));
        }
        let described = ask(py, "describe")?.call1((function, remote))?;
        let (target, name, is_stream, code): Described<'_> = described.extract()?;
        let (described, body) = self.written(&target, &name, code)?;
        let mut known = Known {
            function: described,
            name: PyString::new(py, &name).unbind(),
            body,
            is_stream,
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

    /// A function as its calls name it: by its code, or as one that takes the function itself
    /// first.
    fn written(
        &self,
        target: &Bound<'_, PyAny>,
        name: &str,
        code: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(Function, Option<Body>)> {
        let py = target.py();
        if let Some(code) = code
            && let Some(function) = self.told(None, name, &code)?
        {
            return Ok((function, None));
        }
        let encoded = codec::encode_function(target, &|| format!("function {name}"))?;
        let limit: usize = ask(py, "CODE_LIMIT")?.extract()?;
        if encoded.codec == Codec::PICKLE5 && encoded.pieces.len() <= limit {
            let mut pickle = Vec::new();
            encoded.pieces.append_to(&mut pickle);
            let code = ask(py, "by_value")?.call1((PyBytes::new(py, &pickle),))?;
            if let Some(function) = self.told(Some(target), name, &code)? {
                return Ok((function, None));
            }
        }
        let function = Function::described(name, code_of(&ask(py, "as_object")?.call0()?)?.into());
        Ok((function, Some(Body::new(encoded))))
    }

    /// A function that the cluster knows, or may be told of; `None` if it knows too many. `target`
    /// is one that travels by value.
    fn told(
        &self,
        target: Option<&Bound<'_, PyAny>>,
        name: &str,
        code: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Function>> {
        let py = code.py();
        let code = code_of(code)?;
        let bytes = code.len();
        let function = Function::described(name, code.into());
        let (is_known, count, sum) = {
            let told = self.lock_told();
            (told.ids.contains(&function.id()), told.ids.len(), told.bytes)
        };
        if is_known {
            return Ok(Some(function));
        }
        // Without the lock: it is Python code.
        let is_crowded = ask(py, "is_crowded")?.call1((target, count, sum + bytes))?;
        if is_crowded.is_truthy()? {
            return Ok(None);
        }
        let mut told = self.lock_told();
        if told.ids.insert(function.id()) {
            told.bytes += bytes;
        }
        Ok(Some(function))
    }

    fn lock_told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `manyhands._functions.describe` gives: the function itself, its name, whether a call gives
/// a stream, and its code if executors find it in a module.
type Described<'py> = (Bound<'py, PyAny>, String, bool, Option<Bound<'py, PyAny>>);

/// Something of `manyhands._functions`.
fn ask<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let import = || py.import("manyhands._functions").map(Bound::unbind);
    MODULE.get_or_try_init(py, import)?.bind(py).getattr(name)
}

/// The bytes of a code, which `manyhands._code` gives as a tuple.
fn code_of(code: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::plain_data(code, &mut bytes)?;
    Ok(bytes)
}

/// What is known of a function that is part of graphs.
pub(crate) fn of_graphs(function: &Bound<'_, PyAny>) -> PyResult<Arc<Known>> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(Functions::default).find(None, function)
}

/// The functions that the tasks of this process submit: each of them has a client of its own.
pub(crate) fn of_tasks() -> Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(Functions::default).clone()
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
