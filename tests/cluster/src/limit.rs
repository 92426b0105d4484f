//! How long things may take on the busiest machine, and what is said when they took longer.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon;
use crate::program::program;

/// How long anything may take that takes milliseconds when nothing else runs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test's work, but no longer than `limit`; then the logs of all daemons are shown.
pub fn in_time<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    // The first to ask for it builds it, which may take minutes, and is nothing that is tested.
    program();
    let (done, end) = mpsc::channel();
    let worker = thread::Builder::new().name(what.to_owned());
    let worker = worker.spawn(move || drop(done.send(work()))).expect("a thread can be started");
    match end.recv_timeout(limit) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            daemon::show_all();
            panic!("{what} took longer than {limit:?}")
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the work ended without a word"),
        },
    }
}

/// Asks again and again until there is an answer: for what no event tells of. [`LIMIT`] bounds it.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if start.elapsed() > LIMIT {
            daemon::show_all();
            panic!("waited {LIMIT:?} for this: {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
