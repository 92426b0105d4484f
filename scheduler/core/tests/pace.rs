//! Scripts of placement over machines: what has to be moved, and how fast workers are.

mod support;

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::client::{FromClient, Outcome, PutPlace, ToClient};
use manyhands_proto::inspect::{Answer, Question};
use manyhands_proto::task::{FailureKind, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{FromWorker, InputPlace, ToWorker, WorkerSpec, WorkerStatus};
use manyhands_scheduler_core::{Action, Config, Event};
use support::*;

const MIB: u64 = 1 << 20;

fn meta(size: u64) -> ObjectMeta {
    ObjectMeta { codec: Codec::MSGPACK, size, contains: Vec::new() }
}

fn put(b: &mut Bench, seq: u64, size: u64, worker: u32) {
    let place = PutPlace::Stored(WorkerId(worker));
    b.client(1, FromClient::Put { object: object(1, seq), meta: meta(size), place });
}

fn end_in(b: &mut Bench, worker: u32, seq: u64, duration_us: u32) {
    let ends = vec![ended(task(1, seq), 0, duration_us, 8)];
    b.worker(worker, FromWorker::Ended { ends });
}

fn slowness(b: &mut Bench) -> Vec<u32> {
    b.client(1, FromClient::Ask { query: 1, question: Question::Workers });
    for action in b.round() {
        if let Action::ToClient { message: ToClient::Answer { answer, .. }, .. } = action {
            let Answer::Workers(workers) = answer else { break };
            return workers.iter().map(|info| info.slowness).collect();
        }
    }
    panic!("workers are told of");
}

/// Worker 0 has a value of so many bytes and work for 100 ms; worker 1 is idle. Where does a task
/// go that needs the value?
fn place_of_a_task(size: u64, bandwidth: u64) -> u32 {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(2, HELD));
    b.placed();
    end_in(&mut b, 0, 0, 100_000);
    assert_eq!(b.placed(), [(0, 1, 0)]);
    put(&mut b, 2, size, 0);
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    let status = WorkerStatus { bandwidth, ..WorkerStatus::default() };
    b.worker(1, FromWorker::Status(status));
    b.submit(1, batch(1, 3).task(HELD, &[2]));
    b.placed()[0].0
}

#[test]
fn a_task_goes_where_it_can_start_first_by_measured_bandwidth() {
    assert_eq!(place_of_a_task(50 * MIB, 0), 1, "at 1 GiB/s it is there in 50 ms");
    assert_eq!(place_of_a_task(50 * MIB, 100 * MIB), 0, "at 100 MiB/s in half a second");
    assert_eq!(place_of_a_task(5 * MIB, 100 * MIB), 1);
}

#[test]
fn what_is_on_its_way_to_a_worker_is_reckoned_with() {
    let mut b = Bench::new(&[]);
    let labels = |name: &str| vec![("only".to_owned(), name.to_owned())];
    for (worker, name) in [(0, "a"), (1, "b"), (2, "c")] {
        let spec = WorkerSpec { labels: labels(name), ..spec(4) };
        b.event(Event::WorkerJoined { worker: WorkerId(worker), spec });
    }
    put(&mut b, 0, 1000 * MIB, 0);
    put(&mut b, 1, MIB, 0);
    let on = |name| TaskOptions { labels: labels(name), ..TaskOptions::default() };
    // Worker 0 has no slot left, and worker 1 a transfer of a second before it.
    b.submit(1, batch(1, 2).with(on("a")).tasks(8, HELD).with(on("b")).task(HELD, &[0]));
    b.round();
    for seq in 2..6 {
        end_in(&mut b, 0, seq, 3_000_000);
    }
    b.round();
    b.submit(1, batch(1, 11).task(HELD, &[1]));
    assert_eq!(b.placed(), [(2, 11, 0)]);
    b.worker(1, FromWorker::Copied { objects: vec![object(1, 0)] });
    b.submit(1, batch(1, 13).with(on("b")).task(HELD, &[0]));
    let sent = assignments(&b.round());
    assert_eq!(sent[0].1.inputs[0].place, InputPlace::Here);
}

/// Two workers with a slot each, of which the second takes so many times as long as the first. The
/// most tasks that each had at one time once the slow one was known.
fn run_with_a_slow_worker(b: &mut Bench, tasks: u64, us: u32, times: u32) -> [usize; 2] {
    b.submit(1, batch(1, 0).tasks(tasks as usize, HELD));
    let (mut with, mut most) = ([Vec::new(), Vec::new()], [0, 0]);
    let mut ended = 0;
    for turn in 0.. {
        for (worker, seq, _) in b.placed() {
            with[worker as usize].push(seq);
        }
        if ended > tasks / 2 {
            most = [most[0].max(with[0].len()), most[1].max(with[1].len())];
        }
        if ended == tasks {
            break;
        }
        let worker = usize::from(turn % (times + 1) == times);
        if !with[worker].is_empty() {
            let seq = with[worker].remove(0);
            end_in(b, worker as u32, seq, if worker == 0 { us } else { us * times });
            ended += 1;
        }
    }
    most
}

#[test]
fn a_slow_worker_is_known_by_what_its_tasks_take() {
    let mut b = Bench::new(&[1, 1]);
    run_with_a_slow_worker(&mut b, 200, 10_000, 4);
    let slowness = slowness(&mut b);
    assert!(slowness[0] < 1000 && slowness[1] > 2000, "{slowness:?}");
}

#[test]
fn a_slow_worker_is_not_drowned() {
    let mut b = Bench::new(&[1, 1]);
    let [fast, slow] = run_with_a_slow_worker(&mut b, 1000, 1_000, 10);
    assert!(fast >= 3, "{fast} were sent ahead to the fast one");
    assert_eq!(slow, 1, "nothing was sent ahead to the slow one");
}

#[test]
fn one_that_takes_long_does_not_make_a_worker_slow() {
    let mut b = Bench::new(&[1, 1]);
    run_with_a_slow_worker(&mut b, 100, 10_000, 1);
    b.submit(1, batch(1, 100).tasks(2, HELD));
    for (worker, seq, _) in b.placed() {
        end_in(&mut b, worker, seq, if worker == 0 { 10_000 } else { 10_000_000 });
    }
    let slowness = slowness(&mut b);
    assert!(slowness.iter().all(|slowness| *slowness < 1200), "{slowness:?}");
}

#[test]
fn a_slow_worker_does_not_take_what_the_others_will_have_done_sooner() {
    let mut b = Bench::new(&[1, 1]);
    run_with_a_slow_worker(&mut b, 200, 10_000, 4);
    put(&mut b, 300, MIB, 0);
    b.submit(1, batch(1, 301).task(HELD, &[300]));
    assert_eq!(b.placed(), [(0, 301, 0)]);
    b.submit(1, batch(1, 302).task(HELD, &[300]));
    assert_eq!(b.placed(), [(0, 302, 0)], "ten milliseconds later is sooner than so much slower");
}

#[test]
fn a_task_can_ask_for_a_worker_or_a_machine() {
    let mut b = Bench::new(&[]);
    for (worker, name, host) in [(0, "left", "a"), (1, "right", "b"), (2, "other", "b")] {
        let spec = WorkerSpec { name: name.into(), host: host.into(), ..spec(1) };
        b.event(Event::WorkerJoined { worker: WorkerId(worker), spec });
    }
    let on = |key: &str, value: &str| TaskOptions {
        labels: vec![(key.to_owned(), value.to_owned())],
        ..TaskOptions::default()
    };
    let all = batch(1, 0).with(on("worker", "right")).task(HELD, &[]);
    b.submit(1, all.with(on("host", "b")).task(HELD, &[]).with(on("host", "")).task(HELD, &[]));
    assert_eq!(b.placed(), [(1, 0, 0), (2, 1, 0)]);
}

#[test]
fn wide_small_inputs_are_named_and_large_batches_split() {
    let mut b = Bench::with(Config { cache_limit: 1 << 30, ..Config::default() }, &[4]);
    b.submit(1, (0..200).fold(batch(1, 0), |batch, _| batch.task(HELD, &[])));
    let mut left = 200;
    while left > 0 {
        for (_, seq, _) in b.placed() {
            let mut end = ended(task(1, seq), 0, 50_000, 60_000);
            if let Ok(outputs) = &mut end.result {
                outputs[0].value = Some(Bytes::from(vec![1; 60_000]));
            }
            b.worker(0, FromWorker::Ended { ends: vec![end] });
            left -= 1;
        }
    }
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(4) });
    b.worker(0, FromWorker::Draining);
    b.round();
    let all: Vec<u64> = (0..200).collect();
    b.submit(1, batch(1, 200).task(HELD, &all).task(HELD, &all[..30]).task(HELD, &all[..30]));
    let actions = b.round();
    let sent = assignments(&actions);
    assert_eq!(sent.len(), 3);
    let inline = sent[0].1.inputs.iter().filter(|i| matches!(i.place, InputPlace::Inline(_)));
    assert_eq!(inline.count(), (8 << 20) / 60_000 + 1, "the others are to be fetched");
    let messages = actions.iter().filter(|action| {
        matches!(action, Action::ToWorker { message: ToWorker::Assign { .. }, .. })
    });
    assert_eq!(messages.count(), 3, "none is larger than it has to be");
    b.client(1, FromClient::Want { objects: (0..200).map(|seq| object(1, seq)).collect() });
    let actions = b.round();
    assert_eq!(outcomes(&actions).len(), 200);
    let messages = actions.iter().filter(|action| {
        matches!(action, Action::ToClient { message: ToClient::Ended { .. }, .. })
    });
    assert_eq!(messages.count(), 12);
}

#[test]
fn what_no_message_can_hold_fails_in_words() {
    let mut b = Bench::new(&[1]);
    let bytes = Bytes::from(vec![1; 64 << 10]);
    for seq in 0..800 {
        let place = PutPlace::Inline(bytes.clone());
        b.client(1, FromClient::Put { object: object(1, seq), meta: meta(64 << 10), place });
    }
    let all: Vec<u64> = (0..800).collect();
    b.submit(1, batch(1, 800).task(HELD | WANTED, &all).task(HELD | WANTED, &all[..700]));
    let actions = b.round();
    let [(_, Outcome::Failed(failed))] = &outcomes(&actions)[..] else { panic!("it fails") };
    assert!(matches!(failed.failure.kind, FailureKind::Refused { .. }));
    assert_eq!(assignments(&actions).len(), 1, "the other one is sent");
    let mut large = batch(1, 900).task(HELD, &[]);
    large.0.args = vec![0; 50 << 20].into();
    large.0.rows[0].args_end = 50 << 20;
    b.submit(1, large);
    assert!(format!("{:?}", b.round()).contains("put large values"));
}
