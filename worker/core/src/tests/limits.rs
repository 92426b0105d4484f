//! Cancels, limits and deadlines.

use std::sync::Arc;

use manyhands_proto::task::{FailureKind, TaskOptions};
use manyhands_proto::worker::{Assignment, ToWorker};

use super::desk::{Desk, assignment, short, task};
use crate::{Action, Event, ExecutorId};

fn cancel(desk: &mut Desk, n: u64) -> Vec<String> {
    let failure = FailureKind::Cancelled { reason: "enough".to_owned() };
    short(&desk.scheduler(ToWorker::Cancel { tasks: vec![(task(n), 0, failure)] }))
}

fn with(n: u64, change: impl FnOnce(&mut TaskOptions)) -> Assignment {
    let mut options = TaskOptions::default();
    change(&mut options);
    Assignment { options: Arc::new(options), ..assignment(task(n)) }
}

#[test]
fn a_cancel_stops_a_task_wherever_it_is() {
    let mut desk = Desk::started(1);
    desk.assign_plain(0..6);
    assert_eq!(cancel(&mut desk, 5), ["ended 5 Cancelled"], "queued");
    assert_eq!(cancel(&mut desk, 2), ["take back 0 2"], "fed");
    assert_eq!(short(&desk.took_back(0, 2, true)), ["feed 0 3", "ended 2 Cancelled"]);
    assert_eq!(cancel(&mut desk, 0), ["interrupt 0 0", "take back 0 1", "take back 0 3"]);
    assert!(cancel(&mut desk, 0).is_empty(), "once is enough");
    desk.took_back(0, 1, true);
    desk.took_back(0, 3, true);
    // It noticed, and ended by itself: the executor lives on.
    let out = desk.end_with(0, 0, 9, Err(FailureKind::Error { message: "interrupted".to_owned() }));
    assert_eq!(short(&out), ["feed 0 1", "feed 0 3", "feed 0 4", "ended 0 Cancelled"]);
    assert!(cancel(&mut desk, 0).is_empty(), "it has ended");
}

#[test]
fn what_does_not_listen_is_killed_and_its_slot_is_free_at_once() {
    let mut desk = Desk::started(1);
    desk.assign_plain([0]);
    cancel(&mut desk, 0);
    desk.assign_plain([1]);
    assert_eq!(desk.core.next_tick(), Some(desk.now + 500_000));
    assert!(desk.passes(499_999).is_empty());
    assert_eq!(short(&desk.passes(1)), ["kill 0", "start 1", "ended 0 Cancelled"]);
    assert!(desk.end(0, 0, 5).is_empty(), "it ended too late");
    assert!(desk.dies(0).is_empty());
    let started = Event::ExecutorStarted { executor: ExecutorId(1), pid: 8 };
    assert_eq!(short(&desk.event(started)), ["feed 1 1"]);
}

#[test]
fn a_time_limit_counts_from_the_start_of_the_attempt() {
    let mut desk = Desk::started(1);
    let limit = |n| with(n, |o| o.time_limit_us = Some(1000));
    assert_eq!(short(&desk.assign(vec![limit(0), limit(1)])), ["feed 0 0"]);
    desk.passes(999);
    assert_eq!(short(&desk.end(0, 0, 999)), ["feed 0 1", "ended 0 ok"]);
    assert!(desk.passes(999).is_empty());
    assert_eq!(short(&desk.passes(1)), ["interrupt 0 1"]);
    assert_eq!(short(&desk.end(0, 1, 1001)), ["ended 1 TimeLimit"], "whatever it returned");
}

#[test]
fn a_deadline_ends_what_waits_and_stops_what_runs() {
    let mut desk = Desk::started(1);
    let at = desk.now.0 + 100;
    let due = |n| with(n, |o| o.deadline_unix_us = Some(at));
    assert_eq!(short(&desk.assign(vec![due(0), due(1)])), ["feed 0 0"]);
    assert_eq!(short(&desk.passes(100)), ["interrupt 0 0", "ended 1 Deadline"]);
    assert_eq!(short(&desk.assign(vec![due(2)])), ["ended 2 Deadline"]);
    assert_eq!(short(&desk.passes(500_000)), ["kill 0", "ended 0 Deadline"]);
}

#[test]
fn too_much_memory_is_killed_at_once() {
    let mut desk = Desk::started(1);
    desk.assign(vec![with(0, |o| o.memory_limit = Some(1000))]);
    assert_eq!(desk.core.watched().collect::<Vec<_>>(), [ExecutorId(0)]);
    let used = |used| Event::MemoryUsed { executor: ExecutorId(0), used };
    assert!(desk.event(used(1000)).is_empty());
    let out = desk.event(used(1001));
    assert_eq!(short(&out), ["kill 0", "ended 0 MemoryLimit"]);
    let Action::ToScheduler(manyhands_proto::worker::FromWorker::Ended { ends }) = &out[1] else {
        panic!("{out:?}")
    };
    let failure = FailureKind::MemoryLimit { limit: 1000, used: 1001 };
    assert_eq!(ends[0].result, Err(Box::new(failure)));
    assert_eq!(desk.core.watched().count(), 0);
}
