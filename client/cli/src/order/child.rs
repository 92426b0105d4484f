//! The child process that a command line is.
//!
//! What it prints goes through here into the executor's own output, not faster than the worker
//! takes it: nothing of it is lost, however much it is.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use manyhands_executor::context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::Ended;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Bytes of output that may wait to be taken by the worker, which drops what is above a megabyte.
const BACKLOG: u64 = 512 << 10;

/// How often it is looked whether the worker has taken some, and how long it may take none at all.
const LOOK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command to its end.
pub(super) fn run(command: &mut Command) -> Result<(), Ended> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| not_started(command, &error))?;
    let status = watch(&mut child).map_err(|error| Ended::Around(error.to_string()))?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Ended::Code(code)),
        (None, Some(signal)) => Err(Ended::Signal(signal)),
        (None, None) => Err(Ended::Around(status.to_string())),
    }
}

/// In the words and with the codes of a shell.
fn not_started(command: &Command, error: &io::Error) -> Ended {
    let message = format!("{}: {error}", command.get_program().to_string_lossy());
    eprintln!("manyhands: {message}");
    match error.kind() {
        io::ErrorKind::NotFound => Ended::NotStarted(127, message),
        _ => Ended::NotStarted(126, message),
    }
}

/// Passes on what the child prints until it ends. A task that is to stop stops the child.
fn watch(child: &mut Child) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(child);
    let ended: OwnedFd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut out = child.stdout.take().map(Pipe::<ChildStdout>::new);
    let mut err = child.stderr.take().map(Pipe::<ChildStderr>::new);
    let mut told = false;
    loop {
        if manyhands::is_cancelled() && !told {
            told = true;
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
        fds.extend(out.as_ref().map(|pipe| PollFd::new(&pipe.from, PollFlags::IN)));
        fds.extend(err.as_ref().map(|pipe| PollFd::new(&pipe.from, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let over = !fds[0].revents().is_empty();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let second = 1 + usize::from(out.is_some());
        pass_on(&mut out, ready.get(1).copied().unwrap_or(false), over, rustix::stdio::stdout())?;
        pass_on(
            &mut err,
            ready.get(second).copied().unwrap_or(false),
            over,
            rustix::stdio::stderr(),
        )?;
        if over {
            return child.wait();
        }
    }
}

/// One of the child's streams.
struct Pipe<R> {
    from: R,
    buffer: Vec<u8>,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(from: R) -> Pipe<R> {
        Pipe { from, buffer: vec![0; CHUNK] }
    }
}

/// Passes on what is there. Of a child that has ended, all that is left in the pipe: what processes
/// that it left behind print later is nobody's.
fn pass_on<R: Read + AsFd>(
    pipe: &mut Option<Pipe<R>>,
    ready: bool,
    over: bool,
    to: BorrowedFd<'_>,
) -> io::Result<()> {
    if !ready && !over {
        return Ok(());
    }
    while let Some(Pipe { from, buffer }) = pipe {
        if over && !has_more(from.as_fd())? {
            return Ok(());
        }
        match from.read(buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => write_all(to, &buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !over {
            return Ok(());
        }
    }
    Ok(())
}

fn has_more(from: BorrowedFd<'_>) -> io::Result<bool> {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(from, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&now)) {
            Ok(_) => return Ok(fds[0].revents().contains(PollFlags::IN)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    // Outside of a task the output is whatever it is, and nobody takes it.
    if context::current().is_some() {
        await_room(to);
    }
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until the worker has taken most of what was printed. The executor's output is a file in
/// memory whose pages the worker frees as it takes them: its blocks are what it has not taken.
fn await_room(output: BorrowedFd<'_>) {
    let waiting = || rustix::fs::fstat(output).map_or(0, |stat| stat.st_blocks as u64 * 512);
    let (mut last, mut since) = (waiting(), Instant::now());
    while last > BACKLOG && !manyhands::is_cancelled() && since.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
        let now = waiting();
        if now < last {
            since = Instant::now();
        }
        last = now;
    }
}
