//! Whoever may not come in is refused in few lines of log, costs nothing, and disturbs nobody.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use manyhands::Client;
use manyhands_cluster_tests::{Cluster, LIMIT, Plan, in_time};
use manyhands_proto::frame::{Hello, PROTOCOL, Role};
use manyhands_transport::address::Address;
use manyhands_transport::keys::{ClusterSecret, Token};
use manyhands_transport::quic::{self, Settings};
use quinn::{Connection, ConnectionError, Endpoint};

use crate::work::{check_all, many_slowly, warm};

/// More resident memory of the scheduler than this after strangers is a leak.
const GROWTH_LIMIT: u64 = 32 << 20;

fn quiet_cluster() -> Cluster {
    Cluster::start(Plan { machines: 1, workers: 1, ..Plan::default() })
}

/// Lines of the scheduler's log about refusals.
fn refusals(cluster: &Cluster) -> Vec<String> {
    cluster.scheduler.lines_with("refused")
}

fn wait_for_refusal(cluster: &Cluster, words: &str) {
    cluster.scheduler.line(&format!("a refusal with {words:?}"), |line| {
        (line.contains("refused") && line.contains(words)).then_some(())
    });
}

/// The error of a client that tries to come in with another line.
fn refused_with(line: &str) -> String {
    Client::connect(line).expect_err("a stranger is not let in").to_string()
}

fn token_of(line: &str) -> Token {
    line.parse::<Address>().unwrap().token.unwrap()
}

/// Does something on the machine for clients, in a runtime of its own.
fn there<T: Send>(cluster: &Cluster, work: impl Future<Output = T> + Send) -> T {
    cluster.client_machine().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(LIMIT, work).await.expect("a stranger's exchange takes no minute")
        })
    })
}

fn endpoint(at: SocketAddr) -> Endpoint {
    quic::bind(SocketAddr::new(at.ip(), 0), None, &Settings::default()).unwrap()
}

/// A connection of somebody who has a client's key and says what he likes.
async fn connect(cluster: &Cluster, token: &Token) -> (Endpoint, Connection) {
    let endpoint = endpoint(cluster.client_machine().at(0));
    let config = quic::client_config(token, Role::Scheduler, &Settings::default());
    let at = cluster.scheduler_address();
    let connection = endpoint.connect_with(config, at, quic::SERVER_NAME).unwrap().await.unwrap();
    (endpoint, connection)
}

/// Says these bytes first, and hands out the words with which the connection ends.
async fn thrown_out(cluster: &Cluster, bytes: &[u8]) -> String {
    let (_endpoint, connection) = connect(cluster, &token_of(&cluster.for_clients)).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    // What is said to us does not matter, but may have to be taken.
    let _ = recv.read_to_end(1 << 20).await;
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        error => panic!("the connection ended with {error:?}"),
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

#[test]
fn whoever_has_no_secret_or_another_one_or_that_of_another_role_stays_outside() {
    in_time("wrong secrets", Duration::from_secs(90), || {
        let cluster = quiet_cluster();
        let place = cluster.scheduler_address();
        let error = refused_with(&place.to_string());
        assert!(error.contains("MANYHANDS_TOKEN"), "{error}");

        let other = ClusterSecret::from_bytes([7; 32]);
        let line = format!("manyhands://{}@{place}", other.token(Role::Client));
        let error = refused_with(&line);
        assert!(error.contains("another cluster"), "{error}");
        wait_for_refusal(&cluster, "handshake");

        let error = refused_with(&cluster.for_workers);
        assert!(error.contains("is for a worker, and this is a client"), "{error}");
        // A worker with the other cluster's secret keeps trying, and says why it is not let in.
        let line = format!("manyhands://{}@{place}", other.token(Role::Worker));
        let worker = cluster.worker_at(cluster.client_machine(), 9, &line, &[]);
        worker.line("that it cannot join", |line| line.contains("cannot join yet").then_some(()));
        assert_eq!(cluster.number("workers"), 1);
        assert!(refusals(&cluster).len() <= 2, "{:?}", refusals(&cluster));
        let client = cluster.client();
        check_all(&client, &many_slowly(&client, 10, 0));
    });
}

#[test]
fn whoever_speaks_another_version_or_breaks_the_rules_is_told_so_and_thrown_out() {
    in_time("broken rules", Duration::from_secs(90), || {
        let cluster = quiet_cluster();
        let before = cluster.scheduler.resident();
        there(&cluster, async {
            let later = Hello { protocol: PROTOCOL + 1, ..Hello::own("later", Role::Client) };
            let words = thrown_out(&cluster, &frame(&later.to_bytes())).await;
            assert!(words.contains("upgrade the older"), "{words}");
            let act = Hello::own("actor", Role::Worker);
            let words = thrown_out(&cluster, &frame(&act.to_bytes())).await;
            assert!(words.contains("a client cannot act as a worker"), "{words}");
            let words = thrown_out(&cluster, &u32::MAX.to_le_bytes()).await;
            assert!(words.contains("4294967295 bytes is larger"), "{words}");
            let words = thrown_out(&cluster, &frame(&[0xc1; 64])).await;
            assert!(!words.is_empty());
        });
        wait_for_refusal(&cluster, "upgrade the older");
        assert_eq!(refusals(&cluster).len(), 1, "the others come within its ten seconds");
        let growth = cluster.scheduler.resident().saturating_sub(before);
        assert!(growth < GROWTH_LIMIT, "the scheduler grew by {growth} bytes");
        let client = cluster.client();
        check_all(&client, &many_slowly(&client, 10, 0));
    });
}

#[test]
fn garbage_and_ten_thousand_half_open_handshakes_cost_the_scheduler_nothing() {
    in_time("a flood of strangers", Duration::from_secs(120), || {
        let cluster = quiet_cluster();
        let client = cluster.client();
        warm(&cluster, &client);
        let at = cluster.scheduler_address();
        let packets = there(&cluster, first_packets(&cluster, 500));
        let before = cluster.scheduler.resident();
        let bind = || UdpSocket::bind(cluster.client_machine().at(0)).unwrap();
        let sockets: Vec<UdpSocket> =
            cluster.client_machine().enter(|| (0..10).map(|_| bind()).collect());
        let handles = many_slowly(&client, 50, 5);
        // Nothing is kept of one who has to prove his address, so the same packet begins another
        // handshake the next time.
        for round in 0..20 {
            for (number, packet) in packets.iter().enumerate() {
                let socket = &sockets[(round + number) % sockets.len()];
                socket.send_to(packet, at).unwrap();
                let garbage: Vec<u8> = packet.iter().map(|byte| byte ^ 0x5a).collect();
                socket.send_to(&garbage[..number], at).unwrap();
            }
            // Somebody who is let in is let in meanwhile as well.
            assert_eq!(cluster.number("workers"), 1);
        }
        check_all(&client, &handles);
        let growth = cluster.scheduler.resident().saturating_sub(before);
        println!("10,000 half-open handshakes: the scheduler grew by {} KiB", growth >> 10);
        assert!(growth < GROWTH_LIMIT, "the scheduler grew by {growth} bytes");
        assert!(refusals(&cluster).len() < 10, "{:?}", refusals(&cluster));
    });
}

/// What openers send first, each of another connection.
async fn first_packets(cluster: &Cluster, count: usize) -> Vec<Vec<u8>> {
    let here = cluster.client_machine().at(0);
    let trap = tokio::net::UdpSocket::bind(here).await.unwrap();
    let at = trap.local_addr().unwrap();
    let endpoint = endpoint(here);
    let token = token_of(&cluster.for_clients);
    let config = quic::client_config(&token, Role::Scheduler, &Settings::default());
    let (mut packets, mut calls) = (Vec::new(), Vec::new());
    while packets.len() < count {
        let call = endpoint.connect_with(config.clone(), at, quic::SERVER_NAME).unwrap();
        let mut packet = vec![0; 1500];
        let len = trap.recv(&mut packet).await.unwrap();
        packet.truncate(len);
        packets.push(packet);
        // One that is dropped says so in another packet.
        calls.push(call);
    }
    packets
}
