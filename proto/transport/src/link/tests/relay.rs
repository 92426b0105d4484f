//! A small UDP relay between a client and a server, for breaking connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::support::loopback;

/// Passes datagrams on, each client by a socket of its own.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    switches: Arc<Switches>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Switches {
    deaf: AtomicBool,
    /// Raised to make the server see other addresses from now on.
    lives: AtomicU64,
}

impl Relay {
    pub(super) async fn start(server: SocketAddr) -> Relay {
        let socket = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let address = socket.local_addr().unwrap();
        let switches = Arc::new(Switches::default());
        let task = tokio::spawn(pass(socket, server, switches.clone()));
        Relay { address, switches, task }
    }

    /// Nothing passes any more, or it does again.
    pub(super) fn deaf(&self, deaf: bool) {
        self.switches.deaf.store(deaf, Ordering::SeqCst);
    }

    /// The server sees the clients at other addresses from now on.
    pub(super) fn move_house(&self) {
        self.switches.lives.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(socket: Arc<UdpSocket>, server: SocketAddr, switches: Arc<Switches>) {
    let mut ways: HashMap<SocketAddr, (u64, Arc<UdpSocket>, JoinHandle<()>)> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        if switches.deaf.load(Ordering::SeqCst) {
            continue;
        }
        let life = switches.lives.load(Ordering::SeqCst);
        if ways.get(&from).is_none_or(|way| way.0 != life) {
            let out = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
            out.connect(server).await.unwrap();
            let back =
                tokio::spawn(bring_back(out.clone(), socket.clone(), from, switches.clone()));
            if let Some((_, _, old)) = ways.insert(from, (life, out, back)) {
                old.abort();
            }
        }
        let _ = ways[&from].1.send(&buffer[..len]).await;
    }
}

async fn bring_back(
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    client: SocketAddr,
    switches: Arc<Switches>,
) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok(len) = from.recv(&mut buffer).await else { continue };
        if !switches.deaf.load(Ordering::SeqCst) {
            let _ = to.send_to(&buffer[..len], client).await;
        }
    }
}
