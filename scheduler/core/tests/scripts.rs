//! Scripts of events, with the exact actions that follow.

mod support;

use bytes::Bytes;
use manyhands_proto::client::{FromClient, Outcome, PutPlace, TaskState, ToClient};
use manyhands_proto::task::{CHAIN_LIMIT, Death, FailureKind, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{FromWorker, InputPlace, TaskEnd, ToWorker, WorkerStatus};
use manyhands_proto::{SessionId, TaskId, Time, WorkerId};
use manyhands_scheduler_core::{Action, Config, Event, Policies};
use support::*;

fn error() -> FailureKind {
    FailureKind::Error { message: "no".into() }
}

fn meta(size: u64) -> ObjectMeta {
    ObjectMeta { codec: Codec::MSGPACK, size, contains: Vec::new() }
}

fn failed(outcome: &Outcome) -> &manyhands_proto::task::Failed {
    match outcome {
        Outcome::Failed(failed) => failed,
        other => panic!("a failure was expected, not {other:?}"),
    }
}

#[test]
fn one_task_there_and_back() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(HELD | WANTED, &[]));
    let actions = b.round();
    assert_eq!(actions.len(), 2, "functions, then the task: {actions:?}");
    let Action::ToWorker { message: ToWorker::Functions { functions: sent }, .. } = &actions[0]
    else {
        panic!("the function is described first: {actions:?}");
    };
    assert_eq!(*sent, [(0, functions()[0].clone())]);
    let (worker, assignment) = assignments(&actions).remove(0);
    assert_eq!((worker, assignment.task, assignment.attempt), (WorkerId(0), task(1, 0), 0));
    assert!(assignment.wanted && assignment.inputs.is_empty());

    b.end(0, task(1, 0), 0, 8);
    let value = Value { codec: Codec::MSGPACK, bytes: vec![1; 8].into() };
    let ends = vec![(object(1, 0), Outcome::Value(value))];
    let message = ToClient::Ended { ends };
    assert_eq!(b.round(), [Action::ToClient { session: SessionId(1), message }]);
    b.client(1, FromClient::Release { objects: vec![object(1, 0)] });
    assert_eq!(told(&b.round()), [(0, ToWorker::Free { objects: vec![object(1, 0)] })]);
    assert_eq!(b.core.records(), 0);
    assert!(b.round().is_empty(), "nothing more is said");
}

#[test]
fn a_repeated_batch_and_a_repeated_end_change_nothing() {
    let mut b = Bench::new(&[1]);
    for _ in 0..2 {
        b.submit(1, batch(1, 0).task(HELD | WANTED, &[]));
    }
    assert_eq!(b.placed(), [(0, 0, 0)]);
    for _ in 0..2 {
        b.end(0, task(1, 0), 0, 8);
    }
    assert_eq!(outcomes(&b.round()).len(), 1);
    b.end(0, task(1, 0), 7, 8);
    assert!(b.round().is_empty(), "an end of an attempt that never was");
}

#[test]
fn only_the_worker_that_has_an_attempt_can_end_it() {
    let mut b = Bench::new(&[1, 1]);
    b.submit(1, batch(1, 0).task(HELD | WANTED, &[]));
    let (worker, ..) = b.placed()[0];
    b.end(1 - worker, task(1, 0), 0, 8);
    assert!(outcomes(&b.round()).is_empty());
    b.end(worker, task(1, 0), 0, 8);
    assert_eq!(outcomes(&b.round()).len(), 1);
}

#[test]
fn a_chain_follows_its_data_and_frees_what_is_done_with() {
    let mut b = Bench::new(&[1, 1]);
    b.submit(1, batch(1, 0).task(0, &[]).task(0, &[0]).task(HELD | WANTED, &[1]));
    let (worker, seq, _) = b.placed()[0];
    assert_eq!(seq, 0);
    b.end(worker, task(1, 0), 0, 1 << 20);
    let actions = b.round();
    let (next, assignment) = assignments(&actions).remove(0);
    assert_eq!(next.0, worker, "where its input is");
    assert_eq!(assignment.inputs[0].place, InputPlace::Here);
    b.end(worker, task(1, 1), 0, 1 << 20);
    assert_eq!(told(&b.round()), [(worker, ToWorker::Free { objects: vec![object(1, 0)] })]);
}

#[test]
fn small_values_are_sent_along_and_large_ones_named() {
    let mut b = Bench::new(&[1, 1]);
    b.submit(1, batch(1, 0).task(HELD, &[]).task(HELD, &[]).task(HELD, &[0, 1]));
    let placed = b.placed();
    assert_eq!(placed.len(), 2);
    assert_ne!(placed[0].0, placed[1].0, "two idle workers share two tasks");
    b.end(placed[0].0, task(1, 0), 0, 8);
    b.end(placed[1].0, task(1, 1), 0, 1 << 20);
    let (worker, assignment) = assignments(&b.round()).remove(0);
    assert_eq!(worker.0, placed[1].0, "where the large input is");
    assert!(matches!(assignment.inputs[0].place, InputPlace::Inline(_)));
    assert_eq!(assignment.inputs[1].place, InputPlace::Here);
}

#[test]
fn ranks_and_priorities_order_tasks() {
    let mut b = Bench::new(&[1]);
    let urgent = TaskOptions { priority: 1, ..TaskOptions::default() };
    let all = batch(1, 0).task(HELD, &[]).rank(9).task(HELD, &[]).rank(3);
    b.submit(1, all.with(urgent).task(HELD, &[]).rank(20));
    let mut order = Vec::new();
    while let Some((_, seq, attempt)) = b.placed().pop() {
        order.push(seq);
        b.fail(0, task(1, seq), attempt, error());
    }
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn roots_are_held_back_and_small_tasks_sent_ahead() {
    let mut b = Bench::new(&[2]);
    b.submit(1, batch(1, 0).tasks(5000, HELD));
    assert_eq!(b.placed().len(), 2, "nothing is known of them: one a slot");
    b.worker(0, FromWorker::Ended { ends: vec![ended(task(1, 0), 0, 1, 8)] });
    let sent = b.placed().len();
    assert!(sent > 1000, "they take a microsecond: {sent} are sent ahead");
    assert!(sent <= 2048);
}

#[test]
fn long_roots_wait_for_a_slot() {
    let mut b = Bench::new(&[2]);
    b.submit(1, batch(1, 0).tasks(10, HELD));
    assert_eq!(b.placed().len(), 2);
    b.worker(0, FromWorker::Ended { ends: vec![ended(task(1, 0), 0, 50_000, 8)] });
    assert_eq!(b.placed(), [(0, 2, 0)]);
    b.client(1, FromClient::Explain { query: 5, task: task(1, 9) });
    let actions = b.round();
    let Action::ToClient { message: ToClient::Explained { query: 5, explanation }, .. } =
        &actions[0]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(explanation.state, TaskState::Ready);
    assert!(explanation.reason.contains("6 tasks of its job come before"), "{explanation:?}");
}

#[test]
fn errors_are_retried_as_often_as_asked_then_fail_their_dependents() {
    let mut b = Bench::new(&[1]);
    let options = TaskOptions { retries: 1, ..TaskOptions::default() };
    let mut all = batch(1, 0).with(options).task(0, &[]);
    for seq in 0..30 {
        all = all.task(0, &[seq]);
    }
    b.submit(1, all.task(HELD | WANTED, &[30]));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.fail(0, task(1, 0), 0, error());
    assert_eq!(b.placed(), [(0, 0, 1)], "a second attempt");
    b.fail(0, task(1, 0), 1, error());
    let told = outcomes(&b.round());
    let failed = failed(&told[0].1);
    assert_eq!((told[0].0, failed.failure.task), (object(1, 31), task(1, 0)));
    assert_eq!(failed.failure.attempts.len(), 2);
    assert_eq!(failed.chain.len(), CHAIN_LIMIT);
    assert_eq!(failed.chain[0].0, task(1, 0));
    assert_eq!(failed.chain[CHAIN_LIMIT - 1].0, task(1, 31));
    b.submit(1, batch(1, 40).task(WANTED, &[31]));
    assert_eq!(outcomes(&b.round()).len(), 1, "what needs a failed task fails at once");
}

#[test]
fn an_input_that_was_never_submitted_fails_its_task() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 10).task(HELD | WANTED, &[3]));
    let told = outcomes(&b.round());
    let kind = &failed(&told[0].1).failure.kind;
    assert_eq!(*kind, FailureKind::LostInput { object: object(1, 3) });
}

#[test]
fn a_batch_that_breaks_the_rules_is_refused() {
    let mut b = Bench::new(&[1]);
    for bad in [
        batch(1, 0).task(HELD, &[0]),
        batch(1, 0).task(HELD, &[]).function(9),
        batch(2, 0).task(HELD, &[]),
    ] {
        b.submit(1, bad);
        let actions = b.round();
        let [Action::ToClient { message: ToClient::Refused { .. }, .. }] = &actions[..] else {
            panic!("it was not refused: {actions:?}");
        };
    }
    assert_eq!(b.core.records(), 0);
}

#[test]
fn a_graph_is_held_until_its_last_batch() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(0, &[]).more());
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.end(0, task(1, 0), 0, 8);
    assert!(told(&b.round()).is_empty());
    b.submit(1, batch(1, 1).task(0, &[]));
    let freed = told(&b.round());
    assert_eq!(freed, [(0, ToWorker::Free { objects: vec![object(1, 0)] })]);
    assert_eq!(b.core.records(), 0, "and the task that nobody needs never runs");
}

#[test]
fn what_an_object_contains_lives_as_long_as_it() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(HELD, &[]));
    b.placed();
    let child = TaskId { job: job(1), lane: task(1, 0).child_lane(), seq: 0 };
    let from_task = |message| FromWorker::FromTask { task: task(1, 0), attempt: 0, message };
    let describe = FromClient::Functions { first_slot: 0, functions: functions() };
    b.worker(0, from_task(describe));
    b.worker(0, from_task(FromClient::Submit(batch_in(child).task(HELD, &[]).0)));
    b.round();
    let mut end = ended(task(1, 0), 0, 10, 8);
    if let Ok(outputs) = &mut end.result {
        outputs[0].meta.contains = vec![child.object(0)];
    }
    b.worker(0, FromWorker::Ended { ends: vec![end] });
    assert_eq!(b.core.records(), 2, "the child outlives its parent's session");
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.end(0, child, 0, 8);
    assert!(told(&b.round()).is_empty());
    b.client(1, FromClient::Release { objects: vec![object(1, 0)] });
    let freed = vec![object(1, 0), child.object(0)];
    assert_eq!(told(&b.round()), [(0, ToWorker::Free { objects: freed })]);
}

#[test]
fn puts_are_kept_and_delivered() {
    let mut b = Bench::new(&[1]);
    let bytes = Bytes::from_static(b"abc");
    let place = PutPlace::Inline(bytes.clone());
    b.client(1, FromClient::Put { object: object(1, 0), meta: meta(3), place });
    b.client(1, FromClient::Want { objects: vec![object(1, 0)] });
    let value = Value { codec: Codec::MSGPACK, bytes };
    assert_eq!(outcomes(&b.round()), [(object(1, 0), Outcome::Value(value.clone()))]);
    b.submit(1, batch(1, 1).task(HELD, &[0]));
    let (_, assignment) = assignments(&b.round()).remove(0);
    assert_eq!(assignment.inputs[0].place, InputPlace::Inline(value));
    b.client(1, FromClient::Release { objects: vec![object(1, 0), object(1, 1)] });
    b.end(0, task(1, 1), 0, 8);
    b.round();
    assert_eq!(b.core.records(), 0);
}

#[test]
fn a_value_that_is_not_here_is_asked_for_and_a_large_one_named() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(HELD, &[]).task(HELD, &[]));
    b.placed();
    b.end(0, task(1, 0), 0, 5000);
    b.placed();
    b.end(0, task(1, 1), 0, 1 << 20);
    b.round();
    b.client(1, FromClient::Want { objects: vec![object(1, 0), object(1, 1)] });
    let actions = b.round();
    let workers = vec![WorkerId(0)];
    let stored = Outcome::Stored { codec: Codec::MSGPACK, size: 1 << 20, workers };
    assert_eq!(outcomes(&actions), [(object(1, 1), stored)]);
    assert_eq!(told(&actions), [(0, ToWorker::Send { objects: vec![object(1, 0)] })]);
    let value = Value { codec: Codec::MSGPACK, bytes: vec![2; 5000].into() };
    let values = vec![(object(1, 0), Some(value.clone()))];
    b.worker(0, FromWorker::Values { values });
    assert_eq!(outcomes(&b.round()), [(object(1, 0), Outcome::Value(value))]);
}

#[test]
fn a_cancel_reaches_waiting_and_running_tasks() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(HELD | WANTED, &[]).task(HELD | WANTED, &[0]));
    b.placed();
    let reason = "enough".to_owned();
    let kind = FailureKind::Cancelled { reason: reason.clone() };
    b.client(1, FromClient::Cancel { tasks: vec![task(1, 0)], reason });
    let cancel = ToWorker::Cancel { tasks: vec![(task(1, 0), 0, kind.clone())] };
    assert_eq!(told(&b.round()), [(0, cancel)]);
    b.fail(0, task(1, 0), 0, kind.clone());
    let told = outcomes(&b.round());
    assert_eq!(told.len(), 2, "it and what depends on it");
    assert!(told.iter().all(|(_, outcome)| failed(outcome).failure.kind == kind));
}

#[test]
fn a_deadline_stops_tasks() {
    let config = Config { unix_offset_us: 1_000, ..Config::default() };
    let mut b = Bench::with(config, &[1]);
    let options = TaskOptions { deadline_unix_us: Some(1_500), ..TaskOptions::default() };
    b.submit(1, batch(1, 0).with(options).task(HELD, &[]).task(HELD | WANTED, &[]));
    assert_eq!(b.placed().len(), 1);
    assert_eq!(b.core.next_tick(), Some(Time(500)));
    b.now = 500;
    b.event(Event::Tick);
    let actions = b.round();
    let cancel = ToWorker::Cancel { tasks: vec![(task(1, 0), 0, FailureKind::Deadline)] };
    assert_eq!(told(&actions), [(0, cancel)]);
    assert_eq!(failed(&outcomes(&actions)[0].1).failure.kind, FailureKind::Deadline);
    assert_eq!(b.core.next_tick(), None);
}

#[test]
fn a_lost_worker_s_work_is_done_again_from_its_lineage() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(0, &[]).task(HELD, &[0]).task(HELD | WANTED, &[1]));
    b.placed();
    b.end(0, task(1, 0), 0, 1 << 20);
    b.placed();
    b.end(0, task(1, 1), 0, 1 << 20);
    assert_eq!(b.placed(), [(0, 2, 0)], "the first result is freed by now");
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    assert_eq!(b.placed(), [(1, 0, 1)]);
    b.end(1, task(1, 0), 1, 1 << 20);
    assert_eq!(b.placed(), [(1, 1, 1)]);
    b.end(1, task(1, 1), 1, 1 << 20);
    assert_eq!(b.placed(), [(1, 2, 1)]);
    b.end(1, task(1, 2), 1, 8);
    assert!(matches!(outcomes(&b.round())[0].1, Outcome::Value(_)));
}

#[test]
fn a_put_that_is_lost_fails_what_needs_it() {
    let mut b = Bench::new(&[1]);
    let place = PutPlace::Stored(WorkerId(0));
    b.client(1, FromClient::Put { object: object(1, 0), meta: meta(1 << 20), place });
    b.submit(1, batch(1, 1).task(HELD | WANTED, &[0]));
    b.worker(0, FromWorker::Lost { objects: vec![object(1, 0)] });
    let told = outcomes(&b.round());
    let kind = &failed(&told[0].1).failure.kind;
    assert_eq!(*kind, FailureKind::LostInput { object: object(1, 0) });
}

#[test]
fn a_task_that_cannot_run_again_takes_those_along_that_need_what_is_left_of_it() {
    let mut b = Bench::new(&[1, 1]);
    let place = PutPlace::Stored(WorkerId(0));
    b.client(1, FromClient::Put { object: object(1, 0), meta: meta(1 << 20), place });
    // Task 1 returns two objects: task 2 needs the first, task 4 the second and what task 3 returns.
    let mut graph = batch(1, 1).task(0, &[0]).task(HELD | WANTED, &[1]).task(0, &[]);
    graph.0.rows[0].outputs = 2;
    graph = graph.task(HELD | WANTED, &[1, 3]);
    graph.0.inputs[2].index = 1;
    b.submit(1, graph);
    b.client(1, FromClient::Release { objects: vec![object(1, 0)] });
    b.placed();
    let mut end = ended(task(1, 1), 0, 1000, 1 << 20);
    if let Ok(outputs) = &mut end.result {
        let second = outputs[0].clone();
        outputs.push(second);
    }
    b.worker(0, FromWorker::Ended { ends: vec![end] });
    b.worker(1, FromWorker::Copied { objects: vec![task(1, 1).object(1)] });
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    let told = outcomes(&b.round());
    let ids: Vec<_> = told.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [object(1, 4), object(1, 2)]);
    for (_, outcome) in &told {
        assert_eq!(failed(outcome).failure.kind, FailureKind::LostInput { object: object(1, 0) });
    }
}

/// A small value is put, used by a task whose result another one needs, and released.
fn put_and_used(config: Config) -> Bench {
    let mut b = Bench::with(config, &[1]);
    let place = PutPlace::Inline(Bytes::from_static(b"value"));
    b.client(1, FromClient::Put { object: object(1, 0), meta: meta(5), place });
    b.submit(1, batch(1, 1).task(0, &[0]).task(HELD | WANTED, &[1]));
    b.client(1, FromClient::Release { objects: vec![object(1, 0)] });
    b.placed();
    b.end(0, task(1, 1), 0, 1 << 20);
    b.placed();
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    b
}

#[test]
fn a_small_value_that_was_put_is_kept_while_what_it_was_made_into_may_be_made_again() {
    let mut b = put_and_used(Config::default());
    assert_eq!(b.placed(), [(1, 1, 1)]);
    b.end(1, task(1, 1), 1, 1 << 20);
    assert_eq!(b.placed(), [(1, 2, 1)]);
    b.end(1, task(1, 2), 1, 8);
    assert!(matches!(outcomes(&b.round())[0].1, Outcome::Value(_)));
    b.client(1, FromClient::Release { objects: vec![object(1, 2)] });
    assert_eq!(b.core.tasks_known(), 0, "and no longer");
}

#[test]
fn a_small_value_that_was_put_goes_where_there_is_too_much_lineage() {
    let mut b = put_and_used(Config { lineage_limit: 0, ..Config::default() });
    let told = outcomes(&b.round());
    let kind = &failed(&told[0].1).failure.kind;
    assert!(matches!(kind, FailureKind::LostInput { .. }), "{kind:?}");
}

#[test]
fn the_idle_steal_from_the_loaded_by_asking() {
    let mut b = Bench::new(&[1]);
    let policies = Policies { hold_back_roots: false, ..Policies::default() };
    b = Bench { core: Bench::with(Config { policies, ..Config::default() }, &[1]).core, ..b };
    b.submit(1, batch(1, 0).tasks(4, HELD));
    assert_eq!(b.placed().len(), 4);
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    let asked = vec![(task(1, 3), 0), (task(1, 2), 0)];
    assert_eq!(told(&b.round()), [(0, ToWorker::Retract { tasks: asked })]);
    let (given, kept) = (vec![(task(1, 3), 0)], vec![(task(1, 2), 0)]);
    b.worker(0, FromWorker::Retracted { given, kept });
    assert_eq!(b.placed(), [(1, 3, 1)]);
}

#[test]
fn what_is_given_back_goes_to_whom_it_was_asked_for() {
    let mut b = Bench::new(&[1]);
    b.submit(1, (1..=5).fold(batch(1, 0).task(HELD, &[]), |batch, _| batch.task(HELD, &[0])));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.end(0, task(1, 0), 0, 1 << 20);
    assert_eq!(b.placed().len(), 5);
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    let asked = vec![(task(1, 5), 0), (task(1, 4), 0)];
    assert_eq!(told(&b.round()), [(0, ToWorker::Retract { tasks: asked.clone() })]);
    // Meanwhile the first worker has got rid of its work, and it has the input: by cost it would
    // have them again.
    (1..=3).for_each(|seq| b.end(0, task(1, seq), 0, 8));
    b.worker(0, FromWorker::Retracted { given: asked, kept: vec![] });
    assert_eq!(b.placed(), [(1, 5, 1), (1, 4, 1)]);
}

#[test]
fn many_that_wait_for_one_are_cancelled_or_let_go() {
    let mut b = Bench::new(&[4]);
    b.submit(1, (1..=100).fold(batch(1, 0).task(HELD, &[]), |batch, _| batch.task(HELD, &[0, 0])));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.client(1, FromClient::Release { objects: (1..40).map(|seq| object(1, seq)).collect() });
    let tasks = (40..99).map(|seq| task(1, seq)).collect();
    b.client(1, FromClient::Cancel { tasks, reason: "enough".into() });
    b.end(0, task(1, 0), 0, 8);
    assert_eq!(b.placed(), [(0, 99, 0), (0, 100, 0)]);
}

#[test]
fn many_that_wait_for_two_fail_with_one_as_the_other_ends() {
    let mut b = Bench::new(&[2]);
    let two = batch(1, 0).tasks(2, HELD);
    b.submit(1, (2..=100).fold(two, |batch, _| batch.task(HELD | WANTED, &[0, 1])));
    assert_eq!(b.placed().len(), 2);
    let result = Err(Box::new(error()));
    let failed = TaskEnd { result, ..ended(task(1, 0), 0, 1000, 8) };
    b.worker(0, FromWorker::Ended { ends: vec![failed, ended(task(1, 1), 0, 1000, 8)] });
    let actions = b.round();
    assert_eq!(outcomes(&actions).len(), 99);
    assert_eq!(assignments(&actions), []);
}

#[test]
fn a_blocked_task_lends_its_slot() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(3, HELD));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    let blocked = |at_limit| FromWorker::Blocked {
        task: task(1, 0),
        attempt: 0,
        waits_for: vec![object(1, 2)],
        at_limit,
    };
    b.worker(0, blocked(false));
    assert_eq!(b.placed(), [(0, 1, 0)]);
    b.worker(0, blocked(true));
    let (_, assignment) = assignments(&b.round()).remove(0);
    let told = (assignment.task, assignment.in_place_of);
    assert_eq!(told, (task(1, 2), Some(task(1, 0))), "what it waits for runs on top of it");
    b.end(0, task(1, 2), 0, 8);
    b.worker(0, FromWorker::Unblocked { task: task(1, 0), attempt: 0 });
    b.round();
}

#[test]
fn admission_waits_for_room_in_the_store() {
    let mut b = Bench::new(&[4]);
    b.submit(1, batch(1, 0).tasks(9, HELD));
    let placed = b.placed().len();
    assert_eq!(placed, 4);
    for seq in 0..4 {
        b.end(0, task(1, seq), 0, 400 << 20);
    }
    let full = WorkerStatus { store_used: 1000 << 20, ..WorkerStatus::default() };
    b.worker(0, FromWorker::Status(full));
    assert_eq!(b.placed(), [(0, 4, 0)], "all are full: one goes on");
    b.client(1, FromClient::Explain { query: 1, task: task(1, 8) });
    assert!(format!("{:?}", b.round()).contains("no worker's store has room"));
    b.worker(0, FromWorker::Status(WorkerStatus::default()));
    assert_eq!(b.placed(), [(0, 5, 0)], "room for one more beside the one that runs");
}

#[test]
fn what_no_worker_has_is_waited_for_and_said() {
    let mut b = Bench::new(&[1]);
    let labels = vec![("zone".to_owned(), "a".to_owned())];
    let options = TaskOptions { labels: labels.clone(), ..TaskOptions::default() };
    b.submit(1, batch(1, 0).with(options).task(HELD, &[]));
    assert!(b.placed().is_empty());
    b.client(1, FromClient::Explain { query: 1, task: task(1, 0) });
    assert!(format!("{:?}", b.round()).contains("the label zone=a"));
    let mut labelled = spec(1);
    labelled.labels = labels;
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: labelled });
    assert_eq!(b.placed(), [(1, 0, 0)]);
}

#[test]
fn why_a_task_failed_is_said_in_words() {
    let mut b = Bench::new(&[1]);
    let options = TaskOptions { crash_retries: 0, ..TaskOptions::default() };
    b.submit(1, batch(1, 0).with(options).task(HELD, &[]));
    b.placed();
    let stderr_tail = "free(): invalid pointer\n".to_owned();
    let death = Death { signal: Some(6), exit_code: None, peak_memory: 3 << 29, stderr_tail };
    b.fail(0, task(1, 0), 0, FailureKind::Died(death));
    b.round();
    b.client(1, FromClient::Explain { query: 1, task: task(1, 0) });
    let actions = b.round();
    let [Action::ToClient { message: ToClient::Explained { explanation, .. }, .. }] = &actions[..]
    else {
        panic!("{actions:?}");
    };
    let words = "failed: its executor was killed by SIGABRT (signal 6) (peak memory 1.5 GiB)";
    assert!(explanation.reason.ends_with(words), "{}", explanation.reason);
}

#[test]
fn named_resources_are_never_promised_twice() {
    let mut b = Bench::new(&[]);
    let mut with_gpu = spec(4);
    with_gpu.resources.named = vec![("gpu".into(), 1000)];
    b.event(Event::WorkerJoined { worker: WorkerId(0), spec: with_gpu });
    let mut options = TaskOptions::default();
    options.resources.named = vec![("gpu".into(), 1000)];
    b.submit(1, batch(1, 0).with(options).tasks(2, HELD));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.end(0, task(1, 0), 0, 8);
    assert_eq!(b.placed(), [(0, 1, 0)]);
}

#[test]
fn two_jobs_share_the_slots_whatever_their_tasks_last() {
    let mut b = Bench::new(&[4]);
    b.submit(1, batch(1, 0).tasks(4000, HELD));
    b.submit(2, batch(2, 0).tasks(400, HELD).function(0));
    let mut slot_time = [0u64; 2];
    // Four slots; each attempt ends when its time is over.
    let mut running: Vec<(u64, TaskId, u32)> = Vec::new();
    let mut queue: std::collections::VecDeque<(TaskId, u32)> = Default::default();
    for _ in 0..1500 {
        let actions = b.round();
        queue.extend(assignments(&actions).iter().map(|(_, a)| (a.task, a.attempt)));
        while running.len() < 4
            && let Some((task, attempt)) = queue.pop_front()
        {
            let lasts = if task.lane.0 == 1 { 10_000 } else { 100_000 };
            running.push((b.now + lasts, task, attempt));
        }
        let first = running.iter().enumerate().min_by_key(|(_, r)| r.0).expect("work").0;
        let (until, task, attempt) = running.remove(first);
        b.now = until;
        let lasts = if task.lane.0 == 1 { 10_000 } else { 100_000 };
        slot_time[task.lane.0 as usize - 1] += lasts;
        let end = ended(task, attempt, lasts as u32, 8);
        b.core.handle(
            Time(b.now),
            Event::FromWorker {
                worker: WorkerId(0),
                message: FromWorker::Ended { ends: vec![end] },
            },
            &mut b.out,
        );
    }
    let share = slot_time[0] as f64 / (slot_time[0] + slot_time[1]) as f64;
    assert!((0.45..0.55).contains(&share), "the job of short tasks had {share} of the slots");
}

#[test]
fn progress_is_told_ten_times_a_second_at_most() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(3, HELD));
    b.client(1, FromClient::Watch { job: job(1) });
    let told = |actions: Vec<Action>| {
        let progress = |action: &&Action| {
            matches!(action, Action::ToClient { message: ToClient::Progress { .. }, .. })
        };
        actions.iter().filter(progress).count()
    };
    assert_eq!(told(b.round()), 1, "at once");
    b.event(Event::Tick);
    assert_eq!(told(b.round()), 1);
    b.end(0, task(1, 0), 0, 8);
    b.event(Event::Tick);
    assert_eq!(told(b.round()), 0, "too early");
    assert_eq!(b.core.next_tick(), Some(Time(100_000)));
    b.now = 100_000;
    b.event(Event::Tick);
    assert_eq!(told(b.round()), 1);
    assert_eq!(b.core.next_tick(), None);
}
