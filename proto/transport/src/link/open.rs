//! Opens a session and keeps it up: dials again with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use manyhands_proto::SessionId;
use manyhands_proto::link::{Open, Opened};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::carry::{Channel, End, OFFENCE};
use super::dial::{Dial, DialError, Dialer};
use super::ends::{Bell, Ends};
use super::line::Line;
use crate::mailbox::{Receive, Source};

/// The first pause between two calls; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(4);
/// How long a link that is down tries to say goodbye.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// How long [`Link::close`] waits.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// One session with the scheduler, kept up over whatever connections it takes. It ends when the last
/// clone is dropped: what is queued is still sent if the runtime lives long enough.
#[derive(Clone, Debug)]
pub struct Link(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    bell: Bell,
    status: watch::Receiver<Status>,
    task: tokio::task::AbortHandle,
}

/// Whether the scheduler can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It can.
    Up {
        /// Since then.
        since: Instant,
    },
    /// It cannot; the link tries to come back.
    Down {
        /// Since then.
        since: Instant,
        /// The session is over if it is not back by then.
        until: Instant,
    },
    /// The session is over: the receiver has been told why.
    Over,
}

impl Link {
    /// Opens a session; must be called within a tokio runtime, in which the link then lives. `source`
    /// is asked for what it has when the link is [poked](Link::poke) and the scheduler can take it.
    /// `receiver` is told what comes, and once that no more will come: not when a connection breaks,
    /// but when the session is over.
    pub async fn open<Out, In>(
        dial: Dial,
        source: Arc<dyn Source<Out>>,
        receiver: Arc<dyn Receive<In>>,
    ) -> Result<(Link, Opened), DialError>
    where
        Out: Serialize + Send + 'static,
        In: DeserializeOwned + Send + 'static,
    {
        let line = Line::new(Ends::new(source, receiver));
        let mut key = [0; 16];
        // Without random numbers there would be no keys, and no address to dial.
        SystemRandom::new().fill(&mut key).expect("the system has given random numbers before");
        let key = u128::from_ne_bytes(key);
        let dialer = Dialer::new(dial)?;
        let (channel, opened) = begin(&dialer, key).await?;
        let (session, grace) = match opened {
            Opened::Client { session, grace_us, .. } | Opened::Worker { session, grace_us, .. } => {
                (session, Duration::from_micros(grace_us))
            }
            Opened::Again { .. } | Opened::Refused { .. } => {
                let message = "it answered what was not asked".to_owned();
                return Err(DialError::Refused { place: dialer.place(), message, over: true });
            }
        };
        let bell = line.bell().clone();
        let (status, watched) = watch::channel(Status::Up { since: Instant::now() });
        let upkeep = Upkeep { line, dialer, session, key, grace, epoch: 0, status };
        let task = tokio::spawn(upkeep.run(channel)).abort_handle();
        Ok((Link(Arc::new(Handle { bell, status: watched, task })), opened))
    }

    /// The source has something to say: it is asked as soon as the scheduler can take it. From any
    /// thread, and cheap.
    pub fn poke(&self) {
        self.0.bell.ring();
    }

    /// What [`Outbox::bind`](super::Outbox::bind) wants.
    pub fn bell(&self) -> Bell {
        self.0.bell.clone()
    }

    /// Sends what is queued and says goodbye; waits until the scheduler has heard it, five seconds at
    /// most.
    pub async fn close(&self, reason: &str) {
        self.0.bell.end(reason);
        let mut status = self.0.status.clone();
        let over = status.wait_for(|it| *it == Status::Over);
        if timeout(CLOSE_LIMIT, over).await.is_err() {
            self.0.task.abort();
        }
    }

    /// Whether the scheduler can be heard.
    pub fn status(&self) -> Status {
        *self.0.status.borrow()
    }

    /// Waits until the status is another one; what it is then.
    pub async fn changed(&self, from: Status) -> Status {
        let mut status = self.0.status.clone();
        match status.wait_for(|it| *it != from).await {
            Ok(status) => *status,
            Err(_) => Status::Over,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.bell.end("the other side has dropped its link");
    }
}

/// Calls until somebody answers, as long as there is patience.
async fn begin(dialer: &Dialer, key: u128) -> Result<(Channel, Opened), DialError> {
    let until = Instant::now() + dialer.dial().patience;
    let mut pause = PAUSE;
    let mut last = None;
    loop {
        let open = Open::New { key, join: dialer.dial().join.clone() };
        match timeout_at(until, dialer.call(open)).await {
            Ok(Err(error)) if error.may_pass() => last = Some(error),
            Ok(answer) => return answer,
            Err(_) => {
                let why = format!("no answer within {:?}", dialer.dial().patience);
                return Err(
                    last.unwrap_or_else(|| DialError::Unreachable { place: dialer.place(), why })
                );
            }
        }
        if Instant::now() + pause >= until {
            return Err(last.expect("the loop has not been left"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A session that is to end while it is down does not try for long to say so.
async fn give_up(bell: &Bell) -> String {
    let words = bell.ended().await;
    sleep(FAREWELL_LIMIT).await;
    words.to_owned()
}

/// What keeps a session up.
struct Upkeep {
    line: Line,
    dialer: Dialer,
    session: SessionId,
    key: u128,
    grace: Duration,
    /// Of the last call: every call is another life of the session.
    epoch: u32,
    status: watch::Sender<Status>,
}

impl Upkeep {
    async fn run(mut self, mut channel: Channel) {
        let words = loop {
            match channel.carry(&self.line).await {
                End::Goodbye(words) | End::Left(words) | End::Offence(words) => break words,
                End::Broken(why) => {
                    let since = Instant::now();
                    let until = since + self.grace;
                    self.status.send_replace(Status::Down { since, until });
                    log::info!("the link to the scheduler at {} broke: {why}", self.dialer.place());
                    let bell = self.line.bell().clone();
                    let back = tokio::select! {
                        back = self.come_back(until) => back,
                        words = give_up(&bell) => Err(words),
                    };
                    match back {
                        Ok(back) => channel = back,
                        Err(words) => break words,
                    }
                    self.status.send_replace(Status::Up { since: Instant::now() });
                }
            }
        };
        self.line.closed(&words);
        self.status.send_replace(Status::Over);
    }

    /// Calls until the session goes on, or is over.
    async fn come_back(&mut self, until: Instant) -> Result<Channel, String> {
        let mut pause = Duration::ZERO;
        let mut last = format!("nobody answered at {}", self.dialer.place());
        while Instant::now() + pause < until {
            sleep(pause).await;
            pause = (pause * 2).clamp(PAUSE, LONGEST_PAUSE);
            let limit = CALL_LIMIT.min(until.saturating_duration_since(Instant::now()));
            match timeout(limit, self.call_again()).await {
                Ok(Ok(channel)) => return Ok(channel),
                Ok(Err(error @ DialError::Refused { over: true, .. })) => {
                    return Err(error.to_string());
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => {}
            }
        }
        Err(format!("no way back for {} s ({last})", self.grace.as_secs_f32()))
    }

    async fn call_again(&mut self) -> Result<Channel, DialError> {
        self.epoch += 1;
        let own = self.line.resume(self.epoch);
        let open = Open::Again { session: self.session, key: self.key, resume: own };
        let (channel, opened) = self.dialer.call(open).await?;
        let refuse = |message: String| {
            channel.close(OFFENCE, &message);
            DialError::Refused { place: self.dialer.place(), message, over: true }
        };
        let Opened::Again { resume: theirs } = opened else {
            return Err(refuse("a session that had begun was begun again".to_owned()));
        };
        self.line.resumed(own, theirs).map_err(|error| refuse(error.to_string()))?;
        Ok(channel)
    }
}
