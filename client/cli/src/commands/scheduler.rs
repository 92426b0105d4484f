//! `manyhands scheduler`

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use manyhands_scheduler::server::{Ready, ServeConfig};
use manyhands_transport::address::DEFAULT_PORT;
use manyhands_transport::keys::ClusterSecret;
use serde::{Deserialize, Serialize};

use crate::commands::start_logging;
use crate::failure::Failure;
use crate::settings::{self, Config};
use crate::table::print;
use crate::units::Span;

/// Run the scheduler of a cluster
///
/// On its first start it makes the cluster's secret. It prints the line that adds a machine and the
/// one that lets clients in: whoever has these lines can do what they say, nobody else can do
/// anything. It runs until SIGTERM or SIGINT.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manyhands scheduler\n  \
    manyhands scheduler --bind 127.0.0.1:7470\n  \
    manyhands scheduler --worker-address-file /run/manyhands/worker --client-address-file /run/manyhands/client")]
pub(crate) struct Scheduler {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    settings: Settings,
}

/// The settings of a scheduler.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    /// Where to listen (UDP). Unless set: port 7470 of all addresses, 0.0.0.0:7470; port 0 takes one
    /// that is free
    #[arg(long, env = "MANYHANDS_SCHEDULER_BIND", value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<SocketAddr>,
    /// The host that the printed lines name. Unless set: the address by which this machine reaches
    /// others
    #[arg(long, env = "MANYHANDS_SCHEDULER_ADVERTISE", value_name = "HOST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    /// Where the cluster's secret is kept, and made on the first start. Unless set:
    /// $XDG_STATE_HOME/manyhands/scheduler, or ~/.local/state/manyhands/scheduler
    #[arg(long, env = "MANYHANDS_SCHEDULER_STATE_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<PathBuf>,
    /// A file with the cluster's secret (43 characters of base64url), in place of the one in the
    /// state directory
    #[arg(long, env = "MANYHANDS_SCHEDULER_SECRET_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<PathBuf>,
    /// A name for people. Unless set: scheduler
    #[arg(long, env = "MANYHANDS_SCHEDULER_NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// How long a worker whose link broke may stay away before its tasks run elsewhere. Unless set:
    /// 5 s
    #[arg(long, env = "MANYHANDS_SCHEDULER_WORKER_GRACE", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_grace: Option<Span>,
    /// How long a client whose link broke may stay away before its jobs end. Unless set: 1 min
    #[arg(long, env = "MANYHANDS_SCHEDULER_CLIENT_GRACE", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_grace: Option<Span>,
    /// After how long a silence a link counts as broken. Unless set: 3 s
    #[arg(long, env = "MANYHANDS_SCHEDULER_IDLE_TIMEOUT", value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<Span>,
    /// The largest UDP payload that is tried, in bytes: what a path does not carry is found out
    #[arg(long, env = "MANYHANDS_SCHEDULER_MTU", value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u16>,
    /// Write the address for workers to this file, readable for its owner alone
    #[arg(long, env = "MANYHANDS_SCHEDULER_WORKER_ADDRESS_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_address_file: Option<PathBuf>,
    /// Write the address for clients to this file, readable for its owner alone
    #[arg(long, env = "MANYHANDS_SCHEDULER_CLIENT_ADDRESS_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    client_address_file: Option<PathBuf>,
}

/// The variable that holds a secret, in place of a file. Not a flag: everybody on a machine sees the
/// arguments of its programs.
const SECRET_VARIABLE: &str = "MANYHANDS_SCHEDULER_SECRET";

impl Scheduler {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let settings = self.config.complete(&self.settings, "scheduler")?;
        if self.config.print_config {
            return print(&settings::print(&settings, "scheduler"));
        }
        start_logging();
        let mut told = Ok(());
        let ready = |ready: &Ready| told = settings.announce(ready);
        let served = manyhands_scheduler::server::run(settings.config()?, ready);
        let failed = |error: manyhands_scheduler::server::ServeError| Failure::Daemon {
            what: "scheduler",
            message: error.to_string(),
        };
        served.map_err(failed)?;
        told
    }
}

impl Settings {
    fn config(&self) -> Result<ServeConfig, Failure> {
        let usual = ServeConfig::default();
        let mut quic = usual.settings.clone();
        if let Some(Span(idle)) = self.idle_timeout {
            quic.idle_timeout = idle;
            quic.keep_alive = idle / 3;
        }
        quic.mtu = self.mtu.unwrap_or(quic.mtu);
        let secret = self.secret()?;
        Ok(ServeConfig {
            bind: self.bind.unwrap_or_else(|| ([0, 0, 0, 0], DEFAULT_PORT).into()),
            advertise: self.advertise.clone(),
            state_dir: self.state_dir.clone().or_else(state_dir),
            secret,
            node: self.name.clone().unwrap_or(usual.node),
            worker_grace: self.worker_grace.map_or(usual.worker_grace, |span| span.0),
            client_grace: self.client_grace.map_or(usual.client_grace, |span| span.0),
            settings: quic,
            core: usual.core,
        })
    }

    /// The secret, if it is not the one of the state directory.
    fn secret(&self) -> Result<Option<ClusterSecret>, Failure> {
        let wrong = |error: manyhands_transport::keys::SecretError| Failure::Daemon {
            what: "scheduler",
            message: error.to_string(),
        };
        if let Ok(text) = std::env::var(SECRET_VARIABLE)
            && !text.trim().is_empty()
        {
            return text.parse().map(Some).map_err(wrong);
        }
        self.secret_file.as_deref().map(ClusterSecret::load).transpose().map_err(wrong)
    }

    /// Tells how to join: one line for workers, and one for clients.
    fn announce(&self, ready: &Ready) -> Result<(), Failure> {
        let files = [
            (&self.worker_address_file, ready.worker.to_string()),
            (&self.client_address_file, ready.client.to_string()),
        ];
        for (path, address) in files {
            if let Some(path) = path {
                let written = write_secret(path, &format!("{address}\n"));
                written.map_err(|error| Failure::file(path, "written", error))?;
            }
        }
        log::info!("listening on {} (UDP)", ready.address);
        print(&format!(
            "To add a machine, run there:\n\n    manyhands worker {}\n\n\
             For clients:\n\n    export MANYHANDS_ADDRESS={}\n\n",
            ready.worker, ready.client
        ))
    }
}

/// Where a user's scheduler keeps what lasts.
fn state_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_STATE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/state")))?;
    Some(base.join("manyhands/scheduler"))
}

/// Writes a file that only its owner can read, and that is never seen half written.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".draft-{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn settings_become_a_config() {
        let settings = Settings {
            bind: Some(([127, 0, 0, 1], 0).into()),
            worker_grace: Some("2s".parse().unwrap()),
            idle_timeout: Some("9s".parse().unwrap()),
            ..Settings::default()
        };
        let config = settings.config().unwrap();
        assert_eq!(config.bind, ([127, 0, 0, 1], 0).into());
        assert_eq!(config.worker_grace.as_secs(), 2);
        assert_eq!(config.settings.keep_alive.as_secs(), 3);
        assert_eq!(config.client_grace, ServeConfig::default().client_grace);
    }

    #[test]
    fn addresses_are_for_their_owner_alone() {
        let path = std::env::temp_dir().join(format!("manyhands-address-{}", std::process::id()));
        write_secret(&path, "first\n").unwrap();
        write_secret(&path, "second\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
    }
}
