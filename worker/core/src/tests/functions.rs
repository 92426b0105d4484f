//! Functions with code: who is told of them, and for how long.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::FunctionId;
use manyhands_proto::client::{Environment, FunctionSpec, Runtime};
use manyhands_proto::worker::{Assignment, ToWorker};

use super::desk::{Desk, assignment, short, task};
use crate::{Event, ExecutorId};

fn python(slot: u32, id: u128) -> (u32, FunctionSpec) {
    let spec = FunctionSpec {
        id: FunctionId(id),
        name: format!("f{id}"),
        runtime: Runtime::Python(Arc::new(Environment::default())),
        code: Bytes::from(vec![7; 60_000]),
    };
    (slot, spec)
}

fn describe(desk: &mut Desk, functions: Vec<(u32, FunctionSpec)>) {
    desk.scheduler(ToWorker::Functions { functions });
}

fn call(function: u32, n: u64) -> Assignment {
    Assignment { function, ..assignment(task(n)) }
}

fn started(n: u32) -> Event {
    Event::ExecutorStarted { executor: ExecutorId(n), pid: 100 + n }
}

#[test]
fn a_slot_that_stands_for_another_function_is_told_of_anew() {
    let mut desk = Desk::new(1);
    describe(&mut desk, vec![python(2, 20)]);
    desk.assign(vec![call(2, 1)]);
    assert_eq!(short(&desk.event(started(0))), ["tell 0", "feed 0 1"]);
    desk.end(0, 1, 1);
    describe(&mut desk, vec![python(2, 20)]);
    assert_eq!(short(&desk.assign(vec![call(2, 2)])), ["feed 0 2"], "said twice is said once");
    desk.end(0, 2, 1);
    describe(&mut desk, vec![python(2, 21)]);
    assert_eq!(short(&desk.assign(vec![call(2, 3)])), ["tell 0", "feed 0 3"]);
    desk.end(0, 3, 1);
    // The same code for another runtime is another function.
    let (_, spec) = python(2, 21);
    describe(&mut desk, vec![(2, FunctionSpec { runtime: Runtime::Rust { program: 0 }, ..spec })]);
    assert_eq!(short(&desk.assign(vec![call(2, 4)])), ["start 1"]);
}

#[test]
fn what_waits_for_a_function_that_is_gone_fails_and_does_not_run_another() {
    let mut desk = Desk::new(1);
    describe(&mut desk, vec![python(2, 20)]);
    assert_eq!(short(&desk.assign(vec![call(2, 1)])), ["start 0"]);
    let out = desk.scheduler(ToWorker::Functions { functions: vec![python(2, 21)] });
    assert_eq!(short(&out), ["ended 1 Value"]);
}

#[test]
fn an_executor_that_was_told_of_too_many_functions_is_replaced() {
    let mut desk = Desk::new(1);
    let many = 1200;
    describe(&mut desk, (2..many).map(|slot| python(slot, slot.into())).collect());
    let calls = (2..many).map(|n| call(n, n.into())).collect();
    assert_eq!(short(&desk.assign(calls)), ["start 0"]);
    desk.event(started(0));
    let mut replaced = None;
    for n in 2..many {
        let out = short(&desk.end(u32::from(replaced.is_some()), n.into(), 1));
        if out.contains(&"retire 0".to_owned()) {
            assert!(out.contains(&"start 1".to_owned()) && replaced.is_none(), "{out:?}");
            replaced = Some(n);
            desk.dies(0);
            desk.event(started(1));
        }
    }
    let bytes = replaced.expect("one was replaced") * 60_000;
    assert!((60 << 20..70 << 20).contains(&bytes), "after {bytes} bytes of code");
}

#[test]
fn environments_that_nobody_uses_are_forgotten_and_found_again() {
    let mut desk = Desk::new(1);
    let mut executor = 0;
    let mut run = |desk: &mut Desk, slot: u32, n: u64| {
        desk.assign(vec![call(slot, n)]);
        let out = short(&desk.event(started(executor)));
        assert_eq!(out, [format!("tell {executor}"), format!("feed {executor} {n}")]);
        desk.end(executor, n, 1);
        desk.dies(executor);
        executor += 1;
    };
    for n in 0..200 {
        let (slot, spec) = python(2 + n, u128::from(n));
        let preload = vec![format!("module_{n}")];
        let environment = Environment { preload, ..Environment::default() };
        let runtime = Runtime::Python(Arc::new(environment));
        describe(&mut desk, vec![(slot, FunctionSpec { runtime, ..spec })]);
        run(&mut desk, slot, n.into());
    }
    assert!(desk.core.pools.len() <= 64, "{} pools", desk.core.pools.len());
    // The first of them, whose pool is another one's by now.
    run(&mut desk, 2, 1000);
    let last = &desk.core.executors;
    assert!(last.is_empty(), "{last:?}");
}

#[test]
fn executors_are_not_started_before_their_modules_have_come() {
    let mut config = super::desk::config(2, 1 << 20);
    let archived = Runtime::Python(Arc::new(Environment { archive: 9, ..Environment::default() }));
    config.prestart = vec![archived];
    let mut desk = Desk::with(config);
    assert!(desk.passes(1_000).is_empty());
}
