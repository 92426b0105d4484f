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
    /// Clients can knock and prove their address, and no more.
    knocks_only: bool,
}

/// How the datagrams of one client go.
struct Way {
    life: u64,
    proved: bool,
    out: Arc<UdpSocket>,
    back: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn start(server: SocketAddr) -> Relay {
        Relay::start_with(server, Switches::default()).await
    }

    /// Clients can knock and prove their address, and no more.
    pub(super) async fn start_for_knocks(server: SocketAddr) -> Relay {
        Relay::start_with(server, Switches { knocks_only: true, ..Switches::default() }).await
    }

    async fn start_with(server: SocketAddr, switches: Switches) -> Relay {
        let socket = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let address = socket.local_addr().unwrap();
        let switches = Arc::new(switches);
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
    let mut ways: HashMap<SocketAddr, Way> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        if switches.deaf.load(Ordering::SeqCst) {
            continue;
        }
        let life = switches.lives.load(Ordering::SeqCst);
        if ways.get(&from).is_none_or(|way| way.life != life) {
            let out = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
            out.connect(server).await.unwrap();
            let back = bring_back(out.clone(), socket.clone(), from, switches.clone());
            let way = Way { life, proved: false, out, back: tokio::spawn(back) };
            if let Some(old) = ways.insert(from, way) {
                old.back.abort();
            }
        }
        let way = ways.get_mut(&from).expect("it is there by now");
        if !switches.knocks_only || way.is_knock(&buffer[..len]) {
            let _ = way.out.send(&buffer[..len]).await;
        }
    }
}

impl Way {
    /// Whether this is a client's first packet, or the first one that proves its address.
    fn is_knock(&mut self, datagram: &[u8]) -> bool {
        // RFC 9000, 17.2.2: flags, version, two connection ids with their lengths, a token's
        // length.
        let has_token = || {
            let rest = datagram.get(5..)?;
            let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
            let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
            Some(*rest.first()? != 0)
        };
        let is_initial = datagram.first().is_some_and(|flags| flags & 0xf0 == 0xc0);
        match has_token() {
            Some(has_token) if is_initial => {
                let passes = !(has_token && self.proved);
                self.proved |= has_token;
                passes
            }
            _ => false,
        }
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
