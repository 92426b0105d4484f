//! What a Python program holds: clients, futures, nodes of graphs.
//!
//! # Layout
//! - `client`: the class `Client`: how it is opened and closed, what it is asked.
//! - `functions`: what is known of the functions that were submitted; `watched`: what is known of
//!   objects while they live.
//! - `call`: a call with its arguments, and how it is submitted; `large`: arguments that are put once.
//! - `future`: references to results, and `untracked`: how the garbage collector is kept from them;
//!   `reading`: how results are waited for and read.
//! - `adopted`: futures that are found inside values.
//! - `watch`: who is told of ends in the order in which they come; `output`: what tasks print.
//! - `stream`: the items of generators.
//! - `rust`: programs in Rust, whose tasks are called by name.
//! - `lazy`: nodes of graphs; `options`: what may be asked of a task.
//! - `environment`: how executors are set up; `failures`: what can go wrong; `forks`: processes that
//!   were forked from one that has clients.

mod adopted;
mod call;
#[expect(clippy::module_inception, reason = "it is the class of that name")]
mod client;
mod environment;
mod failures;
mod forks;
mod functions;
mod future;
mod large;
mod lazy;
mod options;
mod output;
mod reading;
mod rust;
mod stream;
mod untracked;
mod watch;
mod watched;

use pyo3::prelude::*;

pub(crate) use client::Client;
pub(crate) use future::Future;
pub(crate) use lazy::Lazy;

/// Adds what is here to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Client>()?;
    module.add_class::<Future>()?;
    module.add_class::<Lazy>()?;
    module.add_class::<options::Options>()?;
    module.add_class::<watch::Watch>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<rust::RustProgram>()?;
    module.add_class::<rust::RustFunction>()?;
    module.add_class::<stream::StreamSource>()?;
    module.add_function(wrap_pyfunction!(adopted::adopted, module)?)?;
    lazy::register(module)
}
