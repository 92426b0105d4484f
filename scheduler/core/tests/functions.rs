//! Functions: what may be described, and what becomes of it when nobody names it any more.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::client::{
    CODE_LIMIT, Environment, FromClient, FunctionSpec, Runtime, ToClient,
};
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{FunctionId, Lane, SessionId};
use manyhands_scheduler_core::{Action, Event};
use support::*;

/// A Python function of so many bytes, one of its own for each number.
fn python(number: u64, bytes: usize) -> FunctionSpec {
    let mut code = vec![0; bytes];
    code[..8].copy_from_slice(&number.to_le_bytes());
    FunctionSpec {
        id: FunctionId(u128::from(number) << 8),
        name: format!("python_{number}"),
        runtime: Runtime::Python(Arc::new(Environment::default())),
        code: Bytes::from(code),
    }
}

fn refusals(actions: &[Action]) -> Vec<&str> {
    let refusal = |action| match action {
        &Action::ToClient { message: ToClient::Refused { ref message }, .. } => Some(&message[..]),
        _ => None,
    };
    actions.iter().filter_map(refusal).collect()
}

/// The functions that a worker is told of, by slot and name.
fn described(actions: &[Action]) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for action in actions {
        if let Action::ToWorker { message: ToWorker::Functions { functions }, .. } = action {
            found.extend(functions.iter().map(|(slot, spec)| (*slot, spec.name.clone())));
        }
    }
    found
}

#[test]
fn code_and_environments_have_limits_that_are_said_in_words() {
    let mut bench = Bench::new(&[1]);
    let refusal = |bench: &mut Bench, spec: FunctionSpec| {
        bench.client(1, FromClient::Functions { first_slot: 3, functions: vec![spec] });
        refusals(&bench.round()).join("; ")
    };
    assert_eq!(refusal(&mut bench, python(1, CODE_LIMIT)), "");
    let words = refusal(&mut bench, python(2, CODE_LIMIT + 1));
    assert!(words.contains("python_2") && words.contains("65537 bytes"), "{words}");
    let preload = vec!["m".repeat(70_000)];
    let environment = Arc::new(Environment { preload, ..Environment::default() });
    let spec = FunctionSpec { runtime: Runtime::Python(environment), ..python(3, 8) };
    let words = refusal(&mut bench, spec);
    assert!(words.contains("environment of function python_3"), "{words}");
    // What was refused has changed nothing.
    bench.submit(1, batch(1, 0).task(HELD, &[]).function(3));
    assert_eq!(bench.placed().len(), 1);
}

#[test]
fn a_session_may_not_describe_without_end() {
    let mut bench = Bench::new(&[]);
    let mut slots = 3;
    let words = loop {
        let functions: Vec<_> = (slots..slots + 256).map(|n| python(n, CODE_LIMIT)).collect();
        let message = FromClient::Functions { first_slot: slots as u32, functions };
        // Without the check of all invariants, which is slow with so much.
        let event = Event::FromClient { session: SessionId(1), message };
        bench.core.handle(manyhands_proto::Time(0), event, &mut bench.out);
        if let [words] = &refusals(&bench.out)[..] {
            break (*words).to_owned();
        }
        slots += 256;
    };
    assert!(words.contains("more than 256 MiB"), "{words}");
    assert!((3800..=4096).contains(&slots), "{slots} functions of 64 KiB");
}

#[test]
fn what_was_refused_leaves_later_functions_in_step() {
    let mut bench = Bench::new(&[1]);
    let describe = |bench: &mut Bench, first_slot, spec| {
        bench.client(1, FromClient::Functions { first_slot, functions: vec![spec] });
        refusals(&bench.round()).join("; ")
    };
    assert_ne!(describe(&mut bench, 3, python(3, CODE_LIMIT + 1)), "");
    assert_eq!(describe(&mut bench, 4, python(4, 8)), "");
    bench.submit(1, batch(1, 0).task(HELD, &[]).function(4));
    assert_eq!(described(&bench.round())[0].1, "python_4");
    bench.submit(1, batch(1, 1).task(HELD, &[]).function(3));
    let words = refusals(&bench.round()).join("; ");
    assert!(words.contains("not described its function 3"), "{words}");
    let limit = 1 << 16;
    assert_eq!(describe(&mut bench, limit - 1, python(5, 8)), "");
    let words = describe(&mut bench, limit, python(6, 8));
    assert!(words.contains("65536 functions"), "{words}");
    assert_ne!(describe(&mut bench, u32::MAX, python(7, 8)), "");
}

#[test]
fn functions_go_with_their_sessions_and_their_slots_are_used_again() {
    let mut bench = Bench::new(&[1]);
    let kept = python(1, CODE_LIMIT);
    bench.client(1, FromClient::Functions { first_slot: 3, functions: vec![kept] });
    let (mut most, mut number) = (0, 100);
    for session in 10..40 {
        let id = SessionId(session);
        bench.event(Event::ClientJoined { session: id, lane: Lane(session) });
        let own = job(u128::from(session));
        let name = "another".to_owned();
        bench.client(session, FromClient::OpenJob { job: own, name, weight: 1 });
        let functions = (number..number + 40).map(|n| python(n, CODE_LIMIT)).collect();
        number += 40;
        bench.client(session, FromClient::Functions { first_slot: 0, functions });
        bench.submit(session, batch(session, 0).task(HELD, &[]).function(39));
        let told = described(&bench.round());
        let [(slot, name)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*name, format!("python_{}", number - 1), "told of what the slot is now");
        most = most.max(*slot);
        bench.end(0, task(session, 0), 0, 1);
        bench.event(Event::ClientLost { session: id });
        bench.round();
    }
    assert!(most < 400, "slot {most} of 1200 functions");
    bench.submit(1, batch(1, 0).task(HELD, &[]).function(3));
    assert_eq!(described(&bench.round())[0].1, "python_1", "what is named stays");
}

#[test]
fn a_function_that_a_task_may_need_again_stays() {
    let mut bench = Bench::new(&[1]);
    let client = |bench: &mut Bench, first_slot, functions| {
        bench.client(1, FromClient::Functions { first_slot, functions });
    };
    client(&mut bench, 3, vec![python(1, CODE_LIMIT)]);
    bench.submit(1, batch(1, 0).task(HELD, &[]).function(3));
    bench.round();
    // Its slot is given to others, again and again.
    for number in 2..400 {
        client(&mut bench, 3, vec![python(number, CODE_LIMIT)]);
    }
    bench.fail(
        0,
        task(1, 0),
        0,
        manyhands_proto::task::FailureKind::WorkerLost { worker: manyhands_proto::WorkerId(0) },
    );
    let sent = bench.round();
    assert_eq!(assignments(&sent)[0].1.function, 3, "the slot of the first one");
    assert_eq!(described(&sent), [], "which the worker knows");
}
