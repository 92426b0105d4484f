//! Frames over a control socket, with descriptors beside them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use manyhands_proto::frame::{self, FrameError};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;

/// Descriptors that may come beside one piece of data.
pub const DESCRIPTORS_LIMIT: usize = 8;

/// Descriptors that may wait for the frame that announces them.
const WAITING_LIMIT: usize = 1024;

/// Bytes asked of the kernel at once.
const CHUNK: usize = 64 << 10;

/// What reading from a socket came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Something came.
    Some,
    /// Nothing is there now (only with [`RecvFlags::DONTWAIT`]).
    Nothing,
    /// The other side is gone, and nothing more will come.
    End,
}

/// Bytes that came and have not been taken as frames, and descriptors that came beside them.
#[derive(Debug, Default)]
pub struct Incoming {
    /// What lies between `start` and `end` has come and not been taken.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    descriptors: VecDeque<OwnedFd>,
    frames: u32,
}

impl Incoming {
    /// Reads once from the socket. Fails as `recvmsg` does, and when descriptors pile up.
    pub fn read(&mut self, socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Read> {
        self.make_room();
        match receive(socket, &mut self.buffer[self.end..], &mut self.descriptors, flags) {
            _ if self.descriptors.len() > WAITING_LIMIT => {
                Err(io::Error::other("too many descriptors without frames"))
            }
            Ok(0) | Err(Errno::CONNRESET) => Ok(Read::End),
            Ok(count) => {
                self.end += count;
                Ok(Read::Some)
            }
            Err(Errno::AGAIN) => Ok(Read::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes room for [`CHUNK`] bytes behind what is there.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end < CHUNK {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buffer.len() - self.end < CHUNK {
                self.buffer.resize((self.end + CHUNK).next_power_of_two(), 0);
            }
        }
    }

    /// Takes the next whole frame.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((message, taken)) = frame::decode(&self.buffer[self.start..self.end])? else {
            return Ok(None);
        };
        self.start += taken;
        self.frames = self.frames.wrapping_add(1);
        Ok(Some(message))
    }

    /// How many frames have been taken so far (wraps).
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Takes the descriptor that came first.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

/// Receives once; interruptions by signals are repeated.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
    flags: RecvFlags,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_LIMIT))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut beside, flags) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(received.bytes)
}

/// Sends once, with descriptors beside the first byte; interruptions by signals are repeated. Never
/// raises SIGPIPE.
pub fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_LIMIT))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    loop {
        let flags = flags | SendFlags::NOSIGNAL;
        match sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut beside, flags) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Sends all of `bytes`, waiting where the socket is full.
pub fn send_all(socket: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let count = send(&socket, bytes, &[], SendFlags::empty())?;
        bytes = &bytes[count..];
    }
    Ok(())
}
