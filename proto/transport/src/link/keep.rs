//! One session on the accepting side, through its connections and breaks.

use std::sync::Arc;
use std::time::Duration;

use manyhands_proto::SessionId;
use manyhands_proto::link::Opened;
use manyhands_proto::session::Resume;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::carry::{Channel, End, REFUSED, TAKEN_OVER};
use super::frames::encode;
use super::line::Line;
use super::serve::Server;

/// A connection for a session: its first one, or with how far the peer has heard.
pub(super) struct Arrival {
    pub(super) channel: Channel,
    pub(super) theirs: Option<Resume>,
}

/// Keeps a session until it is over, and tells the host.
pub(super) async fn keep(
    server: Arc<Server>,
    session: SessionId,
    line: Arc<Line>,
    opened: Opened,
    grace: Duration,
    mut arriving: mpsc::UnboundedReceiver<Arrival>,
) {
    let mut keeper = Keeper { server: &server, session, line: &line, opened, grace, away: false };
    let why = keeper.run(&mut arriving).await;
    server.forget(session);
    server.host.lost(session, &why);
}

struct Keeper<'a> {
    server: &'a Server,
    session: SessionId,
    line: &'a Line,
    opened: Opened,
    grace: Duration,
    away: bool,
}

impl Keeper<'_> {
    async fn run(&mut self, arriving: &mut mpsc::UnboundedReceiver<Arrival>) -> String {
        let mut next = None;
        loop {
            let arrival = match next.take() {
                Some(arrival) => arrival,
                None => match self.wait(arriving).await {
                    Ok(arrival) => arrival,
                    Err(words) => return words,
                },
            };
            let Some(mut channel) = self.welcome(arrival).await else { continue };
            let end = tokio::select! {
                biased;
                end = channel.carry(self.line) => end,
                Some(arrival) = arriving.recv() => {
                    channel.close(TAKEN_OVER, "another connection has taken the session over");
                    next = Some(arrival);
                    continue;
                }
            };
            match end {
                End::Goodbye(words) | End::Left(words) => return words,
                End::Offence(words) => return format!("it broke the rules: {words}"),
                End::Broken(why) => {
                    self.away = true;
                    self.server.host.away(self.session, &why);
                }
            }
        }
    }

    /// Waits for the next connection, as long as there is grace.
    async fn wait(
        &self,
        arriving: &mut mpsc::UnboundedReceiver<Arrival>,
    ) -> Result<Arrival, String> {
        tokio::select! {
            biased;
            arrival = timeout(self.grace, arriving.recv()) => match arrival {
                Ok(Some(arrival)) => Ok(arrival),
                Ok(None) => Err("the server has stopped".to_owned()),
                Err(_) => Err(format!("it did not come back within {} s", self.grace.as_secs_f32())),
            },
            words = self.line.bell().ended() => Err(words.to_owned()),
        }
    }

    /// Answers a connection. One that cannot go on is refused, and the session waits for another.
    async fn welcome(&mut self, arrival: Arrival) -> Option<Channel> {
        let Arrival { mut channel, theirs } = arrival;
        if theirs.is_some_and(|theirs| theirs.epoch <= self.line.epoch()) {
            channel.close(REFUSED, "a later connection has taken the session over");
            return None;
        }
        // Who did not hear that its session has begun starts again at the beginning.
        let resume = theirs.unwrap_or(Resume { epoch: 0, received: 0 });
        let own = self.line.resume(resume.epoch);
        if let Err(error) = self.line.resumed(own, resume) {
            channel.close(REFUSED, &error.to_string());
            return None;
        }
        let answer = match theirs {
            Some(_) => Opened::Again { resume: own },
            None => self.opened.clone(),
        };
        let frame = encode(&answer).expect("an answer of numbers can be encoded");
        // What a failed write means is found out by reading.
        let _ = channel.send.write_all(&frame).await;
        if std::mem::take(&mut self.away) {
            self.server.host.back(self.session);
        }
        Some(channel)
    }
}
