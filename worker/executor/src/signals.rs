//! SIGINT: how a running attempt is told to stop. SIGSEGV and SIGBUS: last words.
//!
//! The worker writes which attempt it means into the ring file and then signals. The handler only
//! notes that the signal came (its use is to interrupt a system call that the task waits in), and
//! tells the runtime of another language if it is the current attempt that is meant. An
//! attempt that was meant and ends before its signal came waits for it, so that a late signal never
//! reaches the next one.

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::foreign;
use crate::link::fail;
use crate::ring::{Ends, Signalled};

/// Signals are sent at once or not at all; this bounds the wait for one that was lost.
const LIMIT: Duration = Duration::from_millis(200);

/// The words in the ring file that say which attempt a signal is for, and that one is on its way.
static SIGNALLED: OnceLock<Signalled> = OnceLock::new();

/// The thread that runs tasks.
static RUNNER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_interrupt(signal: libc::c_int) {
    let runner = RUNNER.load(Ordering::Acquire) as libc::pthread_t;
    // SAFETY: allowed in a handler; the thread lives as long as the process.
    unsafe {
        if libc::pthread_self() != runner {
            // It came to a thread that the task has started: it is meant for what the task waits in.
            libc::pthread_kill(runner, signal);
            return;
        }
    }
    let Some(signalled) = SIGNALLED.get() else { return };
    if signalled.arrived()
        && let Some(foreign) = foreign::runtime()
    {
        foreign.on_interrupt();
    }
}

/// Handles SIGINT from now on, on the calling thread.
pub(crate) fn install(ends: &Ends) {
    // SAFETY: asks for a number and nothing else.
    RUNNER.store(unsafe { libc::pthread_self() } as usize, Ordering::Release);
    // An executor has one ring file, and this is called once.
    let _ = SIGNALLED.set(ends.signalled());
    take_over();
    set_blocked(false);
}

/// Puts our handler of SIGINT in the place of whatever is there.
pub(crate) fn take_over() {
    // SAFETY: the structures are plain data, filled before use; the handler does nothing but load and
    // store atomics, and what a runtime promises to be safe there. It goes without SA_RESTART, since
    // interrupting system calls is what it is for.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_interrupt as *const () as usize;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut())
    };
    if done != 0 {
        fail("cannot handle SIGINT");
    }
}

/// Keeps SIGINT from the calling thread, or lets it come.
pub(crate) fn set_blocked(blocked: bool) {
    let how = if blocked { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
    // SAFETY: the set is plain data, filled before use; only this thread's mask changes.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGINT);
        libc::pthread_sigmask(how, &set, std::ptr::null_mut());
    }
}

/// Waits until `socket` has something, the time is over or SIGINT comes, unless `awake` says that
/// there is no need to: a signal that comes after it was asked ends the wait as well.
pub(crate) fn wait(socket: RawFd, left: Option<Duration>, awake: impl FnOnce() -> bool) {
    set_blocked(true);
    if !awake() {
        let left = left.map(|left| libc::timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut source = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
        // SAFETY: plain data, filled before use, that outlives the call. During the call the mask is
        // this thread's without SIGINT.
        unsafe {
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
            libc::sigdelset(&mut mask, libc::SIGINT);
            libc::ppoll(&mut source, 1, left, &mask);
        }
    }
    set_blocked(false);
}

/// Waits until `socket` has something, or a signal comes.
pub(crate) fn wait_readable(socket: RawFd) {
    let mut source = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: plain data, filled before use, that outlives the call.
    unsafe { libc::poll(&mut source, 1, -1) };
}

/// Waits for the signal that is on its way.
pub(crate) fn await_due(ends: &Ends) {
    let until = Instant::now() + LIMIT;
    while ends.signal_is_due() && Instant::now() < until {
        // Returns at once when the signal comes; a signal that came just before costs one round.
        let round = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&round));
    }
}

/// Bytes of stack for the handler of faults: the task's own may be what has run out.
const FAULT_STACK: usize = 64 << 10;

/// How far from the end of the stack an access is taken for an overflow, bytes. Code for Rust
/// touches every page of a large frame, so it meets the guard at the very end.
const GUARD: usize = 64 << 10;

/// The lowest address of the stack of tasks.
static STACK_END: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands over a valid record of the fault. Nothing but calls that are allowed
    // in a handler. The signal is raised again for its default action, which comes on return.
    unsafe {
        let (address, end) = ((*info).si_addr() as usize, STACK_END.load(Ordering::Relaxed));
        let words: &[u8] = if address.abs_diff(end) < GUARD {
            b"manyhands: the task has overflowed its stack\n"
        } else {
            b"manyhands: the task has accessed memory that is not there\n"
        };
        libc::write(2, words.as_ptr().cast(), words.len());
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// From now on a fault of the calling thread says on standard error what it was, and then ends the
/// process as it would have.
pub(crate) fn explain_faults() {
    let stack = Vec::leak(vec![0u8; FAULT_STACK]);
    // SAFETY: the structures are plain data, filled before use; the alternative stack is never
    // freed; the attributes are destroyed after use.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) == 0 {
            let (mut address, mut size) = (std::ptr::null_mut(), 0);
            libc::pthread_attr_getstack(&attributes, &mut address, &mut size);
            STACK_END.store(address as usize, Ordering::Relaxed);
            libc::pthread_attr_destroy(&mut attributes);
        }
        let alternative =
            libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        libc::sigaltstack(&alternative, std::ptr::null_mut());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}
