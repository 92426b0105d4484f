//! What an exception becomes on its way to those who wait for the task.

use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, Value};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use super::call::run_module;
use crate::codec::{self, Role};

/// Larger exceptions (bytes) travel as text alone.
const LIMIT: usize = 32 << 10;

/// An exception that a function raised.
pub(super) fn raised(py: Python<'_>, error: PyErr) -> FailureKind {
    let value = error.into_value(py).into_bound(py);
    let described = run_module(py)
        .and_then(|run| run.call_method1("describe_exception", (&value,)))
        .and_then(|described| described.extract::<(String, String, String)>());
    let (type_name, message, traceback) = match described {
        Ok(described) => described,
        // Whatever it was, it cannot even be shown: an interrupt, or no memory.
        Err(_) => {
            let name = value.get_type().name().map(|name| name.to_string());
            (name.unwrap_or_default(), String::new(), String::new())
        }
    };
    let exception = portable(value.as_any());
    FailureKind::Raised { type_name, message, traceback, exception }
}

/// An exception as a value, if it can be written and read again.
fn portable(exception: &Bound<'_, PyAny>) -> Option<Value> {
    written(exception).or_else(|| rewritten(exception)).filter(|value| value.bytes.len() <= LIMIT)
}

fn written(exception: &Bound<'_, PyAny>) -> Option<Value> {
    let encoded = codec::encode(exception, Role::Value, &String::new).ok()?;
    if encoded.pieces.len() > LIMIT || !encoded.contains.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    encoded.pieces.append_to(&mut bytes);
    readable(exception.py(), Value { codec: encoded.codec, bytes: bytes.into() })
}

/// An exception that cannot be read as it is written usually.
fn rewritten(exception: &Bound<'_, PyAny>) -> Option<Value> {
    let codec = exception.py().import("manyhands._codec").ok()?;
    let bytes: Vec<u8> = codec.call_method1("rewritten", (exception,)).ok()?.extract().ok()?;
    readable(exception.py(), Value { codec: Codec::PICKLE5, bytes: bytes.into() })
}

fn readable(py: Python<'_>, value: Value) -> Option<Value> {
    codec::decode_slice(py, value.codec, &value.bytes).ok().map(|_| value)
}

/// Something that the task was given cannot be read.
pub(super) fn unreadable(py: Python<'_>, what: &str, error: &PyErr) -> FailureKind {
    FailureKind::Value { message: format!("{what} cannot be read: {}", words(py, error)) }
}

/// Something that the task returns cannot be written.
pub(super) fn unwritable(py: Python<'_>, what: &str, error: &PyErr) -> FailureKind {
    FailureKind::Value { message: format!("{what} cannot be written: {}", words(py, error)) }
}

/// An exception in a line, with what to do about it.
fn words(py: Python<'_>, error: &PyErr) -> String {
    let advice = run_module(py)
        .and_then(|run| run.call_method1("advise", (error.value(py),)))
        .and_then(|advice| advice.extract::<String>());
    match advice {
        Ok(words) => words,
        Err(_) if error.is_instance_of::<PyException>(py) => error.to_string(),
        Err(_) => "it was interrupted".to_owned(),
    }
}
