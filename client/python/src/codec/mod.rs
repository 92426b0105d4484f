//! Values between Python and the cluster: how objects are written, and read where they lie.
//!
//! Exact `None`, `bool`, `int`, `float`, `str` and `bytes` are MessagePack, written and read here.
//! The rest is pickle 5 with its large buffers out of band, so that arrays are read without a copy.
//! Futures inside values are references that the cluster knows of.
//!
//! # Layout
//! - [`plain`]: MessagePack. [`pickled`]: pickle. [`pieces`]: a value as a list of places in
//!   memory.
//! - [`view`]: bytes of the object store as a Python object.
//! - [`met`]: futures inside values.
//! - [`foreign`]: arguments of functions of other languages.
//! - `manyhands/_codec.py`: the picklers, and what they say when they cannot.
//!
//! `unsafe` is in `pieces` and `view` alone.

mod foreign;
mod met;
mod pickled;
mod pieces;
mod plain;
mod view;

use bytes::Bytes;
use manyhands_proto::ObjectId;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

pub(crate) use foreign::encode_foreign;
pub(crate) use met::{Input, reduce_met, with_inputs};
pub(crate) use pickled::encode_function;
pub(crate) use pieces::Pieces;
pub(crate) use plain::{plain, plain_data};

/// What a value is written for, which decides what becomes of the futures inside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// An argument: the function gets their values. The first one met is input number `first` of
    /// the call, and so on.
    Argument {
        /// Inputs of the call so far.
        first: u32,
    },
    /// A result, or a value that is put: they stay futures.
    #[default]
    Value,
}

/// A value that was written.
pub(crate) struct Encoded {
    /// How to read it.
    pub(crate) codec: Codec,
    /// Its bytes.
    pub(crate) pieces: Pieces,
    /// The futures and lazy calls inside it, in order.
    pub(crate) met: Vec<Py<PyAny>>,
    /// The objects of these futures, for [`Role::Value`].
    pub(crate) contains: Vec<ObjectId>,
}

impl Encoded {
    fn plain(codec: Codec, pieces: Pieces) -> Encoded {
        Encoded { codec, pieces, met: Vec::new(), contains: Vec::new() }
    }
}

/// Writes any value. `what` names it in errors: "argument 1". What cannot be written is refused
/// with a `TypeError` or `PicklingError` that names the attribute which is the reason.
pub(crate) fn encode(
    value: &Bound<'_, PyAny>,
    role: Role,
    what: &dyn Fn() -> String,
) -> PyResult<Encoded> {
    let mut short = Vec::new();
    if plain(value, &mut short) {
        return Ok(Encoded::plain(Codec::MSGPACK, Pieces::of_vec(short)));
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok(Encoded::plain(Codec::RAW, Pieces::of_bytes(bytes)));
    }
    if let Ok(text) = value.cast_exact::<PyString>()
        && let Some(pieces) = plain::long_text(text)
    {
        return Ok(Encoded::plain(Codec::MSGPACK, pieces));
    }
    pickled::encode(value, role, what)
}

/// Reads a value. One that is larger than [`INLINE_LIMIT`] is read where it lies: its buffers are
/// read-only views that keep `bytes` alive. The buffers of smaller ones are copied.
pub(crate) fn decode<'py>(
    py: Python<'py>,
    codec: Codec,
    bytes: &Bytes,
) -> PyResult<Bound<'py, PyAny>> {
    if bytes.len() <= INLINE_LIMIT {
        return decode_slice(py, codec, bytes);
    }
    match codec {
        Codec::MSGPACK => plain::read(py, bytes),
        Codec::PICKLE5 => pickled::read_mapped(py, bytes),
        Codec::PICKLE5_BUFFERS => pickled::read_mapped_with_buffers(py, bytes),
        Codec::RAW => Ok(PyBytes::new(py, bytes).into_any()),
        Codec::POD => view::view(py, bytes.clone()),
        other => Err(unknown(other)),
    }
}

/// Reads a value that lies anywhere; its buffers are copied, and writable.
pub(crate) fn decode_slice<'py>(
    py: Python<'py>,
    codec: Codec,
    bytes: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    match codec {
        Codec::MSGPACK => plain::read(py, bytes),
        Codec::PICKLE5 => pickled::read(py, bytes),
        Codec::PICKLE5_BUFFERS => pickled::read_with_buffers(py, bytes),
        Codec::RAW => Ok(PyBytes::new(py, bytes).into_any()),
        Codec::POD => view::view(py, Bytes::copy_from_slice(bytes)),
        other => Err(unknown(other)),
    }
}

fn unknown(codec: Codec) -> PyErr {
    let message = format!("a value of codec {} cannot be read by Python", codec.0);
    PyTypeError::new_err(message)
}

fn malformed(what: &str) -> PyErr {
    PyValueError::new_err(format!("a value is malformed: {what}"))
}

/// Writes a value as a result would be, for tests: its codec and its bytes. `foreign`: as an
/// argument of a function in another language.
#[pyfunction(name = "encode")]
#[pyo3(signature = (value, foreign=false))]
fn encode_for_test<'py>(
    value: &Bound<'py, PyAny>,
    foreign: bool,
) -> PyResult<(u8, Bound<'py, PyBytes>)> {
    let what = || "the value".to_owned();
    let encoded = match foreign {
        false => encode(value, Role::Value, &what)?,
        true => encode_foreign(value, &what)?,
    };
    let mut bytes = Vec::with_capacity(encoded.pieces.len());
    encoded.pieces.append_to(&mut bytes);
    Ok((encoded.codec.0, PyBytes::new(value.py(), &bytes)))
}

/// Reads a value as if it lay in the object store, for tests.
#[pyfunction(name = "decode")]
fn decode_for_test<'py>(py: Python<'py>, codec: u8, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    decode(py, Codec(codec), &Bytes::copy_from_slice(bytes))
}

/// Adds what Python calls to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encode_for_test, module)?)?;
    module.add_function(wrap_pyfunction!(decode_for_test, module)?)?;
    module.add_function(wrap_pyfunction!(met::nested, module)?)?;
    module.add_function(wrap_pyfunction!(pickled::reduce, module)?)?;
    module.add_class::<view::Mapped>()
}
