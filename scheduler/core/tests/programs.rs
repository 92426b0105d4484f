//! Scripts about programs: one client at a time sends one, and workers get it from each other.

mod support;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::worker::{FromWorker, ToWorker};
use manyhands_proto::{SessionId, WorkerId};
use manyhands_scheduler_core::{Action, Event};
use support::*;

const PROGRAM: u128 = 77;

/// Three workers, and so many clients that describe functions of the program.
fn bench(clients: u64) -> Bench {
    let mut b = Bench::new(&[1, 1, 1]);
    (1..=clients).for_each(|client| b.client(client, describe(PROGRAM)));
    b
}

fn need(b: &mut Bench, worker: u32) -> Vec<Action> {
    b.worker(worker, FromWorker::NeedProgram { program: PROGRAM });
    b.round()
}

fn has(b: &mut Bench, worker: u32) -> Vec<Action> {
    b.worker(worker, FromWorker::HasProgram { program: PROGRAM });
    b.round()
}

fn failed(b: &mut Bench, client: u64, message: &str) -> Vec<Action> {
    let message = message.to_owned();
    b.client(client, FromClient::ProgramFailed { program: PROGRAM, message });
    b.round()
}

fn told_of(worker: u32, workers: &[u32]) -> Action {
    let source = Ok(workers.iter().map(|worker| WorkerId(*worker)).collect());
    let message = ToWorker::Program { program: PROGRAM, source };
    Action::ToWorker { worker: WorkerId(worker), message }
}

fn sends(client: u64, worker: u32) -> [Action; 2] {
    let message = ToClient::SendProgram { program: PROGRAM, worker: WorkerId(worker) };
    [told_of(worker, &[]), Action::ToClient { session: SessionId(client), message }]
}

/// What a worker is told that cannot have it.
fn refused(actions: &[Action]) -> (u32, String) {
    match told(actions).pop() {
        Some((worker, ToWorker::Program { source: Err(words), .. })) => (worker, words),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[test]
fn a_program_travels_once_from_a_client() {
    let mut b = bench(2);
    assert_eq!(need(&mut b, 0), sends(1, 0));
    assert!(need(&mut b, 0).is_empty(), "it is on its way");
    assert!(need(&mut b, 1).is_empty(), "the second one waits");
    assert_eq!(has(&mut b, 0), [told_of(1, &[0])]);
    assert!(has(&mut b, 1).is_empty());
    let [Action::ToWorker { message: ToWorker::Program { source: Ok(sources), .. }, .. }] =
        &need(&mut b, 2)[..]
    else {
        panic!("it is told of both");
    };
    assert_eq!(sources.len(), 2);
    assert_eq!(need(&mut b, 2), sends(1, 2), "it could get it from none of them");
}

#[test]
fn another_client_sends_what_the_first_cannot() {
    let mut b = bench(2);
    assert_eq!(need(&mut b, 0), sends(1, 0));
    assert!(need(&mut b, 1).is_empty());
    assert!(failed(&mut b, 2, "nobody asked").is_empty());
    assert_eq!(failed(&mut b, 1, "gone from disk"), sends(2, 0));
    let actions = failed(&mut b, 2, "another architecture");
    let [first, rest @ ..] = &actions[..] else { panic!("it is told so") };
    let (worker, words) = refused(std::slice::from_ref(first));
    assert_eq!(worker, 0);
    assert!(words.contains("another architecture"), "{words}");
    assert_eq!(rest, sends(1, 1), "the next one may fare better");
}

#[test]
fn who_leaves_is_replaced() {
    let mut b = bench(2);
    assert_eq!(need(&mut b, 0), sends(1, 0));
    assert!(need(&mut b, 1).is_empty());
    b.event(Event::ClientLost { session: SessionId(1) });
    assert_eq!(b.round(), sends(2, 0));
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    assert_eq!(b.round(), sends(2, 1));
    b.event(Event::ClientLost { session: SessionId(2) });
    let (worker, words) = refused(&b.round());
    assert_eq!(worker, 1);
    assert!(words.contains("the client that has it is gone"), "{words}");
    let (_, words) = refused(&need(&mut b, 2));
    assert!(words.contains("no client that has it is connected"), "{words}");
}

#[test]
fn a_client_that_is_away_is_not_waited_for_where_another_can_send() {
    let mut b = bench(1);
    assert_eq!(need(&mut b, 0), sends(1, 0));
    b.event(Event::ClientAway { session: SessionId(1) });
    assert!(b.round().is_empty(), "nobody else has it, and it may come back");
    b.client(2, describe(PROGRAM));
    assert_eq!(b.round(), sends(2, 0));
    b.event(Event::ClientBack { session: SessionId(1) });
    assert!(b.round().is_empty());
    b.event(Event::ClientAway { session: SessionId(2) });
    assert_eq!(b.round(), sends(1, 0));
}

#[test]
fn a_client_that_leaves_is_not_asked_for_those_that_wait() {
    let mut b = bench(1);
    assert_eq!(need(&mut b, 0), sends(1, 0));
    assert!(need(&mut b, 1).is_empty());
    b.event(Event::ClientLost { session: SessionId(1) });
    let actions = b.round();
    assert_eq!(refused(&actions[..1]).0, 0);
    assert_eq!(refused(&actions[1..]).0, 1);
}

#[test]
fn two_builds_may_have_the_same_function() {
    let mut b = bench(1);
    b.client(2, describe(PROGRAM + 1));
    b.submit(1, batch(1, 0).task(HELD, &[]));
    b.submit(2, batch(2, 0).task(HELD, &[]));
    let sent = assignments(&b.round());
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0].1.function, sent[1].1.function);
}
