//! Feeding: heads, ahead, back again; retraction; order.

use std::sync::Arc;

use manyhands_proto::client::TaskState;
use manyhands_proto::task::{FailureKind, TaskOptions};
use manyhands_proto::worker::{Assignment, FromWorker, ToWorker};

use super::desk::{Desk, assignment, short, task};
use crate::{Action, Event, ExecutorId};

fn options(change: impl FnOnce(&mut TaskOptions)) -> Arc<TaskOptions> {
    let mut options = TaskOptions::default();
    change(&mut options);
    Arc::new(options)
}

#[test]
fn executors_start_when_there_is_work_and_no_more_than_slots() {
    let mut desk = Desk::new(2);
    assert_eq!(short(&desk.assign_plain(0..1)), ["start 0"]);
    assert_eq!(short(&desk.assign_plain(1..5)), ["start 1"]);
    let started = Event::ExecutorStarted { executor: ExecutorId(0), pid: 7 };
    // One of unknown duration runs and its share of the rest goes behind it.
    assert_eq!(short(&desk.event(started)), ["feed 0 0", "feed 0 1", "feed 0 2"]);
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    assert_eq!(short(&desk.event(started)), ["feed 1 3", "feed 1 4"]);
}

#[test]
fn measured_tasks_are_fed_for_two_milliseconds_ahead() {
    let mut desk = Desk::started(1);
    assert_eq!(desk.assign_plain(0..100).len(), 3);
    let fed = short(&desk.end(0, 0, 500));
    // Behind task 1, which runs, lie task 2 (once unknown: 2 ms) and then no more.
    assert_eq!(fed, ["ended 0 ok"]);
    let fed = short(&desk.end(0, 1, 500));
    assert_eq!(fed, ["feed 0 3", "feed 0 4", "feed 0 5", "feed 0 6", "ended 1 ok"]);
}

#[test]
fn urgent_tasks_overtake_those_that_came_before() {
    let mut desk = Desk::started(1);
    desk.assign_plain([10]);
    desk.assign_plain([11]);
    let urgent = Assignment { order: 1, ..assignment(task(13)) };
    let fed = short(&desk.assign(vec![assignment(task(12)), urgent]));
    assert_eq!(fed, ["feed 0 13"]);
}

#[test]
fn the_same_assignment_twice_runs_once() {
    let mut desk = Desk::started(1);
    assert_eq!(short(&desk.assign_plain([1])), ["feed 0 1"]);
    assert!(desk.assign_plain([1]).is_empty());
    assert_eq!(short(&desk.end(0, 1, 5)), ["ended 1 ok"]);
    assert!(desk.end(0, 1, 5).is_empty(), "a repeated end is ignored");
}

#[test]
fn what_waits_behind_a_long_task_goes_to_an_idle_executor() {
    let mut desk = Desk::started(2);
    // The idle one of the two gets the first, the other the second; one more behind each.
    assert_eq!(short(&desk.assign_plain(0..4)), ["feed 1 0", "feed 0 1", "feed 0 2", "feed 1 3"]);
    assert_eq!(short(&desk.end(0, 1, 10)), ["ended 1 ok"]);
    assert_eq!(short(&desk.end(0, 2, 10)), ["ended 2 ok"]);
    let due = desk.core.next_tick().expect("task 3 must not wait for long");
    assert!(desk.passes(due.since(desk.now) - 1).is_empty());
    assert_eq!(short(&desk.passes(1)), ["take back 1 3"]);
    assert_eq!(short(&desk.took_back(1, 3, true)), ["feed 0 3"]);
}

#[test]
fn a_refused_take_back_loses_nothing() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..2);
    let retract = ToWorker::Retract { tasks: vec![(task(0), 0), (task(1), 0), (task(9), 0)] };
    assert_eq!(short(&desk.scheduler(retract.clone())), ["take back 0 1", "given [] kept [0, 9]"]);
    let again = short(&desk.scheduler(retract));
    assert_eq!(again, ["given [] kept [0, 9]"], "one answer is under way");
    assert_eq!(short(&desk.took_back(0, 1, false)), ["given [] kept [1]"]);
    assert_eq!(short(&desk.end(0, 0, 5)), ["ended 0 ok"]);
    assert_eq!(short(&desk.end(0, 1, 5)), ["ended 1 ok"]);
    assert!(desk.took_back(0, 1, true).is_empty(), "a stale answer is ignored");
}

#[test]
fn retracted_tasks_go_back_from_the_queue_and_from_the_ring() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..5);
    let tasks = vec![(task(1), 0), (task(4), 0), (task(4), 1)];
    let out = desk.scheduler(ToWorker::Retract { tasks });
    assert_eq!(short(&out), ["take back 0 1", "given [4] kept [4]"]);
    assert_eq!(short(&desk.took_back(0, 1, true)), ["feed 0 3", "given [1] kept []"]);
}

#[test]
fn tasks_with_limits_or_other_shapes_are_fed_to_the_idle_only() {
    let mut desk = Desk::started(2);
    let limited = options(|o| o.time_limit_us = Some(1_000_000));
    let wide = options(|o| o.resources.millicores = 2000);
    desk.assign_plain([0]);
    let limited = Assignment { options: limited, ..assignment(task(1)) };
    assert_eq!(short(&desk.assign(vec![limited.clone()])), ["feed 0 1"]);
    let second = Assignment { task: task(2), order: 2, ..limited };
    let wide = Assignment { options: wide, ..assignment(task(3)) };
    // Both cores are kept for the wide one from now on, so the plain task behind it waits too.
    assert!(desk.assign(vec![second, wide, assignment(task(4))]).is_empty());
    assert_eq!(short(&desk.end(1, 0, 5)), ["feed 1 2", "ended 0 ok"]);
    assert_eq!(short(&desk.end(0, 1, 5)), ["ended 1 ok"]);
    assert_eq!(short(&desk.end(1, 2, 5)), ["feed 1 3", "ended 2 ok"]);
    assert_eq!(short(&desk.end(1, 3, 5)), ["feed 1 4", "ended 3 ok"]);
}

#[test]
fn what_can_never_run_here_is_refused() {
    let mut desk = Desk::started(1);
    let options = options(|o| o.resources.named = vec![("gpu".to_owned(), 1)]);
    let ended = desk.assign(vec![Assignment { options, ..assignment(task(1)) }]);
    assert_eq!(short(&ended), ["ended 1 Infeasible"]);
    let ended = desk.assign(vec![Assignment { function: 9, ..assignment(task(2)) }]);
    assert_eq!(short(&ended), ["ended 2 Value"]);
}

#[test]
fn half_a_core_lets_two_run_on_one() {
    let mut desk = Desk::started(1);
    let options = options(|o| o.resources.millicores = 500);
    let half = |n| Assignment { options: options.clone(), ..assignment(task(n)) };
    assert_eq!(short(&desk.assign(vec![half(0), half(1), half(2)])), ["feed 0 0", "start 1"]);
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    assert_eq!(short(&desk.event(started)), ["feed 1 1"]);
}

#[test]
fn every_state_has_its_reason() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..6);
    let mut ask = |n| {
        let out = desk.scheduler(ToWorker::Explain { query: 1, task: task(n) });
        match &out[0] {
            Action::ToScheduler(FromWorker::Explained { explanation, .. }) => explanation.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (ask(0).state, ask(0).reason.as_str()),
        (TaskState::Running, "has run for 0 us, with pid 100")
    );
    let fed = "fed to the executor with pid 100 behind the running task f0 (job-00000007/1.0)";
    assert_eq!((ask(1).state, ask(1).reason.as_str()), (TaskState::Assigned, fed));
    assert_eq!(ask(5).reason, "queued on worker-3 behind 2 others");
    assert_eq!(ask(77).state, TaskState::Unknown);
}

#[test]
fn a_failed_task_says_why_and_who_ran_it() {
    let mut desk = Desk::started(1);
    desk.assign_plain([1]);
    let failure = FailureKind::Error { message: "no".to_owned() };
    let out = desk.end_with(0, 1, 7, Err(failure.clone()));
    let Action::ToScheduler(FromWorker::Ended { ends }) = &out[0] else { panic!("{out:?}") };
    assert_eq!((ends[0].pid, ends[0].duration_us), (100, 7));
    assert_eq!(ends[0].result, Err(Box::new(failure)));
}
