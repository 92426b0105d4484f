use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use rustix::event::{EventfdFlags, eventfd};

/// SplitMix64: the tests' only source of variety.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }
}

fn pair() -> (WorkerEnd, Tasks, Ends, OwnedFd) {
    let (worker, file) = WorkerEnd::create().unwrap();
    let (tasks, ends) = open(&file).unwrap();
    (worker, tasks, ends, file)
}

const LAST: u64 = u64::MAX;

/// Claims tasks and hands their numbers back until it claims [`LAST`]; sleeps when there is
/// nothing.
fn echo(mut tasks: Tasks, mut ends: Ends, worker: Arc<OwnedFd>) {
    let wake = |ends: &Ends| {
        if ends.wake_worker() {
            rustix::io::write(&*worker, &1u64.to_ne_bytes()).unwrap();
        }
    };
    loop {
        let Some(claim) = tasks.claim().unwrap() else {
            tasks.sleep(None, Tasks::has_more);
            continue;
        };
        let message = tasks.message(&claim).to_vec();
        tasks.release(claim);
        while !ends.push(7, &message) {
            wake(&ends);
            ends.wait_for_space(Duration::from_secs(1));
        }
        wake(&ends);
        if message[..8] == LAST.to_le_bytes() {
            return;
        }
    }
}

#[test]
fn every_task_is_either_run_or_taken_back_and_no_wake_up_is_lost() {
    const TASKS: u64 = 30_000;
    let (mut worker, tasks, ends, _file) = pair();
    let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let theirs = event.clone();
    let executor = std::thread::spawn(move || echo(tasks, ends, theirs));
    let (mut dice, mut next, mut fed) = (Dice(1), 0, Vec::new());
    let (mut run, mut taken, mut message) = (Vec::new(), Vec::new(), Vec::new());
    while run.last() != Some(&LAST) {
        for _ in 0..dice.roll(100) {
            let number = if next < TASKS { next } else { LAST };
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.resize(8 + dice.roll(500) as usize, number as u8);
            if next > TASKS {
                break;
            }
            let Some(position) = worker.feed(Kind::Message, 0, &bytes).unwrap() else { break };
            fed.push((number, position));
            next += 1;
        }
        worker.wake();
        // The newest are the likeliest not to have been claimed.
        if let Some((number, position)) = fed.pop()
            && number != LAST
            && dice.roll(2) == 0
            && worker.take_back(position)
        {
            assert!(!worker.take_back(position), "it can be taken back once");
            taken.push(number);
        }
        fed.clear();
        worker.set_sleeping(true);
        if !worker.has_ends() && next > TASKS {
            rustix::io::read(&*event, &mut [0; 8]).unwrap();
        }
        worker.set_sleeping(false);
        while let Some(mail) = worker.next_end(&mut message).unwrap() {
            let number = u64::from_le_bytes(message[..8].try_into().unwrap());
            assert_eq!(mail, 7);
            assert!(message[8..].iter().all(|&byte| byte == number as u8), "bytes of another");
            run.push(number);
        }
        worker.release();
    }
    executor.join().unwrap();
    assert!(run.is_sorted(), "tasks run in the order in which they were fed");
    let mut all = [run, taken].concat();
    all.sort_unstable();
    all.pop();
    assert_eq!(all, (0..TASKS).collect::<Vec<_>>());
}

#[test]
fn a_scribbled_ring_is_an_error_and_nothing_worse() {
    let mut found = 0;
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let (mut worker, _tasks, mut ends, file) = pair();
        let fed = worker.feed(Kind::Message, 0, b"a task").unwrap().unwrap();
        (0..dice.roll(50)).for_each(|_| assert!(ends.push(0, b"an end of a task")));
        let area = if dice.roll(2) == 0 { 1024 } else { FILE_SIZE as u64 - 1024 };
        for _ in 0..1 + dice.roll(40) {
            let scribble = dice.roll(u64::MAX).to_le_bytes();
            rustix::io::pwrite(&file, &scribble, dice.roll(area)).unwrap();
        }
        let mut message = Vec::new();
        let read = (0..2 * CAPACITY / 16).find_map(|_| worker.next_end(&mut message).transpose());
        found += u32::from(matches!(read, Some(Err(_))));
        worker.take_back(fed);
        worker.release();
        let full = (0..CAPACITY).find_map(|_| worker.feed(Kind::Message, 0, &[1; 999]).transpose());
        found += u32::from(matches!(full, Some(Err(_))));
    }
    assert!(found > 0, "not one of the scribbles was noticed");
}

#[test]
fn a_full_ring_refuses_and_takes_more_when_read() {
    let (mut worker, mut tasks, _ends, _file) = pair();
    let message = vec![1; MESSAGE_LIMIT];
    let mut fed = 0;
    while worker.feed(Kind::Message, 0, &message).unwrap().is_some() {
        fed += 1;
    }
    assert_eq!(fed, 3, "three of a quarter and their headers");
    let claim = tasks.claim().unwrap().unwrap();
    assert_eq!(tasks.message(&claim), message);
    assert!(worker.feed(Kind::Message, 0, &message).unwrap().is_none(), "it is still read");
    tasks.release(claim);
    let claim = tasks.claim().unwrap().unwrap();
    tasks.release(claim);
    assert!(worker.feed(Kind::Message, 0, &message).unwrap().is_some(), "around the end");
    let mut left = 0;
    while let Some(claim) = tasks.claim().unwrap() {
        assert_eq!(tasks.message(&claim), message);
        tasks.release(claim);
        left += 1;
    }
    assert_eq!(left, 2);
}

#[test]
fn an_entry_on_the_socket_is_seen_even_if_it_was_taken_back() {
    let (mut worker, mut tasks, _ends, _file) = pair();
    let first = worker.feed(Kind::OnSocket, 1, &[]).unwrap().unwrap();
    let second = worker.feed(Kind::Message, 1, b"gone").unwrap().unwrap();
    worker.feed(Kind::Message, 1, b"here").unwrap().unwrap();
    assert!(worker.take_back(first) && worker.take_back(second));
    let claim = tasks.claim().unwrap().unwrap();
    assert!(claim.kind == Kind::OnSocket && claim.taken, "its bytes must be dropped");
    tasks.release(claim);
    let claim = tasks.claim().unwrap().unwrap();
    assert!(!claim.taken);
    assert_eq!(tasks.message(&claim), b"here");
}

#[test]
fn a_signal_is_for_the_current_attempt_or_for_nobody() {
    let (mut worker, _tasks, ends, _file) = pair();
    let signalled = ends.signalled();
    ends.set_current(11);
    assert!(worker.interrupt(11));
    ends.set_current(13);
    assert!(!signalled.arrived(), "the one that it was for has ended");
    assert!(!ends.signal_is_due());
    ends.set_current(11);
    assert!(signalled.arrived());
    ends.set_current(0);
    assert!(!signalled.arrived());
}

#[test]
fn an_interrupt_is_signalled_to_the_running_attempt_alone() {
    let (mut worker, _tasks, ends, _file) = pair();
    ends.set_current(11);
    assert!(!worker.interrupt(13), "another one runs");
    assert!(ends.is_interrupted(13) && !ends.is_interrupted(11));
    assert!(!ends.signal_is_due());
    assert!(worker.interrupt(11));
    assert!(ends.is_interrupted(11) && ends.is_interrupted(13) && ends.signal_is_due());
}
