//! Futures inside values.
//!
//! A future that a pickler meets asks, through its `__reduce__`, what it is written for. Inside an
//! argument it is a further input of the call, and its value stands in its place when the argument
//! is read. Inside a result it stays a future: the value holds its object alive.

use std::cell::RefCell;

use bytes::Bytes;
use manyhands_proto::ObjectId;
use manyhands_proto::value::Codec;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::{Role, decode};

/// What one run of a pickler has met.
#[derive(Default)]
pub(super) struct Meeting {
    role: Role,
    pub(super) met: Vec<Py<PyAny>>,
    pub(super) contains: Vec<ObjectId>,
}

thread_local! {
    /// The picklers that run on this thread, innermost last.
    static MEETINGS: RefCell<Vec<Meeting>> = const { RefCell::new(Vec::new()) };
    /// The inputs of the calls whose arguments are being read on this thread, innermost last.
    static INPUTS: RefCell<Vec<Vec<Option<Input>>>> = const { RefCell::new(Vec::new()) };
}

/// Runs a pickler, and hands out what it met.
pub(super) fn collect<R>(role: Role, run: impl FnOnce() -> R) -> (R, Meeting) {
    let begin = Meeting { role, met: Vec::new(), contains: Vec::new() };
    MEETINGS.with_borrow_mut(|meetings| meetings.push(begin));
    let result = run();
    let ended = MEETINGS.with_borrow_mut(Vec::pop);
    (result, ended.expect("what was pushed is there: nothing unwinds through a pickler"))
}

/// What `__reduce__` of a future, or of a lazy call (which has no `id`), returns. Outside of a
/// pickler of ours it fails with advice.
pub(crate) fn reduce_met<'py>(
    met: &Bound<'py, PyAny>,
    id: Option<ObjectId>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    let py = met.py();
    let core = py.import(intern!(py, "manyhands._core"))?;
    let noted = MEETINGS.with_borrow_mut(|meetings| {
        let meeting = meetings.last_mut()?;
        if meeting.role == Role::Value {
            meeting.contains.push(id?);
        }
        meeting.met.push(met.clone().unbind());
        Some((meeting.role, meeting.met.len() as u32 - 1))
    });
    match noted {
        Some((Role::Argument { first }, number)) => {
            let arguments = PyTuple::new(py, [first + number])?;
            Ok((core.getattr(intern!(py, "_nested"))?, arguments))
        }
        Some((Role::Value, _)) => {
            let ObjectId { task, index } = id.ok_or_else(|| out_of_place(met))?;
            let job = PyBytes::new(py, task.job.0.as_bytes());
            let arguments = (job, task.lane.0, task.seq, index).into_pyobject(py)?;
            Ok((core.getattr(intern!(py, "_future"))?, arguments))
        }
        None => Err(out_of_place(met)),
    }
}

fn out_of_place(met: &Bound<'_, PyAny>) -> PyErr {
    let name = met.get_type().name().map_or_else(|_| "Future".to_owned(), |name| name.to_string());
    PyTypeError::new_err(match name.as_str() {
        "Lazy" => {
            "a lazy call can only be an argument, or part of one: compute() or persist() it first"
        }
        _ => {
            "a future can only be pickled as part of an argument, of a task's result or of a value \
             that is put: get its result() first"
        }
    })
}

/// An input of a call, as it lies.
pub(crate) enum Input {
    /// It has not been read.
    Bytes(Codec, Bytes),
    /// It has: the same object for everybody who asks.
    Object(Py<PyAny>),
}

/// Runs a reader of arguments in which futures stood. `inputs` are those of the call, `None` where
/// an argument is the input.
pub(crate) fn with_inputs<R>(inputs: Vec<Option<Input>>, read: impl FnOnce() -> R) -> R {
    INPUTS.with_borrow_mut(|all| all.push(inputs));
    let result = read();
    let inputs = INPUTS.with_borrow_mut(Vec::pop);
    // Outside of the borrow: what goes here may run Python code.
    drop(inputs);
    result
}

/// What stands for a future inside an argument: gives the value of input number `number`.
#[pyfunction(name = "_nested")]
pub(super) fn nested(py: Python<'_>, number: usize) -> PyResult<Py<PyAny>> {
    let missing = || PyRuntimeError::new_err(format!("input {number} of the task is missing"));
    let taken = INPUTS.with_borrow_mut(|all| match all.last_mut()?.get_mut(number)? {
        Some(Input::Bytes(codec, bytes)) => Some(Err((*codec, bytes.clone()))),
        Some(Input::Object(object)) => Some(Ok(object.clone_ref(py))),
        None => None,
    });
    let (codec, bytes) = match taken.ok_or_else(missing)? {
        Ok(object) => return Ok(object),
        Err(unread) => unread,
    };
    let object = decode(py, codec, &bytes)?.unbind();
    let kept = Input::Object(object.clone_ref(py));
    let replaced = INPUTS.with_borrow_mut(|all| {
        let place = all.last_mut()?.get_mut(number)?;
        place.replace(kept)
    });
    drop(replaced);
    Ok(object)
}
