//! Python functions as tasks: what `manyhands-executor` calls in the processes of an interpreter.
//!
//! # Layout
//! - [`interpreter`]: the interpreter as a runtime: forks, locks, signals, output.
//! - [`call`]: one call: its function and its arguments.
//! - [`results`]: what it returns. [`stream`]: what a generator yields.
//! - [`failure`]: what an exception becomes.
//! - `manyhands/_template.py`: what a template does before it forks; `manyhands/_run.py`: what is
//!   better said in Python.
//!
//! `unsafe` is in `interpreter` alone.

mod call;
mod failure;
mod interpreter;
mod results;
mod stream;

use manyhands_executor::foreign;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Takes the socket to the worker from standard input. Before anything that a user chose is
/// imported.
#[pyfunction]
fn template_begin() -> PyResult<()> {
    foreign::prepare().map_err(|error| PyOSError::new_err(error.to_string()))
}

/// Becomes the template; never returns.
#[pyfunction]
fn serve_template() {
    foreign::serve(&interpreter::Interpreter)
}

/// A task has forked: its child is no executor.
#[pyfunction(name = "_forked")]
fn forked() {
    call::mark_forked();
    foreign::disown();
}

/// The executor ends after the task that it runs, and another one takes its place.
#[pyfunction(name = "_retire")]
fn retire() {
    foreign::retire();
}

/// Adds what Python calls to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(template_begin, module)?)?;
    module.add_function(wrap_pyfunction!(serve_template, module)?)?;
    module.add_function(wrap_pyfunction!(forked, module)?)?;
    module.add_function(wrap_pyfunction!(retire, module)?)
}
