//! Settings of a cluster that a program starts for itself.

use std::path::PathBuf;

#[cfg(feature = "local")]
use crate::client::Client;
#[cfg(feature = "local")]
use crate::error::Error;

/// Settings of a local cluster: see [`Client::builder`](crate::Client::builder).
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
        let name = self.name.clone().unwrap_or_else(program);
        let connection =
            crate::local::start(self).map_err(|error| Error::Start(std::sync::Arc::new(error)))?;
        Client::over(connection, &name)
    }
}

#[cfg(feature = "local")]
fn program() -> String {
    let path = std::env::current_exe().ok();
    let name = path.as_deref().and_then(std::path::Path::file_name);
    name.map_or_else(|| "manyhands".to_owned(), |name| name.to_string_lossy().into_owned())
}
