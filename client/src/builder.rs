//! Settings of a client, and of a cluster that a program starts for itself.

use std::path::PathBuf;
#[cfg(any(feature = "cluster", feature = "local"))]
use std::sync::Arc;
#[cfg(feature = "cluster")]
use std::time::Duration;

#[cfg(any(feature = "cluster", feature = "local"))]
use manyhands_proto::client::Runtime;
#[cfg(feature = "cluster")]
use manyhands_transport::address::Address;

#[cfg(any(feature = "cluster", feature = "local"))]
use crate::client::Client;
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
#[cfg(any(feature = "cluster", feature = "local"))]
use crate::connection::Connection;
#[cfg(any(feature = "cluster", feature = "local"))]
use crate::error::Error;
#[cfg(any(feature = "cluster", feature = "local"))]
use crate::foreign::Program;
use crate::python::PythonConfig;
#[cfg(feature = "cluster")]
use crate::remote;
#[cfg(any(feature = "cluster", feature = "local"))]
use crate::session::Session;

/// How long to try to connect, unless [`Builder::connect_timeout`] says otherwise.
#[cfg(feature = "cluster")]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of a client: see [`Client::builder`](crate::Client::builder). Those of a cluster to be
/// started mean nothing to one that is there already.
///
/// ```
/// # fn main() -> Result<(), manyhands::Error> {
/// let client = manyhands::Client::builder().slots(4).store_limit(1 << 30).local()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(crate) name: Option<String>,
    pub(crate) weight: Option<u32>,
    #[cfg(feature = "cluster")]
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) slots: Option<u32>,
    pub(crate) store_limit: Option<u64>,
    pub(crate) spill_dir: Option<PathBuf>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) resources: Vec<(String, u64)>,
    pub(crate) python: Option<PythonConfig>,
    pub(crate) archive: Option<PathBuf>,
}

impl Builder {
    /// Tasks that run at one time, each in a process of its own. The machine's cores unless set.
    pub fn slots(mut self, slots: u32) -> Builder {
        self.slots = Some(slots);
        self
    }

    /// How many bytes of objects may lie in memory; more go to disk.
    pub fn store_limit(mut self, bytes: u64) -> Builder {
        self.store_limit = Some(bytes);
        self
    }

    /// Where objects go that do not fit into memory.
    pub fn spill_dir(mut self, dir: impl Into<PathBuf>) -> Builder {
        self.spill_dir = Some(dir.into());
        self
    }

    /// The job's name, for people. The program's unless set.
    pub fn name(mut self, name: &str) -> Builder {
        self.name = Some(name.to_owned());
        self
    }

    /// The job's share of the slots beside other jobs: twice the weight, twice the slots. 1 unless
    /// set.
    pub fn weight(mut self, weight: u32) -> Builder {
        self.weight = Some(weight);
        self
    }

    /// How long to try to connect. 10 seconds unless set.
    #[cfg(feature = "cluster")]
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = Some(timeout);
        self
    }

    /// A label that the worker carries: see [`Lazy::label`](crate::Lazy::label).
    pub fn label(mut self, key: &str, value: &str) -> Builder {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Something besides cores and memory that the worker has so much of: see
    /// [`Lazy::resource`](crate::Lazy::resource).
    pub fn resource(mut self, name: &str, amount: f64) -> Builder {
        self.resources.push((name.to_owned(), (amount.max(0.0) * 1000.0).round() as u64));
        self
    }

    /// How Python is set up for the functions of this client's session, and which interpreter runs
    /// them where the cluster is started in this process. `python3` and nothing besides unless set.
    pub fn python(mut self, python: PythonConfig) -> Builder {
        self.python = Some(python);
        self
    }

    /// A zip archive of Python modules, which is brought to the workers that need it and put on the
    /// path of their interpreters. The file is read again when a first worker asks for it.
    pub fn archive(mut self, path: impl Into<PathBuf>) -> Builder {
        self.archive = Some(path.into());
        self
    }

    /// Starts the cluster in this process, and a job in it. Fails if the system refuses the thread,
    /// the processes or the files.
    #[cfg(feature = "local")]
    pub fn local(mut self) -> Result<Client, Error> {
        let (name, weight) = (self.job_name(), self.weight.unwrap_or(1));
        let (runtime, archive) = self.python_runtime()?;
        let connection = crate::local::start(self, runtime.as_ref())
            .map_err(|error| Error::Start(Arc::new(error)))?;
        begin(connection, runtime, archive, &name, weight)
    }

    /// Connects to a cluster, and opens a job in it: see [`Client::connect`].
    #[cfg(feature = "cluster")]
    pub fn connect(mut self, address: &str) -> Result<Client, Error> {
        let (name, weight) = (self.job_name(), self.weight.unwrap_or(1));
        let (runtime, archive) = self.python_runtime()?;
        let options = remote::Options {
            name: name.clone(),
            timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            // Whoever says how Python is set up may have no functions of its own.
            submits: runtime.is_none(),
        };
        let connection = remote::open(address.parse::<Address>()?, options)?;
        begin(connection, runtime, archive, &name, weight)
    }

    /// A client of the cluster that `MANYHANDS_ADDRESS` names, or of one that is started in this
    /// process if it is not set: see [`Client::start`].
    #[cfg(all(feature = "cluster", feature = "local"))]
    pub fn start(self) -> Result<Client, Error> {
        match std::env::var(manyhands_transport::address::ADDRESS_VARIABLE)
            .ok()
            .filter(|address| !address.trim().is_empty())
        {
            Some(address) => self.connect(&address),
            None => self.local(),
        }
    }

    #[cfg(any(feature = "cluster", feature = "local"))]
    fn job_name(&self) -> String {
        self.name.clone().unwrap_or_else(program)
    }

    /// What runs functions of Python, if that was said, and the program that it needs.
    #[cfg(any(feature = "cluster", feature = "local"))]
    fn python_runtime(&mut self) -> Result<(Option<Runtime>, Option<Program>), Error> {
        let archive = self.archive.take().map(Program::of_file).transpose()?;
        if archive.is_some() {
            self.python.get_or_insert_default();
        }
        let environment = self.python.as_ref().map(|python| {
            let mut environment = python.environment.clone();
            environment.archive = archive.as_ref().map_or(environment.archive, Program::hash);
            Runtime::Python(Arc::new(environment))
        });
        Ok((environment, archive))
    }
}

/// Begins a session, and a job in it.
#[cfg(any(feature = "cluster", feature = "local"))]
fn begin(
    connection: Arc<dyn Connection>,
    runtime: Option<Runtime>,
    archive: Option<Program>,
    name: &str,
    weight: u32,
) -> Result<Client, Error> {
    let client = Client::of(Session::open(connection), name, weight)?;
    if let Some(runtime) = runtime {
        client.set_runtime(runtime);
    }
    if let Some(archive) = archive {
        client.offer(&archive)?;
    }
    Ok(client)
}

#[cfg(feature = "cluster")]
impl Cluster {
    /// Connects to a cluster to ask and order, without a job. The address is as
    /// [`Client::connect`] takes it.
    pub fn connect(address: &str) -> Result<Cluster, Error> {
        let (name, timeout) = (program(), CONNECT_TIMEOUT);
        let options = remote::Options { name, timeout, submits: false };
        let connection = remote::open(address.parse::<Address>()?, options)?;
        Ok(Cluster::of(Session::open(connection)))
    }
}

/// The name of this program.
#[cfg(any(feature = "cluster", feature = "local"))]
fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(std::path::Path::file_name);
    name.map_or_else(|| "manyhands".to_owned(), |name| name.to_string_lossy().into_owned())
}
