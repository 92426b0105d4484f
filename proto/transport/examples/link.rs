//! What a link costs: round trips and throughput between two threads over loopback QUIC.
//!
//! `cargo run --release -p manyhands-transport --features quic --example link`

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_proto::frame::Role;
use manyhands_proto::link::Join;
use manyhands_proto::{Lane, SessionId, Time};
use manyhands_transport::address::Address;
use manyhands_transport::keys::ClusterSecret;
use manyhands_transport::link::{self, Begun, Dial, Ends, Host, Link, Outbox, Welcome};
use manyhands_transport::quic::{self, Settings};
use manyhands_transport::turn::{self, Turn};
use manyhands_transport::{Clock, Mailbox, Receive, Sender, Waker};

/// About what a task is.
type Message = (u64, Bytes);

/// A daemon that says what it has heard.
struct Echo {
    inbox: Mailbox<Vec<Message>>,
    outbox: Arc<Outbox<Message>>,
}

impl Turn for Echo {
    fn turn(&mut self) {
        for messages in self.inbox.take(Vec::new()) {
            self.outbox.receive(messages);
        }
    }

    fn has_work(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn next_tick(&self) -> Option<Time> {
        None
    }
}

struct Inn {
    inbox: Sender<Vec<Message>>,
    outbox: Arc<Outbox<Message>>,
}

struct Into(Sender<Vec<Message>>);

impl Receive<Message> for Into {
    fn receive(&self, messages: Vec<Message>) {
        let _ = self.0.send(messages);
    }

    fn closed(&self, _reason: &str) {}
}

impl Host for Inn {
    fn begin(&self, _join: Join, _from: SocketAddr) -> Result<Welcome, String> {
        let ear = Arc::new(Into(self.inbox.clone()));
        let ends = Ends::new::<Message, Message>(self.outbox.clone(), ear);
        self.outbox.bind(ends.bell().clone());
        let begun = Begun::Client { lane: Lane(0) };
        Ok(Welcome { session: SessionId(0), begun, ends, grace: Duration::from_secs(1) })
    }

    fn away(&self, _session: SessionId, _why: &str) {}
    fn back(&self, _session: SessionId) {}
    fn lost(&self, _session: SessionId, _why: &str) {}
}

/// Answers from the network's own thread, as a worker does, until it has had enough.
struct Player {
    outbox: Arc<Outbox<Message>>,
    started: Mutex<Instant>,
    times: Mutex<Vec<u64>>,
    rounds: usize,
    done: mpsc::Sender<()>,
    /// In the second part: what is still to come.
    left: AtomicU64,
}

impl Receive<Message> for Player {
    fn receive(&self, messages: Vec<Message>) {
        if self.left.load(Ordering::Relaxed) > 0 {
            let came = messages.len() as u64;
            if self.left.fetch_sub(came, Ordering::Relaxed) == came {
                let _ = self.done.send(());
            }
            return;
        }
        let mut times = self.times.lock().unwrap();
        if times.len() == self.rounds {
            // The rounds of another thread.
            let _ = self.done.send(());
            return;
        }
        let mut started = self.started.lock().unwrap();
        times.push(started.elapsed().as_nanos() as u64);
        *started = Instant::now();
        if times.len() < self.rounds {
            messages.into_iter().for_each(|message| self.outbox.send(message));
        } else {
            let _ = self.done.send(());
        }
    }

    fn closed(&self, reason: &str) {
        println!("closed: {reason}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn echo(own: manyhands_transport::keys::Token, place: mpsc::Sender<SocketAddr>) {
    runtime().block_on(async {
        let (waker, clock) = (Waker::new().unwrap(), Clock::start());
        let (sender, inbox) = Mailbox::new(&waker);
        let outbox = Outbox::new();
        let settings = Settings::default();
        let config = quic::server_config(&own, &[Role::Client], &settings);
        let at = (Ipv4Addr::LOCALHOST, 0).into();
        let endpoint = quic::bind(at, Some(config), &settings).unwrap();
        place.send(endpoint.local_addr().unwrap()).unwrap();
        let inn = Arc::new(Inn { inbox: sender, outbox: outbox.clone() });
        tokio::spawn(link::serve(endpoint, own, "echo".to_owned(), inn));
        let mut echo = Echo { inbox, outbox };
        turn::run(&mut echo, &waker, clock, std::future::pending()).await.unwrap();
    });
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(20_000, |it| it.parse().unwrap());
    let secret = ClusterSecret::generate().unwrap();
    let (own, token) = (secret.token(Role::Scheduler), secret.token(Role::Client));
    let (place, placed) = mpsc::channel();
    std::thread::spawn(move || echo(own, place));
    let at = placed.recv().unwrap();

    let (done, finished) = mpsc::channel();
    let outbox = Outbox::new();
    let player = Arc::new(Player {
        outbox: outbox.clone(),
        started: Mutex::new(Instant::now()),
        times: Mutex::default(),
        rounds,
        done,
        left: AtomicU64::new(0),
    });
    let ear = player.clone();
    let links = Arc::new(OnceLock::new());
    let (kept, out) = (links.clone(), outbox.clone());
    std::thread::spawn(move || {
        runtime().block_on(async {
            let address =
                Address { host: at.ip().to_string(), port: at.port(), token: Some(token) };
            let join = Join::Client { name: "player".to_owned() };
            let dial = Dial::new(address, "player", join);
            let (link, _) =
                Link::open::<Message, Message>(dial, out.clone(), ear.clone()).await.unwrap();
            out.bind(link.bell());
            *ear.started.lock().unwrap() = Instant::now();
            out.send((0, Bytes::from(vec![0; 100])));
            kept.set(link).unwrap();
            std::future::pending::<()>().await;
        });
    });
    finished.recv().unwrap();
    show("round trip, link to link", &mut player.times.lock().unwrap());

    let mut times = Vec::new();
    for round in 0..rounds as u64 {
        let start = Instant::now();
        outbox.send((round, Bytes::from(vec![0; 100])));
        finished.recv().unwrap();
        times.push(start.elapsed().as_nanos() as u64);
    }
    show("round trip, from a third thread", &mut times);

    let count = 2_000_000;
    player.left.store(count, Ordering::Relaxed);
    let start = Instant::now();
    let load = Bytes::from(vec![0; 100]);
    for chunk in 0..count / 1000 {
        outbox.receive((0..1000).map(|it| (chunk * 1000 + it, load.clone())).collect());
    }
    finished.recv().unwrap();
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("messages of 100 bytes there and back: {:.0}k/s", rate / 1e3);
}

fn show(what: &str, times: &mut [u64]) {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize] as f64 / 1e3;
    println!("{what}: p50 {:.1} us, p10 {:.1}, p99 {:.1}", at(0.5), at(0.1), at(0.99));
}
