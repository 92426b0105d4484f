//! What a daemon is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyhands_transport::address::Address;

use super::machine;
use crate::PythonConfig;

/// What a daemon is told when it starts. [`DaemonConfig::new`] gives the usual values.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// Its name, for people. The machine's unless set.
    pub name: String,
    /// Where the scheduler is, with a worker's token.
    pub scheduler: Address,
    /// Where to listen for those who want objects. All addresses and any port unless set.
    pub bind: SocketAddr,
    /// Where others reach that; empty: at the address from which the scheduler is reached, or the
    /// one that is bound.
    pub advertise: Vec<SocketAddr>,
    /// Names the machine: workers with the same one share memory bandwidth and not a network.
    pub host: String,
    /// Tasks of one core each that may run at one time. As many as there are cores unless set.
    pub cores: u32,
    /// Bytes of memory that tasks may ask for. All that the machine, or its container, has unless
    /// set.
    pub memory: u64,
    /// GPUs, known to tasks as the resource `gpu`. As many as NVIDIA's driver shows unless set.
    pub gpus: u32,
    /// Labels that tasks may ask for.
    pub labels: Vec<(String, String)>,
    /// Further resources by name, in thousandths.
    pub resources: Vec<(String, u64)>,
    /// Bytes of memory that the object store may take. A third of the memory unless set.
    pub store_limit: u64,
    /// Where objects go when that is full; a directory within `state_dir` if `None`.
    pub spill_dir: Option<PathBuf>,
    /// Where programs, and what Python tasks require, are kept. Several workers may be given the
    /// same one: each takes a directory of its own in it.
    pub state_dir: PathBuf,
    /// Bytes that programs may take there together.
    pub program_limit: u64,
    /// The interpreter that runs Python tasks: its file, or its name, which is looked for in
    /// `PATH`. `python3` unless set.
    pub python: PathBuf,
    /// How long the daemon takes to leave, at most, after SIGTERM or SIGINT.
    pub drain_timeout: Duration,
    /// Starts executors of the daemon's own program before the first task.
    pub prestart: bool,
}

impl DaemonConfig {
    /// The usual values for this machine.
    pub fn new(scheduler: Address) -> DaemonConfig {
        let memory = machine::memory();
        DaemonConfig {
            name: machine::name(),
            scheduler,
            bind: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            advertise: Vec::new(),
            host: manyhands_transport::machine::host(),
            cores: machine::cores(),
            memory,
            gpus: machine::gpus(Path::new("/dev")),
            labels: Vec::new(),
            resources: Vec::new(),
            store_limit: memory / 3,
            spill_dir: None,
            state_dir: machine::state_dir(),
            program_limit: 4 << 30,
            python: PythonConfig::default().interpreter,
            drain_timeout: Duration::from_secs(60),
            prestart: false,
        }
    }

    /// Where Python is, and what it needs is installed: once for all workers that share
    /// `state_dir`.
    pub(super) fn python(&self) -> PythonConfig {
        let interpreter = self.python.clone();
        PythonConfig { interpreter, cache: self.state_dir.join("python") }
    }

    /// Where objects go that have no room in memory.
    pub(super) fn spill_directory(&self, own: &Path) -> PathBuf {
        self.spill_dir.clone().unwrap_or_else(|| own.join("spill"))
    }
}
