//! The template process as the daemon has it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use manyhands_executor::control;
use manyhands_executor::process::{FromTemplate, PACKET_LIMIT, ToTemplate, VARIABLE, VERSION};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, kill_process_group};

/// What no process of a user's shall inherit: secrets and settings of the daemon.
const OWN_VARIABLES: &str = "MANYHANDS_";

pub(super) struct Template {
    process: Child,
    /// `None` only while it is dropped.
    socket: Option<OwnedFd>,
    /// What the socket had no room for, in order.
    waiting: VecDeque<(ToTemplate, Vec<OwnedFd>)>,
}

impl Template {
    /// Starts this program again, as a template, and watches it under `key`.
    pub(super) fn spawn(watch: &OwnedFd, key: u64) -> io::Result<Template> {
        assert!(manyhands_executor::process::is_linked(), "a constructor has an address");
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = std::env::args_os().next() {
            command.arg0(name);
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(OWN_VARIABLES.as_bytes()) {
                command.env_remove(name);
            }
        }
        command.env(VARIABLE, VERSION).stdin(Stdio::from(theirs)).stdout(Stdio::null());
        // What a terminal sends to our group (Ctrl-C) is for us to answer.
        command.process_group(0);
        let process = command.spawn()?;
        let template = Template { process, socket: Some(ours), waiting: VecDeque::new() };
        let data = EventData::new_u64(key);
        // Edge-triggered: a socket that has room now and then must not keep the loop awake.
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(watch, template.socket(), data, events)?;
        Ok(template)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("only drop takes it").as_fd()
    }

    /// Tells it something; if its socket is full, later. If it is dead, its socket says so.
    pub(super) fn tell(&mut self, message: ToTemplate, descriptors: Vec<OwnedFd>) {
        self.waiting.push_back((message, descriptors));
        self.flush();
    }

    fn flush(&mut self) {
        while let Some((message, descriptors)) = self.waiting.front() {
            let packet = rmp_serde::to_vec(message).expect("two words can be encoded");
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            let flags = SendFlags::DONTWAIT;
            if let Err(Errno::AGAIN) = control::send(self.socket(), &packet, &descriptors, flags) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// All that it has said, and whether it is alive.
    pub(super) fn poll(&mut self) -> (Vec<FromTemplate>, bool) {
        self.flush();
        let mut messages = Vec::new();
        let mut packet = [0; PACKET_LIMIT];
        loop {
            match rustix::net::recv(self.socket(), &mut packet, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return (messages, false),
                Ok((count, _)) => match rmp_serde::from_slice(&packet[..count]) {
                    Ok(message) => messages.push(message),
                    Err(_) => return (messages, false),
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return (messages, true),
                Err(_) => return (messages, false),
            }
        }
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // The end of its socket makes it kill all its descendants and then end.
        self.socket = None;
        let _ = self.process.wait();
    }
}

/// Kills a process group of which the template can no longer tell us.
pub(super) fn kill_group(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}
