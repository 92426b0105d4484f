//! The template: a single-threaded process that forks executors and outlives none of them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group};

use super::child::{become_executor, exit};
use super::listing::{self, LIST_VARIABLE};
use super::{FromTemplate, Inheritance, PACKET_LIMIT, ToTemplate, VARIABLE, VERSION};
use crate::control;

/// Where the template keeps its socket. All descriptors above it are closed.
const SOCKET: i32 = 3;

/// So long nothing is asked of a template before it makes ready for what may come: the first
/// executors are waited for.
const CALM: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How willingly the kernel kills executors when the machine is out of memory (0 to 1000): before
/// the daemon, whose death costs more.
const OOM_SCORE: &str = "500";

/// Runs before `main`. In `.init_array` so that test binaries, examples and programs are all alike.
#[used]
#[unsafe(link_section = ".init_array")]
pub(super) static CONSTRUCTOR: extern "C" fn() = construct;

extern "C" fn construct() {
    if std::env::var_os(VARIABLE).is_none() {
        if std::env::var_os(LIST_VARIABLE).is_some() {
            let printed = std::panic::catch_unwind(listing::print);
            exit(i32::from(!printed.unwrap_or(false)));
        }
        return;
    }
    // Nothing may unwind out of here, and nobody is there to read a message but the daemon's stderr.
    let result = std::panic::catch_unwind(|| match start() {
        Ok(template) => template.run(),
        Err(error) => eprintln!("manyhands: cannot become a template process: {error}"),
    });
    exit(i32::from(result.is_err()));
}

/// What a template does differently where tasks are not Rust functions of its program.
pub(super) trait Forking {
    /// Before it forks.
    fn before(&self) {}
    /// Afterwards, in the template.
    fn in_parent(&self) {}
    /// Afterwards, in the child.
    fn in_child(&self) {}
    /// In the template, once, when it has forked and nothing more is asked of it: what makes those
    /// that it forks later ready sooner.
    fn warm_up(&self) {}
    /// What the child is from then on.
    fn become_executor(&self, inheritance: Inheritance, template: Pid) -> ! {
        become_executor(inheritance, template)
    }
}

/// A program with Rust functions.
struct Linked;

impl Forking for Linked {}

pub(super) struct Template<F> {
    forking: F,
    pid: Pid,
    socket: OwnedFd,
    /// The worker's process, where the kernel can tell its end. The socket does so too, unless the
    /// worker has forked a process, which has a copy of the other end of it.
    worker: Option<OwnedFd>,
    deaths: OwnedFd,
    executors: HashMap<i32, u32>,
    pids: HashMap<u32, Pid>,
    is_warm: bool,
}

fn start() -> io::Result<Template<Linked>> {
    check_version(VARIABLE)?;
    Template::new(take_socket()?, Linked)
}

/// Checks that the worker speaks as we do. What tasks start must not become templates, so the
/// variable is gone from here on.
pub(super) fn check_version(variable: &str) -> io::Result<()> {
    let version = std::env::var(variable).unwrap_or_default();
    // SAFETY: no other thread reads the environment. A Rust program has none, before its `main`; an
    // interpreter has none of a user's, since it comes here before it imports anything of theirs.
    unsafe { std::env::remove_var(variable) };
    match version == VERSION {
        true => Ok(()),
        false => Err(io::Error::other(format!("{variable} is {version:?}"))),
    }
}

impl<F: Forking> Template<F> {
    /// Around a socket to the worker. The process has a single thread.
    pub(super) fn new(socket: OwnedFd, forking: F) -> io::Result<Template<F>> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let _ = rustix::thread::set_name(c"mh-template");
        // Refused in some containers, and no loss then.
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        let deaths = watch_children()?;
        let pid = rustix::process::getpid();
        let worker = rustix::process::getppid()
            .and_then(|worker| rustix::process::pidfd_open(worker, PidfdFlags::empty()).ok());
        let (executors, pids) = (HashMap::new(), HashMap::new());
        let is_warm = false;
        Ok(Template { forking, pid, socket, worker, deaths, executors, pids, is_warm })
    }

    /// Forks executors until the worker is gone, and ends them all then.
    pub(super) fn run(mut self) {
        loop {
            let mut sources = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.deaths, PollFlags::IN),
                PollFd::new(self.worker.as_ref().unwrap_or(&self.deaths), PollFlags::IN),
            ];
            let is_cold = !self.is_warm && !self.executors.is_empty();
            match poll(&mut sources, is_cold.then_some(&CALM)) {
                Ok(0) => {
                    self.is_warm = true;
                    self.forking.warm_up();
                    continue;
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return self.end(),
            }
            let [socket, deaths, worker] = sources.map(|source| !source.revents().is_empty());
            let orphaned = worker && self.worker.is_some();
            if orphaned || deaths && self.reap().is_err() || socket && !self.obey() {
                return self.end();
            }
        }
    }

    /// Does what the worker asks for. `false`: the worker is gone.
    fn obey(&mut self) -> bool {
        let (mut packet, mut descriptors) = ([0; PACKET_LIMIT], VecDeque::new());
        let flags = RecvFlags::DONTWAIT;
        let count =
            match control::receive(self.socket.as_fd(), &mut packet, &mut descriptors, flags) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            };
        let Ok(message) = rmp_serde::from_slice(&packet[..count]) else { return false };
        match message {
            ToTemplate::Fork { executor } => match inheritance(descriptors) {
                Some(inheritance) => self.fork(executor, inheritance),
                None => return false,
            },
            ToTemplate::Interrupt { executor } => {
                if let Some(&pid) = self.pids.get(&executor) {
                    let _ = kill_process(pid, Signal::INT);
                }
            }
            ToTemplate::Kill { executor } => {
                if let Some(&pid) = self.pids.get(&executor) {
                    kill_group(pid);
                }
            }
        }
        true
    }

    fn fork(&mut self, executor: u32, inheritance: Inheritance) {
        self.forking.before();
        // SAFETY: there is a single thread, so the child may do whatever this process may.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            self.forking.in_child();
            self.become_child(inheritance);
        }
        let error = io::Error::last_os_error();
        self.forking.in_parent();
        let report = match Pid::from_raw(pid).filter(|_| pid > 0) {
            Some(pid) => {
                // The child does so too: whoever is first, the group is there from now on.
                let _ = rustix::process::setpgid(Some(pid), Some(pid));
                self.executors.insert(pid.as_raw_nonzero().get(), executor);
                self.pids.insert(executor, pid);
                FromTemplate::Forked { executor, pid: pid.as_raw_nonzero().get() as u32 }
            }
            None => {
                let message = format!("cannot fork: {error}");
                FromTemplate::ForkFailed { executor, message }
            }
        };
        // If the worker is gone the socket says so, in the next round.
        let _ = self.report(&report);
    }

    fn become_child(&mut self, inheritance: Inheritance) -> ! {
        let template = self.pid;
        // SAFETY: the child never returns to the template's loop, so nothing uses them again.
        unsafe {
            libc::close(self.socket.as_raw_fd());
            libc::close(self.deaths.as_raw_fd());
            if let Some(worker) = &self.worker {
                libc::close(worker.as_raw_fd());
            }
        }
        self.forking.become_executor(inheritance, template)
    }

    fn report(&self, message: &FromTemplate) -> io::Result<()> {
        let packet = rmp_serde::to_vec(message).map_err(io::Error::other)?;
        control::send(&self.socket, &packet, &[], SendFlags::empty())?;
        Ok(())
    }

    /// Reaps who has died: executors with a report, orphans of theirs without a word.
    fn reap(&mut self) -> io::Result<()> {
        let mut signals = [0; 512];
        let _ = rustix::io::read(&self.deaths, &mut signals);
        while let Some(pid) = next_zombie() {
            if self.executors.contains_key(&pid.as_raw_nonzero().get()) {
                // Before it is reaped: until then nobody else can have its id.
                kill_group(pid);
            }
            let Some((signal, exit_code, peak_memory)) = wait(pid) else { continue };
            if let Some(executor) = self.executors.remove(&pid.as_raw_nonzero().get()) {
                self.pids.remove(&executor);
                self.report(&FromTemplate::Died { executor, signal, exit_code, peak_memory })?;
            }
        }
        Ok(())
    }

    /// Kills all executors and all other descendants, until none is left.
    fn end(self) {
        self.pids.values().for_each(|&pid| kill_group(pid));
        loop {
            children(self.pid).into_iter().for_each(|child| {
                let _ = kill_process(child, Signal::KILL);
            });
            // The children of what dies here become ours: again, until there is none.
            match wait_any() {
                Ok(()) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Moves the socket away from standard input and closes whatever else was inherited.
fn take_socket() -> io::Result<OwnedFd> {
    // SAFETY: there is a single thread, and nobody in this process knows of any descriptor: all that
    // are open were inherited. From here on this function's result alone owns number 3.
    let socket = unsafe {
        if libc::dup3(0, SOCKET, libc::O_CLOEXEC) != SOCKET {
            return Err(io::Error::last_os_error());
        }
        libc::close_range(SOCKET as u32 + 1, u32::MAX, 0);
        <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(SOCKET)
    };
    let (read, empty) = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    rustix::stdio::dup2_stdin(rustix::fs::open("/dev/null", read, empty)?)?;
    Ok(socket)
}

/// SIGCHLD as a descriptor.
fn watch_children() -> io::Result<OwnedFd> {
    // SAFETY: the set is plain data, filled before use; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(<OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(descriptor)),
        }
    }
}

fn inheritance(descriptors: VecDeque<OwnedFd>) -> Option<Inheritance> {
    let descriptors: [OwnedFd; 5] = Vec::from(descriptors).try_into().ok()?;
    let [control, ring, stdout, stderr, worker] = descriptors;
    Some(Inheritance { control, ring, stdout, stderr, worker })
}

fn kill_group(leader: Pid) {
    // It fails when nobody is left in the group.
    let _ = kill_process_group(leader, Signal::KILL);
    let _ = kill_process(leader, Signal::KILL);
}

/// A child that has died and was not reaped.
fn next_zombie() -> Option<Pid> {
    // SAFETY: plain data, filled by the kernel; zero says that there is none.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        match libc::waitid(libc::P_ALL, 0, &mut info, flags) {
            0 => Pid::from_raw(info.si_pid()),
            _ => None,
        }
    }
}

/// Reaps a child: its signal, its exit code, the most bytes it had resident.
fn wait(pid: Pid) -> Option<(Option<i32>, Option<i32>, u64)> {
    let (mut status, pid) = (0, pid.as_raw_nonzero().get());
    // SAFETY: plain data, filled by the kernel.
    let (reaped, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage), usage)
    };
    if reaped != pid {
        return None;
    }
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    let exit_code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Some((signal, exit_code, usage.ru_maxrss as u64 * 1024))
}

/// Waits for any child to die.
fn wait_any() -> Result<(), Errno> {
    // SAFETY: no status is asked for.
    match unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::CHILD)),
        _ => Ok(()),
    }
}

/// The children of this process, as the kernel lists them.
fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{parent}/children"));
    if let Ok(listed) = listed {
        let pids = listed.split_ascii_whitespace();
        return pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
    }
    // Kernels without that file: look at everybody.
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| parent_of(pid) == Some(parent)).filter_map(Pid::from_raw).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything: what follows the last one is regular.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
