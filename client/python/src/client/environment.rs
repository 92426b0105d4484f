//! How executors of this client's functions are set up.

use manyhands_proto::client::Environment;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::options::pairs;

/// What `_open_local` and `_open_remote` are told: the environment, and the archive of modules to
/// be sent with it.
pub(crate) struct Setup {
    pub(crate) environment: Environment,
    /// Path of a zip file.
    pub(crate) archive: Option<std::path::PathBuf>,
}

/// Reads the dictionary that `manyhands._environment` makes.
pub(crate) fn setup(asked: Option<&Bound<'_, PyDict>>) -> PyResult<Setup> {
    let mut setup = Setup { environment: Environment::default(), archive: None };
    let Some(asked) = asked else { return Ok(setup) };
    let given = |key: &str| Ok::<_, PyErr>(asked.get_item(key)?.filter(|value| !value.is_none()));
    let environment = &mut setup.environment;
    if let Some(preload) = given("preload")? {
        environment.preload = preload.extract()?;
    }
    if let Some(variables) = given("variables")? {
        environment.variables = pairs(&variables)?;
    }
    if let Some(directory) = given("directory")? {
        environment.directory = Some(directory.extract()?);
    }
    if let Some(path) = given("path")? {
        environment.path = path.extract()?;
    }
    if let Some(requirements) = given("requirements")? {
        environment.requirements = requirements.extract()?;
    }
    if let Some(archive) = given("archive")? {
        setup.archive = Some(archive.extract()?);
    }
    Ok(setup)
}
