//! A way for datagrams that is as bad as it is told to be.
//!
//! Whoever sends to the relay's address is passed on to one fixed address, from a socket of his
//! own, as behind a router that translates addresses; what comes back goes to him.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::machines::Machine;

/// Senders that are told apart at most; further ones are not heard.
const SENDERS_LIMIT: usize = 256;

/// Datagrams that are on their way at most; further ones are lost, as in a full queue of a router.
const UNDER_WAY_LIMIT: usize = 1 << 14;

/// The largest datagram.
const DATAGRAM_LIMIT: usize = 1 << 16;

/// How bad the way is, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Which share of the datagrams is lost, 0 to 1.
    pub loss: f64,
    /// How long each takes.
    pub delay: Duration,
    /// How much longer at most, by chance: later ones overtake earlier ones.
    pub jitter: Duration,
}

/// What has become of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Arrived.
    pub passed: u64,
    /// Did not.
    pub lost: u64,
}

/// A way from its own address to another one. It ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

struct Orders {
    wake: OwnedFd,
    state: Mutex<State>,
}

struct State {
    faults: Faults,
    cut: bool,
    over: bool,
    /// The address that datagrams come from on the other side, and how often it has changed.
    from: IpAddr,
    moves: u64,
    counts: Counts,
}

impl Relay {
    /// Opens a way to `to`, in and out of a machine. Chances follow from the seed (what they fall
    /// upon depends on when datagrams come).
    pub fn open(machine: &Machine, to: SocketAddr, faults: Faults, seed: u64) -> Relay {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let state = State {
            faults,
            cut: false,
            over: false,
            from: machine.address(),
            moves: 0,
            counts: Counts::default(),
        };
        let state = Mutex::new(state);
        let orders = Arc::new(Orders { wake: wake.expect("an eventfd can be made"), state });
        let for_thread = orders.clone();
        let bound = machine.at(0);
        machine.enter(|| {
            let front = socket(bound).unwrap_or_else(|error| panic!("relay at {bound}: {error}"));
            let address = front.local_addr().expect("a bound socket has an address");
            let way = Way::new(front, to, for_thread, seed);
            let thread = thread::Builder::new().name("relay".to_owned()).spawn(move || way.run());
            let thread = Some(thread.expect("a thread can be started"));
            Relay { address, orders, thread }
        })
    }

    /// Where to send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the way is this bad.
    pub fn set(&self, faults: Faults) {
        self.order(|state| state.faults = faults);
    }

    /// Nothing passes any more, what is under way included.
    pub fn cut(&self) {
        self.order(|state| state.cut = true);
    }

    /// Everything passes again.
    pub fn mend(&self) {
        self.order(|state| state.cut = false);
    }

    /// What comes through has another port from now on; what is sent to the old one is lost.
    pub fn change_port(&self) {
        self.order(|state| state.moves += 1);
    }

    /// What comes through has another address from now on: one of the relay's machine.
    pub fn change_address(&self, from: IpAddr) {
        self.order(|state| (state.from, state.moves) = (from, state.moves + 1));
    }

    /// What has become of all datagrams so far.
    pub fn counts(&self) -> Counts {
        self.orders.state.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    fn order(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.orders.state.lock().unwrap_or_else(PoisonError::into_inner));
        // An eventfd that is full wakes as well.
        let _ = rustix::io::write(&self.orders.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.order(|state| state.over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket with room for bursts.
fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // The system gives less where it must.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4 << 20);
    Ok(socket)
}

/// The relay's thread.
struct Way {
    front: UdpSocket,
    to: SocketAddr,
    orders: Arc<Orders>,
    senders: Vec<Sender>,
    by_address: HashMap<SocketAddr, usize>,
    moves: u64,
    under_way: BinaryHeap<Reverse<Datagram>>,
    next: u64,
    chance: u64,
    counts: Counts,
}

struct Sender {
    address: SocketAddr,
    back: UdpSocket,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    due: Instant,
    number: u64,
    sender: usize,
    outward: bool,
    bytes: Vec<u8>,
}

impl Way {
    fn new(front: UdpSocket, to: SocketAddr, orders: Arc<Orders>, seed: u64) -> Way {
        let (senders, by_address) = (Vec::new(), HashMap::new());
        let (under_way, chance) = (BinaryHeap::new(), seed | 1);
        let (moves, next, counts) = (0, 0, Counts::default());
        Way { front, to, orders, senders, by_address, moves, under_way, next, chance, counts }
    }

    fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_LIMIT];
        loop {
            self.sleep();
            let (faults, cut, from, moves) = {
                let state = self.orders.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.over {
                    return;
                }
                (state.faults, state.cut, state.from, state.moves)
            };
            if moves != self.moves {
                self.moves = moves;
                self.rebind(from);
            }
            self.take(&mut buffer, faults, cut);
            self.pass(cut);
            self.orders.state.lock().unwrap_or_else(PoisonError::into_inner).counts = self.counts;
        }
    }

    /// Until something has come, is due, or is ordered.
    fn sleep(&self) {
        let now = Instant::now();
        let due = self.under_way.peek().map(|first| first.0.due.saturating_duration_since(now));
        let due = due.map(|due| Timespec {
            tv_sec: due.as_secs() as i64,
            tv_nsec: due.subsec_nanos().into(),
        });
        let mut fds = vec![
            PollFd::new(&self.orders.wake, PollFlags::IN),
            PollFd::new(&self.front, PollFlags::IN),
        ];
        fds.extend(self.senders.iter().map(|sender| PollFd::new(&sender.back, PollFlags::IN)));
        // Interrupted or not: whatever there is to do is looked for.
        let _ = poll(&mut fds, due.as_ref());
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.orders.wake, &mut count);
    }

    /// Takes what has come.
    fn take(&mut self, buffer: &mut [u8], faults: Faults, cut: bool) {
        while let Ok((len, from)) = self.front.recv_from(buffer) {
            let sender = self.sender(from);
            match sender.filter(|_| !cut && !self.is_lost(faults)) {
                Some(sender) => self.keep(sender, true, &buffer[..len], faults),
                None => self.counts.lost += 1,
            }
        }
        for sender in 0..self.senders.len() {
            // A port that nobody listens to any more says so by an error, once for each datagram.
            while let Ok((len, _)) = self.senders[sender].back.recv_from(buffer) {
                match cut || self.is_lost(faults) {
                    false => self.keep(sender, false, &buffer[..len], faults),
                    true => self.counts.lost += 1,
                }
            }
        }
    }

    fn sender(&mut self, address: SocketAddr) -> Option<usize> {
        if let Some(known) = self.by_address.get(&address) {
            return Some(*known);
        }
        if self.senders.len() == SENDERS_LIMIT {
            return None;
        }
        let from = self.orders.state.lock().unwrap_or_else(PoisonError::into_inner).from;
        let back = socket((from, 0).into()).ok()?;
        self.senders.push(Sender { address, back });
        self.by_address.insert(address, self.senders.len() - 1);
        Some(self.senders.len() - 1)
    }

    fn rebind(&mut self, from: IpAddr) {
        for sender in &mut self.senders {
            match socket((from, 0).into()) {
                Ok(back) => sender.back = back,
                Err(error) => eprintln!("relay: no socket at {from}: {error}"),
            }
        }
    }

    fn keep(&mut self, sender: usize, outward: bool, bytes: &[u8], faults: Faults) {
        if self.under_way.len() == UNDER_WAY_LIMIT {
            self.counts.lost += 1;
            return;
        }
        let due = Instant::now() + faults.delay + faults.jitter.mul_f64(self.random());
        let (number, bytes) = (self.next, bytes.to_vec());
        self.next += 1;
        self.under_way.push(Reverse(Datagram { due, number, sender, outward, bytes }));
    }

    /// Sends what is due.
    fn pass(&mut self, cut: bool) {
        let now = Instant::now();
        while self.under_way.peek().is_some_and(|first| first.0.due <= now) {
            let Some(Reverse(datagram)) = self.under_way.pop() else { break };
            match !cut && self.send(&datagram).is_ok() {
                true => self.counts.passed += 1,
                false => self.counts.lost += 1,
            }
        }
    }

    fn send(&self, datagram: &Datagram) -> io::Result<usize> {
        let sender = &self.senders[datagram.sender];
        match datagram.outward {
            true => sender.back.send_to(&datagram.bytes, self.to),
            false => self.front.send_to(&datagram.bytes, sender.address),
        }
    }

    fn is_lost(&mut self, faults: Faults) -> bool {
        faults.loss > 0.0 && self.random() < faults.loss
    }

    /// 0 to 1 (Marsaglia's xorshift).
    fn random(&mut self) -> f64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) as f64 / (1u64 << 53) as f64
    }
}
