//! The template processes as the daemon has them: one for a program, and what forks its executors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus, Stdio};

use manyhands_executor::control;
use manyhands_executor::process::{FromTemplate, PACKET_LIMIT, ToTemplate};
use manyhands_proto::Time;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, shutdown, socketpair,
};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Program;
use super::printed;

/// The template of another program is kept for so long (microseconds) after its last executor.
const IDLE_LIMIT_US: u64 = 60_000_000;

pub(super) struct Template {
    pub(super) program: Program,
    /// Its key in epoll.
    pub(super) key: u64,
    /// Executors that it has forked or is about to, and that have not died.
    pub(super) executors: u32,
    process: Child,
    /// `None` only while it is dropped.
    socket: Option<OwnedFd>,
    /// What the socket had no room for, in order.
    waiting: VecDeque<(ToTemplate, Vec<OwnedFd>)>,
    /// What it, or its loader, prints; our own prints where we do.
    stderr: Option<printed::File>,
    answered: bool,
    /// When it must have answered, or ends since it has nothing to do.
    until: Option<Time>,
}

impl Template {
    /// Starts a program as a template, and watches it under `key`.
    pub(super) fn spawn(program: &Program, watch: &OwnedFd, key: u64) -> io::Result<Template> {
        assert!(manyhands_executor::process::is_linked(), "a constructor has an address");
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let mut command = program.command();
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let mut stderr = None;
        if !program.is_own() {
            let file = printed::File::new("manyhands-template")?;
            command.stderr(Stdio::from(file.descriptor()?));
            stderr = Some(file);
        }
        let process = command.spawn()?;
        let template = Template {
            program: program.clone(),
            key,
            executors: 0,
            process,
            socket: Some(ours),
            waiting: VecDeque::new(),
            stderr,
            answered: false,
            until: None,
        };
        let data = EventData::new_u64(key);
        // Edge-triggered: a socket that has room now and then must not keep the loop awake.
        let events = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(watch, template.socket(), data, events)?;
        Ok(template)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// It has shown that it is a template.
    pub(super) fn has_answered(&self) -> bool {
        self.answered
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("only drop takes it").as_fd()
    }

    /// An executor is about to be forked.
    pub(super) fn adopt(&mut self, now: Time) {
        self.executors += 1;
        let limit = self.program.answer_limit_us().filter(|_| !self.answered);
        self.until = limit.map(|limit| self.until.unwrap_or(now + limit));
    }

    /// An executor of it is no more.
    pub(super) fn bury(&mut self, now: Time) {
        self.executors = self.executors.saturating_sub(1);
        if self.executors == 0 && !self.program.is_own() && self.answered {
            self.until = Some(now + IDLE_LIMIT_US);
        }
    }

    /// When to look whether it still has a reason to be.
    pub(super) fn until(&self) -> Option<Time> {
        self.until
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
        let alive = self.receive(&mut messages);
        if !messages.is_empty() && !std::mem::replace(&mut self.answered, true) {
            self.until = None;
        }
        (messages, alive)
    }

    fn receive(&self, messages: &mut Vec<FromTemplate>) -> bool {
        let mut packet = [0; PACKET_LIMIT];
        loop {
            match rustix::net::recv(self.socket(), &mut packet, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((count, _)) => match rmp_serde::from_slice(&packet[..count]) {
                    Ok(message) => messages.push(message),
                    Err(_) => return false,
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Ends what never was a template: nothing that it was told reached anybody.
    pub(super) fn kill(&mut self) {
        kill_group(self.process.id());
    }

    /// Why one that has died, or was killed, never answered, in words.
    pub(super) fn last_words(&mut self, late: bool) -> String {
        let status = self.process.wait().ok();
        let words = self.stderr.as_ref().map(printed::File::tail).unwrap_or_default();
        let words = words.trim();
        let how = match status {
            _ if late => self.program.never_answered(),
            Some(status) => describe(status),
            None => "it ended".to_owned(),
        };
        match (words, self.program.advice()) {
            ("", None) => how,
            (words, None) => format!("{how}; its words: {words}"),
            ("", Some(advice)) => format!("{how}; {advice}"),
            (words, Some(advice)) => format!("{how}, with the words {words:?}; {advice}"),
        }
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // The end of its socket makes it kill all its descendants and then end. To close it is not
        // enough: a process that the user's program has forked has a copy of it.
        if let Some(socket) = self.socket.take() {
            let _ = shutdown(&socket, Shutdown::Both);
        }
        let lives = matches!(self.process.try_wait(), Ok(None));
        if lives && !self.program.is_own() && !self.answered {
            // What is no template does not know of that.
            self.kill();
        }
        let _ = self.process.wait();
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code} before it could run anything"),
        (_, Some(signal)) => format!("signal {signal} ended it before it could run anything"),
        _ => "it ended before it could run anything".to_owned(),
    }
}

/// Kills a process group of which the template can no longer tell us.
pub(super) fn kill_group(pid: u32) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}
