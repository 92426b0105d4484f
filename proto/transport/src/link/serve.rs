//! The accepting side: who may begin or resume which session.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use manyhands_proto::frame::{Hello, Role};
use manyhands_proto::link::{Join, Open, Opened};
use manyhands_proto::session::Resume;
use manyhands_proto::{Lane, SessionId, WorkerId};
use quinn::{Connecting, Endpoint, Incoming};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::carry::{Channel, REFUSED};
use super::ends::Ends;
use super::frames::{Frames, encode, encode_hello};
use super::keep::{Arrival, keep};
use super::line::Line;
use super::refusals::Refusals;
use crate::keys::Token;
use crate::quic;

/// Connections at most beside those of sessions. Those that failed stay for a moment.
const SPARE_CONNECTIONS: usize = 4096;
/// Sessions at most.
const SESSION_LIMIT: usize = 1 << 16;
/// How long a peer that is refused may take to read why.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Whoever has sessions: the scheduler's shell. Called on the threads of the runtime that serves.
pub trait Host: Send + Sync + 'static {
    /// A peer wants to join; its key has proved that it may. An error is told to the peer.
    fn begin(&self, join: Join, from: SocketAddr) -> Result<Welcome, String>;
    /// The connection of a session is broken, for this reason. It may come back.
    fn away(&self, session: SessionId, why: &str);
    /// It has come back, and nothing was lost.
    fn back(&self, session: SessionId);
    /// It is over: the peer said goodbye, or broke the rules, or did not come back in time, or the
    /// host ended it. The last that is said of it.
    fn lost(&self, session: SessionId, why: &str);
}

/// What a session begins with.
pub struct Welcome {
    /// Its number, of no other session ever.
    pub session: SessionId,
    /// What the peer needs to know.
    pub begun: Begun,
    /// Whom its messages come from and go to. The receiver is not told of the end: the host is.
    pub ends: Ends,
    /// How long the session outlives a broken connection.
    pub grace: Duration,
}

/// What a peer gets with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// A client.
    Client {
        /// Where it names what it submits.
        lane: Lane,
    },
    /// A worker.
    Worker {
        /// Its id.
        worker: WorkerId,
    },
}

impl Welcome {
    fn opened(&self) -> Opened {
        let (session, grace_us) = (self.session, self.grace.as_micros() as u64);
        match self.begun {
            Begun::Client { lane } => Opened::Client { session, lane, grace_us },
            Begun::Worker { worker } => Opened::Worker { session, worker, grace_us },
        }
    }
}

/// What strangers may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Handshakes under way beyond which an address has to prove that it is real.
    pub(super) prove_above: usize,
    /// Handshakes in a second beyond which it has to, too: those that fail at once are never many at
    /// one time.
    pub(super) prove_rate: u32,
    /// Handshakes under way at most: the oldest one has to go for another.
    pub(super) pending: usize,
    /// How long a peer may take to introduce itself.
    pub(super) opening: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let opening = Duration::from_secs(5);
        Limits { prove_above: 16, prove_rate: 64, pending: 256, opening }
    }
}

/// Lets peers in until the endpoint is closed. `token` is the scheduler's own, `node` its name for
/// people.
pub async fn serve(endpoint: Endpoint, token: Token, node: String, host: Arc<dyn Host>) {
    Server::new(token, node, host, Limits::default()).run(endpoint).await;
}

/// All that the sessions of an endpoint share.
pub(super) struct Server {
    token: Token,
    hello: Hello,
    limits: Limits,
    pub(super) host: Arc<dyn Host>,
    refusals: Refusals,
    pending: Mutex<Pending>,
    sessions: Mutex<Sessions>,
}

/// Handshakes under way, the oldest first.
#[derive(Default)]
struct Pending {
    next: u64,
    tasks: VecDeque<(u64, AbortHandle)>,
    /// When the second began in which `unproved` addresses have come.
    second: Option<Instant>,
    unproved: u32,
}

impl Pending {
    /// Whether there is so much to do that an address has to be real.
    fn is_busy(&mut self, limits: &Limits) -> bool {
        if self.second.is_none_or(|second| second.elapsed() >= Duration::from_secs(1)) {
            (self.second, self.unproved) = (Some(Instant::now()), 0);
        }
        self.tasks.len() >= limits.prove_above || self.unproved >= limits.prove_rate
    }
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<SessionId, Entry>,
    /// A peer that did not hear the answer to its first words asks again with the same key.
    by_key: HashMap<u128, SessionId>,
}

struct Entry {
    key: u128,
    role: Role,
    line: Arc<Line>,
    arrivals: mpsc::UnboundedSender<Arrival>,
}

/// Why a peer was not let in.
struct Refusal {
    message: String,
    over: bool,
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), over: false }
}

impl Server {
    pub(super) fn new(
        token: Token,
        node: String,
        host: Arc<dyn Host>,
        limits: Limits,
    ) -> Arc<Server> {
        Arc::new(Server {
            token,
            hello: Hello::own(node, Role::Scheduler),
            host,
            limits,
            refusals: Refusals::default(),
            pending: Mutex::default(),
            sessions: Mutex::default(),
        })
    }

    pub(super) async fn run(self: Arc<Self>, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            self.clone().meet(incoming, endpoint.open_connections());
        }
    }

    /// Handshakes and introductions under way.
    #[cfg(test)]
    pub(super) fn handshakes(&self) -> usize {
        lock(&self.pending).tasks.len()
    }

    /// Somebody knocks. Nothing is kept for addresses that might not be real once there are several.
    fn meet(self: Arc<Self>, incoming: Incoming, connections: usize) {
        let from = incoming.remote_address();
        let sessions = lock(&self.sessions).by_id.len();
        let mut pending = lock(&self.pending);
        if incoming.may_retry() {
            if pending.is_busy(&self.limits) {
                // A retry fails only where one has been made.
                let _ = incoming.retry();
                return;
            }
            pending.unproved += 1;
        }
        if connections > sessions + SPARE_CONNECTIONS {
            incoming.ignore();
            return self.refusals.note(from, &"too many connections at one time");
        }
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => return self.refusals.note(from, &error),
        };
        if pending.tasks.len() >= self.limits.pending {
            // Whoever is honest needs a moment only.
            if let Some((_, oldest)) = pending.tasks.pop_front() {
                oldest.abort();
                self.refusals.note(from, &"too many handshakes at one time");
            }
        }
        let number = pending.next;
        pending.next += 1;
        let server = self.clone();
        let task = tokio::spawn(async move {
            let met = timeout(server.limits.opening, server.clone().greet(connecting, from)).await;
            lock(&server.pending).tasks.retain(|(it, _)| *it != number);
            match met {
                Ok(Ok(())) => {}
                Ok(Err(why)) => server.refusals.note(from, &why),
                Err(_) => server.refusals.note(from, &"it did not introduce itself in time"),
            }
        });
        pending.tasks.push_back((number, task.abort_handle()));
    }

    /// Handshake, hello, and what the peer wants.
    async fn greet(
        self: Arc<Self>,
        connecting: Connecting,
        from: SocketAddr,
    ) -> Result<(), String> {
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let Some(role) = quic::role_of(&connection, &self.token) else {
            return Err("its key is of no role".to_owned());
        };
        let (mut send, stream) = connection.accept_bi().await.map_err(|it| it.to_string())?;
        let mut introduction = Vec::new();
        encode_hello(&self.hello, &mut introduction);
        send.write_all(&introduction).await.map_err(|error| error.to_string())?;
        let mut channel = Channel { connection, send, frames: Frames::new(stream) };
        match self.listen(&mut channel, role, from).await {
            Ok((entry, theirs)) => {
                channel.frames.opened();
                // A session that ended just now drops the connection.
                let _ = entry.send(Arrival { channel, theirs });
                Ok(())
            }
            Err(refusal) => {
                let words = refusal.message.clone();
                say_no(channel, refusal).await;
                Err(words)
            }
        }
    }

    /// Whose session the peer shall get, and from where.
    async fn listen(
        self: &Arc<Self>,
        channel: &mut Channel,
        role: Role,
        from: SocketAddr,
    ) -> Result<(mpsc::UnboundedSender<Arrival>, Option<Resume>), Refusal> {
        let body = read(channel).await?;
        let hello = Hello::from_bytes(&body).map_err(|error| refuse(error.to_string()))?;
        if hello.role != role {
            return Err(refuse(format!("a {role} cannot act as a {}", hello.role)));
        }
        let open = rmp_serde::from_slice(&read(channel).await?)
            .map_err(|error| refuse(format!("malformed words at the beginning: {error}")))?;
        match open {
            Open::New { key, join } => self.begin(key, join, role, from),
            Open::Again { session, key, resume } => self.resume(session, key, role, resume),
        }
    }

    fn begin(
        self: &Arc<Self>,
        key: u128,
        join: Join,
        role: Role,
        from: SocketAddr,
    ) -> Result<(mpsc::UnboundedSender<Arrival>, Option<Resume>), Refusal> {
        let mut sessions = lock(&self.sessions);
        if let Some(entry) = sessions.by_key.get(&key).and_then(|id| sessions.by_id.get(id)) {
            // It did not hear that its session has begun, so it cannot have said or heard anything.
            let fresh = entry.line.is_fresh() && entry.line.epoch() == 0;
            if entry.role != role || !fresh {
                return Err(refuse("this session has begun already"));
            }
            return Ok((entry.arrivals.clone(), None));
        }
        let fits = match join {
            Join::Client { .. } => role == Role::Client,
            Join::Worker(_) => role == Role::Worker,
        };
        if !fits {
            return Err(refuse(format!("a {role} cannot join as something else")));
        }
        if sessions.by_id.len() >= SESSION_LIMIT {
            return Err(refuse(format!("there are {SESSION_LIMIT} sessions already")));
        }
        let welcome = self.host.begin(join, from).map_err(refuse)?;
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let (id, opened) = (welcome.session, welcome.opened());
        let line = Arc::new(Line::new(welcome.ends));
        let entry = Entry { key, role, line: line.clone(), arrivals };
        let sender = entry.arrivals.clone();
        sessions.by_key.insert(key, id);
        sessions.by_id.insert(id, entry);
        tokio::spawn(keep(self.clone(), id, line, opened, welcome.grace, arriving));
        Ok((sender, None))
    }

    fn resume(
        &self,
        session: SessionId,
        key: u128,
        role: Role,
        theirs: Resume,
    ) -> Result<(mpsc::UnboundedSender<Arrival>, Option<Resume>), Refusal> {
        let sessions = lock(&self.sessions);
        let entry = sessions.by_id.get(&session);
        let Some(entry) = entry.filter(|entry| entry.key == key && entry.role == role) else {
            // Whoever guesses does not learn which sessions there are.
            let message = "there is no such session, or no longer: its grace time is over";
            return Err(Refusal { message: message.to_owned(), over: true });
        };
        if theirs.epoch <= entry.line.epoch() {
            return Err(refuse("a later connection has taken the session over"));
        }
        let impossible = |error| Refusal { message: format!("impossible: {error}"), over: true };
        entry.line.can_resume(theirs).map_err(impossible)?;
        Ok((entry.arrivals.clone(), Some(theirs)))
    }

    /// A session is over.
    pub(super) fn forget(&self, session: SessionId) {
        let mut sessions = lock(&self.sessions);
        if let Some(entry) = sessions.by_id.remove(&session) {
            sessions.by_key.remove(&entry.key);
        }
    }
}

async fn read(channel: &mut Channel) -> Result<bytes::Bytes, Refusal> {
    match channel.frames.next().await {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(refuse("it went away at the beginning")),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Tells a peer why it is not let in, and waits a moment until it has read it.
async fn say_no(mut channel: Channel, refusal: Refusal) {
    let Refusal { message, over } = refusal;
    if let Ok(frame) = encode(&Opened::Refused { message: message.clone(), over }) {
        let said = async {
            channel.send.write_all(&frame).await.ok()?;
            channel.send.finish().ok()?;
            Some(channel.connection.closed().await)
        };
        // Whoever does not listen does not learn why.
        let _ = timeout(REFUSAL_TIME, said).await;
    }
    channel.close(REFUSED, &message);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
