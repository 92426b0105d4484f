//! A process of the cluster: what it prints is waited for and kept, and it never outlives the test.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, PipeReader};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::LIMIT;
use crate::machines::Machine;

/// Lines of a log that are kept.
const LINES_LIMIT: usize = 2_000;

/// Lines of a log that are shown when a test fails.
const SHOWN: usize = 60;

/// A process that runs until it is told to end, and not longer than this value lives.
pub struct Daemon {
    child: Child,
    pidfd: rustix::fd::OwnedFd,
    log: Arc<Log>,
}

/// What a process has printed so far.
struct Log {
    name: String,
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    dropped: usize,
    over: bool,
}

impl Daemon {
    /// Starts a command that [`Machine::command`] has made. `name` stands in front of its log.
    pub fn start(name: &str, mut command: Command) -> Daemon {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let errors = writer.try_clone().expect("a descriptor can be doubled");
        command.stdin(Stdio::null()).stdout(writer).stderr(errors);
        let child = KEEPER.spawn(command);
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let pid = Pid::from_raw(child.id() as i32).expect("a process id is not 0");
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a child can be watched");
        let (lines, more) = (Mutex::default(), Condvar::new());
        let log = Arc::new(Log { name: name.to_owned(), lines, more });
        lock(&LOGS).push(Arc::downgrade(&log));
        let kept = log.clone();
        let reading = thread::Builder::new().name(format!("log of {name}"));
        reading.spawn(move || kept.read(reader)).expect("a thread can be started");
        Daemon { child, pidfd, log }
    }

    /// Waits for a line in which `find` finds something, one of those that were printed already if
    /// there is one.
    pub fn line<T>(&self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        let start = Instant::now();
        let (mut lines, mut seen) = (lock(&self.log.lines), 0);
        loop {
            let skip = seen.max(lines.dropped) - lines.dropped;
            if let Some(found) = lines.kept.iter().skip(skip).find_map(|line| find(line)) {
                return found;
            }
            seen = lines.dropped + lines.kept.len();
            let left = LIMIT.saturating_sub(start.elapsed());
            if lines.over || left.is_zero() {
                drop(lines);
                self.log.show();
                panic!("waited for {} to print {what}", self.log.name);
            }
            let waited = self.log.more.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The lines that it has printed so far and that contain `word`.
    pub fn lines_with(&self, word: &str) -> Vec<String> {
        let lines = lock(&self.log.lines);
        lines.kept.iter().filter(|line| line.contains(word)).cloned().collect()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal. One that has ended does not mind.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for its end.
    pub fn end(mut self) -> ExitStatus {
        let seconds = LIMIT.as_secs() as i64;
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let ended = poll(&mut fds, Some(&Timespec { tv_sec: seconds, tv_nsec: 0 }));
        if ended != Ok(1) {
            self.log.show();
            panic!("waited {LIMIT:?} for the end of {}", self.log.name);
        }
        self.child.wait().expect("a child can be waited for")
    }

    /// Bytes of memory that it has resident.
    pub fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("the system says how much memory a process has") << 10
    }

    /// Seconds of processor time that it has used, by itself and by the system for it.
    pub fn processor_time(&self) -> f64 {
        let stat = self.proc("stat");
        // The name of the program stands in brackets, and may contain anything.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks = |field: usize| fields.split(' ').nth(field)?.parse::<u64>().ok();
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        let ticks = ticks.expect("the system says how much processor time a process has used");
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Shows the end of its log.
    pub fn show(&self) {
        self.log.show();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            self.log.show();
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Log {
    fn read(&self, reader: PipeReader) {
        let mut reader = BufReader::new(reader);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|len| len > 0) {
            let mut lines = lock(&self.lines);
            if lines.kept.len() == LINES_LIMIT {
                lines.kept.pop_front();
                lines.dropped += 1;
            }
            lines.kept.push_back(String::from_utf8_lossy(&bytes).trim_end().to_owned());
            bytes.clear();
            self.more.notify_all();
        }
        lock(&self.lines).over = true;
        self.more.notify_all();
    }

    fn show(&self) {
        let lines = lock(&self.lines);
        for line in lines.kept.iter().skip(lines.kept.len().saturating_sub(SHOWN)) {
            eprintln!("{}: {line}", self.name);
        }
    }
}

/// Shows the logs of all daemons that live.
pub(crate) fn show_all() {
    for log in lock(&LOGS).iter().filter_map(Weak::upgrade) {
        log.show();
    }
}

static LOGS: Mutex<Vec<Weak<Log>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command that [`Machine::command`] has made up to its end, [`LIMIT`] at most: how it
/// ended, and what it printed.
pub fn output(mut command: Command) -> Output {
    let name = command.get_program().to_owned();
    let words: Vec<OsString> = command.get_args().map(Into::into).collect();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = KEEPER.spawn(command).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    let pid = Pid::from_raw(child.id() as i32).expect("a process id is not 0");
    let (sender, end) = mpsc::channel();
    thread::spawn(move || drop(sender.send(child.wait_with_output())));
    match end.recv_timeout(LIMIT) {
        Ok(output) => output.expect("the output of a child can be read"),
        Err(_) => {
            // It may have just ended.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            show_all();
            let left = end.recv().ok().and_then(Result::ok);
            panic!("{name:?} {words:?} took longer than {LIMIT:?}: {left:?}")
        }
    }
}

/// Starts all processes of the tests: they die with the thread that started them, and this one
/// lives as long as the program.
static KEEPER: LazyLock<Keeper> = LazyLock::new(|| {
    let (orders, received) = mpsc::channel::<Order>();
    let keeping = thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        for Order { mut command, reply } in received {
            // Nobody waits only if the test has panicked meanwhile: then the child is dropped, and
            // dies with this process.
            let _ = reply.send(command.spawn());
        }
    });
    keeping.expect("a thread can be started");
    Keeper { orders: Mutex::new(orders) }
});

struct Keeper {
    orders: Mutex<mpsc::Sender<Order>>,
}

struct Order {
    command: Command,
    reply: mpsc::Sender<std::io::Result<Child>>,
}

impl Keeper {
    fn spawn(&self, command: Command) -> std::io::Result<Child> {
        let (reply, spawned) = mpsc::channel();
        lock(&self.orders).send(Order { command, reply }).expect("the keeper lives");
        spawned.recv().expect("the keeper answers")
    }
}

impl Machine {
    /// Runs a program with these arguments in this machine, up to its end.
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Output {
        let mut command = self.command(program);
        command.args(args);
        output(command)
    }
}
