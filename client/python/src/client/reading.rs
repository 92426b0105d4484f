//! How results are waited for and read.
//!
//! A wait lets go of the interpreter's lock, and comes back every 100 ms to look for Ctrl-C.

use std::time::{Duration, Instant};

use manyhands::foreign::{Fetched, Object};
use manyhands::{Error, FailureKind};
use manyhands_proto::value::{Codec, Value};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::adopted::reading_for;
use super::client::{Client, Open};
use super::failures::{self, exception as exception_of, misuse, raised};
use super::future::Future;
use crate::codec;

/// How long a wait goes on before it looks for signals.
const SLICE: Duration = Duration::from_millis(100);

/// Futures that are read under one lock.
const TOGETHER: usize = 256;

/// The point in time after so many seconds; `None` for never.
pub(crate) fn deadline(timeout: Option<f64>) -> Option<Instant> {
    let timeout = Duration::try_from_secs_f64(timeout?.max(0.0)).ok()?;
    Instant::now().checked_add(timeout)
}

/// Waits until `step`, which runs without the interpreter's lock, has something, or the deadline has
/// passed: in slices, each of which it gets the end of. Raises what a signal's handler raised.
///
/// In a task it is one slice, since each lends the task's slot away; the executor lets go of the lock
/// itself, and ends the wait when the task shall stop.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    is_task: bool,
    deadline: Option<Instant>,
    mut step: impl FnMut(Option<Instant>) -> Result<Option<T>, Error> + Send,
) -> PyResult<Option<T>> {
    if is_task {
        let found = step(deadline);
        py.check_signals()?;
        return found.map_err(|error| raised(py, &error));
    }
    loop {
        let now = Instant::now();
        let is_last = deadline.is_some_and(|at| at <= now + SLICE);
        let until = deadline.filter(|_| is_last).unwrap_or(now + SLICE);
        let found = py.detach(|| step(Some(until))).map_err(|error| raised(py, &error))?;
        if found.is_some() {
            return Ok(found);
        }
        py.check_signals()?;
        if is_last {
            return Ok(None);
        }
    }
}

/// Waits until `need` of these have ended; how many have when the time is over.
pub(crate) fn wait(
    py: Python<'_>,
    open: &Open,
    objects: &[&Object],
    need: usize,
    deadline: Option<Instant>,
) -> PyResult<usize> {
    let need = need.min(objects.len());
    let mut done = 0;
    in_slices(py, open.is_nested, deadline, |until| {
        done = open.client.wait_objects(objects, need, until)?;
        Ok((done >= need).then_some(()))
    })?;
    Ok(done)
}

fn too_late() -> PyErr {
    PyTimeoutError::new_err("the time is over, and the task has not ended; it goes on")
}

/// What became of an object, once that is known.
fn end_of(py: Python<'_>, open: &Open, object: &Object, timeout: Option<f64>) -> PyResult<Fetched> {
    match object.fetched() {
        Fetched::Pending => {}
        known => return Ok(known),
    }
    if wait(py, open, &[object], 1, deadline(timeout))? == 0 {
        return Err(too_late());
    }
    Ok(object.fetched())
}

/// The result of a future.
pub(crate) fn result<'py>(
    future: &Bound<'py, Future>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, own) = (future.py(), future.get());
    let object = own.object()?;
    let client = own.client().bind(py);
    let open = client.get().open()?;
    if own.is_cancelled() {
        return Err(failures::cancelled(py, own));
    }
    let fetched = end_of(py, open, object, timeout)?;
    value(client, open, object, fetched)
}

/// What a future's task raised.
pub(crate) fn exception<'py>(
    future: &Bound<'py, Future>,
    timeout: Option<f64>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let (py, own) = (future.py(), future.get());
    let object = own.object()?;
    let open = own.client().get().open()?;
    if own.is_cancelled() {
        return Err(failures::cancelled(py, own));
    }
    let end = match end_of(py, open, object, timeout) {
        Err(error) if open.is_closed() => {
            return Ok(Some(error.into_value(py).into_bound(py).into_any()));
        }
        end => end?,
    };
    match end {
        Fetched::Failed(failed) if matches!(failed.kind(), FailureKind::Cancelled { .. }) => {
            Err(raised(py, &failed.into()))
        }
        Fetched::Failed(failed) => exception_of(py, &failed.into()).map(Some),
        _ => Ok(None),
    }
}

/// The value of an object, or what its task raised.
pub(crate) fn value<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    object: &Object,
    fetched: Fetched,
) -> PyResult<Bound<'py, PyAny>> {
    let py = client.py();
    match fetched {
        Fetched::Small { codec, len, bytes } => decode_small(client, codec, &bytes[..len as usize]),
        Fetched::Value(value) => decode(client, &value),
        Fetched::Failed(failed) => Err(raised(py, &failed.into())),
        Fetched::Stored | Fetched::Pending => {
            let read = |until| open.client.fetch_raw(object, until);
            let read = in_slices(py, open.is_nested, None, read)?;
            decode(client, &read.expect("a wait without a deadline ends with something"))
        }
        Fetched::Gone => Err(misuse("the result was let go of: the future has been released")),
    }
}

/// Reads a value that is so short that it is plain, or nearly.
fn decode_small<'py>(
    client: &Bound<'py, Client>,
    codec: Codec,
    bytes: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let py = client.py();
    match codec {
        Codec::MSGPACK => codec::decode_slice(py, codec, bytes),
        _ => reading_for(client, || codec::decode_slice(py, codec, bytes)),
    }
}

fn decode<'py>(client: &Bound<'py, Client>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    let Value { codec, bytes } = value;
    match *codec {
        Codec::MSGPACK | Codec::RAW => codec::decode(client.py(), *codec, bytes),
        _ => reading_for(client, || codec::decode(client.py(), *codec, bytes)),
    }
}

/// The values of futures, once all have ended. Raises what the first failed one raised.
pub(crate) fn gather<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    futures: &Bound<'py, PyAny>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyList>> {
    let futures: Vec<Bound<'py, PyAny>> = futures.try_iter()?.collect::<PyResult<_>>()?;
    let mut objects = Vec::with_capacity(futures.len());
    for future in &futures {
        objects.push(open.own(future.cast::<Future>()?.get())?);
    }
    values(client, open, &objects, timeout)
}

/// The values of objects, once all have ended.
pub(crate) fn values<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    objects: &[&Object],
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyList>> {
    let py = client.py();
    if wait(py, open, objects, objects.len(), deadline(timeout))? < objects.len() {
        return Err(too_late());
    }
    let values = PyList::empty(py);
    let mut fetched = Vec::with_capacity(TOGETHER);
    for chunk in objects.chunks(TOGETHER) {
        open.client.fetched_many(chunk, &mut fetched);
        for (object, fetched) in chunk.iter().zip(fetched.drain(..)) {
            values.append(value(client, open, object, fetched)?)?;
        }
    }
    Ok(values)
}

/// What is known of an object, in the words of the standard library's futures.
pub(crate) fn status(object: &Object) -> &'static str {
    match object.fetched() {
        Fetched::Pending => "PENDING",
        Fetched::Failed(failed) => match failed.kind() {
            FailureKind::Cancelled { .. } => "CANCELLED",
            _ => "FAILED",
        },
        _ => "VALUE",
    }
}
