//! The executors as the daemon has them: processes that are started, fed, told to stop and killed,
//! and whatever comes from them.
//!
//! All of it is synchronous and never waits: [`Host::poll`] gives what has come, and the shell's
//! loop sleeps on the host's descriptor beside its waker. An executor costs no system call while
//! both sides are awake.
//!
//! # How a loop sleeps
//!
//! After [`Host::has_work`] has said `false`, executors wake the loop through its waker or the
//! host's descriptor, until the next [`Host::poll`]. So a loop prepares its waker, looks once more
//! at its mailboxes and at `has_work`, and sleeps on both descriptors ([`Host::sleep`] does, after
//! [`Host::watch_waker`]): for at most [`POLL_SOON`] if [`Host::poll_soon`], since executors that
//! run very short tasks wake it for several at a time (see `manyhands_executor::wakes`).
//!
//! # Layout
//! - [`Program`], in `program`: what executors are forked from, and how it is started.
//! - `template`: the processes that fork executors, one for a program, and the conversation with them.
//! - `templates`: which program has which, and when it ends.
//! - `hosted`: one executor: its ring, its socket, what it was fed.
//! - `printed`: the files that its tasks print to.

mod hosted;
mod printed;
mod program;
mod template;
mod templates;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_executor::process::ToTemplate;
use manyhands_executor::ring::fingerprint;
use manyhands_proto::executor::{End, FromExecutor, Run, ToExecutor};
use manyhands_proto::task::Death;
use manyhands_proto::{TaskId, Time};
use manyhands_transport::Waker;
use manyhands_worker_core::event::ExecutorId;
use rustc_hash::FxHashMap;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use smallvec::SmallVec;
use thiserror::Error;

pub use program::{Program, Python};

use hosted::Hosted;
use printed::Printed;
use template::Template;

/// How long the loop may sleep while [`Host::poll_soon`].
pub const POLL_SOON: Duration = Duration::from_millis(1);

/// Events that are taken from epoll at once.
const EVENTS: usize = 64;

/// The key in epoll of the first template; the others follow. Executors have their numbers.
const FIRST_TEMPLATE: u64 = 1 << 32;

/// The key in epoll of the waker's eventfd.
const WAKER: u64 = u64::MAX;

/// Something that came from an executor. Those of one executor come in order, the ends of its tasks
/// before its death.
#[derive(Clone, Debug, PartialEq)]
pub enum HostEvent {
    /// It is there. It could be fed before.
    Started {
        /// Which.
        id: ExecutorId,
        /// Its process id, and its process group's.
        pid: u32,
    },
    /// It could not be started, and will never be heard of again.
    StartFailed {
        /// Which.
        id: ExecutorId,
        /// Why.
        message: String,
    },
    /// It has died, with its process group. Nothing else comes from it. What its tasks printed can
    /// be asked for ([`Host::output`]) until the next [`Host::poll`].
    Died {
        /// Which.
        id: ExecutorId,
        /// How.
        death: Death,
        /// The fed task that it had claimed and not ended, if any: the others never began.
        running: Option<(TaskId, u32)>,
    },
    /// An attempt has ended.
    Ended {
        /// Where.
        id: ExecutorId,
        /// How.
        end: End,
    },
    /// It said something else: never a hello or an end.
    Message {
        /// Who.
        id: ExecutorId,
        /// What.
        message: FromExecutor,
    },
}

/// Why there is no host.
#[derive(Debug, Error)]
pub enum HostError {
    /// The template process cannot be started.
    #[error("cannot start the template process of the executors: {0}")]
    Template(#[source] io::Error),
    /// The kernel refused a descriptor.
    #[error("cannot wait for executors: {0}")]
    Epoll(#[source] io::Error),
}

/// Why a task cannot be fed.
#[derive(Debug, Error)]
pub enum FeedError {
    /// There is no such executor: it has died, and the event says so or has said so.
    #[error("there is no executor {}", .0.0)]
    NoExecutor(ExecutorId),
    /// The task is larger than a message may be.
    #[error("{task} cannot be encoded: {message}")]
    Unencodable {
        /// Which task.
        task: TaskId,
        /// Why.
        message: String,
    },
}

/// All executors of a worker. Dropping it kills them and everything that they have started.
pub struct Host {
    waker: Arc<Waker>,
    epoll: OwnedFd,
    /// Few: one for each program in use.
    templates: Vec<Template>,
    next_template: u64,
    now: Time,
    executors: FxHashMap<u32, Hosted>,
    /// Executors that were fed or told something since the last flush.
    dirty: Vec<u32>,
    /// What those who died have printed, until the next poll.
    graves: Vec<(u32, Printed)>,
    /// Events that arose outside of `poll`.
    early: Vec<HostEvent>,
    /// The executors' flags say that we sleep.
    sleeping: Cell<bool>,
    /// What has come and was not taken: its key in epoll, and how.
    found: SmallVec<[(u64, EventFlags); 8]>,
    /// For so many polls what a sleep has found is as much as there is to know.
    fresh: u8,
    scratch: Vec<u8>,
}

impl Host {
    /// A host without any process. Executors wake the loop through the eventfd of `waker`.
    pub fn start(waker: Arc<Waker>) -> Result<Host, HostError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| HostError::Epoll(error.into()))?;
        Ok(Host {
            waker,
            epoll,
            templates: Vec::new(),
            next_template: FIRST_TEMPLATE,
            now: Time(0),
            executors: FxHashMap::default(),
            dirty: Vec::new(),
            graves: Vec::new(),
            early: Vec::new(),
            sleeping: Cell::new(false),
            found: SmallVec::new(),
            fresh: 0,
            scratch: Vec::new(),
        })
    }

    /// Starts the template process of a program, if it is not there, so that the first executor does
    /// not wait for it. Our own is this program again, taken over before `main`.
    pub fn prepare(&mut self, program: &Program) -> Result<(), HostError> {
        self.template(program).map(drop).map_err(HostError::Template)
    }

    /// From now on the host's descriptor shows what executors write to the waker too: for a loop that
    /// sleeps on that descriptor alone.
    pub fn watch_waker(&self) -> io::Result<()> {
        // Edge-triggered: nobody has to read what was written.
        let (data, events) = (EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET);
        Ok(epoll::add(&self.epoll, &*self.waker, data, events)?)
    }

    /// The process id of our own program's template, if there is one.
    pub fn template_pid(&self) -> Option<u32> {
        let own = self.templates.iter().find(|template| template.program.is_own());
        own.map(Template::pid)
    }

    /// Puts a task into an executor's ring, behind those that it has. It is woken by
    /// [`Host::flush`].
    pub fn feed(&mut self, id: ExecutorId, run: &Run) -> Result<(), FeedError> {
        let hosted = self.executors.get_mut(&id.0).ok_or(FeedError::NoExecutor(id))?;
        self.scratch.clear();
        rmp_serde::encode::write(&mut self.scratch, run)
            .map_err(|error| error.to_string())
            .and_then(|()| hosted.feed(run, &self.scratch))
            .map_err(|message| FeedError::Unencodable { task: run.task, message })?;
        self.touch(id);
        Ok(())
    }

    /// Gives a task to an executor whose task is blocked, to run on top of it.
    pub fn run_in_place(&mut self, id: ExecutorId, run: &Run) -> Result<(), FeedError> {
        let hosted = self.executors.get_mut(&id.0).ok_or(FeedError::NoExecutor(id))?;
        hosted
            .run_in_place(run)
            .map_err(|message| FeedError::Unencodable { task: run.task, message })?;
        self.touch(id);
        Ok(())
    }

    /// Tells an executor something over its control socket, with a descriptor beside it. Sent by
    /// [`Host::flush`]. Nothing is said to those who are dead.
    pub fn send(&mut self, id: ExecutorId, message: &ToExecutor, fd: Option<BorrowedFd<'_>>) {
        let Some(hosted) = self.executors.get_mut(&id.0) else { return };
        let sent = match fd.map(|fd| fd.try_clone_to_owned()).transpose() {
            Ok(fd) => hosted.send(message, fd),
            Err(error) => Err(format!("cannot hand over a descriptor: {error}")),
        };
        if let Err(error) = sent {
            // It would wait for ever for what it was not told.
            hosted.condemn(error);
        }
        self.touch(id);
    }

    fn touch(&mut self, id: ExecutorId) {
        if let Some(hosted) = self.executors.get_mut(&id.0)
            && !std::mem::replace(&mut hosted.dirty, true)
        {
            self.dirty.push(id.0);
        }
    }

    /// Wakes the executors that were fed or told something, those who sleep.
    pub fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(hosted) = self.executors.get_mut(&id) else { continue };
            hosted.dirty = false;
            hosted.flush(&self.epoll);
            Self::punish(&mut self.templates, hosted);
        }
        self.dirty = dirty;
    }

    /// Takes a fed task back. `false`: the executor has claimed it, or was never fed it.
    pub fn take_back(&mut self, id: ExecutorId, task: TaskId, attempt: u32) -> bool {
        let hosted = self.executors.get_mut(&id.0);
        hosted.is_some_and(|hosted| hosted.take_back(task, attempt))
    }

    /// Tells an attempt that it shall stop: it can see so for itself, and is sent SIGINT if it is
    /// the one that its executor runs right now.
    pub fn interrupt(&mut self, id: ExecutorId, task: TaskId, attempt: u32) {
        let Some(hosted) = self.executors.get_mut(&id.0) else { return };
        if hosted.ring.interrupt(fingerprint(task, attempt))
            && let Some(template) = Self::by_key(&mut self.templates, hosted.template)
        {
            template.tell(ToTemplate::Interrupt { executor: id.0 }, Vec::new());
        }
    }

    /// Kills an executor and its process group. `Died` follows.
    pub fn kill(&mut self, id: ExecutorId) {
        if let Some(hosted) = self.executors.get(&id.0)
            && let Some(template) = Self::by_key(&mut self.templates, hosted.template)
        {
            template.tell(ToTemplate::Kill { executor: id.0 }, Vec::new());
        }
    }

    /// Lets an executor end when it has run what it was fed. `Died` with exit code 0 follows.
    pub fn retire(&mut self, id: ExecutorId) {
        self.send(id, &ToExecutor::Exit, None);
    }

    /// Memory of an executor's own, in bytes: not the pages that it shares with the object store,
    /// but those that it still shares with the template. `None`: it is not there.
    pub fn memory_used(&self, id: ExecutorId) -> Option<u64> {
        let pid = self.executors.get(&id.0)?.pid?;
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let mut pages = statm.split(' ').skip(1).map_while(|word| word.parse::<u64>().ok());
        let (resident, shared) = (pages.next()?, pages.next()?);
        Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
    }

    /// What an executor's tasks have printed to standard output and error since the last call, up to
    /// the sizes that an end named, or all of it. Memory behind it is freed.
    pub fn output(&mut self, id: ExecutorId, up_to: Option<(u64, u64)>) -> (Vec<u8>, Vec<u8>) {
        let dead = self.graves.iter_mut().find(|(dead, _)| *dead == id.0);
        let printed = match self.executors.get_mut(&id.0) {
            Some(hosted) => Some(&mut hosted.printed),
            None => dead.map(|(_, printed)| printed),
        };
        printed.map(|printed| printed.take(up_to)).unwrap_or_default()
    }

    /// Appends all that has come to `out`, without waiting.
    pub fn poll(&mut self, out: &mut Vec<HostEvent>) {
        self.awake();
        self.graves.clear();
        out.append(&mut self.early);
        match self.fresh.checked_sub(1) {
            Some(left) => self.fresh = left,
            None => self.look(Some(0)),
        }
        let mut templates: SmallVec<[u64; 4]> = SmallVec::new();
        for (key, flags) in self.found.drain(..) {
            match key {
                WAKER => {}
                key if key >= FIRST_TEMPLATE => templates.push(key),
                id => {
                    if let Some(hosted) = self.executors.get_mut(&(id as u32)) {
                        hosted.on_ready(flags, &self.epoll);
                    }
                }
            }
        }
        for hosted in self.executors.values_mut() {
            hosted.poll(out);
            Self::punish(&mut self.templates, hosted);
        }
        for key in templates {
            self.poll_template(key, out);
        }
    }

    /// Sleeps until something comes, or so many milliseconds are over; for a loop that
    /// [watches its waker](Host::watch_waker) here. What it finds is for the next [`Host::poll`].
    pub fn sleep(&mut self, limit_ms: Option<i64>) {
        self.look(limit_ms);
        // Two turns follow at once when tasks wait for one that has ended: the second need not ask
        // the system again.
        self.fresh = 2;
    }

    /// Asks the system what has come, for so many milliseconds at most.
    fn look(&mut self, limit_ms: Option<i64>) {
        let mut space = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let limit =
            limit_ms.map(|ms| Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 });
        // Interrupted by a signal: what was ready still is, in the next round.
        if let Ok((found, _)) = epoll::wait(&self.epoll, &mut space, limit.as_ref()) {
            self.found.extend(found.iter().map(|event| (event.data.u64(), event.flags)));
        }
    }

    /// Kills an executor that has broken the rules, once.
    fn punish(templates: &mut [Template], hosted: &mut Hosted) {
        if hosted.is_to_be_killed()
            && let Some(template) = Self::by_key(templates, hosted.template)
        {
            template.tell(ToTemplate::Kill { executor: hosted.id.0 }, Vec::new());
        }
    }

    fn on_died(&mut self, executor: u32, death: Death, out: &mut Vec<HostEvent>) {
        let Some(mut hosted) = self.executors.remove(&executor) else { return };
        self.bury(hosted.template);
        let running = hosted.bury(out);
        let stderr_tail = hosted.last_words();
        let (id, death) = (hosted.id, Death { stderr_tail, ..death });
        out.push(HostEvent::Died { id, death, running });
        self.graves.push((id.0, hosted.printed));
    }

    /// Whether [`Host::poll`] would find something that the host's descriptor does not show. If
    /// `false`, executors wake the loop from now on.
    pub fn has_work(&self) -> bool {
        if self.early.is_empty() && !self.any_ends() && !self.sleeping.replace(true) {
            self.executors.values().for_each(|hosted| hosted.ring.set_sleeping(true));
        }
        // Once more: whoever saw no flag has written before it was set.
        !self.early.is_empty() || self.any_ends()
    }

    fn any_ends(&self) -> bool {
        self.executors.values().any(Hosted::has_work)
    }

    fn awake(&mut self) {
        if self.sleeping.replace(false) {
            self.executors.values().for_each(|hosted| hosted.ring.set_sleeping(false));
        }
    }

    /// Whether an executor may have ends in its ring, now or soon, for which it does not wake: the
    /// loop then sleeps no longer than [`POLL_SOON`].
    pub fn poll_soon(&self) -> bool {
        let mut busy = self.executors.values().filter(|hosted| hosted.may_postpone()).peekable();
        busy.peek().is_some() && {
            let now = Instant::now();
            busy.any(|hosted| hosted.postpones(now))
        }
    }

    /// How many executors there are, started or about to be.
    pub fn len(&self) -> usize {
        self.executors.len()
    }

    /// Whether there is no executor.
    pub fn is_empty(&self) -> bool {
        self.executors.is_empty()
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
