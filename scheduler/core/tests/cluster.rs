//! Scripts over several workers: who is told of whom, links that break, workers that leave.

mod support;

use manyhands_proto::client::{FromClient, PutPlace, ToClient};
use manyhands_proto::task::{FailureKind, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{FromWorker, InputPlace, Peer, ToWorker, WorkerSpec};
use manyhands_proto::{Lane, SessionId, WorkerId};
use manyhands_scheduler_core::{Action, Event};
use support::*;

fn meta(size: u64) -> ObjectMeta {
    ObjectMeta { codec: Codec::MSGPACK, size, contains: Vec::new() }
}

/// A worker that others can reach.
fn reachable(worker: u32, host: &str) -> WorkerSpec {
    let addresses = vec![([127, 0, 0, 1], 7000 + worker as u16).into()];
    WorkerSpec { addresses, host: host.into(), ..spec(1) }
}

fn peer(worker: u32, host: &str) -> Peer {
    let WorkerSpec { addresses, host, .. } = reachable(worker, host);
    Peer { worker: WorkerId(worker), addresses, host }
}

fn join(b: &mut Bench, worker: u32, host: &str) {
    let spec = reachable(worker, host);
    b.event(Event::WorkerJoined { worker: WorkerId(worker), spec });
}

fn clients_told(actions: &[Action]) -> Vec<(u64, ToClient)> {
    let mut found = Vec::new();
    for action in actions {
        if let Action::ToClient { session, message } = action {
            found.push((session.0, message.clone()));
        }
    }
    found
}

fn explain(b: &mut Bench, seq: u64) -> String {
    b.client(1, FromClient::Explain { query: 1, task: task(1, seq) });
    format!("{:?}", b.round())
}

/// The first attempt of a task ends that took so long that no others are sent ahead of its like.
fn end_long(b: &mut Bench, worker: u32, seq: u64, size: u64) {
    let ends = vec![ended(task(1, seq), 0, 50_000, size)];
    b.worker(worker, FromWorker::Ended { ends });
}

fn copy(size: u64, seq: u64, from: u32) -> ToWorker {
    ToWorker::Copy { object: object(1, seq), size, workers: vec![WorkerId(from)] }
}

#[test]
fn a_worker_that_has_moved_is_looked_for_where_it_is() {
    let mut b = Bench::new(&[]);
    b.event(Event::ClientJoined { session: SessionId(1), lane: Lane(1) });
    (0..2).for_each(|worker| join(&mut b, worker, "a"));
    b.round();
    let addresses = vec![([10, 0, 0, 9], 7100).into()];
    let moved = vec![Peer { addresses: addresses.clone(), ..peer(1, "a") }];
    b.worker(1, FromWorker::Moved { addresses: addresses.clone() });
    let actions = b.round();
    assert_eq!(told(&actions), [(0, ToWorker::Peers { peers: moved.clone() })]);
    let message = ToClient::Workers { peers: moved, gone: Vec::new() };
    assert_eq!(clients_told(&actions), [(1, message.clone()), (2, message)]);
    b.worker(1, FromWorker::Moved { addresses });
    b.worker(1, FromWorker::Moved { addresses: Vec::new() });
    assert!(b.round().is_empty(), "nothing is new, and nobody looks for it nowhere");
}

#[test]
fn workers_and_clients_are_told_of_workers_that_can_be_reached() {
    let mut b = Bench::new(&[]);
    join(&mut b, 0, "a");
    let workers = |peers: Vec<Peer>, gone| ToClient::Workers { peers, gone };
    let first = workers(vec![peer(0, "a")], vec![]);
    assert_eq!(clients_told(&b.round()), [(1, first.clone()), (2, first)]);
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    let peers = |peers| ToWorker::Peers { peers };
    assert_eq!(told(&b.round()), [(1, peers(vec![peer(0, "a")]))], "nobody is told of it");
    join(&mut b, 2, "b");
    let actions = b.round();
    let expected = [
        (2, peers(vec![peer(0, "a")])),
        (0, peers(vec![peer(2, "b")])),
        (1, peers(vec![peer(2, "b")])),
    ];
    assert_eq!(told(&actions), expected);
    assert_eq!(clients_told(&actions).len(), 2);
    b.event(Event::ClientJoined { session: SessionId(3), lane: Lane(3) });
    let all = workers(vec![peer(0, "a"), peer(2, "b")], vec![]);
    assert_eq!(clients_told(&b.round()), [(3, all)]);
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    let actions = b.round();
    let gone = vec![WorkerId(0)];
    let message = ToWorker::PeersGone { workers: gone.clone() };
    assert_eq!(told(&actions), [(1, message.clone()), (2, message)]);
    assert_eq!(clients_told(&actions)[0], (1, workers(vec![], gone)));
    b.event(Event::WorkerLost { worker: WorkerId(1) });
    assert!(b.round().is_empty(), "nobody has heard of it");
}

#[test]
fn a_worker_whose_link_is_broken_gets_nothing_new_until_it_is_back() {
    let mut b = Bench::new(&[1, 1]);
    b.submit(1, batch(1, 0).tasks(2, HELD));
    let mut placed = b.placed();
    placed.sort_unstable();
    let [(0, away, _), (1, other, _)] = placed[..] else { panic!("one each: {placed:?}") };
    b.event(Event::WorkerAway { worker: WorkerId(0) });
    b.now = 2_300_000;
    b.submit(1, batch(1, 2).tasks(2, HELD));
    assert!(b.placed().is_empty(), "one is away and one is full");
    let words = explain(&mut b, away);
    assert!(words.contains("with worker-0, which has not been heard from for 2.3 s"), "{words}");
    end_long(&mut b, 1, other, 8);
    assert_eq!(b.placed().len(), 1);
    b.event(Event::WorkerBack { worker: WorkerId(0) });
    assert!(b.placed().is_empty(), "it still runs what it ran");
    b.end(0, task(1, away), 0, 8);
    assert_eq!(b.placed().len(), 1);
}

#[test]
fn what_only_away_workers_could_run_waits_and_says_so() {
    let mut b = Bench::new(&[1]);
    b.event(Event::WorkerAway { worker: WorkerId(0) });
    b.submit(1, batch(1, 0).task(HELD, &[]));
    assert!(b.placed().is_empty());
    assert!(explain(&mut b, 0).contains("1 have not been heard from, 0 drain"));
    b.event(Event::WorkerBack { worker: WorkerId(0) });
    assert_eq!(b.placed(), [(0, 0, 0)]);
}

#[test]
fn sources_on_the_reader_s_machine_come_first_and_those_away_last() {
    let mut b = Bench::new(&[]);
    for (worker, host) in [(0, "a"), (1, "b"), (2, "c")] {
        join(&mut b, worker, host);
    }
    b.submit(1, batch(1, 0).task(HELD, &[]));
    let first = b.placed()[0].0;
    b.end(first, task(1, 0), 0, 1 << 20);
    for worker in 0..3 {
        b.worker(worker, FromWorker::Copied { objects: vec![object(1, 0)] });
    }
    b.event(Event::WorkerAway { worker: WorkerId(0) });
    let labels = vec![("only".to_owned(), "here".to_owned())];
    let spec = WorkerSpec { labels: labels.clone(), ..reachable(3, "c") };
    b.event(Event::WorkerJoined { worker: WorkerId(3), spec });
    let options = TaskOptions { labels, ..TaskOptions::default() };
    b.submit(1, batch(1, 1).with(options).task(HELD, &[0]));
    let (worker, assignment) = assignments(&b.round()).remove(0);
    assert_eq!(worker, WorkerId(3));
    let workers = vec![WorkerId(2), WorkerId(1), WorkerId(0)];
    assert_eq!(assignment.inputs[0].place, InputPlace::Peers { workers, size: 1 << 20 });
}

#[test]
fn a_drain_gives_back_copies_and_leaves() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(HELD, &[]).task(HELD, &[0]).task(HELD, &[0]).task(HELD, &[0]));
    b.placed();
    end_long(&mut b, 0, 0, 1 << 20);
    assert_eq!(b.placed(), [(0, 1, 0), (0, 2, 0)]);
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(2) });
    b.client(1, FromClient::Drain { worker: WorkerId(0) });
    b.client(2, FromClient::Drain { worker: WorkerId(0) });
    let actions = b.round();
    let asked = vec![(task(1, 1), 0), (task(1, 2), 0)];
    let expected =
        [(0, ToWorker::Drain), (0, ToWorker::Retract { tasks: asked }), (1, copy(1 << 20, 0, 0))];
    assert_eq!(told(&actions), expected);
    let sent = assignments(&actions);
    assert_eq!((sent[0].0, sent[0].1.task), (WorkerId(1), task(1, 3)), "elsewhere from now on");
    b.worker(
        0,
        FromWorker::Retracted { given: vec![(task(1, 2), 0)], kept: vec![(task(1, 1), 0)] },
    );
    assert_eq!(b.placed(), [(1, 2, 1)]);
    b.worker(1, FromWorker::Copied { objects: vec![object(1, 0)] });
    assert!(b.round().is_empty(), "a task still runs there");
    assert!(explain(&mut b, 1).contains("Explain"), "its worker is asked");
    b.end(0, task(1, 1), 0, 5000);
    assert_eq!(told(&b.round()), [(1, copy(5000, 1, 0))], "small values too");
    b.worker(1, FromWorker::Copied { objects: vec![object(1, 1)] });
    assert_eq!(told(&b.round()), [(0, ToWorker::Leave)]);
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    let actions = b.round();
    assert_eq!(assignments(&actions), [], "nothing is lost and nothing runs again");
    assert!(told(&actions).is_empty());
}

#[test]
fn a_drain_that_could_copy_nowhere_tries_others_and_then_again() {
    let mut b = Bench::new(&[1, 1, 1]);
    let place = PutPlace::Stored(WorkerId(0));
    b.client(1, FromClient::Put { object: object(1, 0), meta: meta(1 << 20), place });
    b.worker(0, FromWorker::Draining);
    let target = |actions: Vec<Action>| match &told(&actions)[..] {
        [(to, ToWorker::Copy { .. })] => *to,
        other => panic!("a copy was expected: {other:?}"),
    };
    let first = target(b.round());
    let failed = || FromWorker::CopyFailed { object: object(1, 0), message: "no way".into() };
    b.worker(first, failed());
    let second = target(b.round());
    assert_eq!(first + second, 3, "the other one");
    b.worker(second, failed());
    assert!(b.round().is_empty(), "nobody is left to be asked");
    let due = b.core.next_tick().expect("they are tried again");
    b.now = due.0;
    b.event(Event::Tick);
    let third = target(b.round());
    b.event(Event::WorkerLost { worker: WorkerId(third) });
    assert_eq!(target(b.round()), 3 - third, "a target that is lost is replaced");
    b.worker(3 - third, FromWorker::Copied { objects: vec![object(1, 0)] });
    assert_eq!(told(&b.round()), [(0, ToWorker::Leave)]);
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    b.submit(1, batch(1, 1).task(HELD | WANTED, &[0]));
    assert_eq!(b.placed(), [(3 - third, 1, 0)], "the put is still there");
}

#[test]
fn what_can_be_made_again_does_not_keep_a_drain_for_ever() {
    let mut b = Bench::new(&[1, 1]);
    b.submit(1, batch(1, 0).task(HELD, &[]));
    let (worker, ..) = b.placed()[0];
    b.end(worker, task(1, 0), 0, 1 << 20);
    b.worker(worker, FromWorker::Draining);
    let mut copies = 0;
    loop {
        let actions = b.round();
        match told(&actions).first() {
            Some((_, ToWorker::Leave)) => break,
            Some((target, ToWorker::Copy { object, .. })) => {
                copies += 1;
                let failed = FromWorker::CopyFailed { object: *object, message: "x".into() };
                b.worker(*target, failed);
            }
            _ => {
                b.now = b.core.next_tick().expect("something is left to do").0;
                b.event(Event::Tick);
            }
        }
    }
    assert_eq!(copies, 12);
    b.event(Event::WorkerLost { worker: WorkerId(worker) });
    assert_eq!(b.placed(), [(1 - worker, 0, 1)], "it is made again");
}

#[test]
fn the_last_worker_waits_for_another_before_it_leaves() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(2, HELD));
    b.placed();
    b.worker(0, FromWorker::Draining);
    b.round();
    b.worker(0, FromWorker::Retracted { given: vec![], kept: vec![(task(1, 0), 0)] });
    b.end(0, task(1, 0), 0, 1 << 20);
    assert!(b.round().is_empty());
    assert!(explain(&mut b, 1).contains("0 have not been heard from, 1 drain"));
    assert!(explain(&mut b, 0).contains("no other worker that could take anything"));
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    let actions = b.round();
    assert_eq!(assignments(&actions).len(), 1);
    assert_eq!(told(&actions), [(1, copy(1 << 20, 0, 0))]);
}

#[test]
fn a_worker_that_clients_can_reach_lingers() {
    let mut b = Bench::new(&[]);
    join(&mut b, 0, "a");
    b.round();
    b.worker(0, FromWorker::Draining);
    assert!(b.round().is_empty());
    b.now = b.core.next_tick().expect("until then it stays").0;
    b.event(Event::Tick);
    assert_eq!(told(&b.round()), [(0, ToWorker::Leave)]);
    assert_eq!(b.core.next_tick(), None);
}

#[test]
fn a_task_that_waits_for_its_child_on_the_last_worker_is_helped_in_place() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(2, HELD));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.worker(0, FromWorker::Draining);
    let (task_id, waits_for) = (task(1, 0), vec![object(1, 1)]);
    let blocked = FromWorker::Blocked { task: task_id, attempt: 0, waits_for, at_limit: false };
    b.worker(0, blocked);
    let sent = assignments(&b.round());
    assert_eq!((sent[0].1.task, sent[0].1.in_place_of), (task(1, 1), Some(task_id)));
}

#[test]
fn a_drain_counts_no_attempt() {
    let mut b = Bench::new(&[1, 1]);
    let options = TaskOptions { crash_retries: 0, ..TaskOptions::default() };
    b.submit(1, batch(1, 0).with(options).task(HELD | WANTED, &[]));
    let mut at = b.placed()[0].0;
    for attempt in 0..3 {
        b.worker(at, FromWorker::Draining);
        b.round();
        b.worker(at, FromWorker::Retracted { given: vec![(task(1, 0), attempt)], kept: vec![] });
        let next = b.placed()[0];
        assert_eq!(next.2, attempt + 1);
        b.event(Event::WorkerLost { worker: WorkerId(at) });
        b.event(Event::WorkerJoined { worker: WorkerId(at), spec: spec(1) });
        at = next.0;
    }
    b.fail(at, task(1, 0), 3, FailureKind::WorkerLost { worker: WorkerId(at) });
    assert_eq!(outcomes(&b.round()).len(), 1, "the first crash is one too many");
}

#[test]
fn a_lost_worker_takes_only_what_is_nowhere_else() {
    let mut b = Bench::new(&[]);
    let labels = |name: &str| vec![("only".to_owned(), name.to_owned())];
    for (worker, name) in [(0, "a"), (1, "b"), (2, "c")] {
        let spec = WorkerSpec { labels: labels(name), ..spec(4) };
        b.event(Event::WorkerJoined { worker: WorkerId(worker), spec });
    }
    let on = |name| TaskOptions { labels: labels(name), ..TaskOptions::default() };
    // Two results on the first worker, of which the second has fetched one; the third needs both.
    b.submit(1, batch(1, 0).with(on("a")).tasks(2, HELD));
    assert_eq!(b.placed(), [(0, 0, 0), (0, 1, 0)]);
    b.end(0, task(1, 0), 0, 1 << 20);
    b.end(0, task(1, 1), 0, 1 << 20);
    b.submit(1, batch(1, 2).with(on("b")).task(HELD, &[0]).with(on("c")).task(HELD, &[0, 1]));
    assert_eq!(b.placed(), [(1, 2, 0), (2, 3, 0)]);
    b.worker(1, FromWorker::Copied { objects: vec![object(1, 0)] });
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    let spec = WorkerSpec { labels: labels("a"), ..spec(4) };
    b.event(Event::WorkerJoined { worker: WorkerId(3), spec });
    assert_eq!(b.placed(), [(3, 1, 1)], "the one that nobody else has");
    let (object_0, message) = (object(1, 0), "worker-0 is gone".into());
    let missing = FromWorker::Missing { task: task(1, 3), attempt: 0, object: object_0, message };
    b.worker(2, missing);
    assert!(b.placed().is_empty(), "it waits for the other input");
    b.end(3, task(1, 1), 1, 1 << 20);
    let (worker, assignment) = assignments(&b.round()).remove(0);
    assert_eq!((worker, assignment.task), (WorkerId(2), task(1, 3)));
    let at = |worker| InputPlace::Peers { workers: vec![WorkerId(worker)], size: 1 << 20 };
    assert_eq!(assignment.inputs[0].place, at(1));
    assert_eq!(assignment.inputs[1].place, at(3));
}

/// A task on worker 1 whose input is on worker 0.
fn with_a_remote_input(b: &mut Bench) {
    let labels = vec![("only".to_owned(), "here".to_owned())];
    b.event(Event::WorkerJoined { worker: WorkerId(0), spec: spec(1) });
    let there = WorkerSpec { labels: labels.clone(), ..spec(1) };
    b.submit(1, batch(1, 0).task(HELD, &[]));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: there });
    b.end(0, task(1, 0), 0, 1 << 20);
    let options = TaskOptions { labels, crash_retries: 0, ..TaskOptions::default() };
    b.submit(1, batch(1, 1).with(options).task(HELD | WANTED, &[0]));
    assert_eq!(b.placed(), [(1, 1, 0)]);
}

fn missing(b: &mut Bench, attempt: u32) {
    let (object, message) = (object(1, 0), "worker-0 is not reached".into());
    b.worker(1, FromWorker::Missing { task: task(1, 1), attempt, object, message });
}

#[test]
fn a_task_that_is_handed_back_waits_until_its_input_is_made_again() {
    let mut b = Bench::new(&[]);
    with_a_remote_input(&mut b);
    missing(&mut b, 0);
    assert_eq!(b.placed(), [(1, 1, 1)], "at once, the first time");
    missing(&mut b, 1);
    assert!(b.placed().is_empty(), "then it rests");
    assert!(explain(&mut b, 1).contains("tried again soon"));
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    assert_eq!(b.placed(), [(1, 0, 1)], "its input is made again");
    b.end(1, task(1, 0), 1, 1 << 20);
    b.now = b.core.next_tick().expect("it rests no longer than that").0;
    b.event(Event::Tick);
    assert_eq!(b.placed(), [(1, 1, 2)]);
    b.end(1, task(1, 1), 2, 8);
    assert_eq!(outcomes(&b.round()).len(), 1, "though it may not crash even once");
}

#[test]
fn a_task_whose_input_can_never_be_fetched_fails_and_says_why() {
    let mut b = Bench::new(&[]);
    with_a_remote_input(&mut b);
    for attempt in 0.. {
        missing(&mut b, attempt);
        let actions = b.round();
        if let [(_, outcome)] = &outcomes(&actions)[..] {
            let manyhands_proto::client::Outcome::Failed(failed) = outcome else { panic!() };
            assert_eq!(failed.failure.kind, FailureKind::LostInput { object: object(1, 0) });
            let words = format!("{:?}", failed.failure.attempts);
            assert!(words.contains("worker-0 is not reached"), "{words}");
            assert!(b.now > 20_000_000, "a lost worker is noticed within that time");
            return;
        }
        if assignments(&actions).is_empty() {
            b.now = b.core.next_tick().expect("it rests").0;
            b.event(Event::Tick);
            assert_eq!(b.placed(), [(1, 1, attempt + 1)]);
        }
    }
}
