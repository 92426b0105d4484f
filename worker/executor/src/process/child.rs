//! What a forked child does before it is an executor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

use super::Inheritance;
use crate::executor::{self, Inherited};
use crate::heap;
use crate::link::fail;
use crate::signals;

/// Bytes of stack for the tasks, committed page by page as they are used. Tasks that wait run
/// others on top of themselves, so a deep recursion of tasks is a deep stack.
const STACK_SIZE: usize = 512 << 20;

/// Turns a freshly forked process into an executor. Only one thread exists.
pub(super) fn become_executor(inheritance: Inheritance, template: Pid) -> ! {
    let inherited = settle_in(inheritance, template);
    // The signal is for the thread that runs tasks: on this one it would interrupt nothing.
    signals::set_blocked(true);
    let run = move || executor::run(inherited);
    let thread = std::thread::Builder::new().name("task".into()).stack_size(STACK_SIZE).spawn(run);
    match thread {
        Ok(thread) => match thread.join() {
            Ok(never) => never,
            Err(_) => std::process::abort(),
        },
        Err(error) => fail(&format!("cannot start the thread that runs tasks: {error}")),
    }
}

/// What every executor does first, whatever runs its tasks.
pub(super) fn settle_in(inheritance: Inheritance, template: Pid) -> Inherited {
    let Inheritance { control, ring, stdout, stderr, worker } = inheritance;
    die_with(template);
    // A group of its own, so that what its tasks start dies with it.
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::thread::set_name(c"mh-executor");
    redirect(stdout, stderr);
    reset_signals();
    heap::keep_freed();
    Inherited { control, ring, worker }
}

fn die_with(template: Pid) {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if rustix::process::getppid() != Some(template) {
        // It died before we asked.
        std::process::abort();
    }
}

fn redirect(stdout: OwnedFd, stderr: OwnedFd) {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let done = null
        .and_then(rustix::stdio::dup2_stdin)
        .and_then(|()| rustix::stdio::dup2_stdout(stdout.as_fd()))
        .and_then(|()| rustix::stdio::dup2_stderr(stderr.as_fd()));
    if let Err(error) = done {
        fail(&format!("cannot redirect its output: {error}"));
    }
}

/// As a program expects them when it starts, but for SIGPIPE, which Rust programs ignore.
fn reset_signals() {
    // SAFETY: the set is plain data, filled before use; there is one thread, and no handler yet.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Ends the process without destructors and without handlers of `atexit`: they belong to a `main`
/// that never ran.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: ends the process; nothing can be observed afterwards.
    unsafe { libc::_exit(code) }
}
