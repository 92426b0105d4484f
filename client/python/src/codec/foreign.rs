//! Arguments of functions of other languages: plain data, and arrays of numbers as they lie.

use manyhands_proto::value::Codec;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use super::pieces::{Exported, Pieces};
use super::{Encoded, plain_data};

/// Formats of numbers that lie as they do in a vector of Rust.
const NUMBERS: &str = "bBhHiIlLqQnNfd";

/// Writes plain data as MessagePack, and numbers in one row (an array of NumPy, an `array`, a
/// `memoryview`) as they lie. Other arrays become nested lists. Refuses anything else with a
/// `TypeError`; `what` names the value in it.
pub(crate) fn encode_foreign(
    value: &Bound<'_, PyAny>,
    what: &dyn Fn() -> String,
) -> PyResult<Encoded> {
    if !value.is_instance_of::<PyBytes>()
        && let Ok(view) = PyMemoryView::from(value)
    {
        return array(&view).map_err(|error| refused(value.py(), &error, what));
    }
    packed(value).map_err(|error| refused(value.py(), &error, what))
}

fn packed(value: &Bound<'_, PyAny>) -> PyResult<Encoded> {
    let mut bytes = Vec::new();
    plain_data(value, &mut bytes)?;
    Ok(Encoded::plain(Codec::MSGPACK, Pieces::of_vec(bytes)))
}

fn array(view: &Bound<'_, PyMemoryView>) -> PyResult<Encoded> {
    let py = view.py();
    let dimensions: usize = view.getattr(intern!(py, "ndim"))?.extract()?;
    let format: String = view.getattr(intern!(py, "format"))?.extract()?;
    let native = format.trim_start_matches(['@', '=', '<']);
    let is_number = native.len() == 1 && NUMBERS.contains(native);
    if dimensions != 1 || !is_number {
        return packed(&view.call_method0(intern!(py, "tolist"))?);
    }
    let mut pieces = Pieces::default();
    match view.getattr(intern!(py, "c_contiguous"))?.extract()? {
        true => pieces.push_exported(Exported::new(view)?),
        false => pieces.push_vec(view.call_method0(intern!(py, "tobytes"))?.extract()?),
    }
    Ok(Encoded::plain(Codec::POD, pieces))
}

fn refused(py: Python<'_>, error: &PyErr, what: &dyn Fn() -> String) -> PyErr {
    let message = format!(
        "{}: {}; a function in Rust takes None, bool, int, float, str, bytes, lists and dicts of \
         these, arrays of numbers, and futures",
        what(),
        error.value(py)
    );
    let refused = PyTypeError::new_err(message);
    refused.set_cause(py, Some(error.clone_ref(py)));
    refused
}
