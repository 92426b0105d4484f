//! The daemon of a machine: a worker that joins a scheduler over a network, and joins again when
//! its session is over.
//!
//! One thread runs the worker's loop and its link to the scheduler, so that nothing on the control
//! path wakes another thread; the data links have threads of their own. Executors, and whatever
//! they start, end with the daemon, however it ends.
//!
//! # Layout
//! - [`run`], here: from the start to the end, through all sessions.
//! - [`DaemonConfig`]: what it is told; `machine`: what it finds out by itself.
//! - `session`: one session with the scheduler: joined, drained, lost, left.

mod config;
mod machine;
mod session;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyhands_executor::process::own_file;
use manyhands_transport::bulk::BulkConfig;
use manyhands_transport::link::DialError;
use manyhands_transport::machine::program_hash;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use config::DaemonConfig;

use crate::Exchange;
use crate::programs::own_directory;
use session::{Session, Verdict};

/// Pauses between two tries to join: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a daemon does not start, or cannot go on.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// The address of the scheduler is of no use.
    #[error(transparent)]
    Join(DialError),
    /// A directory that the daemon needs cannot be used.
    #[error("the {what} directory {path} cannot be used: {source}")]
    Directory {
        /// What for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The address for the data links cannot be bound.
    #[error("cannot listen on {address} for those who want objects: {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What the daemon was about to do.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// Runs a worker until it has drained after a SIGTERM or SIGINT, or until a second one. Keeps
/// trying to join while the scheduler cannot be reached, and joins again, as a new worker, when a
/// session is over.
pub fn run(config: DaemonConfig) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("cannot start the loop"))?;
    runtime.block_on(async {
        let signals = Signals::new().map_err(system("cannot listen to signals"))?;
        Daemon::start(config)?.run(signals).await
    })
}

/// What lasts from the daemon's start to its end.
struct Daemon {
    config: DaemonConfig,
    directory: PathBuf,
    /// Nobody else uses the directory while this is open.
    _lock: File,
    own_program: u128,
    exchange: Exchange,
}

impl Daemon {
    fn start(config: DaemonConfig) -> Result<Daemon, DaemonError> {
        let unusable = |what, path: &Path| {
            let path = path.to_owned();
            move |source| DaemonError::Directory { what, path, source }
        };
        let (directory, lock) =
            own_directory(&config.state_dir).map_err(unusable("state", &config.state_dir))?;
        let spill = config.spill_directory(&directory);
        std::fs::create_dir_all(&spill).map_err(unusable("spill", &spill))?;
        let own_program = program_hash(own_file());
        let own_program = own_program.map_err(system("cannot read the daemon's own program"))?;
        let exchange = listen(&config, &directory)?;
        Ok(Daemon { config, directory, _lock: lock, own_program, exchange })
    }

    async fn run(self, mut signals: Signals) -> Result<(), DaemonError> {
        let (mut pause, mut last_words) = (PAUSE.0, String::new());
        loop {
            let joined = tokio::select! {
                joined = Session::join(&self) => joined,
                () = signals.next() => return Ok(()),
            };
            match joined {
                Ok(session) => {
                    (pause, last_words) = (PAUSE.0, String::new());
                    match session.run(&self.config, &mut signals).await? {
                        Verdict::Left => return Ok(()),
                        Verdict::Over(words) => log::warn!(
                            "the session is over, and with it all tasks and objects here: {words}; \
                             joining again as a new worker"
                        ),
                    }
                }
                Err(DaemonError::Join(error)) if is_temporary(&error) => {
                    let words = error.to_string();
                    if words != last_words {
                        log::warn!("cannot join yet, and keep trying: {words}");
                        last_words = words;
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = signals.next() => return Ok(()),
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

/// Whether trying again may help. Nothing that is configured here changes by itself.
fn is_temporary(error: &DialError) -> bool {
    !matches!(error, DialError::NoToken(_) | DialError::WrongRole { .. })
}

/// Begins to listen for those who want objects.
fn listen(config: &DaemonConfig, directory: &Path) -> Result<Exchange, DaemonError> {
    let Some(token) = config.scheduler.token.clone() else {
        let place = config.scheduler.place();
        return Err(DaemonError::Join(DialError::NoToken(place)));
    };
    let address = config.bind;
    let mut bulk = BulkConfig::new(Some(address), token, config.name.clone());
    bulk.host.clone_from(&config.host);
    let exchange = Exchange::start(bulk, directory.join("programs"), config.program_limit);
    exchange.map_err(|source| DaemonError::Bind { address, source })
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Signals { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
