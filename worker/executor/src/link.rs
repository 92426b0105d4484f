//! An executor's end of its control socket.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use manyhands_proto::executor::ToExecutor;
use manyhands_proto::frame;
use rustix::net::RecvFlags;
use serde::Serialize;

use crate::control::{Incoming, Read, send_all};

/// Bytes that are queued before they are sent unasked.
const QUEUE_LIMIT: usize = 128 << 10;

/// The control socket. The worker's end of it is gone: so is the worker, and nothing that this
/// process could still do matters to anybody. Every method then ends the process.
pub(crate) struct Link {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: Vec<u8>,
    sent: u32,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Link {
        Link { socket, incoming: Incoming::default(), outgoing: Vec::new(), sent: 0 }
    }

    /// Queues a message. What cannot be encoded (larger than a frame may be) is refused in words.
    pub(crate) fn queue(&mut self, message: &impl Serialize) -> Result<(), String> {
        frame::encode(message, &mut self.outgoing).map_err(|error| error.to_string())?;
        self.sent = self.sent.wrapping_add(1);
        if self.outgoing.len() > QUEUE_LIMIT {
            self.flush();
        }
        Ok(())
    }

    /// Sends what is queued.
    pub(crate) fn flush(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        if send_all(&self.socket, &self.outgoing).is_err() {
            orphaned();
        }
        self.outgoing.clear();
    }

    /// How many frames were queued so far (wraps).
    pub(crate) fn sent(&self) -> u32 {
        self.sent
    }

    /// How many frames were taken so far (wraps).
    pub(crate) fn received(&self) -> u32 {
        self.incoming.frames()
    }

    /// The next message that has come already.
    pub(crate) fn next(&mut self) -> Option<ToExecutor> {
        loop {
            match self.incoming.take() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(error) => fail(&format!("the worker sent a {error}")),
            }
            if self.read(RecvFlags::DONTWAIT) == Read::Nothing {
                return None;
            }
        }
    }

    /// The next message, waiting for it.
    pub(crate) fn wait(&mut self) -> ToExecutor {
        loop {
            if let Some(message) = self.next() {
                return message;
            }
            self.read(RecvFlags::empty());
        }
    }

    /// Where messages come, which stays open as long as the process lives: something to wait for.
    pub(crate) fn socket_number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The descriptor that came with the message that was taken last.
    pub(crate) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.incoming.descriptor()
    }

    fn read(&mut self, flags: RecvFlags) -> Read {
        match self.incoming.read(self.socket.as_fd(), flags) {
            Ok(Read::End) | Err(_) => orphaned(),
            Ok(read) => read,
        }
    }
}

/// Ends the process: its worker is gone.
fn orphaned() -> ! {
    use rustix::process::{Signal, getpgrp, getpid, kill_process_group};
    if getpgrp() == getpid() {
        let _ = kill_process_group(getpid(), Signal::KILL);
    }
    std::process::abort()
}

/// Ends the process: its worker breaks the rules, or the machine cannot do what it must.
pub(crate) fn fail(message: &str) -> ! {
    eprintln!("manyhands: executor: {message}");
    std::process::abort()
}
