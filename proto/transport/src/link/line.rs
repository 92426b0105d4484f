//! What one end of a session has sent, what it has heard, and what it has to write next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use manyhands_proto::frame::FrameError;
use manyhands_proto::session::{Resume, Session, SessionError};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Notify;

use super::ends::{Bell, Ends, bare_ack};

/// Bytes that may be sent and not acknowledged: beyond, the source is not asked.
const UNACKED_LIMIT: usize = 16 << 20;

/// Batches that may be heard before they are acknowledged, if nothing is to be said anyway.
const UNTOLD_BATCHES: u64 = 64;
/// Bytes of them.
const UNTOLD_BYTES: usize = 1 << 20;

/// Frames that are handed to a connection at one time.
const FRAMES_AT_ONCE: usize = 16;

/// One end of a session.
pub(super) struct Line {
    ends: Ends,
    flow: Mutex<Flow>,
    /// Something has been heard after all had been acknowledged.
    heard: Notify,
}

#[derive(Default)]
struct Flow {
    session: Session<Bytes, ()>,
    unacked_bytes: usize,
    /// Frames below this number have been written to the connection that there is.
    written: u64,
    /// What the other side has been told that it was heard.
    told: u64,
    untold_bytes: usize,
    ack_due: bool,
}

/// How the other side broke the rules, or we ourselves.
#[derive(Debug, Error)]
pub(super) enum Offence {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A [`Batch`](manyhands_proto::link::Batch), read in place.
#[derive(Deserialize)]
struct Batch<'a> {
    ack: u64,
    #[serde(borrow)]
    messages: &'a [u8],
}

impl Line {
    pub(super) fn new(ends: Ends) -> Line {
        Line { ends, flow: Mutex::default(), heard: Notify::new() }
    }

    pub(super) fn bell(&self) -> &Bell {
        self.ends.bell()
    }

    pub(super) fn closed(&self, words: &str) {
        self.ends.closed(words);
    }

    /// A frame has come: what it says is delivered.
    pub(super) fn hear(&self, body: &[u8]) -> Result<(), Offence> {
        let batch: Batch<'_> = rmp_serde::from_slice(body).map_err(FrameError::from)?;
        self.flow().acknowledge(batch.ack, self.bell())?;
        if batch.messages.is_empty() {
            return Ok(());
        }
        self.ends.deliver(batch.messages)?;
        let mut flow = self.flow();
        if flow.told == flow.session.received() {
            self.heard.notify_one();
        }
        flow.session.receive_next();
        flow.untold_bytes += body.len();
        if flow.session.received() - flow.told >= UNTOLD_BATCHES
            || flow.untold_bytes >= UNTOLD_BYTES
        {
            flow.ack_due = true;
            self.bell().ring();
        }
        Ok(())
    }

    /// The frames to write now; none if there is nothing to say, or the other side has to
    /// acknowledge first.
    pub(super) fn frames(&self, out: &mut Vec<Bytes>) -> Result<(), FrameError> {
        let mut flow = self.flow();
        if flow.written == flow.session.next_number() && flow.unacked_bytes < UNACKED_LIMIT {
            flow.gather(&self.ends)?;
        }
        let Flow { session, written, .. } = &mut *flow;
        out.extend(session.unacked_from(*written).take(FRAMES_AT_ONCE).cloned());
        *written += out.len() as u64;
        if out.is_empty() && flow.ack_due {
            flow.tell();
            out.push(bare_ack(flow.told));
        }
        Ok(())
    }

    /// Waits until something has been heard that has not been acknowledged at once.
    pub(super) async fn something_heard(&self) {
        self.heard.notified().await;
    }

    /// What was heard is to be acknowledged now, if it has not been.
    pub(super) fn acknowledge_soon(&self) {
        let mut flow = self.flow();
        if flow.told < flow.session.received() {
            flow.ack_due = true;
            self.bell().ring();
        }
    }

    /// The other side has to acknowledge before the source is asked again.
    pub(super) fn is_full(&self) -> bool {
        self.flow().unacked_bytes >= UNACKED_LIMIT
    }

    /// All that was sent has been heard.
    pub(super) fn is_heard(&self) -> bool {
        self.flow().session.in_flight() == 0
    }

    /// Nothing has been heard, ever.
    pub(super) fn is_fresh(&self) -> bool {
        self.flow().session.received() == 0
    }

    /// What to say first on the next connection.
    pub(super) fn resume(&self, epoch: u32) -> Resume {
        Resume { epoch, received: self.flow().session.received() }
    }

    /// Which life of the session this is.
    pub(super) fn epoch(&self) -> u32 {
        self.flow().session.epoch()
    }

    /// Whether the session can go on from there.
    pub(super) fn can_resume(&self, theirs: Resume) -> Result<(), SessionError> {
        self.flow().session.can_resume(theirs)
    }

    /// A new connection: what the other side has not heard will be written again.
    pub(super) fn resumed(&self, own: Resume, theirs: Resume) -> Result<(), SessionError> {
        let mut flow = self.flow();
        flow.session.can_resume(theirs)?;
        flow.acknowledge(theirs.received, self.bell())?;
        flow.session.resumed(own, theirs)?;
        flow.written = flow.session.first_unacked();
        flow.told = own.received;
        flow.untold_bytes = 0;
        self.bell().ring();
        Ok(())
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn acknowledge(&mut self, ack: u64, bell: &Bell) -> Result<(), SessionError> {
        let first = self.session.first_unacked();
        if ack <= first {
            return Ok(());
        }
        let heard = self.session.unacked_from(first).take((ack - first) as usize);
        let bytes: usize = heard.map(Bytes::len).sum();
        self.session.acknowledge(ack)?;
        let was_full = self.unacked_bytes >= UNACKED_LIMIT;
        self.unacked_bytes -= bytes;
        if was_full || bell.ending().is_some() {
            bell.ring();
        }
        Ok(())
    }

    /// Asks the source for all that it has to say.
    fn gather(&mut self, ends: &Ends) -> Result<(), FrameError> {
        let ack = self.session.received();
        let before = self.session.next_number();
        ends.gather(ack, &mut |frame| {
            self.unacked_bytes += frame.len();
            self.session.send(frame);
        })?;
        if self.session.next_number() != before {
            self.tell();
        }
        Ok(())
    }

    /// The other side is being told how far it was heard.
    fn tell(&mut self) {
        self.told = self.session.received();
        self.untold_bytes = 0;
        self.ack_due = false;
    }
}
