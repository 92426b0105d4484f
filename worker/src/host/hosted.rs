//! One executor as the daemon has it: its ring, its socket, what it was fed.
//!
//! Whatever it writes is checked. One that breaks the rules is condemned: nothing is read from it
//! any more, and the host kills it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use manyhands_executor::control::{self, Incoming, Read};
use manyhands_executor::ring::{Kind, MESSAGE_LIMIT, Position, WorkerEnd};
use manyhands_executor::wakes::SHORT_US;
use manyhands_proto::TaskId;
use manyhands_proto::executor::{EXECUTOR_PROTOCOL, End, FromExecutor, Run, ToExecutor};
use manyhands_proto::frame;
use manyhands_worker_core::event::ExecutorId;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::HostEvent;
use super::printed::Printed;

/// Reads from one socket in one round, so that no executor holds up the others.
const READS_LIMIT: usize = 16;

/// An executor that has shown no end for so long does not postpone the wake-up for the next one:
/// the task that it runs is not short.
const POSTPONE_LIMIT: Duration = Duration::from_millis(3);

pub(super) struct Hosted {
    pub(super) id: ExecutorId,
    /// The key of the template that forks it.
    pub(super) template: u64,
    /// Known once it is forked.
    pub(super) pid: Option<u32>,
    pub(super) ring: WorkerEnd,
    pub(super) printed: Printed,
    /// It is in the host's list of those to flush.
    pub(super) dirty: bool,
    socket: OwnedFd,
    incoming: Incoming,
    /// Something may lie in the socket.
    readable: bool,
    outgoing: VecDeque<Outgoing>,
    /// Frames that were put into `outgoing` so far (wraps).
    sent: u32,
    /// What it has and has not ended, in the order in which it runs.
    fed: VecDeque<Fed>,
    /// What the ring had no room for.
    backlog: VecDeque<Backlog>,
    /// Tasks to run on top of others.
    in_place: Vec<(TaskId, u32)>,
    /// When it last ended a task, if that was a short one.
    short_end: Option<Instant>,
    end: Vec<u8>,
    conduct: Conduct,
}

enum Conduct {
    Good,
    /// It broke the rules, as said here.
    Condemned {
        why: String,
        killed: bool,
    },
}

/// Frames to send; the descriptor goes with the first byte.
struct Outgoing {
    bytes: Vec<u8>,
    start: usize,
    descriptor: Option<OwnedFd>,
}

struct Fed {
    task: TaskId,
    attempt: u32,
    /// `None`: in the backlog.
    position: Option<Position>,
    taken_back: bool,
}

struct Backlog {
    kind: Kind,
    mail: u32,
    message: Vec<u8>,
    taken_back: bool,
}

type Violation = String;

impl Hosted {
    /// An executor that is about to be, and what it inherits: control socket, ring, standard output
    /// and error.
    pub(super) fn new(id: ExecutorId, template: u64) -> io::Result<(Hosted, Vec<OwnedFd>)> {
        let flags = SocketFlags::CLOEXEC;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let (ring, file) = WorkerEnd::create()?;
        let (printed, [stdout, stderr]) = Printed::new()?;
        let hosted = Hosted {
            id,
            template,
            pid: None,
            ring,
            printed,
            dirty: false,
            socket,
            incoming: Incoming::default(),
            readable: false,
            outgoing: VecDeque::new(),
            sent: 0,
            fed: VecDeque::new(),
            backlog: VecDeque::new(),
            in_place: Vec::new(),
            short_end: None,
            end: Vec::new(),
            conduct: Conduct::Good,
        };
        Ok((hosted, vec![theirs, file, stdout, stderr]))
    }

    /// Lets `epoll` say when the socket has something, or room again.
    pub(super) fn watch(&self, epoll: &OwnedFd) -> io::Result<()> {
        let data = EventData::new_u64(u64::from(self.id.0));
        Ok(epoll::add(epoll, &self.socket, data, EventFlags::IN)?)
    }

    /// Feeds a task, encoded as `message`. Fails if it is larger than a frame may be.
    pub(super) fn feed(&mut self, run: &Run, message: &[u8]) -> Result<(), String> {
        let large = message.len() > MESSAGE_LIMIT;
        if large {
            self.send(&ToExecutor::Ahead(run.clone()), None)?;
        }
        let (kind, message) =
            if large { (Kind::OnSocket, &[][..]) } else { (Kind::Message, message) };
        let position = match self.backlog.is_empty() {
            true => self.try_feed(kind, self.sent, message),
            false => None,
        };
        if position.is_none() {
            let message = message.to_vec();
            self.backlog.push_back(Backlog { kind, mail: self.sent, message, taken_back: false });
        }
        let (task, attempt) = (run.task, run.attempt);
        self.fed.push_back(Fed { task, attempt, position, taken_back: false });
        Ok(())
    }

    fn try_feed(&mut self, kind: Kind, mail: u32, message: &[u8]) -> Option<Position> {
        match self.ring.feed(kind, mail, message) {
            Ok(position) => position,
            Err(corrupt) => {
                self.condemn(corrupt.to_string());
                None
            }
        }
    }

    /// Feeds what had to wait, as far as there is room now.
    fn feed_backlog(&mut self) {
        let waiting = self.fed.len() - self.backlog.len();
        let mut fed = 0;
        while let Some(next) = self.backlog.pop_front() {
            if next.taken_back {
                self.fed.remove(waiting + fed);
                continue;
            }
            let Some(position) = self.try_feed(next.kind, next.mail, &next.message) else {
                self.backlog.push_front(next);
                break;
            };
            self.fed[waiting + fed].position = Some(position);
            fed += 1;
        }
        if fed > 0 {
            self.ring.wake();
        }
    }

    pub(super) fn run_in_place(&mut self, run: &Run) -> Result<(), String> {
        self.send(&ToExecutor::Run(run.clone()), None)?;
        self.in_place.push((run.task, run.attempt));
        Ok(())
    }

    /// Queues a frame.
    pub(super) fn send(
        &mut self,
        message: &ToExecutor,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), String> {
        if descriptor.is_some() || self.outgoing.is_empty() {
            self.outgoing.push_back(Outgoing { bytes: Vec::new(), start: 0, descriptor });
        }
        let last = self.outgoing.back_mut().expect("one was pushed if there was none");
        frame::encode(message, &mut last.bytes).map_err(|error| error.to_string())?;
        self.sent = self.sent.wrapping_add(1);
        Ok(())
    }

    /// Sends what is queued as far as the socket takes it, and wakes the executor.
    pub(super) fn flush(&mut self, epoll: &OwnedFd) {
        if !self.outgoing.is_empty() {
            if !self.send_queued() {
                // What is left goes as soon as there is room.
                self.watch_for(epoll, EventFlags::IN | EventFlags::OUT);
            }
            self.ring.set_mail(self.sent);
        }
        self.ring.wake();
    }

    /// `true`: nothing is left.
    fn send_queued(&mut self) -> bool {
        while let Some(first) = self.outgoing.front_mut() {
            let descriptor = first.descriptor.as_ref().map(AsFd::as_fd);
            let bytes = &first.bytes[first.start..];
            let flags = SendFlags::DONTWAIT;
            match control::send(&self.socket, bytes, descriptor.as_slice(), flags) {
                Ok(count) => {
                    first.descriptor = None;
                    first.start += count;
                    if first.start == first.bytes.len() {
                        self.outgoing.pop_front();
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return false,
                // It is dead or dying; the template will say so.
                Err(_) => self.outgoing.clear(),
            }
        }
        true
    }

    /// Takes a fed task back.
    pub(super) fn take_back(&mut self, task: TaskId, attempt: u32) -> bool {
        let same = |fed: &Fed| fed.task == task && fed.attempt == attempt && !fed.taken_back;
        let Some(index) = self.fed.iter().rposition(same) else { return false };
        let taken = match self.fed[index].position {
            Some(position) => self.ring.take_back(position),
            None => self.take_back_from_backlog(index),
        };
        self.fed[index].taken_back = taken;
        self.skip_taken();
        taken
    }

    fn take_back_from_backlog(&mut self, index: usize) -> bool {
        let first = self.fed.len() - self.backlog.len();
        let backlog = &mut self.backlog[index - first];
        // One that is on the socket already keeps its place in the ring: it stays.
        backlog.taken_back = backlog.kind == Kind::Message;
        backlog.taken_back
    }

    /// Forgets tasks at the front that were taken back, but for those in the backlog.
    fn skip_taken(&mut self) {
        while self.fed.front().is_some_and(|fed| fed.taken_back && fed.position.is_some()) {
            self.fed.pop_front();
        }
    }

    /// What epoll said of the socket.
    pub(super) fn on_ready(&mut self, flags: EventFlags, epoll: &OwnedFd) {
        if flags.contains(EventFlags::OUT) && self.send_queued() {
            self.watch_for(epoll, EventFlags::IN);
        }
        self.readable |= flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR);
        let condemned = matches!(self.conduct, Conduct::Condemned { .. });
        if condemned || flags.contains(EventFlags::HUP) {
            // Nobody reads it any more, or it is dead: the rest is read when the template says so.
            let _ = epoll::delete(epoll, &self.socket);
        }
    }

    fn watch_for(&self, epoll: &OwnedFd, events: EventFlags) {
        let data = EventData::new_u64(u64::from(self.id.0));
        // It fails for one that is dead and no longer watched.
        let _ = epoll::modify(epoll, &self.socket, data, events);
    }

    /// Appends what has come, in order.
    pub(super) fn poll(&mut self, out: &mut Vec<HostEvent>) {
        if !self.readable && !self.ring.has_ends() {
            return;
        }
        if let Conduct::Condemned { .. } = self.conduct {
            return;
        }
        if let Err(violation) = self.drain(out, READS_LIMIT) {
            self.condemn(violation);
        }
        if !self.backlog.is_empty() {
            self.feed_backlog();
        }
    }

    /// Whether the ring has something to poll for.
    pub(super) fn has_work(&self) -> bool {
        matches!(self.conduct, Conduct::Good) && self.ring.has_ends()
    }

    /// Reads the socket and the ring and puts them into one order: an end comes after as many
    /// frames as it says, and a frame after every end that was visible when it had been read.
    fn drain(&mut self, out: &mut Vec<HostEvent>, reads: usize) -> Result<(), Violation> {
        if std::mem::take(&mut self.readable) {
            for _ in 0..reads {
                if self.read()? != Read::Some {
                    break;
                }
            }
        }
        let mut end = std::mem::take(&mut self.end);
        let result = self.drain_ring(&mut end, out);
        self.end = end;
        self.ring.release();
        result?;
        while let Some(message) = self.next_message()? {
            self.on_message(message, out)?;
        }
        Ok(())
    }

    fn drain_ring(&mut self, end: &mut Vec<u8>, out: &mut Vec<HostEvent>) -> Result<(), Violation> {
        let mut last_us = None;
        while let Some(mail) = self.ring.next_end(end).map_err(|corrupt| corrupt.to_string())? {
            while (mail.wrapping_sub(self.incoming.frames()) as i32) > 0 {
                match self.next_message()? {
                    Some(message) => self.on_message(message, out)?,
                    None if self.read()? == Read::Some => {}
                    None => return Err("it counts mail that it never sent".to_owned()),
                }
            }
            let end: End = rmp_serde::from_slice(end)
                .map_err(|error| format!("it wrote a malformed end: {error}"))?;
            last_us = Some(end.duration_us);
            self.on_end(end, out)?;
        }
        if let Some(last_us) = last_us {
            self.short_end = (last_us <= SHORT_US).then(Instant::now);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Read, Violation> {
        let read = self.incoming.read(self.socket.as_fd(), RecvFlags::DONTWAIT);
        read.map_err(|error| format!("its control socket fails: {error}"))
    }

    fn next_message(&mut self) -> Result<Option<FromExecutor>, Violation> {
        self.incoming.take().map_err(|error| format!("it sent a {error}"))
    }

    fn on_message(
        &mut self,
        message: FromExecutor,
        out: &mut Vec<HostEvent>,
    ) -> Result<(), Violation> {
        let id = self.id;
        match message {
            FromExecutor::Hello { protocol: EXECUTOR_PROTOCOL, pid, .. } => {
                self.pid.get_or_insert(pid);
                out.push(HostEvent::Started { id, pid });
            }
            FromExecutor::Hello { protocol, runtime, .. } => {
                return Err(format!(
                    "{runtime} speaks version {protocol} of the executors' protocol, this is \
                     version {EXECUTOR_PROTOCOL}"
                ));
            }
            FromExecutor::End(end) => self.on_end(end, out)?,
            message => out.push(HostEvent::Message { id, message }),
        }
        Ok(())
    }

    fn on_end(&mut self, end: End, out: &mut Vec<HostEvent>) -> Result<(), Violation> {
        self.skip_taken();
        let key = (end.task, end.attempt);
        if self.fed.front().is_some_and(|fed| (fed.task, fed.attempt) == key) {
            self.fed.pop_front();
        } else if let Some(index) = self.in_place.iter().rposition(|other| *other == key) {
            self.in_place.remove(index);
        } else {
            return Err(format!("it ended {}, which it was not to run now", end.task));
        }
        out.push(HostEvent::Ended { id: self.id, end });
        Ok(())
    }

    /// It broke the rules.
    pub(super) fn condemn(&mut self, why: String) {
        if let Conduct::Good = self.conduct {
            self.conduct = Conduct::Condemned { why, killed: false };
        }
    }

    /// `true` once, for one that was condemned.
    pub(super) fn is_to_be_killed(&mut self) -> bool {
        match &mut self.conduct {
            Conduct::Good => false,
            Conduct::Condemned { killed, .. } => !std::mem::replace(killed, true),
        }
    }

    /// It is dead: appends the last that has come from it, and gives the task that it had begun.
    pub(super) fn bury(&mut self, out: &mut Vec<HostEvent>) -> Option<(TaskId, u32)> {
        if let Conduct::Good = self.conduct {
            self.readable = true;
            // What it wrote last may be cut off.
            let _ = self.drain(out, usize::MAX);
        }
        self.skip_taken();
        let first = self.fed.front()?;
        let claimed = first.position.is_some_and(|position| self.ring.is_claimed(position));
        claimed.then_some((first.task, first.attempt))
    }

    /// What is known of why it died: its last lines of standard error, and what it did wrong.
    pub(super) fn last_words(&self) -> String {
        let tail = self.printed.tail();
        match &self.conduct {
            Conduct::Good => tail,
            Conduct::Condemned { why, .. } => {
                format!("{tail}[manyhands: the executor was killed, since {why}]\n")
            }
        }
    }

    /// Whether it has so much to do that it may leave the loop asleep for a while.
    pub(super) fn may_postpone(&self) -> bool {
        self.short_end.is_some() && self.fed.len() > 1
    }

    pub(super) fn postpones(&self, now: Instant) -> bool {
        self.short_end.is_some_and(|last| now.saturating_duration_since(last) < POSTPONE_LIMIT)
    }
}
