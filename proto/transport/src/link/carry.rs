//! A session over one connection, until it breaks or somebody says goodbye.

use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadError, SendStream, VarInt, WriteError};
use tokio::task::consume_budget;
use tokio::time::{sleep, timeout};

use super::ends::Ending;
use super::frames::{Frames, ReadFailure};
use super::line::Line;

/// Somebody has gone as it should be. Not 0, which quinn says for whoever just goes away.
pub(super) const GOODBYE: VarInt = VarInt::from_u32(1);
/// The peer was not let in.
pub(super) const REFUSED: VarInt = VarInt::from_u32(2);
/// The peer broke the rules.
pub(super) const OFFENCE: VarInt = VarInt::from_u32(3);
/// Another connection has taken the session over.
pub(super) const TAKEN_OVER: VarInt = VarInt::from_u32(4);

/// How long what was heard may wait to be acknowledged, if nothing else is said.
const ACK_DELAY: Duration = Duration::from_secs(1);
/// How long to wait for the other side when a session ends.
const GOODBYE_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of the words that a connection is closed with.
const WORDS: usize = 512;

/// How the session's time on a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The other side has ended the session.
    Goodbye(String),
    /// We have ended it.
    Left(String),
    /// The connection is of no use any more. The session may go on over another one.
    Broken(String),
    /// The other side broke the rules: the session is over.
    Offence(String),
}

/// A connection and its one stream.
pub(super) struct Channel {
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) frames: Frames,
}

impl Channel {
    /// Carries the session until it cannot. Nothing of the session is lost if the future is
    /// dropped.
    pub(super) async fn carry(&mut self, line: &Line) -> End {
        let Channel { connection, send, frames } = self;
        let end = tokio::select! {
            biased;
            end = read(line, connection, frames) => end,
            end = write(line, connection, send) => end,
            () = acknowledge(line) => unreachable!("it goes on for ever"),
        };
        match &end {
            End::Goodbye(_) => self.close(GOODBYE, ""),
            End::Left(words) => self.close(GOODBYE, words),
            End::Offence(words) => self.close(OFFENCE, words),
            End::Broken(_) => {}
        }
        end
    }

    /// Closes the connection at once.
    pub(super) fn close(&self, code: VarInt, words: &str) {
        self.connection.close(code, truncated(words).as_bytes());
    }
}

async fn read(line: &Line, connection: &Connection, frames: &mut Frames) -> End {
    loop {
        // Much that has come does not keep the daemon's loop from its turn.
        consume_budget().await;
        match frames.next().await {
            Ok(Some(body)) => {
                if let Err(offence) = line.hear(&body) {
                    return End::Offence(offence.to_string());
                }
            }
            Ok(None) => return hear_goodbye(line, connection).await,
            Err(ReadFailure::Lost(ReadError::ConnectionLost(error))) => return end_of(&error),
            Err(ReadFailure::Lost(error)) => return End::Broken(error.to_string()),
            Err(error) => return End::Offence(error.to_string()),
        }
    }
}

/// The other side says no more: it waits for an acknowledgement, and then closes in words.
async fn hear_goodbye(line: &Line, connection: &Connection) -> End {
    line.acknowledge_soon();
    match timeout(GOODBYE_LIMIT, connection.closed()).await {
        Ok(ConnectionError::ApplicationClosed(close)) => {
            End::Goodbye(String::from_utf8_lossy(&close.reason).into_owned())
        }
        _ => End::Goodbye("the other side has ended the session".to_owned()),
    }
}

async fn write(line: &Line, connection: &Connection, send: &mut SendStream) -> End {
    let mut frames = Vec::new();
    loop {
        if let Some(Ending { words, at_once: true }) = line.bell().ending() {
            return End::Left(words.clone());
        }
        frames.clear();
        if let Err(error) = line.frames(&mut frames) {
            return End::Left(error.to_string());
        }
        if frames.is_empty() {
            match line.bell().ending().filter(|_| !line.is_full()) {
                Some(ending) => return say_goodbye(line, send, ending).await,
                None => line.bell().rung().await,
            }
        } else if let Err(error) = send.write_all_chunks(&mut frames).await {
            return match error {
                WriteError::ConnectionLost(error) => end_of(&error),
                // The reader finds out more.
                _ => {
                    connection.closed().await;
                    End::Broken(error.to_string())
                }
            };
        }
    }
}

/// All is written: ends the stream, and waits until it is heard.
async fn say_goodbye(line: &Line, send: &mut SendStream, ending: &Ending) -> End {
    let heard = async {
        while !line.is_heard() {
            line.bell().rung().await;
        }
    };
    if send.finish().is_ok() {
        // Who does not answer has lost its chance.
        let _ = timeout(GOODBYE_LIMIT, heard).await;
    }
    End::Left(ending.words.clone())
}

/// Sees to it that what was heard is acknowledged in the end. No timer runs where nothing is said.
async fn acknowledge(line: &Line) {
    loop {
        line.something_heard().await;
        sleep(ACK_DELAY).await;
        line.acknowledge_soon();
    }
}

/// What the end of a connection means for the session.
fn end_of(error: &ConnectionError) -> End {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let words = String::from_utf8_lossy(&close.reason).into_owned();
            match close.error_code {
                GOODBYE => End::Goodbye(words),
                OFFENCE => End::Goodbye(format!("the other side found a broken rule: {words}")),
                _ => End::Broken(words),
            }
        }
        ConnectionError::TimedOut => End::Broken("nothing was heard".to_owned()),
        error => End::Broken(error.to_string()),
    }
}

fn truncated(words: &str) -> &str {
    let mut end = words.len().min(WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}
