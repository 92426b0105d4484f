//! Pickle, protocol 5, with its large buffers out of band.
//!
//! Two picklers of `manyhands/_codec.py` do it: a fast one that writes classes and functions by
//! reference, and cloudpickle's, to which a value goes that has something of `__main__` in it, or
//! that the fast one cannot write.

use std::sync::Mutex;

use bytes::Bytes;
use manyhands_proto::value::Codec;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFunction, PyList, PyMemoryView, PyString, PyType,
};

use super::met::{Meeting, collect};
use super::pieces::{ALIGN, Exported, Pieces};
use super::view::Mapped;
use super::{Encoded, Role, malformed};

/// Buffers of at least this many bytes go out of band.
const OUT_OF_BAND: usize = 4 << 10;

/// A pickler that has written more than this (bytes) is not used again: its tables have grown.
const KEPT_LIMIT: usize = 1 << 20;

/// Picklers that wait for their next value. One for each thread that has ever encoded at the same
/// time.
static POOL: Mutex<Vec<Fast>> = Mutex::new(Vec::new());

/// As many as threads may be about to encode.
const POOL_LIMIT: usize = 16;

pub(super) fn encode(
    value: &Bound<'_, PyAny>,
    role: Role,
    what: &dyn Fn() -> String,
) -> PyResult<Encoded> {
    let (written, meeting) = collect(role, || write_fast(value));
    if let Ok(written) = written {
        return written.into_value(meeting);
    }
    let (written, meeting) = collect(role, || write_full(value));
    match written {
        Ok(written) => written.into_value(meeting),
        // It tries parts of the value on their own, which may contain futures.
        Err(error) => Err(collect(role, || explain(value, &error, what)).0),
    }
}

/// Writes a function as an object. There is nobody to hold what futures it closes over refer to:
/// they are refused.
pub(crate) fn encode_function(
    function: &Bound<'_, PyAny>,
    what: &dyn Fn() -> String,
) -> PyResult<Encoded> {
    let written = write_fast(function).or_else(|_| write_full(function));
    let written = written.map_err(|error| explain(function, &error, what))?;
    written.into_value(Meeting::default())
}

/// Says which part of a value cannot be written.
fn explain(value: &Bound<'_, PyAny>, error: &PyErr, what: &dyn Fn() -> String) -> PyErr {
    let py = value.py();
    let explained = || {
        let explain = codec(py)?.getattr(intern!(py, "explain"))?;
        explain.call1((what(), value, error.value(py)))
    };
    explained().map_or_else(|_| error.clone_ref(py), PyErr::from_value)
}

fn codec<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("manyhands._codec").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// What a pickler writes into.
#[pyclass(module = "manyhands._core")]
#[derive(Default)]
struct Sink {
    written: Written,
}

/// What a pickler has written.
#[derive(Default)]
struct Written {
    pickle: Pieces,
    buffers: Vec<Exported>,
}

#[pymethods]
impl Sink {
    /// Takes a part of the pickle where it lies.
    fn write(&mut self, part: &Bound<'_, PyAny>) -> PyResult<()> {
        match part.cast_exact::<PyBytes>() {
            Ok(bytes) => self.written.pickle.push_bytes(bytes),
            Err(_) => self.written.pickle.push_exported(Exported::new(part)?),
        }
        Ok(())
    }

    /// Takes a buffer out of band. `True`: it is better off in the pickle.
    fn keep(&mut self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let exported = Exported::new(buffer)?;
        let is_small = exported.len() < OUT_OF_BAND;
        if !is_small {
            self.written.buffers.push(exported);
        }
        Ok(is_small)
    }
}

/// A pickler that is used again and again.
struct Fast {
    sink: Py<Sink>,
    dump: Py<PyAny>,
    clear: Py<PyAny>,
}

impl Fast {
    fn new(py: Python<'_>) -> PyResult<Fast> {
        let sink = Bound::new(py, Sink::default())?;
        let pickler = pickler(&sink, intern!(py, "Fast"))?;
        let dump = pickler.getattr(intern!(py, "dump"))?.unbind();
        let clear = pickler.getattr(intern!(py, "clear_memo"))?.unbind();
        Ok(Fast { sink: sink.unbind(), dump, clear })
    }
}

fn pickler<'py>(
    sink: &Bound<'py, Sink>,
    class: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = sink.py();
    let keep = sink.getattr(intern!(py, "keep"))?;
    codec(py)?.getattr(class)?.call1((sink, 5, true, keep))
}

/// Writes with the fast pickler. One that has failed is not used again.
fn write_fast(value: &Bound<'_, PyAny>) -> PyResult<Written> {
    let py = value.py();
    let pooled = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
    let fast = match pooled {
        Some(fast) => fast,
        None => Fast::new(py)?,
    };
    fast.dump.call1(py, (value,))?;
    fast.clear.call0(py)?;
    let written = std::mem::take(&mut fast.sink.borrow_mut(py).written);
    let mut pool = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if written.pickle.len() <= KEPT_LIMIT && pool.len() < POOL_LIMIT {
        pool.push(fast);
    }
    Ok(written)
}

fn write_full(value: &Bound<'_, PyAny>) -> PyResult<Written> {
    let py = value.py();
    let sink = Bound::new(py, Sink::default())?;
    let keep = sink.getattr(intern!(py, "keep"))?;
    let pickler = codec(py)?.getattr(intern!(py, "Full"))?.call1((&sink, 5, keep))?;
    pickler.call_method1(intern!(py, "dump"), (value,))?;
    Ok(std::mem::take(&mut sink.borrow_mut().written))
}

impl Written {
    fn into_value(self, meeting: Meeting) -> PyResult<Encoded> {
        let Meeting { met, contains, .. } = meeting;
        let (codec, pieces) = match self.buffers.is_empty() {
            true => (Codec::PICKLE5, self.pickle),
            false => (Codec::PICKLE5_BUFFERS, self.with_buffers()?),
        };
        Ok(Encoded { codec, pieces, met, contains })
    }

    /// The layout of [`Codec::PICKLE5_BUFFERS`].
    fn with_buffers(self) -> PyResult<Pieces> {
        let too_much = |_| PyTypeError::new_err("a value has at most 4 GiB beside its buffers");
        let head = 8 + 16 * self.buffers.len();
        let mut table = Vec::with_capacity(head);
        table.extend(u32::try_from(self.buffers.len()).map_err(too_much)?.to_le_bytes());
        table.extend(u32::try_from(self.pickle.len()).map_err(too_much)?.to_le_bytes());
        let mut end = head + self.pickle.len();
        for buffer in &self.buffers {
            let start = end.next_multiple_of(ALIGN);
            table.extend((start as u64).to_le_bytes());
            table.extend((buffer.len() as u64).to_le_bytes());
            end = start + buffer.len();
        }
        let mut pieces = Pieces::of_vec(table);
        pieces.append(self.pickle);
        for buffer in self.buffers {
            pieces.align();
            pieces.push_exported(buffer);
        }
        Ok(pieces)
    }
}

/// Asked by the picklers for whatever is no plain container: how to write it otherwise than usual.
/// Raises where it is a function or a class that the other side cannot import.
#[pyfunction(name = "_reduce")]
pub(super) fn reduce<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let has_module =
        object.is_instance_of::<PyType>() || object.is_exact_instance_of::<PyFunction>();
    if has_module && travels_by_value(object)? {
        return Err(PyAttributeError::new_err("it travels by value"));
    }
    if object.is_exact_instance_of::<PyMemoryView>() {
        return codec(py)?.getattr(intern!(py, "reduce_view"))?.call1((object,));
    }
    if !has_module && object.get_type().name()? == "Connection" {
        // As an object like any other it would be written as a number, which means another file
        // where it is read.
        codec(py)?.getattr(intern!(py, "refuse_connection"))?.call1((object,))?;
    }
    Ok(py.NotImplemented().into_bound(py))
}

/// Whether a class or function is one that the other side cannot import. What has no module is for
/// cloudpickle as well.
fn travels_by_value(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let Ok(module) = object.getattr(intern!(py, "__module__")) else { return Ok(true) };
    let Ok(module) = module.cast_into::<PyString>() else { return Ok(true) };
    if module.to_str().is_ok_and(|name| name == "builtins") {
        return Ok(false);
    }
    let ask = ASK.get_or_try_init(py, || {
        codec(py)?.getattr(intern!(py, "travels_by_value")).map(Bound::unbind)
    })?;
    ask.bind(py).call1((module,))?.extract()
}

fn loads<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let import = || Ok::<_, PyErr>(py.import("_pickle")?.getattr("loads")?.unbind());
    Ok(LOADS.get_or_try_init(py, import)?.bind(py))
}

pub(super) fn read<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    loads(py)?.call1((PyBytes::new(py, bytes),))
}

pub(super) fn read_mapped<'py>(py: Python<'py>, bytes: &Bytes) -> PyResult<Bound<'py, PyAny>> {
    loads(py)?.call1((Mapped::new(py, bytes.clone())?,))
}

pub(super) fn read_with_buffers<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let layout = Layout::of(bytes)?;
    let buffers = PyList::empty(py);
    for place in &layout.buffers {
        buffers.append(PyByteArray::new(py, &bytes[place.clone()]))?;
    }
    load(PyBytes::new(py, &bytes[layout.pickle]).into_any(), &buffers)
}

pub(super) fn read_mapped_with_buffers<'py>(
    py: Python<'py>,
    bytes: &Bytes,
) -> PyResult<Bound<'py, PyAny>> {
    let layout = Layout::of(bytes)?;
    let buffers = PyList::empty(py);
    for place in layout.buffers {
        buffers.append(Mapped::new(py, bytes.slice(place))?)?;
    }
    load(Mapped::new(py, bytes.slice(layout.pickle))?.into_any(), &buffers)
}

fn load<'py>(
    pickle: Bound<'py, PyAny>,
    buffers: &Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = pickle.py();
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffers"), buffers)?;
    loads(py)?.call((pickle,), Some(&options))
}

/// Where the parts of a value of [`Codec::PICKLE5_BUFFERS`] lie.
struct Layout {
    pickle: std::ops::Range<usize>,
    buffers: Vec<std::ops::Range<usize>>,
}

impl Layout {
    /// Every range is within the value.
    fn of(bytes: &[u8]) -> PyResult<Layout> {
        Layout::parse(bytes).ok_or_else(|| malformed("its table of buffers is wrong"))
    }

    fn parse(bytes: &[u8]) -> Option<Layout> {
        let word =
            |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let long = |at: usize| {
            let long = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
            usize::try_from(long).ok()
        };
        let within = |start: usize, len: usize| {
            let end = start.checked_add(len)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let (count, pickle) = (word(0)?, word(4)?);
        let head = count.checked_mul(16)?.checked_add(8)?;
        within(0, head)?;
        let buffers = (0..count)
            .map(|n| within(long(8 + 16 * n)?, long(16 + 16 * n)?))
            .collect::<Option<_>>()?;
        Some(Layout { pickle: within(head, pickle)?, buffers })
    }
}
