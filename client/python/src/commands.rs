//! The command line `manyhands`, which the package includes.

use std::ffi::OsString;
use std::path::PathBuf;

use manyhands_executor::process::{Loaded, set_own_program};
use pyo3::prelude::*;

/// Loads this library: with the right variable in its environment the process is a template then.
const LOAD: &str = "import ctypes, sys; ctypes.CDLL(sys.argv[1])";

/// Runs a command line, the first word of which is the program's name; the code to end with.
///
/// From then on Ctrl-C ends the process as it does any program that is not Python.
#[pyfunction]
fn cli(py: Python<'_>, words: Vec<OsString>) -> PyResult<u8> {
    let signal = py.import("signal")?;
    signal.call_method1("signal", (signal.getattr("SIGINT")?, signal.getattr("SIG_DFL")?))?;
    set_own_program(loaded(py)?);
    Ok(py.detach(|| manyhands_cli::run(words)))
}

/// This library, and what loads it.
fn loaded(py: Python<'_>) -> PyResult<Loaded> {
    let file: PathBuf = py.import("manyhands._core")?.getattr("__file__")?.extract()?;
    let interpreter: OsString = py.import("sys")?.getattr("executable")?.extract()?;
    // Isolated, and without packages: only what is built in is needed.
    let words = [interpreter, "-I".into(), "-S".into(), "-c".into(), LOAD.into()];
    let command = words.into_iter().chain([file.clone().into_os_string()]).collect();
    Ok(Loaded { file, command })
}

/// Adds what Python calls to the extension module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cli, module)?)
}
