//! What can happen to a task: each way to fail gives a clear error, and the others are unharmed.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use manyhands::{Client, Error, FailureKind, Handle, TaskError, task};

const MIB: u64 = 1 << 20;

#[task]
fn segfault() -> u32 {
    // SAFETY: none; that is the point: the process is to die of it.
    unsafe { std::ptr::without_provenance_mut::<u32>(8).write_volatile(1) };
    0
}

#[task]
fn abort() -> u32 {
    eprintln!("about to abort");
    std::process::abort()
}

#[task]
fn exit(code: i32) -> u32 {
    std::process::exit(code)
}

#[task]
fn run_forever() -> u32 {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes memory, writing to it, until it is stopped.
#[task]
fn devour() -> u64 {
    let mut held: Vec<Vec<u8>> = Vec::new();
    while held.len() < 4096 {
        held.push(vec![held.len() as u8 | 1; MIB as usize]);
    }
    held.iter().map(|part| u64::from(part[0])).sum()
}

#[task]
fn panic_with(word: String) -> u32 {
    panic!("no such word: {word}")
}

#[task]
fn refuse(word: String) -> Result<u32, std::num::ParseIntError> {
    word.parse()
}

#[task]
fn double(x: u32) -> u32 {
    2 * x
}

/// Says its process id through a named pipe and waits to be killed; a later attempt just returns.
#[task]
fn wait_to_be_killed(pipe: PathBuf) -> u32 {
    if std::fs::create_dir(pipe.with_extension("seen")).is_err() {
        return 7;
    }
    std::fs::write(pipe, std::process::id().to_string()).unwrap();
    loop {
        std::thread::park();
    }
}

fn task_error(result: Result<u32, Error>) -> Box<TaskError> {
    match result {
        Err(Error::TaskFailed(error)) => error,
        other => panic!("a failed task was expected, not {other:?}"),
    }
}

/// After whatever happened, as many tasks as there are slots run side by side.
fn assert_all_slots_work(client: &Client) {
    let all: Vec<_> = (0..200).map(|i| double::submit(client, i).unwrap()).collect();
    let expected: Vec<u32> = (0..200).map(|i| 2 * i).collect();
    assert_eq!(client.gather(&all).unwrap(), expected);
    let pipe = Rendezvous::new();
    let pair = [true, false].map(|writes| meet::submit(client, pipe.0.clone(), writes).unwrap());
    assert_eq!(client.gather(&pair).unwrap(), [1, 1], "two tasks that wait for each other");
}

/// Opens one end of a named pipe, which waits for the other end.
#[task]
fn meet(pipe: PathBuf, writes: bool) -> u32 {
    let mut options = std::fs::OpenOptions::new();
    let opened =
        if writes { options.write(true).open(pipe) } else { options.read(true).open(pipe) };
    u32::from(opened.unwrap().metadata().unwrap().file_type().is_fifo())
}

struct Rendezvous(PathBuf);

impl Rendezvous {
    fn new() -> Rendezvous {
        let path = scratch().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Rendezvous(path)
    }
}

impl Drop for Rendezvous {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A new empty directory.
fn scratch() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name =
        format!("manyhands-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn two_slots() -> Client {
    Client::builder().slots(2).local().unwrap()
}

/// Runs a task that kills its executor beside others, without further attempts.
fn death_of(lazy: manyhands::Lazy<u32>) -> Box<TaskError> {
    let client = two_slots();
    let around: Vec<_> = (0..50).map(|i| double::submit(&client, i).unwrap()).collect();
    let error = task_error(client.compute(&lazy.crash_retries(0)));
    assert_eq!(client.gather(&around).unwrap().len(), 50);
    assert_all_slots_work(&client);
    error
}

#[test]
fn a_segfault_names_its_signal_and_harms_nobody_else() {
    let error = death_of(segfault::lazy());
    let FailureKind::Died(death) = error.kind() else { panic!("{error}") };
    assert_eq!(death.signal, Some(11));
    assert!(death.peak_memory > 0, "{error}");
    assert!(error.to_string().contains("SIGSEGV"), "{error}");
    assert_eq!(error.attempts().len(), 1);
}

#[test]
fn an_abort_names_its_signal_and_shows_the_last_lines_of_stderr() {
    let error = death_of(abort::lazy());
    let FailureKind::Died(death) = error.kind() else { panic!("{error}") };
    assert_eq!(death.signal, Some(6));
    assert!(death.stderr_tail.contains("about to abort"), "{error}");
}

#[test]
fn an_exit_names_its_code() {
    let error = death_of(exit::lazy(3));
    let FailureKind::Died(death) = error.kind() else { panic!("{error}") };
    assert_eq!(death.exit_code, Some(3));
}

#[test]
fn deaths_are_tried_again_as_often_as_was_asked() {
    let client = two_slots();
    let error = task_error(client.compute(&exit::lazy(3).crash_retries(2)));
    let attempts: Vec<u32> = error.attempts().iter().map(|a| a.attempt).collect();
    assert_eq!(attempts, [0, 1, 2]);
    let pids: std::collections::BTreeSet<_> = error.attempts().iter().map(|a| a.pid).collect();
    assert_eq!(pids.len(), 3, "each attempt had a process of its own: {error}");
    assert_all_slots_work(&client);
}

#[test]
fn a_task_past_its_time_limit_is_stopped() {
    let client = two_slots();
    let lazy = run_forever::lazy().time_limit(Duration::from_millis(50));
    let error = task_error(client.compute(&lazy));
    assert_eq!(error.kind(), &FailureKind::TimeLimit { limit_us: 50_000 });
    assert_all_slots_work(&client);
}

#[test]
fn a_task_past_its_deadline_is_stopped() {
    let client = two_slots();
    let deadline = std::time::SystemTime::now() + Duration::from_millis(80);
    let error = task_error(client.compute(&run_forever::lazy().deadline(deadline)));
    assert_eq!(error.kind(), &FailureKind::Deadline);
    assert_all_slots_work(&client);
}

#[test]
fn a_task_past_its_memory_limit_is_stopped() {
    let client = two_slots();
    let error = match client.compute(&devour::lazy().memory_limit(200 * MIB).crash_retries(0)) {
        Err(Error::TaskFailed(error)) => error,
        other => panic!("a failed task was expected, not {other:?}"),
    };
    let &FailureKind::MemoryLimit { limit, used } = error.kind() else { panic!("{error}") };
    assert_eq!(limit, 200 * MIB);
    assert!(used > limit && used < 4096 * MIB, "stopped at {used} bytes");
    assert_all_slots_work(&client);
}

#[test]
fn a_panic_brings_its_message_its_place_and_a_backtrace() {
    let client = two_slots();
    let failed = panic_with::submit(&client, "xyzzy".to_owned()).unwrap();
    let needs_it = double::submit(&client, &failed).unwrap();
    let error = task_error(client.get(&needs_it));
    let FailureKind::Panicked { message, backtrace } = error.kind() else { panic!("{error}") };
    assert!(message.contains("no such word: xyzzy"), "{message}");
    assert!(message.contains("faults.rs"), "{message}");
    assert!(!backtrace.is_empty());
    assert!(error.name().ends_with("panic_with"), "the cause, not the task that was asked for");
    assert!(error.chain().iter().any(|(_, name)| name.ends_with("double")), "{error}");
    assert_all_slots_work(&client);
}

#[test]
fn an_error_of_the_function_is_tried_again_as_often_as_was_asked() {
    let client = two_slots();
    let error = task_error(client.compute(&refuse::lazy("seven".to_owned()).retries(2)));
    let FailureKind::Error { message } = error.kind() else { panic!("{error}") };
    assert!(message.contains("invalid digit"), "{message}");
    assert_eq!(error.attempts().len(), 3);
    assert_eq!(client.compute(&refuse::lazy("7".to_owned())).unwrap(), 7);
}

#[test]
fn an_executor_that_is_killed_from_outside_costs_nothing_but_time() {
    let client = two_slots();
    let pipe = Rendezvous::new();
    let result: Handle<u32> = wait_to_be_killed::submit(&client, pipe.0.clone()).unwrap();
    // Opening the pipe waits for the task.
    let pid = std::fs::read_to_string(&pipe.0).unwrap();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
    assert_eq!(client.get(&result).unwrap(), 7);
    assert_all_slots_work(&client);
}

#[test]
fn a_cancelled_task_stops_and_what_needs_it_fails_with_it() {
    let client = two_slots();
    let endless = run_forever::submit(&client).unwrap();
    let needs_it = double::submit(&client, &endless).unwrap();
    client.cancel(&endless, "no longer needed").unwrap();
    let error = task_error(client.get(&needs_it));
    let FailureKind::Cancelled { reason } = error.kind() else { panic!("{error}") };
    assert!(reason.contains("no longer needed"), "{reason}");
    assert_all_slots_work(&client);
}

/// Submits a child whose argument says which attempt this is. The first attempt dies as soon as the
/// child runs, which then waits for ever.
#[task]
fn fickle(pipe: PathBuf) -> Result<u32, Error> {
    let again = std::fs::create_dir(pipe.with_extension("seen")).is_err();
    let client = manyhands::current().expect("a task has a client");
    let child = meet_and_wait::submit(&client, pipe.clone(), again)?;
    if !again {
        std::fs::OpenOptions::new().write(true).open(pipe).unwrap();
        std::process::abort()
    }
    client.get(&child)
}

#[task]
fn meet_and_wait(pipe: PathBuf, again: bool) -> u32 {
    std::fs::File::open(pipe).unwrap();
    loop {
        std::thread::park();
        std::hint::black_box(again);
    }
}

#[test]
fn a_second_attempt_that_submits_other_children_is_told_so_and_gets_no_wrong_result() {
    let client = two_slots();
    let pipe = Rendezvous::new();
    let error = task_error(client.compute(fickle::lazy(pipe.0.clone())));
    assert!(error.to_string().contains("the same calls in the same order"), "{error}");
}

#[test]
fn what_no_worker_can_ever_run_fails_at_once() {
    let client = two_slots();
    for (never, lacks) in [
        (double::lazy(1).cores(3.0), "worker-0 lacks 3 cores (it has 2)"),
        (double::lazy(1).resource("gpu", 0.5), "worker-0 lacks 0.5 gpu (it has 0)"),
        (double::lazy(1).memory(1 << 60), "worker-0 lacks 1024 PiB of memory (it has "),
    ] {
        let error = task_error(client.compute(never));
        let FailureKind::Infeasible { message } = error.kind() else { panic!("{error}") };
        assert!(message.contains(lacks), "{message}");
    }
}
