//! Tasks that wait for tasks.

use manyhands_proto::worker::Assignment;

use super::desk::{Desk, RUST, assignment, config, short, task};
use crate::{Event, ExecutorId};

/// One slot, two processes at most, and both started.
fn narrow() -> Desk {
    let mut config = config(1, 1 << 20);
    config.prestart = vec![RUST];
    config.processes_per_slot = 2;
    Desk::with(config).all_started(1)
}

fn started(n: u32) -> Event {
    Event::ExecutorStarted { executor: ExecutorId(n), pid: 100 + n }
}

#[test]
fn a_blocked_task_lends_its_slot_and_what_was_fed_behind_it() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..2);
    assert_eq!(short(&desk.blocks(0, 0, &[5])), ["take back 0 1", "blocked 0"]);
    assert_eq!(short(&desk.took_back(0, 1, true)), ["start 1"]);
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    assert_eq!(short(&desk.event(started)), ["feed 1 1"]);
    assert_eq!(short(&desk.unblocks(0, 0)), ["unblocked 0"]);
    // Two run on one slot now, so nothing more begins until both have ended.
    assert!(desk.assign_plain([7, 8]).is_empty());
    assert_eq!(short(&desk.end(0, 0, 5)), ["feed 1 7", "feed 1 8", "ended 0 ok"]);
    assert_eq!(short(&desk.end(1, 1, 5)), ["ended 1 ok"]);
}

#[test]
fn at_the_limit_what_a_task_waits_for_runs_in_place() {
    let mut desk = narrow();
    desk.assign_plain([0]);
    desk.blocks(0, 0, &[1]);
    assert_eq!(short(&desk.assign_plain([1])), ["start 1"]);
    desk.event(Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 });
    assert_eq!(short(&desk.blocks(1, 1, &[2])), ["blocked 1 at limit", "blocked 0 at limit"]);
    let child = Assignment { in_place_of: Some(task(1)), ..assignment(task(2)) };
    assert_eq!(short(&desk.assign(vec![child])), ["in place 1 2"]);
    assert_eq!(short(&desk.blocks(1, 2, &[3])), ["blocked 2 at limit"]);
    // One that was sent as any other helps too, if somebody here waits for it.
    assert_eq!(short(&desk.assign_plain([3, 4])), ["in place 1 3"]);
    assert_eq!(short(&desk.end(1, 3, 5)), ["ended 3 ok"]);
    assert_eq!(short(&desk.unblocks(1, 2)), ["unblocked 2"]);
    assert_eq!(short(&desk.end(1, 2, 5)), ["ended 2 ok"]);
    assert_eq!(short(&desk.unblocks(1, 1)), ["unblocked 1", "feed 1 4"]);
    assert_eq!(short(&desk.end(1, 1, 5)), ["ended 1 ok"]);
}

#[test]
fn help_for_a_task_lies_on_top_of_what_helps_it_already() {
    let mut desk = Desk::started(1);
    desk.assign_plain([0]);
    desk.blocks(0, 0, &[1]);
    let help = |n| Assignment { in_place_of: Some(task(0)), ..assignment(task(n)) };
    assert_eq!(short(&desk.assign(vec![help(1), help(2)])), ["in place 0 1"]);
    // Task 1 waits for task 2: to wait until task 0 lay uppermost again would be for ever.
    let out = short(&desk.blocks(0, 1, &[2]));
    assert_eq!(out, ["blocked 1", "in place 0 2"]);
    assert_eq!(short(&desk.end(0, 2, 5)), ["ended 2 ok"]);
}

#[test]
fn a_task_that_waits_for_room_is_no_reason_to_send_help() {
    let mut config = config(1, 1 << 20);
    config.processes_per_slot = 1;
    let mut desk = Desk::with(config);
    desk.assign_plain([0]);
    desk.event(started(0));
    assert_eq!(short(&desk.blocks(0, 0, &[])), ["blocked 0"]);
    assert!(desk.assign_plain([1]).is_empty(), "there may be one process");
    // Nothing else can go on: there is one more after a while, and then it is enough.
    assert!(desk.passes(99_000).is_empty());
    let due = desk.core.next_tick();
    assert_eq!(due, Some(desk.now + 1_000));
    assert_eq!(short(&desk.passes(1_000)), ["start 1"]);
    assert_eq!(short(&desk.event(started(1))), ["feed 1 1"]);
    assert!(desk.passes(200_000).is_empty(), "something runs");
    assert_eq!(short(&desk.unblocks(0, 0)), ["unblocked 0"]);
    assert_eq!(short(&desk.end(1, 1, 1)), ["ended 1 ok"]);
}

#[test]
fn there_is_an_end_to_processes_that_all_wait() {
    let mut config = config(1, 1 << 20);
    config.processes_per_slot = 1;
    let mut desk = Desk::with(config);
    let mut most = 0;
    for n in 0..10 {
        desk.assign_plain([u64::from(n)]);
        let mut started_one = n == 0;
        for _ in 0..2 {
            started_one |= short(&desk.passes(100_000)).contains(&format!("start {n}"));
        }
        if !started_one {
            break;
        }
        most = n + 1;
        desk.event(started(n));
        desk.blocks(n, u64::from(n), &[]);
    }
    assert_eq!(most, 4);
}

#[test]
fn what_was_to_run_in_place_of_a_task_that_waits_no_more_is_queued() {
    let mut desk = Desk::started(1);
    desk.assign_plain([0]);
    let child = Assignment { in_place_of: Some(task(0)), ..assignment(task(1)) };
    assert_eq!(short(&desk.assign(vec![child])), ["feed 0 1"]);
}

#[test]
fn a_death_ends_all_that_lay_on_the_stack() {
    let mut desk = narrow();
    desk.assign_plain([0]);
    desk.blocks(0, 0, &[1]);
    desk.assign_plain([1]);
    desk.event(Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 });
    desk.blocks(1, 1, &[2]);
    desk.assign_plain([2]);
    // Another executor can be had again, which the scheduler is told.
    assert_eq!(short(&desk.dies(1)), ["blocked 0", "ended 2 Died, 1 Died"]);
}
