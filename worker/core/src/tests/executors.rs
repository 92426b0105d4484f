//! Executors that die, do not start, or are too many.

use manyhands_proto::task::FailureKind;
use manyhands_proto::worker::{Assignment, FromWorker};

use super::desk::{Desk, assignment, segfault, short, task};
use crate::{Action, Event, ExecutorId};

#[test]
fn a_death_costs_one_attempt_of_one_task() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..4);
    let out = desk.dies(0);
    assert_eq!(short(&out), ["start 1", "ended 0 Died"]);
    let Action::ToScheduler(FromWorker::Ended { ends }) = &out[1] else { panic!("{out:?}") };
    assert_eq!(ends[0].pid, 100);
    assert_eq!(ends[0].result, Err(Box::new(FailureKind::Died(segfault()))));
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    assert_eq!(short(&desk.event(started)), ["feed 1 1", "feed 1 2", "feed 1 3"]);
    assert!(desk.dies(0).is_empty(), "a repeated death is ignored");
}

#[test]
fn an_idle_executor_that_dies_is_replaced_when_there_is_work() {
    let mut desk = Desk::started(1);
    desk.assign_plain([0]);
    desk.end(0, 0, 1);
    assert!(desk.dies(0).is_empty());
    assert_eq!(short(&desk.assign_plain([1])), ["start 1"]);
}

#[test]
fn executors_that_cannot_start_fail_the_tasks_that_wait_and_do_not_loop() {
    let mut desk = Desk::new(1);
    assert_eq!(short(&desk.assign_plain([1, 2])), ["start 0"]);
    let fail = |desk: &mut Desk, n| {
        let message = "no such file".to_owned();
        short(&desk.event(Event::StartFailed { executor: ExecutorId(n), message }))
    };
    assert_eq!(fail(&mut desk, 0), ["start 1"]);
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    desk.assign_plain([]);
    assert_eq!(fail(&mut desk, 1), ["start 2"]);
    assert_eq!(fail(&mut desk, 2), ["ended 1 Infeasible, 2 Infeasible"]);
    assert!(desk.event(started).is_empty(), "nobody knows that executor any more");
    assert_eq!(short(&desk.assign_plain([3])), ["start 3"], "a later task tries once more");
}

#[test]
fn an_executor_that_dies_before_any_task_counts_as_a_failed_start() {
    let mut desk = Desk::new(1);
    for n in 0..2 {
        desk.event(Event::ExecutorStarted { executor: ExecutorId(n), pid: 8 });
    }
    desk.assign_plain([]);
    assert_eq!(short(&desk.assign_plain([1])), ["start 0"]);
    for n in 0..2 {
        assert_eq!(short(&desk.dies(n)), [format!("start {}", n + 1)]);
    }
    assert_eq!(short(&desk.dies(2)), ["ended 1 Infeasible"]);
}

#[test]
fn the_spare_are_sent_away_after_a_while() {
    let mut desk = Desk::started(1);
    desk.assign_plain([0]);
    desk.blocks(0, 0, &[1]);
    assert_eq!(short(&desk.assign_plain([1])), ["start 1"]);
    desk.event(Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 });
    desk.end(1, 1, 5);
    assert!(desk.unblocks(0, 0).len() == 1);
    assert!(desk.passes(500_000).is_empty());
    let due = desk.core.next_tick().expect("a spare executor is not kept for ever");
    assert_eq!(due.since(desk.now), 500_000);
    assert_eq!(short(&desk.passes(500_000)), ["retire 1"]);
    assert!(desk.dies(1).is_empty());
    assert_eq!(short(&desk.end(0, 0, 5)), ["ended 0 ok"]);
}

#[test]
fn what_an_executor_that_leaves_was_fed_goes_to_others_and_counts_as_no_attempt() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..4);
    assert_eq!(short(&desk.end_and_leave(0, 0)), ["retire 0", "start 1", "ended 0 ok"]);
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    let out = desk.event(started);
    assert_eq!(short(&out), ["feed 1 1", "feed 1 2", "feed 1 3"]);
    let Action::Feed { run, .. } = &out[0] else { panic!("{out:?}") };
    assert_eq!(run.attempt, 0, "it has never run");
    assert!(desk.dies(0).is_empty(), "its end was expected");
}

#[test]
fn an_executor_that_leaves_ends_first_what_it_was_given_to_run_in_place() {
    let mut desk = Desk::started(1);
    desk.assign_plain([0]);
    desk.blocks(0, 0, &[1]);
    let child = Assignment { in_place_of: Some(task(0)), ..assignment(task(1)) };
    assert_eq!(short(&desk.assign(vec![child])), ["in place 0 1"]);
    desk.unblocks(0, 0);
    assert_eq!(short(&desk.end_and_leave(0, 0)), ["ended 0 ok"]);
    assert_eq!(short(&desk.end(0, 1, 1)), ["retire 0", "ended 1 ok"]);
}
