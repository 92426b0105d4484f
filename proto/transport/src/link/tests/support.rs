//! A scheduler of which only the sessions are real, and peers that count.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manyhands_proto::frame::Role;
use manyhands_proto::link::Join;
use manyhands_proto::{Lane, SessionId};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::serve::{Limits, Server};
use super::super::*;
use crate::address::Address;
use crate::keys::{ClusterSecret, Token};
use crate::mailbox::Receive;
use crate::quic::{self, Settings};

/// What is waited for has to come within this time.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes([9; 32])
}

pub(super) fn token(role: Role) -> Token {
    secret().token(role)
}

pub(super) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub(super) fn settings() -> Settings {
    Settings {
        keep_alive: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(400),
        ..Settings::default()
    }
}

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LIMIT:?} for {what}"),
    }
}

/// What a receiver has been told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) numbers: Vec<u64>,
    pub(super) bytes: usize,
    pub(super) closed: Vec<String>,
}

/// Remembers what it is told. A message is a number, with a load.
pub(super) struct Ear(watch::Sender<Heard>);

pub(super) type Message = (u64, bytes::Bytes);

impl Ear {
    pub(super) fn new() -> Arc<Ear> {
        Arc::new(Ear(watch::channel(Heard::default()).0))
    }

    pub(super) async fn until(&self, what: &str, mut enough: impl FnMut(&Heard) -> bool) {
        let mut watch = self.0.subscribe();
        within(what, watch.wait_for(|heard| enough(heard))).await.unwrap();
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.0.borrow())
    }
}

impl Receive<Message> for Ear {
    fn receive(&self, messages: Vec<Message>) {
        self.0.send_modify(|heard| {
            heard.bytes += messages.iter().map(|(_, load)| load.len()).sum::<usize>();
            heard.numbers.extend(messages.iter().map(|(number, _)| number));
        });
    }

    fn closed(&self, reason: &str) {
        self.0.send_modify(|heard| heard.closed.push(reason.to_owned()));
    }
}

/// What happened to sessions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    Begun(SessionId),
    Away(SessionId),
    Back(SessionId),
    Lost(SessionId, String),
}

/// Lets everybody in, and remembers.
pub(super) struct Inn {
    next: AtomicU64,
    grace: Duration,
    pub(super) history: watch::Sender<Vec<Happened>>,
    rooms: Mutex<HashMap<SessionId, Room>>,
}

/// The scheduler's end of a session.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) outbox: Arc<Outbox<Message>>,
    pub(super) ear: Arc<Ear>,
}

impl Inn {
    pub(super) fn room(&self, session: SessionId) -> Room {
        self.rooms.lock().unwrap()[&session].clone()
    }

    pub(super) async fn until(
        &self,
        what: &str,
        mut enough: impl FnMut(&[Happened]) -> bool,
    ) -> Vec<Happened> {
        let mut watch = self.history.subscribe();
        within(what, watch.wait_for(|history| enough(history))).await.unwrap().clone()
    }

    fn note(&self, happened: Happened) {
        self.history.send_modify(|history| history.push(happened));
    }
}

impl Host for Inn {
    fn begin(&self, join: Join, _from: SocketAddr) -> Result<Welcome, String> {
        if matches!(&join, Join::Client { name } if name == "unwelcome") {
            return Err("the inn is full".to_owned());
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let session = SessionId(number);
        let room = Room { outbox: Outbox::new(), ear: Ear::new() };
        let ends = Ends::new::<Message, Message>(room.outbox.clone(), room.ear.clone());
        room.outbox.bind(ends.bell().clone());
        self.rooms.lock().unwrap().insert(session, room);
        self.note(Happened::Begun(session));
        let begun = Begun::Client { lane: Lane(number) };
        Ok(Welcome { session, begun, ends, grace: self.grace })
    }

    fn away(&self, session: SessionId, _why: &str) {
        self.note(Happened::Away(session));
    }

    fn back(&self, session: SessionId) {
        self.note(Happened::Back(session));
    }

    fn lost(&self, session: SessionId, why: &str) {
        self.note(Happened::Lost(session, why.to_owned()));
    }
}

/// A scheduler that listens on loopback.
pub(super) fn start(grace: Duration) -> (Arc<Inn>, SocketAddr) {
    let (inn, endpoint, _) = start_with(grace, &settings(), Limits::default());
    (inn, endpoint.local_addr().unwrap())
}

/// The same with what it consists of.
pub(super) fn start_with(
    grace: Duration,
    settings: &Settings,
    limits: Limits,
) -> (Arc<Inn>, quinn::Endpoint, Arc<Server>) {
    let own = token(Role::Scheduler);
    let config = quic::server_config(&own, &[Role::Worker, Role::Client], settings);
    let endpoint = quic::bind(loopback(), Some(config), settings).unwrap();
    let (history, next) = (watch::channel(Vec::new()).0, AtomicU64::new(1));
    let inn = Arc::new(Inn { next, grace, history, rooms: Mutex::default() });
    let server = Server::new(own, "scheduler".to_owned(), inn.clone(), limits);
    tokio::spawn(server.clone().run(endpoint.clone()));
    (inn, endpoint, server)
}

/// Where a client finds it.
pub(super) fn client_dial(at: SocketAddr, name: &str) -> Dial {
    let (host, token) = (at.ip().to_string(), Some(token(Role::Client)));
    let address = Address { host, port: at.port(), token };
    let join = Join::Client { name: name.to_owned() };
    Dial { settings: settings(), ..Dial::new(address, name, join) }
}

/// A client's end of a session.
pub(super) struct Guest {
    pub(super) link: Link,
    pub(super) outbox: Arc<Outbox<Message>>,
    pub(super) ear: Arc<Ear>,
    pub(super) session: SessionId,
}

pub(super) async fn open(dial: Dial) -> Result<Guest, DialError> {
    let (outbox, ear) = (Outbox::new(), Ear::new());
    let (link, opened) = Link::open::<Message, Message>(dial, outbox.clone(), ear.clone()).await?;
    outbox.bind(link.bell());
    let manyhands_proto::link::Opened::Client { session, .. } = opened else {
        panic!("a client got {opened:?}");
    };
    Ok(Guest { link, outbox, ear, session })
}
