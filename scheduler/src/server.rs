//! The scheduler as a daemon: clients and workers of other processes and machines, over QUIC.
//!
//! Loop and links share one thread: what a worker says reaches the core, and what the core says
//! reaches the workers, without waking anybody but the network.
//!
//! # Layout
//! - `reception`: sessions of the links are joined to the scheduler's door.

mod reception;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use manyhands_proto::frame::Role;
use manyhands_transport::address::{Address, DEFAULT_PORT};
use manyhands_transport::keys::{ClusterSecret, SecretError};
use manyhands_transport::quic::{self, Settings};
use manyhands_transport::{Clock, Waker, link, turn};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::{Config, Scheduler};
use reception::Reception;

/// How long sessions may take to end when the scheduler stops.
const FAREWELL_LIMIT: Duration = Duration::from_secs(3);

/// How the daemon is to run.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where to listen (UDP). Port 0 takes any that is free.
    pub bind: SocketAddr,
    /// The host that the printed lines name; found out if it is not given.
    pub advertise: Option<String>,
    /// Where the cluster's secret is kept, and made on the first start.
    pub state_dir: Option<PathBuf>,
    /// The cluster's secret, in place of one in the state directory.
    pub secret: Option<ClusterSecret>,
    /// Its name, for people.
    pub node: String,
    /// How long a worker's session outlives a broken connection.
    pub worker_grace: Duration,
    /// How long a client's session outlives a broken connection.
    pub client_grace: Duration,
    /// How connections behave.
    pub settings: Settings,
    /// The core's settings.
    pub core: Config,
}

impl Default for ServeConfig {
    fn default() -> Self {
        ServeConfig {
            bind: (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into(),
            advertise: None,
            state_dir: None,
            secret: None,
            node: "scheduler".to_owned(),
            worker_grace: Duration::from_secs(5),
            client_grace: Duration::from_secs(60),
            settings: Settings::default(),
            core: Config::default(),
        }
    }
}

/// The scheduler listens.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where.
    pub address: SocketAddr,
    /// What lets a worker join. Its text is a secret.
    pub worker: Address,
    /// What lets a client join. Its text is a secret.
    pub client: Address,
}

/// Why the scheduler cannot serve, or no longer.
#[derive(Debug, Error)]
pub enum ServeError {
    /// There is no secret, and others than this machine could connect.
    #[error(
        "{bind} can be reached from other machines, and there is no cluster secret that lasts: give \
         a state directory that can be written, or a secret"
    )]
    NoSecret {
        /// Where it was to listen.
        bind: SocketAddr,
    },
    /// The secret that there is cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Another scheduler uses the state directory.
    #[error(
        "another scheduler uses the state directory {0}: end it, or give this one a directory of its \
         own"
    )]
    Taken(PathBuf),
    /// The port is taken, or the address is not of this machine.
    #[error("cannot listen on {bind} (UDP): {source}")]
    Bind {
        /// Where it was to listen.
        bind: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The operating system refused something else.
    #[error("the scheduler cannot run: {0}")]
    System(#[from] io::Error),
}

/// Runs a scheduler on this thread until the process is told to end (SIGTERM or SIGINT).
pub fn run(config: ServeConfig, ready: impl FnOnce(&Ready)) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        serve(config, ready, stop).await
    })
}

/// Serves until `stop` is ready; `ready` is called once, when clients and workers can join. Wants a
/// runtime of one thread.
pub async fn serve(
    config: ServeConfig,
    ready: impl FnOnce(&Ready),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let secret = secret(&config)?;
    // Held until the end.
    let _lock = lock(&config)?;
    let token = secret.token(Role::Scheduler);
    let admitted = [Role::Worker, Role::Client];
    let server = quic::server_config(&token, &admitted, &config.settings);
    let failed = |source| ServeError::Bind { bind: config.bind, source };
    let endpoint = quic::bind(config.bind, Some(server), &config.settings).map_err(failed)?;
    let address = endpoint.local_addr()?;

    let (waker, clock) = (Waker::new()?, Clock::start());
    let (mut scheduler, door) = Scheduler::new(config.core.clone(), clock, &waker);
    let reception = Reception::new(door, config.worker_grace, config.client_grace);
    let links = link::serve(endpoint.clone(), token, config.node.clone(), Arc::new(reception));
    let links = tokio::spawn(links);
    ready(&announcement(&config, &secret, address));

    let ran = turn::run(&mut scheduler, &waker, clock, stop).await;
    // Tells everybody that it has stopped.
    drop(scheduler);
    endpoint.set_server_config(None);
    let _ = timeout(FAREWELL_LIMIT, endpoint.wait_idle()).await;
    links.abort();
    endpoint.close(0u32.into(), b"");
    Ok(ran?)
}

/// The secret that was given, or that of the state directory. One that is lost with the process is
/// good enough only where nobody else can connect.
fn secret(config: &ServeConfig) -> Result<ClusterSecret, ServeError> {
    if let Some(secret) = &config.secret {
        return Ok(secret.clone());
    }
    let kept = config.state_dir.as_deref().map(ClusterSecret::load_or_create);
    match kept {
        Some(Ok(secret)) => Ok(secret),
        // A file that is there and not right is never passed over.
        Some(Err(error @ SecretError::Malformed(_))) => Err(error.into()),
        Some(Err(error)) if !config.bind.ip().is_loopback() => {
            log::error!("{error}");
            Err(ServeError::NoSecret { bind: config.bind })
        }
        None if !config.bind.ip().is_loopback() => Err(ServeError::NoSecret { bind: config.bind }),
        Some(Err(error)) => {
            log::warn!("{error}: this scheduler's secret ends with it");
            Ok(ClusterSecret::generate()?)
        }
        None => Ok(ClusterSecret::generate()?),
    }
}

/// Two schedulers with one identity would be taken for each other. Where no file can be written
/// nothing is kept either.
fn lock(config: &ServeConfig) -> Result<Option<File>, ServeError> {
    let Some(dir) = &config.state_dir else { return Ok(None) };
    let mut options = File::options();
    let opened = options.create(true).truncate(false).write(true).open(dir.join("scheduler.lock"));
    let Ok(file) = opened else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(ServeError::Taken(dir.clone())),
        // A file system without locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

fn announcement(config: &ServeConfig, secret: &ClusterSecret, address: SocketAddr) -> Ready {
    let host = config.advertise.clone().unwrap_or_else(|| reachable(address.ip()).to_string());
    let line = |role| Address {
        host: host.clone(),
        port: address.port(),
        token: Some(secret.token(role)),
    };
    Ready { address, worker: line(Role::Worker), client: line(Role::Client) }
}

/// The address under which others reach a socket that is bound to `bound`.
fn reachable(bound: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    // Nothing is sent: the system only says which of its addresses it would send from.
    let way_out = || {
        let (here, there) = match bound {
            IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
            IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
        };
        let socket = UdpSocket::bind(here).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    way_out().or_else(|| interface(bound)).unwrap_or_else(|| {
        log::warn!(
            "no address was found under which other machines reach this one: the lines below name \
             this machine itself; --advertise gives another host"
        );
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    })
}

/// The first address of an interface that is up, where no route leads further.
fn interface(bound: IpAddr) -> Option<IpAddr> {
    let all = if_addrs::get_if_addrs().ok()?.into_iter();
    let fits = |ip: &IpAddr| ip.is_ipv4() == bound.is_ipv4() || bound.is_ipv6();
    let mut usable = all
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .filter(fits);
    usable.next()
}
