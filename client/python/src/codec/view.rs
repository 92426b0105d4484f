//! Bytes of the object store as a Python object.

use std::ffi::c_int;

use bytes::Bytes;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

/// Bytes that lie where they lie, read-only: what arrays are views of. The memory stays as long as
/// any view of it does.
#[pyclass(frozen, module = "manyhands._core")]
pub(super) struct Mapped {
    bytes: Bytes,
}

impl Mapped {
    pub(super) fn new(py: Python<'_>, bytes: Bytes) -> PyResult<Bound<'_, Mapped>> {
        Bound::new(py, Mapped { bytes })
    }
}

#[pymethods]
impl Mapped {
    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    /// # Safety
    /// Called by the interpreter, with a structure to be filled in.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let (start, len) = (bytes.as_ptr().cast_mut().cast(), bytes.len() as isize);
        // SAFETY: the interpreter hands over a structure to be filled in. The memory stays as long
        // as the object, which the structure holds from then on; it is marked as read-only.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, 1, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// A memoryview of bytes where they lie.
pub(super) fn view(py: Python<'_>, bytes: Bytes) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyMemoryView::from(&Mapped::new(py, bytes)?.into_any())?.into_any())
}
