//! Real executors: processes of this test binary, taken over before its `main`.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use manyhands_executor::context::{self, Waited};
use manyhands_executor::{Arg, Invocation};
use manyhands_proto::TaskId;
use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::executor::{Extent, FromExecutor, Place, ReturnedBytes, Run, ToExecutor};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::Codec;
use manyhands_worker::host::HostEvent;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

mod crew;
use crew::{Crew, LIMIT, run, run_with, task};

type Outcome = Result<(), FailureKind>;

tasks!(
    nothing,
    echo,
    twice,
    fall_over,
    wait_for_nothing,
    helped,
    segfault,
    overflow,
    give_up,
    leave,
    swallow,
    shout,
    wait_for_signal,
    nap,
    wait_for_child,
    size_of_first,
    keep_first,
    make_large,
    spawn_sleeper,
    scribble,
    babble,
    deep,
    spy,
);

fn argument<'a>(call: &Invocation<'a>) -> Result<Vec<u8>, FailureKind> {
    match call.arg(0)? {
        Arg::One(value) => Ok(value.as_slice().to_vec()),
        Arg::List(_) => Err(FailureKind::Value { message: "a list".into() }),
    }
}

fn nothing(call: &mut Invocation<'_>) -> Outcome {
    call.return_bytes(Codec::RAW, Vec::new(), b"")
}

fn echo(call: &mut Invocation<'_>) -> Outcome {
    let bytes = argument(call)?;
    call.return_bytes(Codec::RAW, Vec::new(), &bytes)
}

fn twice(call: &mut Invocation<'_>) -> Outcome {
    echo(call)?;
    echo(call)
}

fn fall_over(call: &mut Invocation<'_>) -> Outcome {
    panic!("{} has fallen over", call.task())
}

fn segfault(_call: &mut Invocation<'_>) -> Outcome {
    // SAFETY: it is not: dying of it is the test.
    unsafe { std::ptr::null_mut::<u32>().write_volatile(1) };
    Ok(())
}

fn overflow(call: &mut Invocation<'_>) -> Outcome {
    fn down(depth: u64) -> u64 {
        let room = std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { room[0] + down(depth + 1) }
    }
    call.return_bytes(Codec::RAW, Vec::new(), &down(1).to_le_bytes())
}

fn give_up(_call: &mut Invocation<'_>) -> Outcome {
    eprintln!("I give up");
    std::process::abort()
}

fn leave(_call: &mut Invocation<'_>) -> Outcome {
    std::process::exit(3)
}

fn swallow(call: &mut Invocation<'_>) -> Outcome {
    let limit = rustix::process::Rlimit { current: Some(2 << 30), maximum: Some(2 << 30) };
    rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
    call.return_bytes(Codec::RAW, Vec::new(), &vec![1; 4 << 30])
}

fn shout(call: &mut Invocation<'_>) -> Outcome {
    print!("out {}", String::from_utf8_lossy(&argument(call)?));
    eprintln!("err");
    nothing(call)
}

/// Waits until it shall stop. A signal that comes just before the wait begins costs five seconds.
fn wait_for_signal(call: &mut Invocation<'_>) -> Outcome {
    while !context::is_cancelled() {
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 5, tv_nsec: 0 }));
    }
    call.return_bytes(Codec::RAW, Vec::new(), b"stopped")
}

/// Sleeps for a moment, and says whether a signal interrupted it.
fn nap(call: &mut Invocation<'_>) -> Outcome {
    let moment = Timespec { tv_sec: 0, tv_nsec: 300_000 };
    let woken = poll(&mut [], Some(&moment)) == Err(rustix::io::Errno::INTR);
    call.return_bytes(Codec::RAW, Vec::new(), &[u8::from(woken)])
}

/// Waits until it is told that the first task of its lane has ended.
fn wait_for_child(call: &mut Invocation<'_>) -> Outcome {
    let current = context::current().expect("a task runs");
    let child =
        TaskId { lane: current.lane(), seq: context::take_numbers(1).unwrap(), ..current.task };
    context::send(FromClient::Want { objects: vec![child.object(0)] }).unwrap();
    let told = std::cell::Cell::new(false);
    let waited = context::block(
        &[child.object(0)],
        &mut |message| told.set(matches!(message, ToClient::Refused { .. })),
        &mut || told.get(),
        None,
    );
    assert_eq!(waited, Ok(Waited::Done));
    assert_eq!(context::current(), Some(current), "what ran on top is gone");
    call.return_bytes(Codec::RAW, Vec::new(), b"waited")
}

/// Waits for what never comes: first for a moment, then for ever.
fn wait_for_nothing(call: &mut Invocation<'_>) -> Outcome {
    let wait = |timeout| {
        let nothing = call.task().object(1);
        context::block(&[nothing], &mut |_| (), &mut || false, timeout)
    };
    assert_eq!(wait(Some(std::time::Duration::from_millis(1))), Ok(Waited::TimedOut));
    assert_eq!(wait(None), Err(context::ContextError::Cancelled(call.task())));
    call.return_bytes(Codec::RAW, Vec::new(), b"cancelled")
}

/// Waits for a signal with threads beside it that could take it.
fn helped(call: &mut Invocation<'_>) -> Outcome {
    (0..4).for_each(|_| drop(std::thread::spawn(|| poll(&mut [], None))));
    wait_for_signal(call)
}

fn size_of_first(call: &mut Invocation<'_>) -> Outcome {
    let bytes = argument(call)?;
    assert!(bytes.iter().all(|&byte| byte == 7));
    call.return_bytes(Codec::RAW, Vec::new(), &bytes.len().to_le_bytes())
}

/// Returns the first byte of what the first of these tasks was given, and of what this one was.
fn keep_first(call: &mut Invocation<'_>) -> Outcome {
    static KEPT: std::sync::OnceLock<bytes::Bytes> = std::sync::OnceLock::new();
    let Arg::One(loaded) = call.arg(0)? else { panic!("it is given no list") };
    let (kept, now) = (KEPT.get_or_init(|| loaded.to_bytes()), loaded.as_slice());
    assert!(kept.iter().all(|byte| *byte == kept[0]) && now.iter().all(|byte| *byte == now[0]));
    call.return_bytes(Codec::RAW, Vec::new(), &[kept[0], now[0]])
}

fn make_large(call: &mut Invocation<'_>) -> Outcome {
    call.return_bytes(Codec::RAW, Vec::new(), &vec![5; 100_000])?;
    call.return_value(Codec::RAW, Vec::new(), |buffer| {
        buffer.extend_from_slice(&[6; 200_000]);
        Ok::<(), String>(())
    })
}

/// Starts a process and says which, without waiting for it. With an argument: out of our group.
fn spawn_sleeper(call: &mut Invocation<'_>) -> Outcome {
    let own_session = !argument(call)?.is_empty();
    let mut command = Command::new(if own_session { "setsid" } else { "sleep" });
    let arguments: &[&str] = if own_session { &["sleep", "1000"] } else { &["1000"] };
    #[expect(clippy::zombie_processes, reason = "that nobody waits for it is the test")]
    let child = command.args(arguments).spawn().unwrap();
    call.return_bytes(Codec::RAW, Vec::new(), &child.id().to_le_bytes())
}

/// Writes nonsense over the ring file, and says something so that the daemon looks.
fn scribble(call: &mut Invocation<'_>) -> Outcome {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ring = maps.lines().find(|line| line.contains("manyhands-ring")).expect("it is mapped");
    let start = usize::from_str_radix(ring.split('-').next().unwrap(), 16).unwrap();
    // SAFETY: it is mapped for writing; what becomes of this process does not matter any more.
    unsafe { std::ptr::write_bytes((start + 320) as *mut u8, 0xaa, 8) };
    context::send(FromClient::CloseJob { job: call.task().job }).unwrap();
    context::flush();
    wait_for_signal(call)
}

/// Writes a frame of nonsense to all sockets that it finds.
fn babble(call: &mut Invocation<'_>) -> Outcome {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().starts_with("socket:") {
            let fd: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            // SAFETY: the descriptor is open; it is not closed here.
            let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            rustix::io::write(fd, &[2, 0, 0, 0, 0xc1, 0xc1]).unwrap();
        }
    }
    nothing(call)
}

fn deep(call: &mut Invocation<'_>) -> Outcome {
    fn down(depth: u32, seed: u8) -> u64 {
        let room = std::hint::black_box([seed; 1024]);
        if depth == 0 { 0 } else { 1 + down(depth - 1, room[depth as usize % 1024]) }
    }
    assert_eq!(down(100_000, 1), 100_000);
    nothing(call)
}

/// What an executor inherited that it should not have.
fn spy(call: &mut Invocation<'_>) -> Outcome {
    let secrets = std::env::vars().filter(|(name, _)| name.starts_with("MANYHANDS_")).count();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    call.return_bytes(Codec::RAW, Vec::new(), &[secrets as u8, files as u8])
}

fn inline(end: &manyhands_proto::executor::End) -> &[u8] {
    match &end.result.as_ref().expect("it ended well")[0].bytes {
        ReturnedBytes::Inline(bytes) => bytes,
        ReturnedBytes::Extent(extent) => panic!("it lies in {extent:?}"),
    }
}

#[test]
fn a_task_goes_there_and_back() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run_with("echo", 1, b"hello"));
    let pid = crew.until("an executor", |event| match event {
        HostEvent::Started { pid, .. } => Some(*pid),
        _ => None,
    });
    assert_ne!(pid, std::process::id());
    let end = crew.end();
    assert_eq!((end.task, end.attempt, inline(&end)), (task(1), 0, &b"hello"[..]));
    assert!(crew.host.memory_used(executor).is_some_and(|used| used > 0));
}

#[test]
fn a_panic_is_an_error_with_its_place_and_backtrace_and_the_next_task_runs() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run("fall_over", 1));
    crew.feed(executor, &run("nobody_knows", 2));
    crew.feed(executor, &run("nothing", 3));
    let Err(failure) = crew.end().result else { panic!("it ended well") };
    let FailureKind::Panicked { message, backtrace } = *failure else { panic!("{failure:?}") };
    assert!(message.contains("has fallen over") && message.contains("host.rs:"), "{message}");
    assert!(backtrace.contains("fall_over"), "{backtrace}");
    let Err(failure) = crew.end().result else { panic!("it ended well") };
    assert!(matches!(&*failure, FailureKind::Value { message } if message.contains("no function")));
    assert_eq!(inline(&crew.end()), b"");
}

#[test]
fn an_executor_that_dies_says_how_and_which_task_it_ran() {
    let cases = [
        ("segfault", Some(11), None),
        ("overflow", Some(11), None),
        ("give_up", Some(6), None),
        ("leave", None, Some(3)),
        ("swallow", Some(6), None),
    ];
    let mut crew = Crew::new();
    for (function, signal, exit_code) in cases {
        let executor = crew.executor();
        let runs = [run("nothing", 1), run("nothing", 2), run(function, 3), run("nothing", 4)];
        runs.iter().for_each(|run| crew.host.feed(executor, run).unwrap());
        crew.host.flush();
        assert_eq!((crew.end().task, crew.end().task), (task(1), task(2)), "ends before the death");
        let (id, death, running) = crew.death();
        assert_eq!((id, running), (executor, Some((task(3), 0))), "{function}");
        assert_eq!((death.signal, death.exit_code), (signal, exit_code), "{function}");
        assert!(death.peak_memory > 100_000, "{death:?}");
        let word = match function {
            "give_up" => "I give up",
            "swallow" => "memory allocation",
            "segfault" => "memory that is not there",
            "overflow" => "overflowed its stack",
            _ => "",
        };
        assert!(death.stderr_tail.contains(word), "{function}: {death:?}");
    }
}

#[test]
fn an_idle_executor_retires_after_what_it_was_fed() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.host.feed(executor, &run("nothing", 1)).unwrap();
    crew.host.retire(executor);
    crew.host.flush();
    assert_eq!(crew.end().task, task(1));
    let (_, death, running) = crew.death();
    assert_eq!((death.exit_code, running), (Some(0), None));
}

#[test]
fn what_was_not_claimed_can_be_taken_back() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run("nothing", 1));
    crew.feed(executor, &run("wait_for_signal", 2));
    crew.end();
    crew.feed(executor, &run("nothing", 3));
    crew.feed(executor, &run("nothing", 4));
    assert!(crew.host.take_back(executor, task(3), 0));
    assert!(!crew.host.take_back(executor, task(3), 0), "it was taken back before");
    assert!(!crew.host.take_back(executor, task(9), 0), "it was never there");
    // The second is claimed by now or will be: until then it can still be taken back.
    crew.host.interrupt(executor, task(2), 0);
    let end = crew.end();
    assert_eq!((end.task, inline(&end)), (task(2), &b"stopped"[..]));
    assert_eq!(crew.end().task, task(4));
    assert!(!crew.host.take_back(executor, task(4), 0), "it has ended");
}

#[test]
fn a_late_signal_never_reaches_the_next_task() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    for round in 0..400 {
        crew.host.feed(executor, &run("echo_of_nobody", 3 * round)).unwrap();
        crew.host.feed(executor, &run("nap", 3 * round + 1)).unwrap();
        crew.host.feed(executor, &run("nap", 3 * round + 2)).unwrap();
        crew.host.flush();
        // Sooner or later in the first task's short life, or just after it.
        (0..round * 20).for_each(|_| std::hint::spin_loop());
        crew.host.interrupt(executor, task(3 * round), 0);
        crew.end();
        crew.host.interrupt(executor, task(3 * round + 1), 0);
        crew.end();
        assert_eq!(inline(&crew.end()), [0], "round {round}: a signal came to the third task");
    }
}

#[test]
fn what_tasks_print_is_there_with_their_ends() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run_with("shout", 1, b"one"));
    let printed = crew.end().printed;
    assert_eq!(printed, Some((7, 4)));
    crew.feed(executor, &run_with("shout", 2, b"two"));
    crew.end();
    assert_eq!(crew.host.output(executor, printed), (b"out one".to_vec(), b"err\n".to_vec()));
    assert_eq!(crew.host.output(executor, None), (b"out two".to_vec(), b"err\n".to_vec()));
    assert_eq!(crew.host.output(executor, None), (vec![], vec![]));
}

#[test]
fn large_tasks_and_ends_keep_their_order() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    let large = vec![3; 300_000];
    crew.host.feed(executor, &run_with("echo", 1, b"small")).unwrap();
    crew.host.feed(executor, &run_with("size_of_first", 2, &[7; 300_000])).unwrap();
    crew.host.feed(executor, &run_with("twice", 3, &large[..60_000])).unwrap();
    crew.host.feed(executor, &run_with("echo", 4, b"small")).unwrap();
    crew.host.flush();
    assert_eq!(inline(&crew.end()), b"small");
    assert_eq!(inline(&crew.end()), 300_000usize.to_le_bytes());
    let end = crew.end();
    assert_eq!((end.task, inline(&end)), (task(3), &large[..60_000]));
    assert_eq!(crew.end().task, task(4));
}

#[test]
fn more_than_the_ring_holds_waits_for_room() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    for seq in 0..2_000 {
        let bytes = vec![seq as u8; if seq % 100 == 7 { 70_000 } else { 1_000 }];
        crew.host.feed(executor, &run_with("echo", seq, &bytes[..1_000.min(bytes.len())])).unwrap();
        if bytes.len() > 1_000 {
            crew.host
                .feed(executor, &run_with("size_of_first", 10_000 + seq, &vec![7; 70_000]))
                .unwrap();
        }
    }
    // Some of those that wait for room: the last one has not been claimed for sure.
    assert!(crew.host.take_back(executor, task(1_999), 0));
    crew.host.flush();
    for seq in 0..1_999 {
        let end = crew.end();
        assert_eq!((end.task, inline(&end)), (task(seq), &vec![seq as u8; 1_000][..]));
        if seq % 100 == 7 {
            assert_eq!(crew.end().task, task(10_000 + seq));
        }
    }
    crew.feed(executor, &run("nothing", 5_000));
    assert_eq!(crew.end().task, task(5_000));
}

#[test]
fn a_blocked_task_runs_another_on_top_of_itself() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    let parent = task(1);
    let child = TaskId { lane: parent.child_lane(), seq: 0, ..parent };
    crew.feed(executor, &run("wait_for_child", 1));
    crew.feed(executor, &run("nothing", 2));
    let said = |crew: &mut Crew, what| {
        crew.until(what, |event| match event {
            HostEvent::Message { message, .. } => Some(message.clone()),
            HostEvent::Ended { end, .. } => panic!("{} ended early", end.task),
            _ => None,
        })
    };
    let wants = said(&mut crew, "what it says");
    assert!(matches!(wants, FromExecutor::Client { message: FromClient::Want { .. }, .. }));
    let blocked = said(&mut crew, "that it is blocked");
    let waits_for = vec![child.object(0)];
    assert_eq!(blocked, FromExecutor::Blocked { task: parent, attempt: 0, waits_for });
    crew.host
        .run_in_place(executor, &Run { task: child, ..run_with("echo", 0, b"child") })
        .unwrap();
    crew.host.flush();
    let end = crew.end();
    assert_eq!((end.task, inline(&end)), (child, &b"child"[..]));
    let message = ToClient::Refused { message: "as a sign".into() };
    crew.host.send(executor, &ToExecutor::Client { task: parent, message }, None);
    crew.host.flush();
    assert_eq!(
        said(&mut crew, "that it goes on"),
        FromExecutor::Unblocked { task: parent, attempt: 0 }
    );
    assert_eq!(inline(&crew.end()), b"waited");
    assert_eq!(crew.end().task, task(2));
}

#[test]
fn a_blocked_task_that_shall_stop_does() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    for seq in 0..50 {
        crew.feed(executor, &run("wait_for_nothing", seq));
        for _ in 0..2 {
            crew.until("a task that waits", |event| match event {
                HostEvent::Message { message: FromExecutor::Blocked { .. }, .. } => Some(()),
                _ => None,
            });
        }
        crew.host.interrupt(executor, task(seq), 0);
        assert_eq!(inline(&crew.end()), b"cancelled");
    }
}

#[test]
fn a_signal_reaches_a_task_that_has_threads() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    let start = std::time::Instant::now();
    for seq in 0..10 {
        crew.feed(executor, &run_with("shout", 100 + seq, b"here"));
        crew.end();
        crew.feed(executor, &run("helped", seq));
        while crew.host.take_back(executor, task(seq), 0) {
            crew.feed(executor, &run("helped", seq));
        }
        crew.host.interrupt(executor, task(seq), 0);
        assert_eq!(inline(&crew.end()), b"stopped");
    }
    assert!(start.elapsed() < LIMIT, "most signals did not interrupt the wait");
}

#[test]
fn large_values_lie_in_segments() {
    const SIZE: u64 = 1 << 20;
    let segment: OwnedFd =
        rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&segment, SIZE).unwrap();
    rustix::io::pwrite(&segment, &[7; 70_000], 4096).unwrap();
    let mut crew = Crew::new();
    let executor = crew.executor();
    for writable in [false, true] {
        let message = ToExecutor::Segment { segment: 5, writable, size: SIZE };
        crew.host.send(executor, &message, Some(segment.as_fd()));
    }
    let extent = Extent { segment: 5, offset: 4096, len: 70_000 };
    let inputs = vec![Place::Extent { extent, codec: Codec::RAW }];
    let args = [1, 0, 0, 0, 0].to_vec().into();
    crew.feed(executor, &Run { args, inputs, ..run("size_of_first", 1) });
    assert_eq!(inline(&crew.end()), 70_000usize.to_le_bytes());

    crew.feed(executor, &Run { outputs: 2, ..run("make_large", 2) });
    for (wished, offset) in [(100_000, 128 << 10), (200_000, 512 << 10)] {
        let (request, size) = crew.until("a wish for memory", |event| match event {
            HostEvent::Message { message: FromExecutor::Alloc { request, size, .. }, .. } => {
                Some((*request, *size))
            }
            _ => None,
        });
        assert_eq!(size, wished);
        let extent = Ok(Extent { segment: 5, offset, len: 256 << 10 });
        crew.host.send(executor, &ToExecutor::Granted { request, extent }, None);
        crew.host.flush();
    }
    let places: Vec<_> = crew.end().result.unwrap().into_iter().map(|value| value.bytes).collect();
    let at = |offset, len| ReturnedBytes::Extent(Extent { segment: 5, offset, len });
    assert_eq!(places, [at(128 << 10, 100_000), at(512 << 10, 200_000)]);
    for (offset, len, byte) in [(128 << 10, 100_000, 5), (512 << 10, 200_000, 6)] {
        let mut bytes = vec![0; len];
        rustix::io::pread(&segment, &mut bytes, offset).unwrap();
        assert!(bytes.iter().all(|&other| other == byte));
    }
}

#[test]
fn what_a_task_keeps_of_a_segment_does_not_change_under_it() {
    const SIZE: u64 = 1 << 20;
    let segment: OwnedFd =
        rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&segment, SIZE).unwrap();
    let fill = |byte: u8| rustix::io::pwrite(&segment, &[byte; 70_000], 4096).unwrap();
    fill(7);
    let mut crew = Crew::new();
    let executor = crew.executor();
    let message = ToExecutor::Segment { segment: 5, writable: false, size: SIZE };
    crew.host.send(executor, &message, Some(segment.as_fd()));
    let extent = Extent { segment: 5, offset: 4096, len: 70_000 };
    let place = || vec![Place::Extent { extent, codec: Codec::RAW }];
    let args: bytes::Bytes = [1, 0, 0, 0, 0].to_vec().into();
    crew.feed(executor, &Run { args: args.clone(), inputs: place(), ..run("keep_first", 1) });
    assert_eq!(inline(&crew.end()), [7, 7], "as it was, in the task that keeps it");
    fill(8);
    crew.feed(executor, &Run { args, inputs: place(), ..run("keep_first", 2) });
    assert_eq!(inline(&crew.end()), [7, 8], "what was kept, and what is there now");
}

/// A process that can be waited for, though it is no child of ours.
fn watch(pid: u32) -> OwnedFd {
    pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).expect("it is alive")
}

fn await_death(process: &OwnedFd, what: &str) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as _, tv_nsec: 0 };
    let died = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit));
    assert_eq!(died, Ok(1), "waited {LIMIT:?} for the death of {what}");
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn what_a_task_started_dies_with_its_executor() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run_with("spawn_sleeper", 1, b""));
    let sleeper = watch(number(inline(&crew.end())));
    crew.feed(executor, &run("give_up", 2));
    crew.death();
    await_death(&sleeper, "what a task had started");

    let executor = crew.executor();
    crew.feed(executor, &run_with("spawn_sleeper", 3, b""));
    let sleeper = watch(number(inline(&crew.end())));
    crew.host.kill(executor);
    let (_, death, running) = crew.death();
    assert_eq!((death.signal, running), (Some(9), None));
    await_death(&sleeper, "what a task had started");
}

#[test]
fn dropping_the_host_leaves_nobody() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run_with("spawn_sleeper", 1, b"own session"));
    let escaped = watch(number(inline(&crew.end())));
    let template = watch(crew.host.template_pid().unwrap());
    drop(crew);
    await_death(&template, "the template");
    await_death(&escaped, "a process in a session of its own");
}

#[test]
fn when_the_template_dies_all_executors_do_and_new_ones_can_be_started() {
    let mut crew = Crew::new();
    let first = crew.executor();
    crew.feed(first, &run("nothing", 1));
    crew.end();
    let template = crew.host.template_pid().unwrap();
    rustix::process::kill_process(Pid::from_raw(template as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(crew.death().0, first);
    let second = crew.executor();
    crew.feed(second, &run("nothing", 2));
    assert_eq!(crew.end().task, task(2));
    assert_ne!(crew.host.template_pid(), Some(template));
}

#[test]
fn an_executor_that_breaks_the_rules_costs_itself_alone() {
    let mut crew = Crew::new();
    let good = crew.executor();
    for (function, word) in [("scribble", "ring file is corrupt"), ("babble", "it sent a ")] {
        let bad = crew.executor();
        crew.feed(bad, &run(function, 1));
        let (id, death, _) = crew.death();
        assert_eq!((id, death.signal), (bad, Some(9)), "{death:?}");
        assert!(death.stderr_tail.contains(word), "{death:?}");
        crew.feed(good, &run("nothing", 2));
        assert_eq!(crew.end().task, task(2));
    }
}

#[test]
fn tasks_have_a_deep_stack() {
    let mut crew = Crew::new();
    let executor = crew.executor();
    crew.feed(executor, &run("deep", 1));
    assert_eq!(crew.end().task, task(1));
}

/// The daemon of the next test: not a test of its own.
#[test]
#[ignore = "run by daemon_killed_leaves_nobody"]
fn daemon() {
    let mut crew = Crew::new();
    let mut pids = vec![crew.host.template_pid().unwrap()];
    for seq in 0..2 {
        let executor = crew.executor();
        crew.feed(executor, &run_with("spawn_sleeper", seq, &vec![1; seq as usize]));
        pids.push(crew.until("an executor", |event| match event {
            HostEvent::Started { pid, .. } => Some(*pid),
            _ => None,
        }));
        pids.push(number(inline(&crew.end())));
        crew.feed(executor, &run("spy", 10));
        let end = crew.end();
        assert_eq!(inline(&end)[0], 0, "secrets in the environment");
        assert!(inline(&end)[1] <= 12, "{} descriptors", inline(&end)[1]);
        crew.feed(executor, &run("wait_for_signal", 11));
    }
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    println!("\npids {}", pids.join(" "));
    std::io::stdout().flush().unwrap();
    crew.end();
}

#[test]
fn daemon_killed_leaves_nobody() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "daemon", "--ignored", "--nocapture"]);
    command.env("MANYHANDS_SECRET", "not for tasks").stdout(std::process::Stdio::piped());
    let mut daemon = command.spawn().unwrap();
    let mut output = std::io::BufReader::new(daemon.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("pids ") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_ne!(read, 0, "the daemon ended early");
    }
    let pids: Vec<u32> = line[5..].split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 5);
    let processes: Vec<_> = pids.into_iter().map(watch).collect();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for process in &processes {
        await_death(process, "a process of the killed daemon");
    }
}
