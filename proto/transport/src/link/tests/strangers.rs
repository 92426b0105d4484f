//! Whoever breaks the rules is refused in words, and costs nothing.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::SessionId;
use manyhands_proto::frame::{FRAME_LIMIT, Hello, PROTOCOL, Role};
use manyhands_proto::link::{Batch, Join, Open, Opened};
use manyhands_proto::session::Resume;
use manyhands_proto::worker::WorkerSpec;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use serde::de::DeserializeOwned;

use super::relay::Relay;
use super::support::*;
use crate::link::DialError;
use crate::link::frames::{encode, encode_hello};
use crate::link::serve::Limits;
use crate::quic::{self, Settings};

const GRACE: Duration = Duration::from_secs(30);

/// A peer that has a key and says what it likes.
struct Raw {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    _endpoint: Endpoint,
}

impl Raw {
    async fn connect(at: SocketAddr, role: Role) -> Raw {
        let endpoint = quic::bind(loopback(), None, &settings()).unwrap();
        let config = quic::client_config(&token(role), Role::Scheduler, &settings());
        let connection =
            endpoint.connect_with(config, at, quic::SERVER_NAME).unwrap().await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        Raw { connection, send, recv, _endpoint: endpoint }
    }

    /// Says hello and what it wants.
    async fn open(at: SocketAddr, open: &Open) -> Raw {
        let mut raw = Raw::connect(at, Role::Client).await;
        raw.hello(&Hello::own("raw", Role::Client)).await;
        raw.say(&encode(open).unwrap()).await;
        raw
    }

    async fn hello(&mut self, hello: &Hello) {
        let mut frame = Vec::new();
        encode_hello(hello, &mut frame);
        self.say(&frame).await;
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    async fn hear<M: DeserializeOwned>(&mut self) -> M {
        within("a frame", async {
            let mut prefix = [0; 4];
            self.recv.read_exact(&mut prefix).await.unwrap();
            let mut body = vec![0; u32::from_le_bytes(prefix) as usize];
            self.recv.read_exact(&mut body).await.unwrap();
            rmp_serde::from_slice(&body).unwrap()
        })
        .await
    }

    /// The answer to what it wanted.
    async fn answer(&mut self) -> Opened {
        let hello: Hello = self.hear().await;
        assert_eq!((hello.protocol, hello.role), (PROTOCOL, Role::Scheduler));
        self.hear().await
    }

    /// What it is told when it is thrown out.
    async fn thrown_out(&mut self) -> String {
        match within("the end of the connection", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                String::from_utf8(close.reason.to_vec()).unwrap()
            }
            error => panic!("the connection ended with {error:?}"),
        }
    }
}

fn new(key: u128) -> Open {
    Open::New { key, join: Join::Client { name: "raw".to_owned() } }
}

fn again(session: SessionId, key: u128, epoch: u32, received: u64) -> Open {
    Open::Again { session, key, resume: Resume { epoch, received } }
}

fn session_of(opened: Opened) -> SessionId {
    let Opened::Client { session, .. } = opened else { panic!("a client got {opened:?}") };
    session
}

fn refusal(opened: Opened) -> (String, bool) {
    let Opened::Refused { message, over } = opened else { panic!("let in: {opened:?}") };
    (message, over)
}

#[tokio::test]
async fn another_version_is_refused_and_each_side_can_say_why() {
    let (inn, at) = start(GRACE);
    let mut raw = Raw::connect(at, Role::Client).await;
    let later =
        Hello { protocol: 99, version: "9.0".to_owned(), ..Hello::own("raw", Role::Client) };
    raw.hello(&later).await;
    let (message, over) = refusal(raw.answer().await);
    assert!(message.contains("peer raw speaks protocol 99"), "{message}");
    assert!(!over);
    assert!(raw.thrown_out().await.contains("upgrade the older"));
    assert!(inn.history.borrow().is_empty());
}

#[tokio::test]
async fn an_opener_names_the_version_of_a_scheduler_that_it_does_not_fit() {
    let own = token(Role::Scheduler);
    let config = quic::server_config(&own, &[Role::Client], &settings());
    let endpoint = quic::bind(loopback(), Some(config), &settings()).unwrap();
    let at = endpoint.local_addr().unwrap();
    let scheduler = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, _recv) = connection.accept_bi().await.unwrap();
        let mut frame = Vec::new();
        let hello = Hello { protocol: 99, ..Hello::own("future", Role::Scheduler) };
        encode_hello(&hello, &mut frame);
        send.write_all(&frame).await.unwrap();
        connection.closed().await;
    };
    let (_, opened) = tokio::join!(scheduler, within("the opener", open(client_dial(at, "a"))));
    let error = opened.err().unwrap();
    assert!(matches!(error, DialError::Frame(_)), "{error}");
    assert!(error.to_string().contains("peer future speaks protocol 99"), "{error}");
}

#[tokio::test]
async fn a_role_cannot_act_as_another() {
    let (inn, at) = start(GRACE);
    let mut raw = Raw::connect(at, Role::Client).await;
    raw.hello(&Hello::own("raw", Role::Worker)).await;
    let (message, _) = refusal(raw.answer().await);
    assert_eq!(message, "a client cannot act as a worker");
    let open = Open::New { key: 1, join: Join::Worker(WorkerSpec::default()) };
    let mut raw = Raw::open(at, &open).await;
    let (message, _) = refusal(raw.answer().await);
    assert_eq!(message, "a client cannot join as something else");
    assert!(inn.history.borrow().is_empty());
    let dial = client_dial(at, "a");
    let wrong =
        crate::address::Address { token: Some(token(Role::Worker)), ..dial.address.clone() };
    let error = open_with(wrong, dial).await;
    assert!(error.contains("the token is for a worker, and this is a client"), "{error}");
}

async fn open_with(address: crate::address::Address, dial: crate::link::Dial) -> String {
    open(crate::link::Dial { address, ..dial }).await.err().unwrap().to_string()
}

#[tokio::test]
async fn whoever_cannot_be_let_in_is_told_why() {
    let (inn, at) = start(GRACE);
    let error = open(client_dial(at, "unwelcome")).await.err().unwrap();
    assert!(error.to_string().ends_with("refused: the inn is full"), "{error}");
    let dial = client_dial(at, "a");
    let stranger = crate::keys::ClusterSecret::from_bytes([1; 32]).token(Role::Client);
    let address = crate::address::Address { token: Some(stranger), ..dial.address.clone() };
    let error = open_with(address, dial).await;
    assert!(error.contains("is of another cluster than the token"), "{error}");
    let dial = client_dial(at, "a");
    let address = crate::address::Address { token: None, ..dial.address.clone() };
    let error = open_with(address, dial).await;
    assert!(error.contains("set MANYHANDS_TOKEN"), "{error}");
    let nobody = std::net::UdpSocket::bind(loopback()).unwrap();
    let mut dial = client_dial(nobody.local_addr().unwrap(), "a");
    dial.patience = Duration::from_millis(200);
    let error = open(dial).await.err().unwrap().to_string();
    assert!(error.contains("does the scheduler run there"), "{error}");
    assert!(inn.history.borrow().is_empty());
}

#[tokio::test]
async fn frames_that_claim_too_much_are_refused_at_once() {
    let (inn, at) = start(GRACE);
    // At the beginning, where frames are small.
    let mut raw = Raw::connect(at, Role::Client).await;
    raw.say(&u32::MAX.to_le_bytes()).await;
    let (message, _) = refusal(raw.answer().await);
    assert!(message.contains("frame of 4294967295 bytes is larger"), "{message}");
    // In a session.
    let mut raw = Raw::open(at, &new(1)).await;
    let session = session_of(raw.answer().await);
    raw.say(&u32::MAX.to_le_bytes()).await;
    assert!(raw.thrown_out().await.contains("frame of 4294967295 bytes is larger"));
    let history = inn.until("the end", |it| it.len() == 2).await;
    let Happened::Lost(lost, why) = &history[1] else { panic!("{history:?}") };
    assert_eq!(*lost, session);
    assert!(why.starts_with("it broke the rules: frame of"), "{why}");
    // One that claims what is allowed, and does not come, keeps only what came.
    let mut raw = Raw::open(at, &new(2)).await;
    session_of(raw.answer().await);
    raw.say(&(FRAME_LIMIT as u32).to_le_bytes()).await;
    raw.say(&[0; 100]).await;
    raw.connection.close(1u32.into(), b"enough");
    inn.until("the end", |it| it.len() == 4).await;
}

#[tokio::test]
async fn garbage_ends_its_session_and_no_other() {
    let (inn, at) = start(GRACE);
    let guest = open(client_dial(at, "honest")).await.unwrap();
    let offences: [&[u8]; 5] = [
        // Not MessagePack.
        &[4, 0, 0, 0, 0xc1, 0xc1, 0xc1, 0xc1],
        // An empty frame.
        &[0, 0, 0, 0],
        // An acknowledgement of what was never sent.
        &encode(&Batch { ack: 1000, messages: Bytes::new() }).unwrap(),
        // A batch of something else.
        &encode(&Batch { ack: 0, messages: Bytes::from_static(b"\x91\xa5hello") }).unwrap(),
        // A list that claims 4 billion messages.
        &encode(&Batch { ack: 0, messages: Bytes::from_static(b"\xdd\xff\xff\xff\xff") }).unwrap(),
    ];
    for (key, offence) in offences.into_iter().enumerate() {
        let mut raw = Raw::open(at, &new(key as u128)).await;
        let session = session_of(raw.answer().await);
        raw.say(offence).await;
        assert!(!raw.thrown_out().await.is_empty());
        inn.until("the end", |it| {
            matches!(it.last(), Some(Happened::Lost(lost, why))
                if *lost == session && why.starts_with("it broke the rules"))
        })
        .await;
    }
    guest.outbox.send((1, Bytes::new()));
    let room = inn.room(guest.session);
    room.ear.until("the honest one", |heard| heard.numbers == [1]).await;
}

#[tokio::test]
async fn a_session_cannot_be_stolen_or_confused() {
    let (inn, at) = start(GRACE);
    let mut owner = Raw::open(at, &new(7)).await;
    let session = session_of(owner.answer().await);
    for (open, words, is_over) in [
        (again(session, 8, 1, 0), "there is no such session", true),
        (again(SessionId(99), 7, 1, 0), "there is no such session", true),
        (again(session, 7, 1, 99), "impossible: the peer acknowledged packet 99", true),
        (again(session, 7, 0, 0), "a later connection has taken", false),
    ] {
        let mut raw = Raw::open(at, &open).await;
        let (message, over) = refusal(raw.answer().await);
        assert!(message.starts_with(words), "{message}");
        assert_eq!(over, is_over);
    }
    // The session has not noticed.
    let batch = Batch { ack: 0, messages: Bytes::from_static(b"\x91\x92\x05\xc4\x00") };
    owner.say(&encode(&batch).unwrap()).await;
    inn.room(session).ear.until("the owner", |heard| heard.numbers == [5]).await;
    assert_eq!(*inn.history.borrow(), [Happened::Begun(session)]);
}

#[tokio::test]
async fn a_later_connection_takes_the_session_over_at_once() {
    let (inn, at) = start(GRACE);
    let mut first = Raw::open(at, &new(7)).await;
    let session = session_of(first.answer().await);
    let room = inn.room(session);
    let message = |number: u8| {
        let messages = Bytes::from(vec![0x91, 0x92, number, 0xc4, 0]);
        encode(&Batch { ack: 0, messages }).unwrap()
    };
    first.say(&message(1)).await;
    room.ear.until("the first message", |heard| heard.numbers == [1]).await;
    let mut second = Raw::open(at, &again(session, 7, 1, 0)).await;
    let answer = second.answer().await;
    assert_eq!(answer, Opened::Again { resume: Resume { epoch: 1, received: 1 } });
    assert!(first.thrown_out().await.contains("taken the session over"));
    second.say(&message(2)).await;
    room.ear.until("the second message", |heard| heard.numbers == [1, 2]).await;
    assert_eq!(*inn.history.borrow(), [Happened::Begun(session)]);
}

#[tokio::test]
async fn who_did_not_hear_that_its_session_began_gets_the_same_one() {
    let (inn, at) = start(GRACE);
    let mut first = Raw::open(at, &new(7)).await;
    let session = session_of(first.answer().await);
    drop(first);
    let mut second = Raw::open(at, &new(7)).await;
    assert_eq!(session_of(second.answer().await), session);
    let begun = |it: &&Happened| matches!(it, Happened::Begun(_));
    assert_eq!(inn.history.borrow().iter().filter(begun).count(), 1);
}

/// Connections that stay as they are for long, with little memory each.
fn slow() -> Settings {
    let idle_timeout = Duration::from_secs(60);
    Settings { mtu: 1200, idle_timeout, ..Settings::default() }
}

#[tokio::test]
async fn half_open_handshakes_are_bounded_and_nobody_has_to_wait_for_them() {
    const PENDING: usize = 40;
    const STRANGERS: usize = 60;
    let opening = Duration::from_secs(60);
    let limits = Limits { pending: PENDING, opening, ..Limits::default() };
    let (_inn, endpoint, server) = start_with(GRACE, &slow(), limits);
    let at = endpoint.local_addr().unwrap();
    // Their first words pass, and what proves that the address is real, and nothing else.
    let relay = Relay::start_for_knocks(at).await;
    let config = quic::client_config(&token(Role::Client), Role::Scheduler, &slow());
    let mut calls = Vec::new();
    for _ in 0..STRANGERS {
        let endpoint = quic::bind(loopback(), None, &slow()).unwrap();
        let name = quic::SERVER_NAME;
        let connecting = endpoint.connect_with(config.clone(), relay.address, name).unwrap();
        calls.push((tokio::spawn(connecting), endpoint));
    }
    within("as many handshakes as there may be", async {
        while server.handshakes() < PENDING {
            tokio::task::yield_now().await;
        }
    })
    .await;
    open(client_dial(at, "honest")).await.unwrap();
    assert!(server.handshakes() <= PENDING);
}

#[tokio::test]
async fn a_flood_of_first_packets_leaves_next_to_nothing_behind() {
    let (_inn, endpoint, server) = start_with(GRACE, &slow(), Limits::default());
    let at = endpoint.local_addr().unwrap();
    let packets = first_packets(500).await;
    let sockets: Vec<_> = (0..10).map(|_| std::net::UdpSocket::bind(loopback()).unwrap()).collect();
    // Nothing is kept of what got a retry, so the same packet is a new one the next time.
    for round in 0..20 {
        for (number, packet) in packets.iter().enumerate() {
            sockets[(round + number) % 10].send_to(packet, at).unwrap();
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let open_now = endpoint.open_connections();
        assert!(open_now < 20, "{open_now} are open");
    }
    open(client_dial(at, "honest")).await.unwrap();
    assert!(server.handshakes() < 20);
}

/// What openers send first, each of another connection.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let trap = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let endpoint = quic::bind(loopback(), None, &slow()).unwrap();
    let config = quic::client_config(&token(Role::Client), Role::Scheduler, &slow());
    let (mut packets, mut calls) = (Vec::new(), Vec::new());
    while packets.len() < count {
        let at = trap.local_addr().unwrap();
        let call = endpoint.connect_with(config.clone(), at, quic::SERVER_NAME).unwrap();
        let mut packet = vec![0; 1500];
        let len = within("a first packet", trap.recv(&mut packet)).await.unwrap();
        packet.truncate(len);
        packets.push(packet);
        // One that is dropped says so in another packet.
        calls.push(call);
    }
    packets
}
