//! `manyhands worker`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use manyhands_transport::address::Address;
use manyhands_worker::daemon::DaemonConfig;
use serde::{Deserialize, Serialize};

use crate::commands::{label, named, start_logging};
use crate::failure::Failure;
use crate::order::scratch;
use crate::settings::{self, Config};
use crate::table::print;
use crate::units::{Bytes, Span};

/// Run a worker on this machine, for a scheduler
///
/// It offers what the machine has, unless it is told less or more, and keeps trying to join. On SIGTERM
/// it drains: it takes no more tasks, finishes or hands back those that it has, hands on the objects
/// that lie only here, and goes. A second SIGTERM ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manyhands worker manyhands://TOKEN@10.0.0.1:7470\n  \
    manyhands worker --address-file /run/manyhands/worker --cores 8 --label zone=b --resource license=2")]
pub(crate) struct Worker {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    settings: Settings,
}

/// The settings of a worker.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// The scheduler: the line that it printed for workers, manyhands://TOKEN@HOST:PORT, or HOST:PORT
    /// with the token in MANYHANDS_TOKEN or in the file that MANYHANDS_TOKEN_FILE names
    #[arg(env = "MANYHANDS_WORKER_ADDRESS", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// A file with that line
    #[arg(long, env = "MANYHANDS_WORKER_ADDRESS_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    address_file: Option<PathBuf>,
    /// A name for people. Unless set: the machine's
    #[arg(long, env = "MANYHANDS_WORKER_NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// How many tasks of one core each run at one time. Unless set: as many as there are cores
    #[arg(long, env = "MANYHANDS_WORKER_CORES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<u32>,
    /// How much memory tasks may ask for. Unless set: all that the machine, or its container, has
    #[arg(long, env = "MANYHANDS_WORKER_MEMORY", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Bytes>,
    /// How many GPUs tasks may ask for, as the resource gpu. Unless set: those that NVIDIA's driver
    /// shows
    #[arg(long, env = "MANYHANDS_WORKER_GPUS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    gpus: Option<u32>,
    /// Anything else that tasks may ask for an amount of; may be given several times
    #[arg(long, env = "MANYHANDS_WORKER_RESOURCE", value_name = "NAME=N", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    /// A label that tasks may ask for; may be given several times
    #[arg(long, env = "MANYHANDS_WORKER_LABEL", value_name = "KEY=VALUE", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    label: Vec<String>,
    /// How much memory objects may take; more go to disk. Unless set: a third of the memory
    #[arg(long, env = "MANYHANDS_WORKER_STORE_LIMIT", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_limit: Option<Bytes>,
    /// Where objects go that have no room in memory. Unless set: a directory within the state
    /// directory
    #[arg(long, env = "MANYHANDS_WORKER_SPILL_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    spill_dir: Option<PathBuf>,
    /// Where programs of clients, and what Python tasks require, are kept. Workers of one machine may share it. Unless set:
    /// $XDG_STATE_HOME/manyhands, or ~/.local/state/manyhands
    #[arg(long, env = "MANYHANDS_WORKER_STATE_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<PathBuf>,
    /// How much programs may take there. Unless set: 4 GiB
    #[arg(long, env = "MANYHANDS_WORKER_PROGRAM_LIMIT", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    program_limit: Option<Bytes>,
    /// The interpreter that runs Python tasks; the package manyhands has to be installed for it. Unless
    /// set: python3
    #[arg(long, env = "MANYHANDS_PYTHON", hide_env_values = true, value_name = "PROGRAM")]
    #[serde(skip_serializing_if = "Option::is_none")]
    python: Option<PathBuf>,
    /// Where to listen for those who want objects (UDP). Unless set: all addresses, any free port
    #[arg(long, env = "MANYHANDS_WORKER_BIND", value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<SocketAddr>,
    /// Where others reach that; may be given several times, the best first. Unless set: the address
    /// by which this machine reaches the scheduler
    #[arg(long, env = "MANYHANDS_WORKER_ADVERTISE", value_name = "IP:PORT", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    advertise: Vec<SocketAddr>,
    /// Names the machine: between workers with the same name objects do not cross a network. Unless
    /// set: one name for all that runs under one kernel
    #[arg(long, env = "MANYHANDS_WORKER_HOST", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// How long it takes to drain after SIGTERM, at most. Unless set: 1 min
    #[arg(long, env = "MANYHANDS_WORKER_DRAIN_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_timeout: Option<Span>,
}

impl Worker {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let settings = self.config.complete(&self.settings, "worker")?;
        if self.config.print_config {
            return print(&settings::print(&settings, "worker"));
        }
        start_logging();
        let config = settings.config()?;
        scratch::sweep();
        let run = manyhands_worker::daemon::run(config);
        scratch::sweep();
        run.map_err(|error| Failure::Daemon { what: "worker", message: error.to_string() })
    }
}

impl Settings {
    fn config(&self) -> Result<DaemonConfig, Failure> {
        let usual = DaemonConfig::new(self.scheduler()?);
        if self.cores == Some(0) {
            return Err(Failure::value("cores", "a worker needs at least 1".to_owned()));
        }
        let memory = self.memory.map_or(usual.memory, |size| size.0);
        let read = |words: &[String], what: &str, parse: fn(&str) -> Result<_, String>| {
            let parsed = words.iter().map(|text| parse(text));
            parsed
                .collect::<Result<Vec<(String, String)>, _>>()
                .map_err(|m| Failure::value(what, m))
        };
        let labels = read(&self.label, "label", label)?;
        let named = self.resource.iter().map(|text| named(text));
        let named =
            named.collect::<Result<Vec<_>, _>>().map_err(|m| Failure::value("resource", m))?;
        let thousandths = |(name, amount): (String, f64)| (name, (amount * 1000.0).round() as u64);
        Ok(DaemonConfig {
            name: self.name.clone().unwrap_or(usual.name),
            scheduler: usual.scheduler,
            bind: self.bind.unwrap_or(usual.bind),
            advertise: self.advertise.clone(),
            host: self.host.clone().unwrap_or(usual.host),
            cores: self.cores.unwrap_or(usual.cores),
            memory,
            gpus: self.gpus.unwrap_or(usual.gpus),
            labels,
            resources: named.into_iter().map(thousandths).collect(),
            store_limit: self.store_limit.map_or(memory / 3, |size| size.0),
            spill_dir: self.spill_dir.clone(),
            state_dir: self.state_dir.clone().unwrap_or(usual.state_dir),
            program_limit: self.program_limit.map_or(usual.program_limit, |size| size.0),
            python: self.python.clone().unwrap_or(usual.python),
            drain_timeout: self.drain_timeout.map_or(usual.drain_timeout, |span| span.0),
            prestart: usual.prestart,
        })
    }

    fn scheduler(&self) -> Result<Address, Failure> {
        let given = match (&self.address, &self.address_file) {
            (Some(address), _) => address.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).map_err(|error| Failure::file(path, "read", error))?
            }
            (None, None) => return Err(Failure::NoScheduler),
        };
        let address = given.parse::<Address>().and_then(Address::complete);
        address.map_err(|error| Failure::value("the scheduler's address", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_a_config() {
        let settings = Settings {
            address: Some("example.org:7000".to_owned()),
            memory: Some(Bytes(9 << 30)),
            resource: vec!["license=2.5".to_owned()],
            label: vec!["zone=b".to_owned()],
            python: Some("/opt/python".into()),
            ..Settings::default()
        };
        let config = settings.config().unwrap();
        assert_eq!((config.scheduler.host.as_str(), config.scheduler.port), ("example.org", 7000));
        assert_eq!((config.memory, config.store_limit), (9 << 30, 3 << 30));
        assert_eq!(config.python, PathBuf::from("/opt/python"));
        assert_eq!(config.resources, [("license".to_owned(), 2500)]);
        assert_eq!(config.labels, [("zone".to_owned(), "b".to_owned())]);
        let wrong = Settings { resource: vec!["x=y".to_owned()], ..settings };
        assert!(wrong.config().unwrap_err().to_string().contains("gpu=2 was expected"));
        let nobody = Settings::default().config();
        assert!(matches!(nobody, Err(Failure::NoScheduler)));
    }
}
