//! A value as a list of places in memory: what it is made of is not copied before it is written.

use std::ptr::NonNull;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use smallvec::SmallVec;

/// Alignment of buffers within a value.
pub(super) const ALIGN: usize = 64;

static ZEROS: [u8; ALIGN] = [0; ALIGN];

/// A written value. It keeps the objects whose memory it refers to, whatever thread has it and
/// drops it.
#[derive(Default)]
pub(crate) struct Pieces {
    pieces: SmallVec<[Piece; 4]>,
    len: usize,
}

enum Piece {
    Own(Vec<u8>),
    Padding(usize),
    /// Memory of a Python object that neither moves nor goes while the owner is held.
    Held(NonNull<u8>, usize, #[expect(dead_code, reason = "it keeps the memory")] Owner),
}

enum Owner {
    Object(#[expect(dead_code, reason = "it keeps the memory")] Py<PyAny>),
    Exported(#[expect(dead_code, reason = "it keeps the memory")] Exported),
}

// SAFETY: the memory of a `Held` piece belongs to its owner, which can be held by any thread.
unsafe impl Send for Piece {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Piece {}

impl Pieces {
    pub(crate) fn of_vec(bytes: Vec<u8>) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push_vec(bytes);
        pieces
    }

    pub(crate) fn of_bytes(bytes: &Bound<'_, PyBytes>) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push_bytes(bytes);
        pieces
    }

    /// Bytes of all pieces together.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The pieces where they lie.
    pub(crate) fn slices(&self) -> SmallVec<[&[u8]; 8]> {
        self.pieces.iter().map(Piece::as_slice).collect()
    }

    /// Copies them to the end of a buffer.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        self.pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_slice()));
    }

    pub(super) fn push_vec(&mut self, bytes: Vec<u8>) {
        self.len += bytes.len();
        self.pieces.push(Piece::Own(bytes));
    }

    pub(super) fn push_bytes(&mut self, bytes: &Bound<'_, PyBytes>) {
        self.push_held(bytes.as_bytes(), Owner::Object(bytes.clone().into_any().unbind()));
    }

    /// The UTF-8 of a text, which its object keeps.
    pub(super) fn push_text(&mut self, text: &Bound<'_, PyString>) -> PyResult<()> {
        self.push_held(text.to_str()?.as_bytes(), Owner::Object(text.clone().into_any().unbind()));
        Ok(())
    }

    pub(super) fn push_exported(&mut self, exported: Exported) {
        let (start, len) = (exported.start(), exported.len());
        self.len += len;
        self.pieces.push(Piece::Held(start, len, Owner::Exported(exported)));
    }

    /// Appends zeros up to a multiple of [`ALIGN`].
    pub(super) fn align(&mut self) {
        let padding = self.len.next_multiple_of(ALIGN) - self.len;
        if padding > 0 {
            self.len += padding;
            self.pieces.push(Piece::Padding(padding));
        }
    }

    pub(super) fn append(&mut self, mut other: Pieces) {
        self.len += other.len;
        self.pieces.append(&mut other.pieces);
    }

    fn push_held(&mut self, bytes: &[u8], owner: Owner) {
        self.len += bytes.len();
        self.pieces.push(Piece::Held(NonNull::from(bytes).cast(), bytes.len(), owner));
    }
}

impl Piece {
    fn as_slice(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Padding(len) => &ZEROS[..*len],
            // SAFETY: `len` bytes are there while the owner is held, which the piece does. An
            // object that Python code writes to meanwhile (on another thread) may be seen half
            // written: that is the author's race, and of plain bytes any are valid.
            Piece::Held(start, len, _) => unsafe {
                std::slice::from_raw_parts(start.as_ptr(), *len)
            },
        }
    }
}

/// The contiguous memory that an object exports.
pub(super) struct Exported {
    view: Box<ffi::Py_buffer>,
}

// SAFETY: a buffer can be held and released by any thread that has the GIL.
unsafe impl Send for Exported {}
// SAFETY: as above; it is only read.
unsafe impl Sync for Exported {}

impl Exported {
    /// Of anything with the buffer protocol whose memory is in one piece, in whatever order.
    pub(super) fn new(object: &Bound<'_, PyAny>) -> PyResult<Exported> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the structure is fresh and does not move while it is filled in.
        let result = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_ANY_CONTIGUOUS)
        };
        match result {
            0 => Ok(Exported { view }),
            _ => Err(PyErr::take(object.py())
                .unwrap_or_else(|| PyBufferError::new_err("its memory is not in one piece"))),
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.view.len).unwrap_or(0)
    }

    fn start(&self) -> NonNull<u8> {
        // What is empty may have no address.
        NonNull::new(self.view.buf.cast()).unwrap_or(NonNull::dangling())
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // An interpreter that is gone has taken the memory with it.
        Python::try_attach(|_| {
            // SAFETY: it was filled in by `PyObject_GetBuffer` and is released once, with the GIL
            // held.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.view) }
        });
    }
}
