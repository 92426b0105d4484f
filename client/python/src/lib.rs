//! The extension module `manyhands._core`: what of the Python package is written in Rust.
//!
//! It promises that no thread of the core takes the interpreter's lock, that the lock is let go of
//! around every wait, and that a wait notices Ctrl-C.
//!
//! # Layout
//! - `client`: what a program holds: clients, futures, nodes of graphs.
//! - `codec`: values between Python and the cluster.
//! - `commands`: the command line.
//! - `executor`: what runs tasks in a forked interpreter.

mod client;
mod codec;
mod commands;
mod executor;

use pyo3::prelude::*;

/// The module, as Python imports it.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    client::register(module)?;
    codec::register(module)?;
    commands::register(module)?;
    executor::register(module)
}
