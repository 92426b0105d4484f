//! Programs that are not here: asked for once, awaited at nobody's cost, refused in words.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::client::{Environment, FunctionSpec, Runtime};
use manyhands_proto::executor::ToExecutor;
use manyhands_proto::worker::{Assignment, ToWorker};
use manyhands_proto::{FunctionId, WorkerId};

use super::desk::{Desk, assignment, config, function, short, task};
use crate::{Action, Event, ExecutorId, ProgramNews};

/// A desk of one slot whose function 2 belongs to program 9.
fn desk() -> Desk {
    let mut config = config(1, 1 << 20);
    config.own_program = 77;
    let mut desk = Desk::with(config);
    describe(&mut desk, 2, 9);
    desk
}

fn describe(desk: &mut Desk, slot: u32, program: u128) {
    desk.scheduler(ToWorker::Functions { functions: vec![function(slot, program)] });
}

fn other(n: u64) -> Assignment {
    Assignment { function: 2, ..assignment(task(n)) }
}

fn source(workers: &[u32]) -> ToWorker {
    let workers = workers.iter().map(|w| WorkerId(*w)).collect();
    ToWorker::Program { program: 9, source: Ok(workers) }
}

fn news(news: ProgramNews) -> Event {
    Event::Program { program: 9, news }
}

fn started(n: u32) -> Event {
    Event::ExecutorStarted { executor: ExecutorId(n), pid: 100 + n }
}

#[test]
fn a_program_is_asked_for_once_and_its_tasks_wait() {
    let mut desk = desk();
    assert_eq!(short(&desk.assign(vec![other(1), other(2)])), ["need program 9"]);
    assert!(desk.assign(vec![other(3)]).is_empty());
    let out = desk.scheduler(ToWorker::Explain { query: 1, task: task(1) });
    let words = "Assigned: waits for its program, on the way to worker-3";
    assert_eq!(short(&out), [words]);
    assert_eq!(short(&desk.scheduler(source(&[5]))), ["fetch program 9"]);
    assert_eq!(short(&desk.event(news(ProgramNews::Here))), ["has program 9", "start 0"]);
    assert_eq!(short(&desk.event(started(0))), ["feed 0 1", "feed 0 2", "feed 0 3"]);
}

#[test]
fn tasks_whose_program_is_not_here_take_no_room_from_others() {
    let mut desk = desk();
    let large = |n| {
        let mut options = manyhands_proto::task::TaskOptions::default();
        options.resources.millicores = 500;
        Assignment { options: options.into(), ..other(n) }
    };
    assert_eq!(short(&desk.assign(vec![other(1), large(2)])), ["need program 9"]);
    assert_eq!(short(&desk.assign_plain([5])), ["start 0"]);
    assert_eq!(short(&desk.event(started(0))), ["feed 0 5"]);
    assert_eq!(short(&desk.end(0, 5, 1)), ["ended 5 ok"]);
    assert_eq!(short(&desk.event(news(ProgramNews::Here))), ["has program 9", "start 1"]);
}

#[test]
fn a_program_that_nobody_can_give_fails_its_tasks_and_is_asked_for_again() {
    let mut desk = desk();
    for n in 1..3 {
        assert_eq!(short(&desk.assign(vec![other(n)])), ["need program 9"]);
        let source = Err("its client is gone".to_owned());
        let out = desk.scheduler(ToWorker::Program { program: 9, source });
        assert_eq!(short(&out), [format!("ended {n} Infeasible")]);
    }
}

#[test]
fn a_program_that_does_not_come_is_asked_for_three_times() {
    let mut desk = desk();
    desk.assign(vec![other(1)]);
    let lost = || news(ProgramNews::NotFetched { message: "no route".to_owned() });
    for _ in 0..2 {
        assert_eq!(short(&desk.scheduler(source(&[5]))), ["fetch program 9"]);
        assert_eq!(short(&desk.event(lost())), ["need program 9"]);
    }
    assert!(desk.scheduler(source(&[])).is_empty(), "a client is about to send it");
    assert_eq!(short(&desk.event(lost())), ["ended 1 Infeasible"]);
    assert_eq!(short(&desk.assign(vec![other(2)])), ["need program 9"]);
}

#[test]
fn a_program_that_cannot_run_here_fails_its_tasks_now_and_later() {
    let mut desk = desk();
    desk.assign(vec![other(1)]);
    desk.scheduler(source(&[5]));
    let message = "another architecture".to_owned();
    let out = desk.event(news(ProgramNews::Unusable { message }));
    assert_eq!(short(&out), ["ended 1 Infeasible"]);
    assert_eq!(short(&desk.assign(vec![other(2)])), ["ended 2 Infeasible"]);
    assert_eq!(short(&desk.assign_plain([3])), ["start 0"], "the others go on");
}

#[test]
fn a_program_that_made_room_is_asked_for_when_it_is_needed() {
    let mut desk = desk();
    assert_eq!(short(&desk.event(news(ProgramNews::Here))), ["has program 9"]);
    desk.assign_plain([5]);
    desk.event(started(0));
    assert!(desk.assign(vec![other(6)]).is_empty(), "the slot is taken");
    assert_eq!(short(&desk.event(news(ProgramNews::Gone))), ["need program 9"]);
    desk.end(0, 5, 1);
    assert_eq!(short(&desk.event(news(ProgramNews::Here))), ["has program 9", "start 1"]);
}

#[test]
fn the_workers_own_program_is_program_0_by_both_names() {
    let mut desk = desk();
    describe(&mut desk, 3, 77);
    assert_eq!(short(&desk.assign_plain([1])), ["start 0"]);
    desk.event(started(0));
    let own = Assignment { function: 3, ..assignment(task(2)) };
    assert_eq!(short(&desk.assign(vec![own])), ["feed 0 2"]);
}

#[test]
fn idle_executors_of_one_program_make_room_for_another() {
    let mut config = config(1, 1 << 20);
    config.processes_per_slot = 1;
    let mut desk = Desk::with(config);
    describe(&mut desk, 2, 9);
    desk.event(news(ProgramNews::Here));
    desk.assign_plain([1]);
    desk.event(started(0));
    assert!(desk.assign(vec![other(2)]).is_empty(), "the only process runs");
    // Tasks of the first program keep coming, and the other's is not kept waiting by them.
    assert!(desk.assign_plain([3, 4]).is_empty());
    assert_eq!(short(&desk.end(0, 1, 1)), ["retire 0", "start 1", "ended 1 ok"]);
    desk.dies(0);
    assert_eq!(short(&desk.event(started(1))), ["feed 1 2"]);
    assert_eq!(short(&desk.end(1, 2, 1)), ["retire 1", "start 2", "ended 2 ok"]);
    assert_eq!(short(&desk.event(started(2))), ["feed 2 3", "feed 2 4"]);
}

/// A Python function in a slot, of an environment with this module preloaded and archive 9.
fn python(slot: u32, module: &str) -> ToWorker {
    let (preload, archive) = (vec![module.to_owned()], 9);
    let environment = Environment { preload, archive, ..Environment::default() };
    let spec = FunctionSpec {
        id: FunctionId(u128::from(slot)),
        name: format!("f{slot}"),
        runtime: Runtime::Python(Arc::new(environment)),
        code: Bytes::from(vec![slot as u8; 3]),
    };
    ToWorker::Functions { functions: vec![(slot, spec)] }
}

fn call(function: u32, n: u64) -> Assignment {
    Assignment { function, ..assignment(task(n)) }
}

#[test]
fn two_environments_share_an_archive_and_no_executor() {
    let mut desk = Desk::with(config(2, 1 << 20));
    desk.scheduler(python(2, "numpy"));
    desk.scheduler(python(3, "pandas"));
    assert_eq!(short(&desk.assign(vec![call(2, 1)])), ["need program 9"]);
    assert!(desk.assign(vec![call(3, 2)]).is_empty(), "it was asked for");
    let out = desk.scheduler(ToWorker::Explain { query: 1, task: task(2) });
    assert_eq!(short(&out), ["Assigned: waits for its modules, on the way to worker-3"]);
    assert_eq!(short(&desk.scheduler(source(&[5]))), ["fetch program 9"]);
    let out = desk.event(news(ProgramNews::Here));
    assert_eq!(short(&out), ["has program 9", "start 0", "start 1"]);
    assert_eq!(short(&desk.event(started(0))), ["tell 0", "feed 0 1"]);
    assert_eq!(short(&desk.event(started(1))), ["tell 1", "feed 1 2"]);
}

#[test]
fn an_archive_that_cannot_be_had_fails_the_tasks_of_all_its_environments() {
    let mut desk = Desk::with(config(2, 1 << 20));
    desk.scheduler(python(2, "numpy"));
    desk.scheduler(python(3, "pandas"));
    desk.assign(vec![call(2, 1), call(3, 2)]);
    let source = Err("its client is gone".to_owned());
    let out = desk.scheduler(ToWorker::Program { program: 9, source });
    assert_eq!(short(&out), ["ended 1 Infeasible, 2 Infeasible"]);
    assert_eq!(short(&desk.assign(vec![call(3, 3)])), ["need program 9"]);
}

#[test]
fn an_executor_is_told_of_a_function_once_and_before_its_first_task() {
    let mut desk = Desk::with(config(1, 1 << 20));
    desk.event(news(ProgramNews::Here));
    desk.scheduler(python(2, "numpy"));
    desk.scheduler(python(3, "numpy"));
    desk.assign(vec![call(2, 1), call(2, 2), call(3, 3)]);
    let out = desk.event(started(0));
    assert_eq!(short(&out), ["tell 0", "feed 0 1", "feed 0 2", "tell 0", "feed 0 3"]);
    let Action::ToExecutor { message: ToExecutor::Function { id, name, code }, .. } = &out[0]
    else {
        panic!("{out:?}")
    };
    assert_eq!((*id, &name[..], &code[..]), (FunctionId(2), "f2", &[2, 2, 2][..]));
    // What runs on top of a task that waits is told of too.
    desk.scheduler(python(4, "numpy"));
    desk.blocks(0, 1, &[7]);
    let child = Assignment { in_place_of: Some(task(1)), ..call(4, 7) };
    assert_eq!(short(&desk.assign(vec![child])), ["tell 0", "in place 0 7"]);
}

#[test]
fn another_executor_is_told_of_a_function_again() {
    let mut desk = Desk::with(config(1, 1 << 20));
    desk.event(news(ProgramNews::Here));
    desk.scheduler(python(2, "numpy"));
    desk.assign(vec![call(2, 1)]);
    desk.event(started(0));
    desk.dies(0);
    desk.assign(vec![call(2, 2)]);
    assert_eq!(short(&desk.event(started(1))), ["tell 1", "feed 1 2"]);
}

#[test]
fn a_child_of_another_runtime_does_not_run_on_top_of_the_task_that_waits() {
    let mut desk = Desk::started(1);
    desk.event(news(ProgramNews::Here));
    desk.scheduler(python(2, "numpy"));
    desk.assign_plain([1]);
    desk.blocks(0, 1, &[7]);
    let child = Assignment { in_place_of: Some(task(1)), ..call(2, 7) };
    assert_eq!(short(&desk.assign(vec![child])), ["start 1"]);
    assert_eq!(short(&desk.event(started(1))), ["tell 1", "feed 1 7"]);
}
