//! Frames numbered, repeated and put in order again over links that break.
//!
//! Each side of a session owns a [`Session`]. What it sends gets a number and is kept until the
//! other side has acknowledged it; what it receives is delivered once and in order. After a break
//! the two exchange one [`Resume`] each and send again what the other has not seen. No clock, no
//! I/O: a link, or the simulator, carries the packets.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Packets that may wait for an earlier one before the peer is considered broken.
pub const REORDER_LIMIT: usize = 4096;

/// One message under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packet<M> {
    /// Which life of the link: raised by every resume.
    pub epoch: u32,
    /// Counted from 0 over the whole session.
    pub seq: u64,
    /// All packets of the other side below this number have arrived.
    pub ack: u64,
    /// The message.
    pub message: M,
}

/// What each side says first on a new link of an old session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The new epoch; the larger of the two proposals counts.
    pub epoch: u32,
    /// All packets of the other side below this number have arrived.
    pub received: u64,
}

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The peer sends far ahead of a packet that never comes.
    #[error("the peer is {REORDER_LIMIT} packets ahead of one that never came")]
    TooFarAhead,
    /// The peer acknowledges what was never sent.
    #[error("the peer acknowledged packet {0}, which was never sent")]
    UnknownAck(u64),
    /// The peer wants to go on before what it has acknowledged.
    #[error("the peer wants packet {0} again, which it has acknowledged")]
    Forgotten(u64),
}

/// One side of a session.
#[derive(Clone, Debug)]
pub struct Session<Out, In> {
    epoch: u32,
    next_out: u64,
    /// Sent and not acknowledged: numbers `next_out - unacked.len() .. next_out`.
    unacked: VecDeque<Out>,
    next_in: u64,
    early: BTreeMap<u64, In>,
}

impl<Out, In> Default for Session<Out, In> {
    fn default() -> Self {
        let (unacked, early) = (VecDeque::new(), BTreeMap::new());
        Session { epoch: 0, next_out: 0, unacked, next_in: 0, early }
    }
}

impl<Out: Clone, In> Session<Out, In> {
    /// Numbers a message. It is kept until it is acknowledged.
    pub fn send(&mut self, message: Out) -> Packet<Out> {
        self.unacked.push_back(message.clone());
        let seq = self.next_out;
        self.next_out += 1;
        Packet { epoch: self.epoch, seq, ack: self.next_in, message }
    }

    /// Takes in a packet; hands out what can be delivered now, in order. Packets of an earlier
    /// epoch and repeated ones are dropped.
    pub fn receive(&mut self, packet: Packet<In>) -> Result<Vec<In>, SessionError> {
        if packet.epoch != self.epoch {
            return Ok(Vec::new());
        }
        self.acknowledge(packet.ack)?;
        if packet.seq < self.next_in {
            return Ok(Vec::new());
        }
        if packet.seq - self.next_in > REORDER_LIMIT as u64 {
            return Err(SessionError::TooFarAhead);
        }
        self.early.insert(packet.seq, packet.message);
        let mut ready = Vec::new();
        while let Some(message) = self.early.remove(&self.next_in) {
            self.next_in += 1;
            ready.push(message);
        }
        Ok(ready)
    }

    /// A packet has come over a link that keeps their order, so that it needs no number: it is the
    /// next one. To be told once its message is delivered.
    pub fn receive_next(&mut self) {
        self.next_in += 1;
    }

    /// The other side has received all packets below `ack`.
    pub fn acknowledge(&mut self, ack: u64) -> Result<(), SessionError> {
        if ack > self.next_out {
            return Err(SessionError::UnknownAck(ack));
        }
        let first = self.first_unacked();
        for _ in first..ack {
            self.unacked.pop_front();
        }
        Ok(())
    }

    /// Whether a peer that has heard so far can go on: nothing that it lacks is forgotten, and
    /// nothing that it has was never sent.
    pub fn can_resume(&self, theirs: Resume) -> Result<(), SessionError> {
        match theirs.received {
            received if received > self.next_out => Err(SessionError::UnknownAck(received)),
            received if received < self.first_unacked() => Err(SessionError::Forgotten(received)),
            _ => Ok(()),
        }
    }

    /// What to say first on a new link.
    pub fn resume(&self) -> Resume {
        Resume { epoch: self.epoch + 1, received: self.next_in }
    }

    /// Both sides have said their [`Resume`]: hands out what the other side has not seen, to be
    /// sent again in order.
    pub fn resumed(
        &mut self,
        own: Resume,
        theirs: Resume,
    ) -> Result<Vec<Packet<Out>>, SessionError> {
        self.can_resume(theirs)?;
        self.acknowledge(theirs.received)?;
        self.epoch = own.epoch.max(theirs.epoch);
        self.early.clear();
        let first = self.first_unacked();
        let again = self.unacked.iter().zip(first..).map(|(message, seq)| Packet {
            epoch: self.epoch,
            seq,
            ack: self.next_in,
            message: message.clone(),
        });
        Ok(again.collect())
    }

    /// All packets of the other side below this number have arrived.
    pub fn received(&self) -> u64 {
        self.next_in
    }

    /// The number that the next message to be sent gets.
    pub fn next_number(&self) -> u64 {
        self.next_out
    }

    /// The number of the oldest message that is kept.
    pub fn first_unacked(&self) -> u64 {
        self.next_out - self.unacked.len() as u64
    }

    /// The kept messages from this number on, in order.
    pub fn unacked_from(&self, number: u64) -> impl Iterator<Item = &Out> {
        let skipped = number.saturating_sub(self.first_unacked());
        self.unacked.range(skipped.min(self.unacked.len() as u64) as usize..)
    }

    /// Which life of the link this is.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Messages sent and not yet acknowledged.
    pub fn in_flight(&self) -> usize {
        self.unacked.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Side = Session<u32, u32>;

    #[test]
    fn reordered_and_repeated_packets_are_delivered_once_in_order() {
        let (mut a, mut b) = (Side::default(), Side::default());
        let packets: Vec<_> = (0..3).map(|m| a.send(m)).collect();
        assert_eq!(b.receive(packets[1].clone()).unwrap(), []);
        assert_eq!(b.receive(packets[0].clone()).unwrap(), [0, 1]);
        assert_eq!(b.receive(packets[1].clone()).unwrap(), []);
        assert_eq!(b.receive(packets[2].clone()).unwrap(), [2]);
    }

    #[test]
    fn what_was_lost_in_a_break_is_sent_again_and_stragglers_are_ignored() {
        let (mut a, mut b) = (Side::default(), Side::default());
        let packets: Vec<_> = (0..3).map(|m| a.send(m)).collect();
        b.receive(packets[0].clone()).unwrap();
        let (ra, rb) = (a.resume(), b.resume());
        assert!(b.resumed(rb, ra).unwrap().is_empty());
        let again = a.resumed(ra, rb).unwrap();
        assert_eq!(again.iter().map(|p| p.message).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(b.receive(packets[1].clone()).unwrap(), [], "a packet of the old epoch");
        let delivered: Vec<_> = again.into_iter().flat_map(|p| b.receive(p).unwrap()).collect();
        assert_eq!(delivered, [1, 2]);
    }

    #[test]
    fn acknowledged_packets_are_forgotten_and_impossible_acks_refused() {
        let (mut a, mut b) = (Side::default(), Side::default());
        let packet = a.send(1);
        b.receive(packet).unwrap();
        let answer = b.send(2);
        a.receive(answer).unwrap();
        assert_eq!(a.in_flight(), 0);
        assert_eq!(a.acknowledge(5), Err(SessionError::UnknownAck(5)));
        let again = a.resume();
        let impossible = Resume { epoch: 1, received: 0 };
        assert_eq!(a.resumed(again, impossible), Err(SessionError::Forgotten(0)));
    }

    #[test]
    fn a_link_that_keeps_order_needs_no_numbers() {
        let (mut a, mut b) = (Side::default(), Side::default());
        for message in 0..3 {
            a.send(message);
            b.receive_next();
        }
        a.acknowledge(b.received()).unwrap();
        a.send(3);
        assert_eq!(a.first_unacked(), 3);
        assert_eq!(a.unacked_from(3).collect::<Vec<_>>(), [&3]);
        assert_eq!(a.unacked_from(4).count(), 0);
        assert_eq!(a.next_number(), 4);
    }
}
