//! Connections to other workers: one to each, dialled when it is needed, kept while it is used.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manyhands_proto::WorkerId;
use manyhands_proto::frame::Hello;
use manyhands_proto::worker::Peer;
use quinn::{ClientConfig, Connection, Endpoint};
use tokio::task::JoinSet;

use super::wire::{self, CODE_DONE, CODE_REFUSED};
use crate::quic::SERVER_NAME;

/// The next address of a peer is tried when the one before has not answered for so long.
const STAGGER: Duration = Duration::from_millis(250);
/// What a failed attempt said holds for others that want the same peer for so long.
const FAILURE_HOLDS: Duration = Duration::from_millis(40);
/// Addresses of a peer that are tried.
const ADDRESS_LIMIT: usize = 16;

/// The address book, and the connections.
pub(super) struct Links {
    endpoint: Endpoint,
    config: ClientConfig,
    hello: Hello,
    peers: Mutex<HashMap<WorkerId, Arc<Link>>>,
}

/// One peer.
struct Link {
    peer: Peer,
    /// Held while it is dialled: others wait, and use what comes of it.
    dialled: tokio::sync::Mutex<Dialled>,
    used: Mutex<Instant>,
}

#[derive(Default)]
struct Dialled {
    connection: Option<Connection>,
    failed: Option<(Instant, String)>,
}

impl Links {
    pub(super) fn new(endpoint: Endpoint, config: ClientConfig, hello: Hello) -> Links {
        Links { endpoint, config, hello, peers: Mutex::default() }
    }

    /// A new peer, or new addresses of one. A connection that works is kept.
    pub(super) fn add(&self, peer: Peer) {
        let mut peers = self.lock();
        if peers.get(&peer.worker).is_some_and(|link| link.peer == peer) {
            return;
        }
        let link = Link { peer, dialled: Default::default(), used: Mutex::new(Instant::now()) };
        if let Some(old) = peers.insert(link.peer.worker, Arc::new(link)) {
            old.close();
        }
    }

    /// A peer that will not come back.
    pub(super) fn remove(&self, worker: WorkerId) {
        if let Some(link) = self.lock().remove(&worker) {
            link.close();
        }
    }

    /// The machine of a peer.
    pub(super) fn host(&self, worker: WorkerId) -> Option<String> {
        self.lock().get(&worker).map(|link| link.peer.host.clone())
    }

    /// A connection to a peer: the one that there is, or a new one.
    pub(super) async fn get(&self, worker: WorkerId) -> Result<Line, String> {
        let link = self.lock().get(&worker).cloned();
        let link = link.ok_or_else(|| format!("{worker} is not known here (any more)"))?;
        let connection = self.connection(&link).await?;
        Ok(Line { connection, link })
    }

    async fn connection(&self, link: &Link) -> Result<Connection, String> {
        let mut dialled = link.dialled.lock().await;
        if let Some(connection) = dialled.connection.as_ref().filter(|c| is_open(c)) {
            return Ok(connection.clone());
        }
        if let Some((at, message)) = &dialled.failed
            && at.elapsed() < FAILURE_HOLDS
        {
            return Err(message.clone());
        }
        let result = self.dial(&link.peer).await;
        dialled.connection = result.as_ref().ok().cloned();
        dialled.failed = result.as_ref().err().map(|m| (Instant::now(), m.clone()));
        result
    }

    /// Tries the addresses of a peer, the best one first; the first that answers counts.
    async fn dial(&self, peer: &Peer) -> Result<Connection, String> {
        let mut attempts = JoinSet::new();
        for (place, address) in peer.addresses.iter().take(ADDRESS_LIMIT).enumerate() {
            let (endpoint, config) = (self.endpoint.clone(), self.config.clone());
            let (hello, address) = (self.hello.clone(), *address);
            attempts.spawn(async move {
                tokio::time::sleep(STAGGER * place as u32).await;
                connect(endpoint, config, address, hello).await
            });
        }
        let mut errors = Vec::new();
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => errors.push(error),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() {
            errors.push(format!("{} has told of no address", peer.worker));
        }
        Err(errors.join(", "))
    }

    /// Closes connections that nobody has used for so long.
    pub(super) fn close_idle(&self, keep: Duration) {
        for link in self.lock().values() {
            // Whoever uses it holds it too.
            if Arc::strong_count(link) == 1 && link.used().elapsed() > keep {
                link.close();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerId, Arc<Link>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use: it is not closed for being idle.
pub(super) struct Line {
    connection: Connection,
    link: Arc<Link>,
}

impl Deref for Line {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.link.touch();
    }
}

impl Link {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        // Who dials just now is using it.
        if let Ok(mut dialled) = self.dialled.try_lock()
            && let Some(connection) = dialled.connection.take()
        {
            connection.close(CODE_DONE, b"not used any more");
        }
    }
}

fn is_open(connection: &Connection) -> bool {
    connection.close_reason().is_none()
}

async fn connect(
    endpoint: Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    own: Hello,
) -> Result<Connection, String> {
    let failed = |error: String| format!("{address}: {error}");
    let connecting = endpoint.connect_with(config, address, SERVER_NAME);
    let connection = connecting.map_err(|error| failed(error.to_string()))?.await;
    let connection = connection.map_err(|error| failed(error.to_string()))?;
    match wire::greet(&connection, &own).await {
        Ok(_) => Ok(connection),
        Err(error) => {
            connection.close(CODE_REFUSED, error.to_string().as_bytes());
            Err(failed(error.to_string()))
        }
    }
}
