//! Plain data as MessagePack.

use manyhands_proto::value::INLINE_LIMIT;
use pyo3::BoundObject;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::malformed;
use super::pieces::Pieces;

/// Texts and bytes up to this long are written in place: with what stands around them, they stay
/// within [`INLINE_LIMIT`].
const SHORT: usize = INLINE_LIMIT - 16;

/// How deep plain data may be nested.
const DEPTH_LIMIT: u32 = 200;

/// Appends exact `None`, `bool`, `int` (of 64 bits), `float`, and short `str` and `bytes` to `out`.
/// `false`: it is something else, and nothing was appended.
pub(crate) fn plain(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return integer(number, out);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return match text.to_str() {
            Ok(text) => text.len() <= SHORT && write_text(text, out).is_ok(),
            // Surrogates that stand alone are for pickle.
            Err(_) => false,
        };
    }
    if value.is_none() {
        out.push(0xc0);
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        out.push(0xcb);
        out.extend_from_slice(&number.value().to_be_bytes());
    } else if let Ok(truth) = value.cast_exact::<PyBool>() {
        out.push(0xc2 + u8::from(truth.is_true()));
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return bytes.as_bytes().len() <= SHORT && write_bytes(bytes.as_bytes(), out).is_ok();
    } else {
        return false;
    }
    true
}

/// A `str` that is too long for [`plain`], where it lies.
pub(super) fn long_text(text: &Bound<'_, PyString>) -> Option<Pieces> {
    let len = text.to_str().ok()?.len();
    let mut head = Vec::with_capacity(5);
    write_head(len, [None, Some(0xda), Some(0xdb)], &mut head).ok()?;
    let mut pieces = Pieces::of_vec(head);
    pieces.push_text(text).ok()?;
    Some(pieces)
}

/// Appends plain data all the way down: `None`, `bool`, `int`, `float`, `str`, `bytes`, and lists,
/// tuples and dictionaries of these, also of their subclasses. Fails with a `TypeError` at anything
/// else.
pub(crate) fn plain_data(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    write(value, out, 0)
}

fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u32) -> PyResult<()> {
    if depth > DEPTH_LIMIT {
        return Err(PyTypeError::new_err("plain data is nested too deeply, or contains itself"));
    }
    if plain(value, out) {
        return Ok(());
    }
    if let Ok(list) = value.cast::<PyList>() {
        write_head(list.len(), [None, Some(0xdc), Some(0xdd)], out)?;
        return list.iter().try_for_each(|item| write(&item, out, depth + 1));
    }
    if let Ok(tuple) = value.cast::<PyTuple>() {
        write_head(tuple.len(), [None, Some(0xdc), Some(0xdd)], out)?;
        return tuple.iter().try_for_each(|item| write(&item, out, depth + 1));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        write_head(dict.len(), [None, Some(0xde), Some(0xdf)], out)?;
        return dict.iter().try_for_each(|(key, item)| {
            write(&key, out, depth + 1)?;
            write(&item, out, depth + 1)
        });
    }
    if let Ok(text) = value.cast::<PyString>() {
        write_text(text.to_str()?, out)?;
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        write_bytes(bytes.as_bytes(), out)?;
    } else if let Ok(number) = value.cast::<PyInt>() {
        if !integer(number, out) {
            return Err(PyOverflowError::new_err("an integer of plain data has at most 64 bits"));
        }
    } else if let Ok(number) = value.cast::<PyFloat>() {
        out.push(0xcb);
        out.extend_from_slice(&number.value().to_be_bytes());
    } else {
        let name = value.get_type().fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("{name} is not plain data")));
    }
    Ok(())
}

fn integer(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> bool {
    let Ok(value) = number.extract::<i64>() else {
        return match number.extract::<u64>() {
            Ok(value) => {
                out.push(0xcf);
                out.extend_from_slice(&value.to_be_bytes());
                true
            }
            Err(_) => false,
        };
    };
    match value {
        -32..=127 => out.push(value as u8),
        _ => {
            if let Ok(value) = i16::try_from(value) {
                out.push(0xd1);
                out.extend_from_slice(&value.to_be_bytes());
            } else if let Ok(value) = i32::try_from(value) {
                out.push(0xd2);
                out.extend_from_slice(&value.to_be_bytes());
            } else {
                out.push(0xd3);
                out.extend_from_slice(&value.to_be_bytes());
            }
        }
    }
    true
}

fn write_text(text: &str, out: &mut Vec<u8>) -> PyResult<()> {
    match text.len() {
        len @ ..32 => out.push(0xa0 | len as u8),
        len => write_head(len, [Some(0xd9), Some(0xda), Some(0xdb)], out)?,
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) -> PyResult<()> {
    write_head(bytes.len(), [Some(0xc4), Some(0xc5), Some(0xc6)], out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// The marker and length of what has a length: markers for one, two and four bytes of it. Writes
/// nothing if it is longer than that.
fn write_head(len: usize, [one, two, four]: [Option<u8>; 3], out: &mut Vec<u8>) -> PyResult<()> {
    match (u8::try_from(len), u16::try_from(len), u32::try_from(len), one, two, four) {
        (Ok(len), _, _, Some(marker), _, _) => out.extend_from_slice(&[marker, len]),
        (_, Ok(len), _, _, Some(marker), _) => {
            out.push(marker);
            out.extend_from_slice(&len.to_be_bytes());
        }
        (_, _, Ok(len), _, _, Some(marker)) => {
            out.push(marker);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            return Err(PyOverflowError::new_err(
                "a part of plain data has at most 2**32 - 1 items, characters or bytes",
            ));
        }
    }
    Ok(())
}

/// Reads MessagePack: arrays become lists, maps dictionaries.
pub(super) fn read<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader { py, rest: bytes };
    let value = reader.value(0)?;
    match reader.rest {
        [] => Ok(value),
        _ => Err(malformed("something stands behind it")),
    }
}

struct Reader<'py, 'a> {
    py: Python<'py>,
    rest: &'a [u8],
}

impl<'py, 'a> Reader<'py, 'a> {
    fn take(&mut self, count: usize) -> PyResult<&'a [u8]> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| malformed("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or_else(|| malformed("it is cut off"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A length of one, two or four bytes.
    fn length(&mut self, bytes: u8) -> PyResult<usize> {
        Ok(match bytes {
            1 => usize::from(self.array::<1>()?[0]),
            2 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?) as usize,
        })
    }

    fn int<T: IntoPyObject<'py>>(&mut self, value: T) -> PyResult<Bound<'py, PyAny>>
    where
        PyErr: From<T::Error>,
    {
        Ok(value.into_pyobject(self.py)?.into_any().into_bound())
    }

    fn value(&mut self, depth: u32) -> PyResult<Bound<'py, PyAny>> {
        let [marker] = self.array()?;
        match marker {
            0x00..=0x7f => self.int(marker),
            0xe0..=0xff => self.int(marker as i8),
            0xd0 => self.array().map(i8::from_be_bytes).and_then(|n| self.int(n)),
            0xd1 => self.array().map(i16::from_be_bytes).and_then(|n| self.int(n)),
            0xd2 => self.array().map(i32::from_be_bytes).and_then(|n| self.int(n)),
            0xd3 => self.array().map(i64::from_be_bytes).and_then(|n| self.int(n)),
            0xcc => self.array().map(u8::from_be_bytes).and_then(|n| self.int(n)),
            0xcd => self.array().map(u16::from_be_bytes).and_then(|n| self.int(n)),
            0xce => self.array().map(u32::from_be_bytes).and_then(|n| self.int(n)),
            0xcf => self.array().map(u64::from_be_bytes).and_then(|n| self.int(n)),
            0xca => self.array().map(f32::from_be_bytes).and_then(|n| self.int(n)),
            0xcb => self.array().map(f64::from_be_bytes).and_then(|n| self.int(n)),
            0xc0 => Ok(self.py.None().into_bound(self.py)),
            0xc2 | 0xc3 => Ok(PyBool::new(self.py, marker == 0xc3).to_owned().into_any()),
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f)),
            0xd9..=0xdb => self.length(1 << (marker - 0xd9)).and_then(|len| self.text(len)),
            0xc4..=0xc6 => {
                let len = self.length(1 << (marker - 0xc4))?;
                Ok(PyBytes::new(self.py, self.take(len)?).into_any())
            }
            0x90..=0x9f => self.list(usize::from(marker & 0x0f), depth),
            0xdc | 0xdd => self.length(2 << (marker - 0xdc)).and_then(|len| self.list(len, depth)),
            0x80..=0x8f => self.dict(usize::from(marker & 0x0f), depth),
            0xde | 0xdf => self.length(2 << (marker - 0xde)).and_then(|len| self.dict(len, depth)),
            _ => Err(malformed("it has an extension type, which is not plain data")),
        }
    }

    fn text(&mut self, len: usize) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyString::from_bytes(self.py, self.take(len)?)?.into_any())
    }

    fn list(&mut self, len: usize, depth: u32) -> PyResult<Bound<'py, PyAny>> {
        check(depth)?;
        let list = PyList::empty(self.py);
        (0..len).try_for_each(|_| list.append(self.value(depth + 1)?))?;
        Ok(list.into_any())
    }

    fn dict(&mut self, len: usize, depth: u32) -> PyResult<Bound<'py, PyAny>> {
        check(depth)?;
        let dict = PyDict::new(self.py);
        (0..len).try_for_each(|_| {
            let key = self.value(depth + 1)?;
            // A list cannot be a key in Python, and what other languages have there is mostly a
            // pair.
            let key = match key.cast::<PyList>() {
                Ok(list) => list.to_tuple().into_any(),
                Err(_) => key,
            };
            dict.set_item(key, self.value(depth + 1)?)
        })?;
        Ok(dict.into_any())
    }
}

fn check(depth: u32) -> PyResult<()> {
    match depth > DEPTH_LIMIT {
        true => Err(malformed("it is nested too deeply")),
        false => Ok(()),
    }
}
