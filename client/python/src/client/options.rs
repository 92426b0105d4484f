//! What may be asked of a task.

use manyhands_proto::task::{DEFAULT_CRASH_RETRIES, TaskOptions};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Options of a task: what differs from the defaults. Never changes once it is made.
#[pyclass(frozen, eq, module = "manyhands._core")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(pub(crate) TaskOptions);

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (**asked))]
    fn new(asked: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
        Options::default().replace(asked)
    }

    /// The same with some of it changed.
    #[pyo3(signature = (**asked))]
    fn replace(&self, asked: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
        let mut options = self.0.clone();
        for (name, value) in asked.into_iter().flat_map(|asked| asked.iter()) {
            change(&mut options, name.extract()?, &value)?;
        }
        Ok(Options(options))
    }

    /// What it was made with, as far as it differs from the defaults.
    fn asked<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (own, default) = (&self.0, TaskOptions::default());
        let asked = PyDict::new(py);
        if own.retries != default.retries {
            asked.set_item("retries", own.retries)?;
        }
        if own.crash_retries != DEFAULT_CRASH_RETRIES {
            asked.set_item("crash_retries", own.crash_retries)?;
        }
        if let Some(limit) = own.time_limit_us {
            asked.set_item("time_limit", limit as f64 / 1e6)?;
        }
        if let Some(at) = own.deadline_unix_us {
            asked.set_item("deadline", at as f64 / 1e6)?;
        }
        if own.priority != default.priority {
            asked.set_item("priority", own.priority)?;
        }
        if own.resources.millicores != default.resources.millicores {
            asked.set_item("cores", f64::from(own.resources.millicores) / 1e3)?;
        }
        if own.resources.memory != default.resources.memory {
            asked.set_item("memory", own.resources.memory)?;
        }
        if !own.resources.named.is_empty() {
            let named = PyDict::new(py);
            for (name, amount) in &own.resources.named {
                named.set_item(name, *amount as f64 / 1e3)?;
            }
            asked.set_item("resources", named)?;
        }
        if !own.labels.is_empty() {
            let labels = PyDict::new(py);
            for (key, value) in &own.labels {
                labels.set_item(key, value)?;
            }
            asked.set_item("labels", labels)?;
        }
        if let Some(limit) = own.memory_limit {
            asked.set_item("memory_limit", limit)?;
        }
        Ok(asked)
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        Ok(((), self.asked(py)?))
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let TaskOptions {
            retries,
            crash_retries,
            time_limit_us,
            deadline_unix_us,
            priority,
            resources,
            labels,
            memory_limit,
        } = &self.0;
        let mut hasher = DefaultHasher::new();
        (retries, crash_retries, time_limit_us, deadline_unix_us).hash(&mut hasher);
        (priority, resources, labels, memory_limit).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = Vec::new();
        for (name, value) in self.asked(py)?.iter() {
            parts.push(format!("{name}={}", value.repr()?));
        }
        Ok(format!("Options({})", parts.join(", ")))
    }
}

/// Sets one option.
fn change(options: &mut TaskOptions, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let default = TaskOptions::default();
    let given = !value.is_none();
    match name {
        "retries" => options.retries = if given { times(name, value)? } else { 0 },
        "crash_retries" => {
            options.crash_retries = if given { times(name, value)? } else { DEFAULT_CRASH_RETRIES };
        }
        "time_limit" => {
            options.time_limit_us =
                given.then(|| micros(name, value, "total_seconds")).transpose()?;
        }
        "deadline" => {
            options.deadline_unix_us =
                given.then(|| micros(name, value, "timestamp")).transpose()?;
        }
        "priority" => options.priority = if given { value.extract()? } else { 0 },
        "cores" => {
            let cores = given.then(|| thousandths(name, value)).transpose()?;
            let cores = cores.unwrap_or(u64::from(default.resources.millicores));
            options.resources.millicores =
                u32::try_from(cores).map_err(|_| refused(name, value))?;
        }
        "memory" => options.resources.memory = if given { bytes(name, value)? } else { 0 },
        "memory_limit" => options.memory_limit = given.then(|| bytes(name, value)).transpose()?,
        "resources" => options.resources.named = if given { named(value)? } else { Vec::new() },
        "labels" => options.labels = if given { pairs(value)? } else { Vec::new() },
        _ => {
            return Err(PyTypeError::new_err(format!(
                "a task has no option {name:?}: there are retries, crash_retries, time_limit, \
                 deadline, priority, cores, memory, resources, labels and memory_limit"
            )));
        }
    }
    Ok(())
}

fn refused(name: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyValueError::new_err(format!("{name} cannot be {value}"))
}

fn times(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let times: i64 = value.extract()?;
    u32::try_from(times).map_err(|_| refused(name, value))
}

/// A number that is not negative, of whatever unit.
fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let number: f64 = value.extract()?;
    if number >= 0.0 && number.is_finite() { Ok(number) } else { Err(refused(name, value)) }
}

/// Seconds, or something that has them under a method: a `timedelta`, a `datetime`.
fn micros(name: &str, value: &Bound<'_, PyAny>, method: &str) -> PyResult<u64> {
    let seconds = match value.getattr_opt(method)? {
        Some(method) => number(name, &method.call0()?)?,
        None => number(name, value)?,
    };
    Ok((seconds * 1e6) as u64)
}

fn bytes(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    match value.extract() {
        Ok(exact) => Ok(exact),
        Err(_) => Ok(number(name, value)? as u64),
    }
}

fn thousandths(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    Ok((number(name, value)? * 1e3).round() as u64)
}

/// Amounts of resources by name, in thousandths, sorted.
pub(crate) fn named(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, u64)>> {
    let mut named = Vec::new();
    for (name, amount) in value.cast::<PyDict>()?.iter() {
        let name: String = name.extract()?;
        let amount = thousandths(&format!("resources[{name:?}]"), &amount)?;
        named.push((name, amount));
    }
    named.sort();
    Ok(named)
}

/// A dictionary of texts, sorted by key.
pub(crate) fn pairs(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for (key, value) in value.cast::<PyDict>()?.iter() {
        pairs.push((key.extract()?, value.extract()?));
    }
    pairs.sort();
    Ok(pairs)
}
