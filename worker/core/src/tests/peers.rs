//! What others have of this worker: copies, values, words of its tasks; and how it leaves.

use bytes::Bytes;
use manyhands_proto::client::{FromClient, FunctionSpec, Outcome, PutPlace, ToClient};
use manyhands_proto::executor::ReturnedBytes;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{Assignment, FromWorker, InputPlace, Peer, ToWorker};
use manyhands_proto::{FunctionId, ObjectId, WorkerId};

use super::desk::{Desk, assignment, config, extent, input, short, task};
use crate::{Action, Event, ExecutorId, LocalValue};

fn object(n: u64) -> ObjectId {
    task(n).object(0)
}

fn copy(n: u64, pages: u64) -> ToWorker {
    ToWorker::Copy { object: object(n), size: pages * 4096, workers: vec![WorkerId(5)] }
}

fn fetched(n: u64, page: u64, pages: u64) -> Event {
    let meta = ObjectMeta { codec: Codec::RAW, size: pages * 4096, contains: Vec::new() };
    let value = LocalValue::Extent { extent: extent(page, pages), codec: Codec::RAW };
    Event::Fetched { object: object(n), result: Ok((meta, value)) }
}

fn not_fetched(n: u64) -> Event {
    Event::Fetched { object: object(n), result: Err("no route".to_owned()) }
}

#[test]
fn a_copy_is_fetched_and_kept_and_said() {
    let mut desk = Desk::new(1);
    assert_eq!(short(&desk.scheduler(copy(1, 1))), ["fetch 1"]);
    assert!(desk.scheduler(copy(1, 1)).is_empty(), "it is on its way");
    assert_eq!(short(&desk.event(fetched(1, 7, 1))), ["copied 1"]);
    assert_eq!(short(&desk.scheduler(copy(1, 1))), ["copied 1"], "it is here");
    assert_eq!(desk.core.holdings(), (1, 0));
    let free = ToWorker::Free { objects: vec![object(1)] };
    assert_eq!(short(&desk.scheduler(free)), ["free 1"]);
}

#[test]
fn a_copy_that_nobody_gives_is_answered_in_words_and_can_be_asked_for_again() {
    let mut desk = Desk::new(1);
    for _ in 0..2 {
        assert_eq!(short(&desk.scheduler(copy(1, 1))), ["fetch 1"]);
        assert_eq!(short(&desk.event(not_fetched(1))), ["copy failed 1"]);
        assert_eq!(desk.core.holdings(), (0, 0));
    }
}

#[test]
fn a_copy_that_is_freed_before_it_comes_is_let_go() {
    let mut desk = Desk::new(1);
    desk.scheduler(copy(1, 1));
    assert!(desk.scheduler(ToWorker::Free { objects: vec![object(1)] }).is_empty());
    let out = short(&desk.event(fetched(1, 7, 1)));
    assert_eq!(out, ["free 1", "copied 1"], "the scheduler frees it once more, in vain");
    assert_eq!(desk.core.holdings(), (0, 0));
}

/// Task 1 reads object 0 of another worker; object 0 is made again here before it comes.
fn made_while_fetched() -> Desk {
    let mut desk = Desk::started(1);
    let place = InputPlace::Peers { workers: vec![WorkerId(5)], size: 4096 };
    let reader =
        Assignment { inputs: vec![input(object(0), place)], order: 2, ..assignment(task(1)) };
    assert_eq!(short(&desk.assign(vec![reader])), ["fetch 0"]);
    desk.assign_plain([0]);
    let made = desk.end_with(0, 0, 5, Ok(ReturnedBytes::Extent(extent(3, 1))));
    assert_eq!(short(&made), ["feed 0 1", "ended 0 ok"], "the reader need not wait");
    desk
}

#[test]
fn an_object_that_is_made_here_while_it_is_fetched_is_here_at_once() {
    let mut desk = made_while_fetched();
    assert!(desk.event(not_fetched(0)).is_empty());
    desk.end(0, 1, 5);
    let free = ToWorker::Free { objects: vec![object(0), object(1)] };
    assert_eq!(short(&desk.scheduler(free)), ["free 0"]);
    assert_eq!(desk.core.holdings(), (0, 0));
}

#[test]
fn what_comes_of_an_object_that_was_made_here_and_freed_is_freed_too() {
    let mut desk = made_while_fetched();
    desk.end(0, 1, 5);
    let free = ToWorker::Free { objects: vec![object(0), object(1)] };
    assert_eq!(short(&desk.scheduler(free)), ["free 0"]);
    assert_eq!(short(&desk.event(fetched(0, 7, 1))), ["free 0"]);
    assert_eq!(desk.core.holdings(), (0, 0));
}

#[test]
fn a_fetch_that_is_still_under_way_is_not_begun_again() {
    let mut desk = made_while_fetched();
    desk.end(0, 1, 5);
    desk.scheduler(ToWorker::Free { objects: vec![object(0), object(1)] });
    assert!(short(&desk.scheduler(copy(0, 1))).is_empty(), "it is on its way since before");
    assert_eq!(short(&desk.event(fetched(0, 7, 1))), ["copied 0"]);
}

#[test]
fn copies_beyond_memory_go_to_disk_and_not_all_come_at_one_time() {
    let mut desk = Desk::with(config(1, 10 * 4096));
    let out = short(&desk.scheduler(copy(0, 8)));
    assert_eq!(out, ["fetch 0"]);
    assert_eq!(short(&desk.scheduler(copy(1, 8))), ["fetch 1 on disk"]);
    for n in 2..16 {
        assert_eq!(desk.scheduler(copy(n, 8)).len(), 1);
    }
    assert!(desk.scheduler(copy(16, 8)).is_empty(), "sixteen are on their way");
    assert_eq!(short(&desk.event(fetched(1, 50, 8))), ["fetch 16 on disk", "copied 1"]);
}

#[test]
fn a_task_is_handed_back_when_an_input_cannot_be_fetched_and_looks_where_it_was_told() {
    let mut desk = Desk::started(1);
    let far = |n, worker| {
        let place = InputPlace::Peers { workers: vec![WorkerId(worker)], size: 4096 };
        Assignment { inputs: vec![input(object(1), place)], ..assignment(task(n)) }
    };
    assert_eq!(short(&desk.assign(vec![far(7, 5)])), ["fetch 1"]);
    // What waits for it too, but was told of another worker, is not given up with it.
    let place = InputPlace::Inline(Value { codec: Codec::RAW, bytes: Bytes::new() });
    let near = Assignment { inputs: vec![input(object(3), place)], ..assignment(task(6)) };
    assert_eq!(short(&desk.assign(vec![near])), ["feed 0 6"]);
    desk.assign(vec![far(8, 6)]);
    let out = desk.event(not_fetched(1));
    assert_eq!(short(&out), ["missing 1 for 7", "missing 1 for 8"]);
    let Action::ToScheduler(FromWorker::Missing { message, attempt: 0, .. }) = &out[0] else {
        panic!("{out:?}")
    };
    assert_eq!(message, "no route");
    desk.assign(vec![Assignment { attempt: 1, ..far(7, 6) }]);
    assert_eq!(short(&desk.event(fetched(1, 7, 1))), ["feed 0 7", "copied 1"]);
}

#[test]
fn a_read_that_fails_is_answered_in_words_and_can_be_asked_for_again() {
    let mut desk = Desk::started(1);
    desk.assign_plain([7]);
    let told = |worker| {
        let (size, workers) = (4096, vec![WorkerId(worker)]);
        let outcome = Outcome::Stored { codec: Codec::RAW, size, workers };
        let message = ToClient::Ended { ends: vec![(object(1), outcome)] };
        ToWorker::ToTask { task: task(7), attempt: 0, message }
    };
    let read =
        || Event::ReadRequested { executor: ExecutorId(0), task: task(7), object: object(1) };
    desk.scheduler(told(5));
    assert_eq!(short(&desk.event(read())), ["fetch 1"]);
    assert_eq!(short(&desk.event(not_fetched(1))), ["readable 1 no"]);
    desk.scheduler(told(6));
    let out = desk.event(read());
    let Action::Fetch { workers, .. } = &out[0] else { panic!("{out:?}") };
    assert_eq!(*workers, [WorkerId(6)], "where it was said to be last");
    assert_eq!(short(&desk.event(fetched(1, 7, 1))), ["readable 1 yes", "copied 1"]);
    desk.end(0, 7, 1);
}

#[test]
fn peers_get_small_values_at_once_or_when_they_are_back_from_disk() {
    let mut desk = Desk::with(config(1, 10 * 4096)).all_started(0);
    desk.assign_plain([1]);
    desk.event(Event::ExecutorStarted { executor: ExecutorId(0), pid: 1 });
    let wanted = |ticket, n| Event::Wanted { ticket, object: object(n) };
    let bytes = Bytes::from(vec![1; 8 * 4096 + 1]);
    desk.end_with(0, 1, 5, Ok(ReturnedBytes::Inline(bytes.clone())));
    assert_eq!(short(&desk.event(wanted(1, 1))), ["serve 1 value"], "it is about to be spilled");
    desk.event(Event::Spilled { object: object(1), ok: true });
    assert_eq!(short(&desk.event(wanted(2, 1))), ["serve 2 none"], "it lies in the store, on disk");
    assert_eq!(short(&desk.event(wanted(3, 9))), ["serve 3 none"], "nobody knows it");
    desk.scheduler(ToWorker::Send { objects: vec![object(1)] });
    assert!(desk.event(wanted(4, 1)).is_empty(), "it is on its way");
    let value = LocalValue::Inline(Value { codec: Codec::MSGPACK, bytes });
    let out = short(&desk.event(Event::Loaded { object: object(1), result: Ok(value) }));
    assert_eq!(out, ["serve 4 value", "spill 1", "values 1:true"]);
}

#[test]
fn the_scheduler_is_told_this_workers_name_and_not_what_a_task_calls_it() {
    let mut config = config(1, 1 << 20);
    config.own_program = 77;
    let mut desk = Desk::with(config);
    desk.assign_plain([7]);
    desk.event(Event::ExecutorStarted { executor: ExecutorId(0), pid: 1 });
    let mut says = |message| {
        let (executor, task) = (ExecutorId(0), task(7));
        let out = desk.event(Event::FromTask { executor, task, attempt: 0, message });
        let [Action::ToScheduler(FromWorker::FromTask { message, .. })] = &out[..] else {
            panic!("{out:?}")
        };
        message.clone()
    };
    let meta = ObjectMeta { codec: Codec::RAW, size: 9, contains: Vec::new() };
    let put = |worker| FromClient::Put {
        object: object(8),
        meta: meta.clone(),
        place: PutPlace::Stored(WorkerId(worker)),
    };
    assert_eq!(says(put(0)), put(3));
    let functions = |program| {
        let spec = FunctionSpec::rust(FunctionId(1), "f", program);
        FromClient::Functions { first_slot: 0, functions: vec![spec] }
    };
    assert_eq!(says(functions(0)), functions(77));
    assert_eq!(says(functions(5)), functions(5));
}

#[test]
fn a_worker_that_is_to_end_says_so_and_leaves_when_it_may() {
    let mut desk = Desk::started(1);
    desk.assign_plain([7, 8]);
    assert_eq!(short(&desk.event(Event::Drain)), ["draining"]);
    assert_eq!(short(&desk.scheduler(ToWorker::Drain)), ["draining"]);
    let tasks = vec![(task(7), 0), (task(8), 0)];
    let out = short(&desk.scheduler(ToWorker::Retract { tasks }));
    assert_eq!(out, ["take back 0 8", "given [] kept [7]"]);
    assert_eq!(short(&desk.took_back(0, 8, true)), ["given [8] kept []"]);
    assert_eq!(short(&desk.end(0, 7, 5)), ["ended 7 ok"]);
    assert_eq!(short(&desk.scheduler(ToWorker::Leave)), ["leave"]);
}

#[test]
fn peers_are_passed_on() {
    let mut desk = Desk::new(1);
    let peer = Peer { worker: WorkerId(5), addresses: Vec::new(), host: String::new() };
    assert_eq!(short(&desk.scheduler(ToWorker::Peers { peers: vec![peer] })), ["peers 1"]);
    let gone = ToWorker::PeersGone { workers: vec![WorkerId(5)] };
    assert_eq!(short(&desk.scheduler(gone)), ["peers gone 1"]);
}
