//! Messages become frames and frames messages; who is told that there is something to send.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use manyhands_proto::frame::{FRAME_LIMIT, FrameError, PREFIX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::mailbox::{Receive, Source};

/// A frame that has reached this size (bytes) takes no more messages.
const FRAME_FULL: usize = 1 << 20;

/// Messages that may wait for a peer that does not listen. One that has more is not coming back.
const OUTBOX_LIMIT: usize = 1 << 20;

/// Length, array of two, acknowledgement, binary, list: all of fixed width, so that they can be
/// filled in when the messages are there.
const HEADER: usize = PREFIX + 1 + 9 + 5 + 5;

/// Tells a session that there is something to send, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    notify: Notify,
    ending: OnceLock<Ending>,
}

/// How a session is to end.
#[derive(Debug)]
pub(super) struct Ending {
    /// Why, for the other side.
    pub(super) words: String,
    /// What is queued is not worth waiting for.
    pub(super) at_once: bool,
}

impl Bell {
    /// There is something to send.
    pub fn ring(&self) {
        self.0.notify.notify_one();
    }

    /// The session is to end when what is queued has been sent.
    pub fn end(&self, words: &str) {
        self.end_with(words, false);
    }

    pub(super) fn end_with(&self, words: &str, at_once: bool) {
        // The first reason counts.
        let _ = self.0.ending.set(Ending { words: words.to_owned(), at_once });
        self.ring();
    }

    pub(super) fn ending(&self) -> Option<&Ending> {
        self.0.ending.get()
    }

    pub(super) async fn rung(&self) {
        self.0.notify.notified().await;
    }

    /// Waits until the session is to end; why.
    pub(super) async fn ended(&self) -> &str {
        loop {
            if let Some(ending) = self.ending() {
                return &ending.words;
            }
            // It may ring for what is to be sent, too.
            self.rung().await;
        }
    }
}

/// What is to be sent to a peer by whoever has no [`Source`] of his own: gathers until the other
/// side can take it.
#[derive(Debug)]
pub struct Outbox<M> {
    queue: Mutex<Vec<M>>,
    bell: OnceLock<Bell>,
}

impl<M> Outbox<M> {
    /// An empty one, bound to no session yet.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Arc<Outbox<M>> {
        Arc::new(Outbox { queue: Mutex::new(Vec::new()), bell: OnceLock::new() })
    }

    /// From now on this bell is rung. An outbox is bound once.
    pub fn bind(&self, bell: Bell) {
        bell.ring();
        let _ = self.bell.set(bell);
    }

    /// Sends one message.
    pub fn send(&self, message: M) {
        let mut queue = self.lock();
        queue.push(message);
        self.told(queue);
    }

    fn told(&self, queue: MutexGuard<'_, Vec<M>>) {
        let waiting = queue.len();
        drop(queue);
        let Some(bell) = self.bell.get() else { return };
        if waiting > OUTBOX_LIMIT {
            bell.end_with("the peer does not take what it is sent", true);
        }
        bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Send> Receive<M> for Outbox<M> {
    fn receive(&self, mut messages: Vec<M>) {
        let mut queue = self.lock();
        if queue.is_empty() {
            *queue = messages;
        } else {
            queue.append(&mut messages);
        }
        self.told(queue);
    }

    fn closed(&self, reason: &str) {
        if let Some(bell) = self.bell.get() {
            bell.end(reason);
        }
    }
}

impl<M: Send> Source<M> for Outbox<M> {
    fn drain(&self, out: &mut Vec<M>) {
        let mut queue = self.lock();
        if out.is_empty() {
            std::mem::swap(out, &mut queue);
        } else {
            out.append(&mut queue);
        }
    }
}

/// One end of a session, whatever its messages are.
pub struct Ends {
    speech: Box<dyn Speech>,
    bell: Bell,
}

impl Ends {
    /// An end that says what `source` has, when the bell is rung, and tells `receiver` what comes.
    pub fn new<Out, In>(source: Arc<dyn Source<Out>>, receiver: Arc<dyn Receive<In>>) -> Ends
    where
        Out: Serialize + Send + 'static,
        In: DeserializeOwned + Send + 'static,
    {
        let desk = Mutex::new(Desk { drained: Vec::new(), buffer: BytesMut::new() });
        Ends { speech: Box::new(Typed { source, receiver, desk }), bell: Bell::default() }
    }

    /// What tells this end that its source has something.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    pub(super) fn gather(&self, ack: u64, frames: &mut dyn FnMut(Bytes)) -> Result<(), FrameError> {
        self.speech.gather(ack, frames)
    }

    pub(super) fn deliver(&self, messages: &[u8]) -> Result<(), FrameError> {
        self.speech.deliver(messages)
    }

    pub(super) fn closed(&self, words: &str) {
        self.speech.closed(words);
    }
}

trait Speech: Send + Sync {
    /// Takes all that there is to say and hands out frames of it.
    fn gather(&self, ack: u64, frames: &mut dyn FnMut(Bytes)) -> Result<(), FrameError>;
    /// Tells the receiver the messages of a batch.
    fn deliver(&self, messages: &[u8]) -> Result<(), FrameError>;
    /// Tells the receiver that no more will come.
    fn closed(&self, words: &str);
}

struct Typed<Out, In> {
    source: Arc<dyn Source<Out>>,
    receiver: Arc<dyn Receive<In>>,
    desk: Mutex<Desk<Out>>,
}

/// Where frames are made. Both are kept for their capacity.
struct Desk<Out> {
    drained: Vec<Out>,
    buffer: BytesMut,
}

impl<Out, In> Speech for Typed<Out, In>
where
    Out: Serialize + Send,
    In: DeserializeOwned + Send,
{
    fn gather(&self, ack: u64, frames: &mut dyn FnMut(Bytes)) -> Result<(), FrameError> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let Desk { drained, buffer } = &mut *desk;
        self.source.drain(drained);
        let mut messages = drained.drain(..).peekable();
        while messages.peek().is_some() {
            frames(encode(ack, &mut messages, buffer)?);
        }
        Ok(())
    }

    fn deliver(&self, messages: &[u8]) -> Result<(), FrameError> {
        self.receiver.receive(rmp_serde::from_slice(messages)?);
        Ok(())
    }

    fn closed(&self, words: &str) {
        self.receiver.closed(words);
    }
}

/// One frame of as many of the messages as go into one.
fn encode<M: Serialize>(
    ack: u64,
    messages: &mut impl Iterator<Item = M>,
    buffer: &mut BytesMut,
) -> Result<Bytes, FrameError> {
    buffer.clear();
    buffer.put_bytes(0, HEADER);
    let mut count = 0;
    for message in messages {
        rmp_serde::encode::write(&mut (&mut *buffer).writer(), &message)?;
        count += 1;
        if buffer.len() >= FRAME_FULL {
            break;
        }
    }
    if buffer.len() > FRAME_LIMIT {
        return Err(FrameError::TooLarge(buffer.len()));
    }
    let header = header(ack, count, buffer.len());
    buffer[..HEADER].copy_from_slice(&header);
    Ok(buffer.split().freeze())
}

/// A frame that acknowledges and says nothing else.
pub(super) fn bare_ack(ack: u64) -> Bytes {
    const LEN: usize = PREFIX + 1 + 9 + 2;
    let mut frame = [0; LEN];
    frame[..PREFIX].copy_from_slice(&((LEN - PREFIX) as u32).to_le_bytes());
    frame[PREFIX] = 0x92;
    frame[PREFIX + 1] = 0xcf;
    frame[PREFIX + 2..PREFIX + 10].copy_from_slice(&ack.to_be_bytes());
    frame[PREFIX + 10..].copy_from_slice(&[0xc4, 0]);
    Bytes::copy_from_slice(&frame)
}

fn header(ack: u64, messages: u32, total: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&((total - PREFIX) as u32).to_le_bytes());
    header[4] = 0x92;
    header[5] = 0xcf;
    header[6..14].copy_from_slice(&ack.to_be_bytes());
    header[14] = 0xc6;
    // The list's own header is part of the bytes.
    header[15..19].copy_from_slice(&((total - HEADER + 5) as u32).to_be_bytes());
    header[19] = 0xdd;
    header[20..24].copy_from_slice(&messages.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use manyhands_proto::frame::decode;
    use manyhands_proto::link::Batch;

    use super::*;

    #[test]
    fn frames_are_batches_of_the_protocol() {
        let words = ["a".to_owned(), "b".repeat(300)];
        let mut buffer = BytesMut::new();
        let frame = encode(7, &mut words.iter(), &mut buffer).unwrap();
        let (batch, used) = decode::<Batch>(&frame).unwrap().unwrap();
        assert_eq!((batch.ack, used), (7, frame.len()));
        assert_eq!(rmp_serde::from_slice::<Vec<String>>(&batch.messages).unwrap(), words);
        let (batch, _) = decode::<Batch>(&bare_ack(1 << 40)).unwrap().unwrap();
        assert_eq!(batch, Batch { ack: 1 << 40, messages: Bytes::new() });
    }

    #[test]
    fn much_to_say_becomes_several_frames() {
        let outbox = Outbox::new();
        outbox.receive(vec![Bytes::from(vec![1; 700 << 10]); 5]);
        struct Nobody;
        impl Receive<()> for Nobody {
            fn receive(&self, _messages: Vec<()>) {}
            fn closed(&self, _reason: &str) {}
        }
        let ends = Ends::new::<Bytes, ()>(outbox, Arc::new(Nobody));
        let mut sizes = Vec::new();
        ends.gather(0, &mut |frame| sizes.push(frame.len() >> 10)).unwrap();
        assert_eq!(sizes, [1400, 1400, 700]);
    }
}
