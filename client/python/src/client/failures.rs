//! What can go wrong, as Python's exceptions: `manyhands._errors` makes them.

use manyhands::{Error, FailureKind, TaskError};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use super::future::Future;

/// The exception for an error.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failure| failure, PyErr::from_value)
}

/// The exception object for an error, a new one each time.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("message", error.to_string())?;
    let kind = match error {
        Error::TaskFailed(task) => of_task(task, &fields)?,
        other => of_client(other),
    };
    from_failure(py, kind, fields)
}

/// The exception for a future that was cancelled here.
pub(crate) fn cancelled(py: Python<'_>, future: &Future) -> PyErr {
    let make = || {
        let task = future.object()?.id().task.to_string();
        let name = future.name().bind(py);
        let fields = PyDict::new(py);
        fields.set_item("message", format!("task {name} ({task}) was cancelled"))?;
        fields.set_item("task", task)?;
        fields.set_item("name", name)?;
        fields.set_item("detail", "its future was cancelled")?;
        from_failure(py, "cancelled", fields)
    };
    make().map_or_else(|failure| failure, PyErr::from_value)
}

fn from_failure<'py>(
    py: Python<'py>,
    kind: &str,
    fields: Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    MAKE.import(py, "manyhands._errors", "from_failure")?.call1((kind, fields))
}

/// An error of a call that was made when it could not be.
pub(crate) fn misuse(message: impl Into<String>) -> PyErr {
    PyRuntimeError::new_err(message.into())
}

fn of_client(error: &Error) -> &'static str {
    match error {
        Error::Closed { .. } | Error::JobClosed => "closed",
        Error::Timeout { .. } => "timeout",
        Error::Unreadable { .. } => "unreadable",
        Error::Store { .. } => "store",
        Error::ForeignHandle { .. } => "foreign",
        Error::Encode { .. } => "encode",
        Error::Decode { .. } => "decode",
        Error::Connect { .. } => "connect",
        Error::Address { .. } => "address",
        Error::Start(_) | Error::Program(_) | Error::File { .. } => "start",
        Error::Cycle { .. } => "cycle",
        Error::Outputs { .. } => "outputs",
        _ => "unknown",
    }
}

/// Writes down all that is known of a task's failure; its kind in one word.
fn of_task(error: &TaskError, fields: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    fields.set_item("task", error.task().to_string())?;
    fields.set_item("name", error.name())?;
    let last = error.attempts().last();
    fields.set_item("worker", last.and_then(|last| last.worker).map(|id| id.to_string()))?;
    fields.set_item("pid", last.and_then(|last| last.pid))?;
    fields.set_item("attempts", error.attempt_lines())?;
    let chain: Vec<&str> = error.chain().iter().map(|(_, name)| name.as_str()).collect();
    fields.set_item("chain", chain)?;
    of_kind(error.kind(), fields)
}

fn of_kind(kind: &FailureKind, fields: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    let py = fields.py();
    let set_detail = |detail: &str| fields.set_item("detail", detail);
    Ok(match kind {
        FailureKind::Error { message } => {
            set_detail(message)?;
            "error"
        }
        FailureKind::Panicked { message, backtrace } => {
            set_detail(message)?;
            fields.set_item("traceback", backtrace)?;
            "panicked"
        }
        FailureKind::Raised { type_name, message, traceback, exception } => {
            set_detail(message)?;
            fields.set_item("type_name", type_name)?;
            fields.set_item("traceback", traceback)?;
            let encoded = exception.as_ref();
            let encoded = encoded.map(|value| (value.codec.0, PyBytes::new(py, &value.bytes)));
            fields.set_item("exception", encoded)?;
            "raised"
        }
        FailureKind::Died(death) => {
            fields.set_item("signal", death.signal)?;
            fields.set_item("exit_code", death.exit_code)?;
            fields.set_item("stderr", &death.stderr_tail)?;
            "died"
        }
        FailureKind::TimeLimit { limit_us } => {
            fields.set_item("limit", *limit_us as f64 / 1e6)?;
            "time_limit"
        }
        FailureKind::Deadline => "deadline",
        FailureKind::MemoryLimit { limit, used } => {
            fields.set_item("limit", limit)?;
            fields.set_item("used", used)?;
            "memory_limit"
        }
        FailureKind::Cancelled { reason } => {
            set_detail(reason)?;
            "cancelled"
        }
        FailureKind::WorkerLost { .. } => "worker_lost",
        FailureKind::LostInput { .. } => "lost_input",
        FailureKind::Value { message } => {
            set_detail(message)?;
            "value"
        }
        FailureKind::Infeasible { message } => {
            set_detail(message)?;
            "infeasible"
        }
        FailureKind::Refused { message } => {
            set_detail(message)?;
            "refused"
        }
    })
}
