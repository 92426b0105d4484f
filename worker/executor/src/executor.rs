//! The loop of an executor process: claims tasks, runs them, hands over their ends.
//!
//! One thread does all of it. What code inside a task may need lies in [`Executor`], which
//! [`crate::context`] reaches through the thread; the tasks' ring belongs to the loop alone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::time::{Duration, Instant};

use manyhands_proto::executor::{EXECUTOR_PROTOCOL, Extent, FromExecutor, Place, Run, ToExecutor};
use manyhands_proto::task::FailureKind;
use manyhands_proto::{ObjectId, TaskId, client::ToClient};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::foreign::{self, idle};
use crate::heap::Heap;
use crate::invocation::Invocation;
use crate::link::{Link, fail};
use crate::message::{EndRef, FromExecutorRef, RunRef};
use crate::panics;
use crate::registry::{Callee, Functions};
use crate::ring::{self, Claim, Ends, Kind, Tasks, fingerprint};
use crate::segments::{Segments, View};
use crate::wakes::Wakes;

/// A task that ran longer than this (microseconds) may well have printed something.
const LOOK_US: u32 = 50;

/// Bytes at the start of an encoded [`Run`] that name its job.
const JOB_PREFIX: usize = 20;

thread_local! {
    static EXECUTOR: RefCell<Option<Box<Executor>>> = const { RefCell::new(None) };
}

/// What the running tasks of an executor share.
pub(crate) struct Executor {
    pub(crate) link: Link,
    pub(crate) ends: Ends,
    pub(crate) segments: Segments,
    /// The running tasks: all but the last wait for what runs on top of them.
    pub(crate) stack: Vec<Running>,
    /// Answers that nobody has taken yet.
    pub(crate) granted: FxHashMap<u64, Result<Extent, String>>,
    pub(crate) readable: FxHashMap<ObjectId, Result<Place, String>>,
    pub(crate) next_request: u64,
    /// Tasks to run on top of the blocked one.
    pub(crate) in_place: VecDeque<Run>,
    /// Fed tasks that were too large for the ring, in the order of their places there.
    large: VecDeque<Run>,
    exit: bool,
    /// It ends with the tasks that run now, and claims nothing more.
    pub(crate) leaves: bool,
    functions: Functions,
    wakes: Wakes,
    worker: OwnedFd,
    spare: Vec<Vec<u8>>,
    encoded: Vec<u8>,
}

/// A task that runs.
pub(crate) struct Running {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) fingerprint: u64,
    /// What it was told as a client and has not looked at.
    pub(crate) inbox: Vec<ToClient>,
    /// The first item of its stream that it may not make yet.
    pub(crate) room: u64,
    /// Sequence numbers of its lane that it has handed out.
    pub(crate) named: u64,
    /// How long it waited for others so far.
    pub(crate) waited: Duration,
    /// What it was given to read in segments.
    pub(crate) views: Vec<Weak<View>>,
}

impl Running {
    fn tell(&mut self, message: ToClient) {
        match message {
            // For the task itself, and not for what it submits.
            ToClient::Room { upto } => self.room = self.room.max(upto),
            message => self.inbox.push(message),
        }
    }
}

/// What an executor inherits.
pub(crate) struct Inherited {
    pub(crate) control: OwnedFd,
    pub(crate) ring: OwnedFd,
    pub(crate) worker: OwnedFd,
}

/// Lets `body` use the executor of this thread; `None` if this thread runs no tasks. Nothing that a
/// user wrote may be called from `body`.
pub(crate) fn with<R>(body: impl FnOnce(&mut Executor) -> R) -> Option<R> {
    EXECUTOR.with_borrow_mut(|executor| executor.as_deref_mut().map(body))
}

/// Forgets the executor of this thread, in a process that was forked off it. Nothing is closed or
/// sent: that is for the parent to do.
pub(crate) fn disown() {
    std::mem::forget(EXECUTOR.take());
}

/// As [`with`], on the thread of the loop.
fn own<R>(body: impl FnOnce(&mut Executor) -> R) -> R {
    with(body).expect("the loop's thread has the executor")
}

/// Runs tasks until the worker says that it is enough.
pub(crate) fn run(inherited: Inherited) -> ! {
    let (tasks, ends) = match ring::open(&inherited.ring) {
        Ok(ring) => ring,
        Err(error) => fail(&format!("cannot map the ring: {error}")),
    };
    panics::install_hook();
    let foreign = foreign::runtime();
    crate::signals::install(&ends);
    let runtime = match foreign {
        // Whatever explains faults there knows more than we do.
        Some(foreign) => foreign.describe(),
        None => {
            crate::signals::explain_faults();
            concat!("rust ", env!("CARGO_PKG_VERSION")).to_owned()
        }
    };
    let mut executor = Executor::new(Link::new(inherited.control), ends, inherited.worker);
    executor.say(&FromExecutor::Hello {
        protocol: EXECUTOR_PROTOCOL,
        pid: std::process::id(),
        runtime,
    });
    executor.link.flush();
    EXECUTOR.set(Some(Box::new(executor)));
    if let Some(foreign) = foreign {
        foreign.begin();
    }
    work(tasks)
}

fn work(mut tasks: Tasks) -> ! {
    let mut clock = Instant::now();
    let (mut mail, mut exit, mut leaves) = (0, false, false);
    let mut heap = Heap::default();
    loop {
        let sent = tasks.mail();
        if sent != mail {
            mail = sent;
            own(|executor| executor.catch_up(sent));
            while let Some(run) = own(|executor| executor.in_place.pop_front()) {
                clock = execute(&RunRef::of(&run), None, clock);
            }
            (exit, leaves) = own(|executor| (executor.exit, executor.leaves));
        }
        match if leaves { Ok(None) } else { tasks.claim() } {
            Ok(Some(claim)) => {
                let start = clock;
                clock = run_claimed(&mut tasks, claim, clock);
                heap.ran(clock - start);
                leaves = own(|executor| executor.leaves);
            }
            Ok(None) if exit => leave(),
            Ok(None) => {
                own(|executor| {
                    executor.wake_worker();
                    executor.wakes.idle();
                });
                let limit = heap.before_sleep();
                let claims = !leaves;
                let awake = |tasks: &Tasks| (claims && tasks.has_more()) || tasks.mail() != mail;
                let rung = idle(|| tasks.sleep(limit, awake));
                heap.after_sleep(rung);
                clock = Instant::now();
            }
            Err(corrupt) => fail(&corrupt.to_string()),
        }
    }
}

/// Ends the process in good order. Destructors of the program's statics do not run: they belong to
/// a `main` that this process never had.
fn leave() -> ! {
    if let Some(foreign) = foreign::runtime() {
        foreign.settle();
        foreign.leave();
    }
    flush();
    crate::process::exit(0)
}

fn run_claimed(tasks: &mut Tasks, claim: Claim, clock: Instant) -> Instant {
    own(|executor| executor.catch_up(claim.mail));
    let large = match claim.kind {
        Kind::Message => None,
        Kind::OnSocket => match own(|executor| executor.large.pop_front()) {
            Some(run) => Some(run),
            None => fail("a task that should be on the socket is not"),
        },
    };
    let mut clock = clock;
    if !claim.taken {
        let next = tasks.behind(&claim);
        let message = tasks.message(&claim);
        let next = Next {
            any: next.is_some(),
            same_job: next.is_some_and(|next| {
                next.get(..JOB_PREFIX).is_some_and(|job| message.starts_with(job))
            }),
        };
        clock = match &large {
            Some(run) => execute(&RunRef::of(run), Some(next), clock),
            None => match rmp_serde::from_slice::<RunRef<'_>>(message) {
                Ok(run) => execute(&run, Some(next), clock),
                Err(error) => fail(&format!("a task in the ring is malformed: {error}")),
            },
        };
    }
    tasks.release(claim);
    clock
}

/// What is known of the task behind the one that runs.
#[derive(Clone, Copy)]
struct Next {
    any: bool,
    same_job: bool,
}

/// A task has ended.
struct Took {
    /// Without what it waited for.
    duration_us: u32,
    /// It may have printed something that is to carry its name.
    look: bool,
}

/// Runs a task from `start` to its end, which it hands over, and gives the time of the end. `next`
/// is `None` for a task that runs on top of another.
pub(crate) fn execute_in_place(run: &Run) {
    execute(&RunRef::of(run), None, Instant::now());
}

fn execute(run: &RunRef<'_>, next: Option<Next>, start: Instant) -> Instant {
    let (function, mut scratch) = own(|executor| executor.begin(run));
    let mut invocation = Invocation::new(run, &mut scratch);
    let result = match (&mut invocation, &function) {
        (_, None) => Err(FailureKind::Value {
            message: format!("this program has no function {}", run.function),
        }),
        (Err(_), Some(_)) => Ok(()),
        (Ok(invocation), Some((_, callee))) => {
            catch_unwind(AssertUnwindSafe(|| call(callee, invocation)))
                .unwrap_or_else(|payload| Err(panics::failure(payload)))
        }
    };
    let mut end = Instant::now();
    let index = function.as_ref().map(|(index, _)| *index);
    let took = own(|executor| executor.took(index, next, end - start));
    if took.look {
        flush();
        end = Instant::now();
    }
    let result = result.and_then(|()| match &mut invocation {
        Ok(invocation) => Ok(invocation.returned()),
        Err(failure) => Err(failure.clone()),
    });
    own(|executor| executor.end(run, next, &took, end, result));
    drop(invocation);
    own(|executor| executor.spare.push(scratch));
    if let Some(foreign) = foreign::runtime() {
        settle(foreign);
    }
    end
}

fn call(callee: &Callee, invocation: &mut Invocation<'_>) -> Result<(), FailureKind> {
    match (callee, foreign::runtime()) {
        (Callee::Linked(entry), _) => (entry.invoke)(invocation),
        (Callee::Declared(declared), Some(foreign)) => foreign.invoke(declared, invocation),
        (Callee::Declared(declared), None) => Err(FailureKind::Value {
            message: format!("{} is no function of a Rust program", declared.name),
        }),
    }
}

/// Hands over to the system what tasks have printed: none of it may be left in this process when
/// its amount is told.
fn flush() {
    let _ = std::io::stdout().flush();
    if let Some(foreign) = foreign::runtime() {
        foreign.flush();
    }
}

/// What the ended attempt was told is forgotten; what the one below it has missed meanwhile is not.
fn settle(foreign: &dyn foreign::Runtime) {
    foreign.settle();
    if own(|executor| executor.is_cancelled()) {
        foreign.on_interrupt();
    }
}

impl Executor {
    fn new(link: Link, ends: Ends, worker: OwnedFd) -> Executor {
        Executor {
            link,
            ends,
            segments: Segments::default(),
            stack: Vec::new(),
            granted: FxHashMap::default(),
            readable: FxHashMap::default(),
            next_request: 0,
            in_place: VecDeque::new(),
            large: VecDeque::new(),
            exit: false,
            leaves: false,
            functions: Functions::new(),
            wakes: Wakes::default(),
            worker,
            spare: Vec::new(),
            encoded: Vec::new(),
        }
    }

    /// Queues a message of our own, which is never too large.
    pub(crate) fn say(&mut self, message: &FromExecutor) {
        if let Err(error) = self.link.queue(message) {
            fail(&error);
        }
    }

    /// Takes messages until as many have come as the worker had sent at some point.
    fn catch_up(&mut self, mail: u32) {
        while (mail.wrapping_sub(self.link.received()) as i32) > 0 {
            let message = self.link.wait();
            self.take(message);
        }
    }

    /// Takes a message from the worker: nothing of a user runs here.
    pub(crate) fn take(&mut self, message: ToExecutor) {
        match message {
            ToExecutor::Segment { segment, writable, size } => match self.link.descriptor() {
                Some(file) => self.segments.announce(segment, writable, size, file),
                None => fail("a segment came without its descriptor"),
            },
            ToExecutor::DropSegment { segment } => self.segments.forget(segment),
            ToExecutor::Granted { request, extent } => {
                self.granted.insert(request, extent);
            }
            ToExecutor::Readable { object, place } => {
                self.readable.insert(object, place);
            }
            ToExecutor::Function { id, name, code } => self.functions.declare(id, name, code),
            ToExecutor::Client { task, message } => {
                // What comes for a task that has ended is of no use to anybody.
                let running = self.stack.iter_mut().rev().find(|running| running.task == task);
                running.map(|running| running.tell(message)).unwrap_or_default()
            }
            ToExecutor::Run(run) => self.in_place.push_back(run),
            ToExecutor::Ahead(run) => self.large.push_back(run),
            ToExecutor::Exit => self.exit = true,
        }
    }

    fn begin(&mut self, run: &RunRef<'_>) -> (Option<(usize, Callee)>, Vec<u8>) {
        let fingerprint = fingerprint(run.task, run.attempt);
        self.ends.set_current(fingerprint);
        self.stack.push(Running {
            task: run.task,
            attempt: run.attempt,
            fingerprint,
            inbox: Vec::new(),
            room: 0,
            named: 0,
            waited: Duration::ZERO,
            views: Vec::new(),
        });
        let function = self.functions.index(run.function).map(|index| {
            let function = self.functions.get(index);
            (index, function.callee.clone(), function.last_us)
        });
        if self.wakes.before(function.as_ref().map_or(u32::MAX, |(_, _, last_us)| *last_us)) {
            self.wake_worker();
        }
        (function.map(|(index, callee, _)| (index, callee)), self.spare.pop().unwrap_or_default())
    }

    /// How long the innermost task took, which ran for `ran`, those that it waited for included.
    fn took(&mut self, function: Option<usize>, next: Option<Next>, ran: Duration) -> Took {
        let waited = self.stack.last().map_or(Duration::ZERO, |running| running.waited);
        let ran = ran.saturating_sub(waited);
        let duration_us = u32::try_from(ran.as_micros()).unwrap_or(u32::MAX);
        let changed = function.is_none_or(|index| self.functions.ended(index, duration_us));
        let quiet = !self.leaves && next.is_some_and(|next| next.any && next.same_job);
        Took { duration_us, look: changed || !quiet || duration_us > LOOK_US }
    }

    fn end(
        &mut self,
        run: &RunRef<'_>,
        next: Option<Next>,
        took: &Took,
        end: Instant,
        result: Result<SmallVec<[crate::message::ReturnedRef<'_>; 1]>, FailureKind>,
    ) {
        let running = self.stack.pop().expect("a task that ends has begun");
        let leaves = self.leaves && self.stack.is_empty();
        let next = next.filter(|_| !leaves);
        self.leave_current(running.fingerprint);
        // Before the worker hears of the end and lets others write there.
        if let Err(error) = self.segments.part(&running.views) {
            fail(&format!("cannot copy what {} has kept: {error}", running.task));
        }
        let Took { duration_us, look } = *took;
        let printed = look.then(printed);
        let (task, attempt) = (run.task, run.attempt);
        self.hand_over(&EndRef { task, attempt, duration_us, printed, leaves, result });
        let more = next.is_some_and(|next| next.any);
        if self.wakes.after(more, duration_us, end) {
            self.wake_worker();
        }
    }

    /// The attempt is no longer current; a signal that is on its way for it is waited for, so that
    /// it never reaches the next one.
    fn leave_current(&mut self, fingerprint: u64) {
        self.ends.set_current(self.stack.last().map_or(0, |below| below.fingerprint));
        if self.ends.signal_is_due() && self.ends.is_interrupted(fingerprint) {
            crate::signals::await_due(&self.ends);
        }
    }

    fn hand_over(&mut self, end: &EndRef<'_>) {
        self.link.flush();
        self.encoded.clear();
        if let Err(error) = rmp_serde::encode::write(&mut self.encoded, end) {
            fail(&format!("the end of {} cannot be encoded: {error}", end.task));
        }
        if self.encoded.len() > ring::MESSAGE_LIMIT {
            if let Err(error) = self.link.queue(&FromExecutorRef::End(end)) {
                self.refuse(end, error);
            }
            return self.link.flush();
        }
        while !self.ends.push(self.link.sent(), &self.encoded) {
            self.wake_worker();
            self.ends.wait_for_space(Duration::from_millis(100));
        }
    }

    /// The end itself was too large for a frame: its small values are too many.
    fn refuse(&mut self, end: &EndRef<'_>, message: String) {
        let failure = FailureKind::Value { message };
        let refused = EndRef { result: Err(failure), ..*end };
        if let Err(error) = self.link.queue(&FromExecutorRef::End(&refused)) {
            fail(&error);
        }
    }

    /// Wakes the worker if it sleeps.
    pub(crate) fn wake_worker(&mut self) {
        self.wakes.woken();
        if self.ends.wake_worker() {
            // The only errors are an overflow of 2⁶⁴ and a closed descriptor, which cannot be.
            let _ = rustix::io::write(&self.worker, &1u64.to_ne_bytes());
        }
    }
}

/// Sizes of the files of standard output and error.
fn printed() -> (u64, u64) {
    let size = |file: BorrowedFd<'_>| rustix::fs::fstat(file).map_or(0, |stat| stat.st_size as u64);
    (size(rustix::stdio::stdout()), size(rustix::stdio::stderr()))
}
