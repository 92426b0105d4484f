//! Programs in Rust, whose tasks are called by name.

use manyhands::foreign::{Function, Program};
use pyo3::exceptions::{PyLookupError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

/// A program in Rust that has tasks.
#[pyclass(frozen, module = "manyhands._core")]
pub struct RustProgram {
    program: Program,
}

impl RustProgram {
    /// Asks the program at a path for its tasks: it is started for that, and must not wait for this
    /// interpreter.
    pub(super) fn open(path: &std::path::Path) -> PyResult<RustProgram> {
        let program = Program::rust(path).map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(RustProgram { program })
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }
}

#[pymethods]
impl RustProgram {
    /// The names of its tasks.
    fn names(&self) -> Vec<&str> {
        self.program.names().collect()
    }

    /// A task by its name, or by the end of that.
    fn function(&self, py: Python<'_>, name: &str) -> PyResult<RustFunction> {
        match self.program.function(name) {
            Ok(function) => Ok(RustFunction { function }),
            Err(error) => Err(self.unknown(py, name, &error.to_string())),
        }
    }

    fn __repr__(&self) -> String {
        format!("<RustProgram {}>", self.names().join(", "))
    }
}

impl RustProgram {
    /// The error for a name that no task has, with those that are like it.
    fn unknown(&self, py: Python<'_>, name: &str, error: &str) -> PyErr {
        let near = || -> PyResult<Vec<String>> {
            let matches = py.import("difflib")?.getattr("get_close_matches")?;
            let last = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
            let short: Vec<String> = self.program.names().map(last).collect();
            let near: Vec<String> = matches.call1((last(name), &short))?.extract()?;
            let full = self.program.names().filter(|name| near.contains(&last(name)));
            Ok(full.map(str::to_owned).collect())
        };
        match near() {
            Ok(near) if !near.is_empty() => {
                PyLookupError::new_err(format!("{error} (near {name}: {})", near.join(", ")))
            }
            _ => PyLookupError::new_err(error.to_owned()),
        }
    }
}

/// A task of a program in Rust. Clients submit it as they do functions.
#[pyclass(frozen, weakref, module = "manyhands._core")]
pub struct RustFunction {
    function: Function,
}

impl RustFunction {
    pub(super) fn function(&self) -> &Function {
        &self.function
    }
}

#[pymethods]
impl RustFunction {
    #[getter(__name__)]
    fn name(&self) -> &str {
        self.function.name()
    }

    /// The call as a node of a graph.
    #[pyo3(signature = (*args))]
    fn lazy<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        super::lazy::lazy(slf.as_any(), args, None, None, None)
    }

    /// The call, begun at once by the default client, as a future.
    #[pyo3(signature = (*args))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static CLIENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let client = CLIENT.import(slf.py(), "manyhands._client", "client")?.call0()?;
        client.call_method1("call", (slf, args, slf.py().None(), slf.py().None(), slf.py().None()))
    }

    #[pyo3(signature = (*_args, **_kwargs))]
    fn __call__(
        &self,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let name = self.function.name();
        let advice = "it runs in a cluster only: submit it to a client, or make a node by lazy()";
        Err(PyTypeError::new_err(format!("{name} is a function in Rust: {advice}")))
    }

    fn __reduce__(&self) -> PyResult<()> {
        let name = self.function.name();
        let message = format!("{name} is a function in Rust and cannot be part of a value");
        Err(PyTypeError::new_err(message))
    }

    fn __repr__(&self) -> String {
        format!("<RustFunction {}>", self.function.name())
    }
}
