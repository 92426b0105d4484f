//! The class `Client`: how it is opened and closed, and what it is asked.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use manyhands::Error;
use manyhands::foreign::{Object, Pieces, Purpose};
use manyhands::python::PythonConfig;
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::Codec;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::call::{self, Asked};
use super::environment::{Setup, setup};
use super::failures::{misuse, raised};
use super::forks::Birth;
use super::functions::{self, Functions};
use super::future::Future;
use super::large::Puts;
use super::options::{self, Options};
use super::output::{Output, Queue};
use super::rust::RustProgram;
use super::stream::StreamSource;
use super::watch::Watch;
use super::{lazy, reading};

/// A client of one job. `manyhands.Client` is made of it.
#[pyclass(frozen, subclass, module = "manyhands._core")]
pub struct Client {
    open: OnceLock<Open>,
}

/// What an open client has.
pub(crate) struct Open {
    pub(crate) client: manyhands::Client,
    pub(crate) functions: Functions,
    pub(crate) puts: Puts,
    pub(crate) is_local: bool,
    output: Arc<Queue>,
    /// It takes no more calls.
    refuses: AtomicBool,
    closed: AtomicBool,
    /// The running task's own: it ends with the task, and not with this object.
    pub(crate) is_nested: bool,
    birth: Birth,
}

impl Client {
    /// What it has, if it is open and this is its process.
    pub(crate) fn open(&self) -> PyResult<&Open> {
        let open = self.open.get().ok_or_else(|| misuse("this client is not open"))?;
        open.birth.check().map(|()| open)
    }

    pub(crate) fn accepting(&self) -> PyResult<&Open> {
        let open = self.open()?;
        if open.refuses.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err("cannot schedule new futures after shutdown"));
        }
        Ok(open)
    }

    /// Fails if it was opened before.
    fn check_unopened(&self) -> PyResult<()> {
        if self.open.get().is_some() { Err(opened_before()) } else { Ok(()) }
    }

    fn begin(
        &self,
        py: Python<'_>,
        client: manyhands::Client,
        is_local: bool,
        is_nested: bool,
    ) -> PyResult<()> {
        let output = Arc::new(Queue::default());
        if !is_nested {
            let (queue, notices) = (output.clone(), output.clone());
            client
                .on_output(move |task, name, stream, bytes| queue.push(task, name, stream, bytes));
            client.on_notice(move |text| notices.notice(text));
        }
        let open = Open {
            client,
            functions: if is_nested { functions::of_tasks() } else { Functions::default() },
            puts: Puts::default(),
            is_local,
            output,
            refuses: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            is_nested,
            birth: Birth::here(),
        };
        self.open.set(open).map_err(|open| {
            // Another thread was faster.
            py.detach(|| open.close());
            opened_before()
        })
    }
}

fn opened_before() -> PyErr {
    misuse("this client has been opened before")
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if !open.birth.is_here() {
            // Its locks may be held for ever by threads that are not here.
            std::mem::forget(open);
        } else if !open.is_nested {
            Python::attach(|py| py.detach(|| open.close()));
        }
    }
}

impl Open {
    /// Ends the session, and a cluster that was started for it. May wait for threads: not to be
    /// called with the interpreter's lock.
    fn close(&self) {
        if !self.closed.swap(true, Ordering::SeqCst) && !self.is_nested {
            self.client.shutdown();
        }
        self.output.close();
    }

    /// Whether it was closed here: what had not ended by then never will.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The object of a future, which must be of the same session.
    pub(crate) fn own<'a>(&self, future: &'a Future) -> PyResult<&'a Object> {
        let object = future.object()?;
        match self.client.is_own(object) {
            true => Ok(object),
            false => Err(PyValueError::new_err(format!(
                "future {} belongs to another client: pass its result, or submit with the client \
                 that made it",
                object.id()
            ))),
        }
    }

    /// Waits until there is room for another call.
    pub(crate) fn wait_room(&self, py: Python<'_>) -> PyResult<()> {
        if self.client.has_room() {
            return Ok(());
        }
        let room = |until| Ok(self.client.wait_room(until)?.then_some(()));
        reading::in_slices(py, self.is_nested, None, room).map(drop)
    }

    /// Submits what may have to wait or to copy much, without the interpreter's lock.
    pub(crate) fn submit_slowly<T: Send>(
        &self,
        py: Python<'_>,
        submit: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        // A task's messages leave from its own thread, which lets go of the lock itself.
        if self.is_nested { submit() } else { py.detach(submit) }
    }

    /// Puts an encoded value.
    pub(crate) fn put(
        &self,
        py: Python<'_>,
        codec: Codec,
        pieces: &Pieces,
        contains: &[Object],
    ) -> PyResult<Object> {
        let put = py.detach(|| self.client.put_pieces(codec, pieces, contains));
        put.map_err(|error| raised(py, &error))
    }

    /// Stops tasks.
    pub(crate) fn cancel(&self, py: Python<'_>, objects: &[&Object], reason: &str) -> PyResult<()> {
        let cancelled = self.client.cancel_objects(objects, reason);
        cancelled.map_err(|error| raised(py, &error))
    }
}

/// The futures of a list, borrowed.
fn futures<'a, 'py>(list: &[&'a Bound<'py, Future>], open: &Open) -> PyResult<Vec<&'a Object>> {
    list.iter().map(|future| open.own(future.get())).collect()
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Client {
        Client { open: OnceLock::new() }
    }

    /// Becomes a client of a cluster that is started in this process.
    #[pyo3(signature = (*, slots=None, store_limit=None, spill_dir=None, resources=None,
        labels=None, name=None, environment=None, interpreter=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn _open_local(
        &self,
        py: Python<'_>,
        slots: Option<u32>,
        store_limit: Option<u64>,
        spill_dir: Option<PathBuf>,
        resources: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
        name: Option<&str>,
        environment: Option<&Bound<'_, PyDict>>,
        interpreter: Option<PathBuf>,
    ) -> PyResult<()> {
        self.check_unopened()?;
        let Setup { environment, .. } = setup(environment)?;
        let interpreter = match interpreter {
            Some(interpreter) => interpreter,
            None => py.import("sys")?.getattr("executable")?.extract()?,
        };
        let mut builder = manyhands::Client::builder();
        if let Some(slots) = slots {
            builder = builder.slots(slots);
        }
        if let Some(limit) = store_limit {
            builder = builder.store_limit(limit);
        }
        if let Some(dir) = spill_dir {
            builder = builder.spill_dir(dir);
        }
        if let Some(name) = name {
            builder = builder.name(name);
        }
        for (name, amount) in resources.map(options::named).transpose()?.unwrap_or_default() {
            builder = builder.resource(&name, amount as f64 / 1e3);
        }
        for (key, value) in labels.map(options::pairs).transpose()?.unwrap_or_default() {
            builder = builder.label(&key, &value);
        }
        let builder = builder.python(PythonConfig { interpreter, environment, prestart: true });
        let client = py.detach(|| builder.local()).map_err(|error| raised(py, &error))?;
        self.begin(py, client, true, false)
    }

    /// Becomes a client of the cluster at an address.
    #[pyo3(signature = (address, *, name=None, environment=None))]
    fn _open_remote(
        &self,
        py: Python<'_>,
        address: &str,
        name: Option<&str>,
        environment: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.check_unopened()?;
        let Setup { environment, archive } = setup(environment)?;
        let mut builder = manyhands::Client::builder();
        if let Some(name) = name {
            builder = builder.name(name);
        }
        let interpreter = PathBuf::new();
        builder = builder.python(PythonConfig { interpreter, environment, prestart: false });
        if let Some(archive) = archive {
            builder = builder.archive(archive);
        }
        let client = py.detach(|| builder.connect(address)).map_err(|error| raised(py, &error))?;
        self.begin(py, client, false, false)
    }

    /// Within a task: becomes a client of the task's job. False anywhere else.
    fn _open_current(&self, py: Python<'_>) -> PyResult<bool> {
        self.check_unopened()?;
        let Some(client) = manyhands::current() else { return Ok(false) };
        self.begin(py, client, true, true).map(|()| true)
    }

    #[getter]
    fn is_local(&self) -> bool {
        self.open.get().is_some_and(|open| open.is_local)
    }

    #[getter]
    fn is_open(&self) -> bool {
        self.open.get().is_some_and(|open| !open.closed.load(Ordering::SeqCst))
    }

    /// The id of its job.
    #[getter]
    fn job(&self) -> PyResult<String> {
        Ok(self.open()?.client.job_id().to_string())
    }

    /// From now on it takes no more calls.
    fn _stop_accepting(&self) -> PyResult<()> {
        self.open()?.refuses.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the session, and a cluster that was started for it with all its processes.
    fn close(&self, py: Python<'_>) {
        if let Some(open) = self.open.get().filter(|open| open.birth.is_here()) {
            py.detach(|| open.close());
        }
    }

    /// Runs `fn` with these arguments as a task; a future of its result.
    #[pyo3(signature = (r#fn, /, *args, **kwargs))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call::submit(slf, slf.get().accepting()?, r#fn, args, kwargs, Asked::default())
    }

    /// As `submit`, with options, and with `nout` a list of futures.
    #[pyo3(signature = (r#fn, args, kwargs=None, options=None, nout=None))]
    fn call<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        options: Option<&Bound<'py, Options>>,
        nout: Option<u16>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options: Option<&TaskOptions> = options.map(|options| &options.get().0);
        let asked = Asked { options, outputs: nout };
        call::submit(slf, slf.get().accepting()?, r#fn, args, kwargs, asked)
    }

    /// Runs a generator function as a task; the source of its items.
    #[pyo3(signature = (r#fn, args, kwargs=None, options=None))]
    fn open_stream<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        options: Option<&Bound<'py, Options>>,
    ) -> PyResult<StreamSource> {
        let options: Option<&TaskOptions> = options.map(|options| &options.get().0);
        let asked = Asked { options, outputs: None };
        let open = slf.get().accepting()?;
        let known = open.functions.find(Some(!open.is_local), r#fn)?;
        let end = call::submit_known(slf, open, &known, args, kwargs, asked)?;
        Ok(StreamSource::new(end.cast_into::<Future>()?.unbind()))
    }

    /// A call for each row of positional arguments; a list of futures.
    #[pyo3(signature = (r#fn, rows, options=None))]
    fn _submit_rows<'py>(
        slf: &Bound<'py, Self>,
        r#fn: &Bound<'py, PyAny>,
        rows: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, Options>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let options: Option<&TaskOptions> = options.map(|options| &options.get().0);
        let asked = Asked { options, outputs: None };
        call::submit_rows(slf, slf.get().accepting()?, r#fn, rows, asked)
    }

    /// A program in Rust, whose tasks can be submitted from now on.
    fn rust(&self, py: Python<'_>, path: PathBuf) -> PyResult<RustProgram> {
        let open = self.accepting()?;
        py.detach(|| {
            let program = RustProgram::open(&path)?;
            let offered = open.client.offer(program.program());
            offered.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            Ok(program)
        })
    }

    /// Puts a value into the cluster, to be an argument of many tasks; a future of it.
    fn put<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Future>> {
        Future::new(slf, call::put(slf.get().accepting()?, value)?, intern!(slf.py(), "put"))
    }

    /// Waits for all of these; their values. Raises what the first failed one raised.
    #[pyo3(signature = (futures, timeout=None))]
    fn gather<'py>(
        slf: &Bound<'py, Self>,
        futures: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        reading::gather(slf, slf.get().open()?, futures, timeout)
    }

    /// Waits until `need` of these have ended; how many have when the time is over.
    #[pyo3(signature = (list, need, timeout=None))]
    fn wait(
        &self,
        py: Python<'_>,
        list: Vec<Bound<'_, Future>>,
        need: usize,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let open = self.open()?;
        let objects = futures(&list.iter().collect::<Vec<_>>(), open)?;
        reading::wait(py, open, &objects, need, reading::deadline(timeout))
    }

    /// Waits until every task that was submitted has ended. False if the time was over before.
    #[pyo3(signature = (timeout=None))]
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let open = self.open()?;
        let drained = |until| Ok(open.client.drain(until)?.then_some(()));
        let deadline = reading::deadline(timeout);
        Ok(reading::in_slices(py, open.is_nested, deadline, drained)?.is_some())
    }

    /// How many tasks have not ended, as far as is known here: nobody is asked.
    fn _unended(&self) -> PyResult<usize> {
        Ok(self.open()?.client.unended())
    }

    /// Tells of ends in the order in which they come.
    fn watch(&self) -> PyResult<Watch> {
        let open = self.open()?;
        Ok(Watch::new(open.client.watch(), open.is_nested))
    }

    /// What tasks print.
    fn output(&self) -> PyResult<Output> {
        Ok(Output::new(self.open()?.output.clone()))
    }

    /// Runs the graph of these; futures of their values, which come here.
    fn compute<'py>(
        slf: &Bound<'py, Self>,
        lazies: &Bound<'py, PyList>,
    ) -> PyResult<Vec<Bound<'py, Future>>> {
        lazy::run(slf, slf.get().accepting()?, lazies, Purpose::Submit)
    }

    /// Runs the graph of these; futures of their values, which stay in the cluster.
    fn persist<'py>(
        slf: &Bound<'py, Self>,
        lazies: &Bound<'py, PyList>,
    ) -> PyResult<Vec<Bound<'py, Future>>> {
        lazy::run(slf, slf.get().accepting()?, lazies, Purpose::Persist)
    }

    /// Stops the tasks of these futures, or all of the job; they fail with the reason.
    #[pyo3(signature = (futures=None, reason="cancelled by its client"))]
    fn cancel(
        &self,
        py: Python<'_>,
        futures: Option<Vec<Bound<'_, Future>>>,
        reason: &str,
    ) -> PyResult<()> {
        let open = self.open()?;
        let Some(list) = futures else {
            let cancelled = open.client.cancel_job(reason);
            return cancelled.map_err(|error| raised(py, &error));
        };
        let pending: Vec<_> = list.iter().filter(|future| future.get().is_pending()).collect();
        open.cancel(py, &self::futures(&pending, open)?, reason)?;
        pending.iter().for_each(|future| future.get().mark_cancelled());
        Ok(())
    }

    /// The state of a task, and the reason in words.
    fn explain(&self, py: Python<'_>, future: &Bound<'_, Future>) -> PyResult<(String, String)> {
        let open = self.open()?;
        let task = open.own(future.get())?.id().task;
        let explained = py.detach(|| open.client.explain_task(task));
        let explained = explained.map_err(|error| raised(py, &error))?;
        Ok((format!("{:?}", explained.state).to_lowercase(), explained.reason))
    }

    /// How many tasks of the job are where.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let open = self.open()?;
        let counts = py.detach(|| open.client.progress()).map_err(|error| raised(py, &error))?;
        let dict = PyDict::new(py);
        dict.set_item("submitted", counts.submitted)?;
        dict.set_item("assigned", counts.assigned)?;
        dict.set_item("done", counts.done)?;
        dict.set_item("failed", counts.failed)?;
        Ok(dict)
    }

    /// How full a local cluster is; nothing of another one.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let Some(stats) = self.open()?.client.local_stats() else { return Ok(dict) };
        dict.set_item("store_limit", stats.store_limit)?;
        dict.set_item("store_used", stats.store_used)?;
        dict.set_item("store_peak", stats.store_peak)?;
        dict.set_item("spilled", stats.spilled)?;
        dict.set_item("spilled_total", stats.spilled_total)?;
        dict.set_item("executors", stats.executors)?;
        dict.set_item("peak_executors", stats.peak_executors)?;
        Ok(dict)
    }

    /// The cluster in numbers.
    fn ask_cluster<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open()?;
        let info = py.detach(|| open.client.cluster().info());
        let info = info.map_err(|error| raised(py, &error))?;
        let json = serde_json::to_string(&info)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        py.import("json")?.getattr("loads")?.call1((json,))
    }
}
