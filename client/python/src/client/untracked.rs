//! Futures that the garbage collector does not look at.
//!
//! A program may hold a million futures, and each of the collector's rounds would visit them all.
//! One that nobody has added anything to refers to its client and a name, and can be part of a
//! cycle only if its client was given attributes that lead to it. So futures begin untracked, as
//! tuples and dictionaries of plain values do, and are tracked from when something of a user's is
//! kept with them.
//!
//! `unsafe` is here: these are calls of the interpreter's own.

use pyo3::ffi;
use pyo3::prelude::*;

/// Has the collector not look at a new object any more.
pub(super) fn untrack<T>(object: &Bound<'_, T>) {
    // SAFETY: the object is alive and the interpreter's lock is held; it is of a class that the
    // collector knows, since that has `__traverse__`. Nothing happens if it is not tracked.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

/// Has the collector look at an object that is whole, as it does at others.
pub(super) fn track<T>(object: &Bound<'_, T>) {
    // SAFETY: as above; one that is tracked already must not be tracked again, and nobody else does
    // it meanwhile, since the interpreter's lock is held.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
