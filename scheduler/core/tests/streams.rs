//! Streams: items come while their task runs, as far as there is room; what is lost is made again.

mod support;

use bytes::Bytes;
use manyhands_proto::client::{FromClient, Outcome, PutPlace, ToClient};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{FromWorker, ToWorker};
use manyhands_proto::{ObjectId, WorkerId};
use manyhands_scheduler_core::{Action, Event};
use support::*;

const LARGE: u64 = 100_000;

/// A stream's task, 0 of client 1, begun on a worker with room for so many items.
fn begun(workers: &[u32], room: u64) -> Bench {
    let mut bench = Bench::new(workers);
    bench.submit(1, batch(1, 0).task(HELD | WANTED, &[]));
    bench.give(0, room);
    assert_eq!(bench.placed().len(), 1);
    bench
}

impl Bench {
    fn give(&mut self, from: u64, upto: u64) {
        self.client(1, FromClient::Room { task: task(1, 0), from, upto });
    }

    fn says(&mut self, worker: u32, attempt: u32, message: FromClient) {
        self.worker(worker, FromWorker::FromTask { task: task(1, 0), attempt, message });
    }

    /// The task puts an item, in the message or, if it is large, in its worker's store.
    fn puts(&mut self, worker: u32, attempt: u32, number: u64, size: u64) {
        let place = match size {
            LARGE => PutPlace::Stored(WorkerId(worker)),
            _ => PutPlace::Inline(Bytes::from(vec![7; size as usize])),
        };
        let meta = ObjectMeta { codec: Codec::MSGPACK, size, contains: Vec::new() };
        self.says(worker, attempt, FromClient::Put { object: item(number), meta, place });
    }

    /// Worker 1 comes, and worker 0 is lost.
    fn replace_worker(&mut self) {
        self.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
        self.event(Event::WorkerLost { worker: WorkerId(0) });
    }

    fn releases(&mut self, objects: &[ObjectId]) {
        self.client(1, FromClient::Release { objects: objects.to_vec() });
    }

    /// How items (and `end`, the task itself) ended in a round: `3 value`.
    fn ends(&mut self) -> Vec<String> {
        ends_of(&self.round())
    }
}

fn item(number: u64) -> ObjectId {
    task(1, 0).item(number)
}

fn ends_of(actions: &[Action]) -> Vec<String> {
    outcomes(actions).iter().map(|(object, outcome)| in_short(*object, outcome)).collect()
}

fn in_short(object: ObjectId, outcome: &Outcome) -> String {
    let what = match outcome {
        Outcome::Value(_) => "value".to_owned(),
        Outcome::Stored { .. } => "stored".to_owned(),
        Outcome::Failed(failed) => format!("{:?}", failed.failure.kind),
    };
    let what = what.split([' ', '(']).next().unwrap_or_default();
    match object == task(1, 0).object(0) {
        true => format!("end {what}"),
        false => format!("{} {what}", object.task.seq),
    }
}

/// What the task is told of its room.
fn room(actions: &[Action]) -> Vec<u64> {
    let upto = |(_, message): (u32, ToWorker)| match message {
        ToWorker::ToTask { message: ToClient::Room { upto }, .. } => Some(upto),
        _ => None,
    };
    told(actions).into_iter().filter_map(upto).collect()
}

#[test]
fn items_come_while_the_task_runs_and_leave_nothing_behind() {
    let mut bench = begun(&[1], 2);
    bench.says(0, 0, FromClient::Stream);
    assert_eq!(room(&bench.round()), [2]);
    bench.puts(0, 0, 0, 5);
    bench.puts(0, 0, 1, LARGE);
    assert_eq!(bench.ends(), ["0 value", "1 stored"]);
    bench.releases(&[item(0), item(1)]);
    bench.give(2, 4);
    let actions = bench.round();
    assert_eq!(room(&actions), [4]);
    let free = |(_, message): &(u32, ToWorker)| matches!(message, ToWorker::Free { objects } if *objects == [item(1)]);
    assert!(told(&actions).iter().any(free), "{actions:?}");
    bench.puts(0, 0, 2, 5);
    bench.end(0, task(1, 0), 0, 1);
    assert_eq!(bench.ends(), ["2 value", "end value", "3 LostInput"]);
    bench.give(4, 5);
    assert_eq!(bench.ends(), ["4 LostInput"], "it is known that there are no more");
    bench.releases(&[item(2), item(3), item(4), task(1, 0).object(0)]);
    assert_eq!(bench.core.tasks_known(), 0);
}

#[test]
fn room_comes_before_the_task_asks_and_after_it() {
    let mut bench = begun(&[1], 1);
    assert!(room(&bench.round()).is_empty(), "it has not asked");
    bench.give(1, 2);
    assert!(room(&bench.round()).is_empty());
    bench.says(0, 0, FromClient::Stream);
    bench.give(2, 3);
    bench.give(2, 3);
    assert_eq!(room(&bench.round()), [2, 3, 3]);
}

#[test]
fn an_item_without_room_or_out_of_order_is_refused() {
    let mut bench = begun(&[1], 1);
    let refused = |bench: &mut Bench| {
        let refusal = |(_, message): &(u32, ToWorker)| {
            matches!(message, ToWorker::ToTask { message: ToClient::Refused { .. }, .. })
        };
        told(&bench.round()).iter().any(refusal)
    };
    bench.puts(0, 0, 1, 5);
    assert!(refused(&mut bench), "item 0 comes first");
    bench.puts(0, 0, 0, 5);
    assert!(!refused(&mut bench));
    bench.puts(0, 0, 1, LARGE);
    assert!(refused(&mut bench), "there is room for one");
    let task = task(1, 0);
    bench.client(1, FromClient::Room { task, from: 0, upto: 5000 });
    let actions = bench.round();
    let is_refusal = |a: &Action| matches!(a, Action::ToClient { message: ToClient::Refused { message }, .. } if message.contains("4096"));
    assert!(actions.iter().any(is_refusal), "{actions:?}");
}

#[test]
fn a_second_attempt_puts_the_same_items_and_known_ones_change_nothing() {
    let mut bench = begun(&[1], 3);
    bench.puts(0, 0, 0, 5);
    bench.puts(0, 0, 1, LARGE);
    assert_eq!(bench.ends(), ["0 value", "1 stored"]);
    bench.releases(&[item(0)]);
    bench.replace_worker();
    assert_eq!(bench.placed(), [(1, 0, 1)]);
    bench.says(1, 1, FromClient::Stream);
    assert_eq!(room(&bench.round()), [3]);
    // The first is needed by nobody any more, the second was lost, the third is new.
    for number in 0..3 {
        bench.puts(1, 1, number, LARGE);
    }
    let actions = bench.round();
    let free = |(_, message): &(u32, ToWorker)| matches!(message, ToWorker::Free { objects } if *objects == [item(0)]);
    assert!(told(&actions).iter().any(free), "{actions:?}");
    let ends = ends_of(&actions);
    assert_eq!(ends, ["2 stored"], "who had the second was told once");
    bench.client(1, FromClient::Want { objects: vec![item(1)] });
    assert_eq!(bench.ends(), ["1 stored"]);
}

#[test]
fn a_lost_item_is_made_again_by_running_the_task_again() {
    let mut bench = begun(&[1], 2);
    bench.puts(0, 0, 0, LARGE);
    bench.puts(0, 0, 1, LARGE);
    bench.end(0, task(1, 0), 0, 1);
    assert_eq!(bench.ends(), ["0 stored", "1 stored", "end value"]);
    bench.releases(&[task(1, 0).object(0), item(0)]);
    bench.replace_worker();
    assert_eq!(bench.placed(), [(1, 0, 1)]);
    bench.client(1, FromClient::Want { objects: vec![item(1)] });
    bench.puts(1, 1, 0, LARGE);
    bench.puts(1, 1, 1, LARGE);
    bench.end(1, task(1, 0), 1, 1);
    assert_eq!(bench.ends(), ["1 stored"]);
    bench.releases(&[item(1)]);
    bench.round();
    assert_eq!(bench.core.tasks_known(), 0);
}

#[test]
fn a_task_that_uses_a_lost_item_waits_for_the_stream_to_run_again() {
    let mut bench = begun(&[1], 1);
    bench.puts(0, 0, 0, LARGE);
    bench.end(0, task(1, 0), 0, 1);
    let mut user = batch(1, 1).task(HELD | WANTED, &[0]);
    user.0.sources[0] = (item(0).task.job, item(0).task.lane);
    bench.submit(1, user);
    bench.releases(&[item(0), task(1, 0).object(0)]);
    bench.replace_worker();
    bench.ends();
    assert_eq!(bench.placed(), []);
    bench.puts(1, 1, 0, LARGE);
    bench.end(1, task(1, 0), 1, 1);
    assert_eq!(bench.placed(), [(1, 1, 0)], "the user of the item");
    bench.end(1, task(1, 1), 0, 1);
    assert_eq!(bench.ends().len(), 1);
}

#[test]
fn the_failure_of_the_task_follows_the_items_before_it() {
    let mut bench = begun(&[1], 3);
    bench.puts(0, 0, 0, 5);
    bench.fail(0, task(1, 0), 0, FailureKind::Error { message: "no more".into() });
    assert_eq!(bench.ends(), ["0 value", "end Error", "1 Error", "2 Error"]);
    bench.give(3, 4);
    assert_eq!(bench.ends(), ["3 Error"]);
    bench.releases(&[item(0), item(1), item(2), item(3), task(1, 0).object(0)]);
    bench.round();
    assert_eq!(bench.core.tasks_known(), 0);
}

#[test]
fn fewer_items_the_second_time_are_lost_and_not_awaited_for_ever() {
    let mut bench = begun(&[1], 2);
    bench.puts(0, 0, 0, LARGE);
    bench.puts(0, 0, 1, LARGE);
    bench.end(0, task(1, 0), 0, 1);
    bench.ends();
    bench.replace_worker();
    bench.client(1, FromClient::Want { objects: vec![item(0), item(1)] });
    assert_eq!(bench.placed(), [(1, 0, 1)]);
    bench.puts(1, 1, 0, LARGE);
    bench.end(1, task(1, 0), 1, 1);
    assert_eq!(bench.ends(), ["0 stored", "1 LostInput"]);
}

#[test]
fn a_stream_of_a_client_that_goes_is_stopped_with_its_items() {
    let mut bench = begun(&[1], 2);
    bench.puts(0, 0, 0, LARGE);
    bench.event(Event::ClientLost { session: manyhands_proto::SessionId(1) });
    let told = told(&bench.round());
    assert!(told.iter().any(|(_, m)| matches!(m, ToWorker::Cancel { .. })), "{told:?}");
    assert!(told.iter().any(|(_, m)| matches!(m, ToWorker::Free { .. })), "{told:?}");
    let kind = FailureKind::Cancelled { reason: "gone".into() };
    bench.fail(0, task(1, 0), 0, kind);
    bench.round();
    assert_eq!(bench.core.tasks_known(), 0);
}

#[test]
fn a_consumer_that_is_tried_again_gets_all_items_again() {
    let mut bench = begun(&[1], 2);
    bench.puts(0, 0, 0, 5);
    assert_eq!(bench.ends(), ["0 value"]);
    bench.releases(&[item(0), item(1)]);
    bench.round();
    // The second item was never made, and nobody wants it; then somebody wants both.
    bench.give(0, 2);
    assert!(bench.ends().is_empty(), "the first was made and is gone, the second comes");
    bench.puts(0, 0, 1, 5);
    bench.end(0, task(1, 0), 0, 1);
    let actions = bench.round();
    let ends = ends_of(&actions);
    assert_eq!(ends, ["1 value", "end value"]);
    let again: Vec<u32> = assignments(&actions).iter().map(|(_, a)| a.attempt).collect();
    assert_eq!(again, [1], "once more, for the first");
    bench.puts(0, 1, 0, 5);
    bench.puts(0, 1, 1, 5);
    assert_eq!(bench.ends(), ["0 value"]);
    bench.end(0, task(1, 0), 1, 1);
    assert!(bench.ends().is_empty());
}
