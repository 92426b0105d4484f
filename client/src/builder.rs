//! Settings of a client, and of a cluster that a program starts for itself.

use std::path::PathBuf;
#[cfg(feature = "cluster")]
use std::time::Duration;

#[cfg(feature = "cluster")]
use manyhands_transport::address::Address;

#[cfg(any(feature = "cluster", feature = "local"))]
use crate::client::Client;
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
#[cfg(any(feature = "cluster", feature = "local"))]
use crate::error::Error;
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

    /// Starts the cluster in this process, and a job in it. Fails if the system refuses the thread,
    /// the processes or the files.
    #[cfg(feature = "local")]
    pub fn local(self) -> Result<Client, Error> {
        let (name, weight) = (self.job_name(), self.weight.unwrap_or(1));
        let connection =
            crate::local::start(self).map_err(|error| Error::Start(std::sync::Arc::new(error)))?;
        Client::of(Session::open(connection), &name, weight)
    }

    /// Connects to a cluster, and opens a job in it: see [`Client::connect`].
    #[cfg(feature = "cluster")]
    pub fn connect(self, address: &str) -> Result<Client, Error> {
        let (name, weight) = (self.job_name(), self.weight.unwrap_or(1));
        let options = remote::Options {
            name: name.clone(),
            timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            submits: true,
        };
        let connection = remote::open(address.parse::<Address>()?, options)?;
        Client::of(Session::open(connection), &name, weight)
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
