//! The store's limit: spilling, loading, granting, freeing.

use manyhands_proto::executor::{Place, ReturnedBytes};
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{Assignment, InputPlace, ToWorker};
use manyhands_proto::{ObjectId, WorkerId};

use super::desk::{Desk, RUST, assignment, config, extent, input, short, task};
use crate::{Action, Event, ExecutorId, LocalValue};

/// One slot, and a store of ten pages, of which eight are below the watermark.
fn small() -> Desk {
    let mut config = config(1, 10 * 4096);
    config.prestart = vec![RUST];
    Desk::with(config).all_started(1)
}

fn object(n: u64) -> ObjectId {
    task(n).object(0)
}

fn needs(n: u64, objects: &[u64]) -> Assignment {
    let inputs = objects.iter().map(|o| input(object(*o), InputPlace::Here)).collect();
    Assignment { inputs, ..assignment(task(n)) }
}

fn loaded(n: u64, page: u64, pages: u64) -> Event {
    let value = LocalValue::Extent { extent: extent(page, pages), codec: Codec::RAW };
    Event::Loaded { object: object(n), result: Ok(value) }
}

fn spilled(n: u64) -> Event {
    Event::Spilled { object: object(n), ok: true }
}

#[test]
fn over_the_watermark_the_longest_unused_go_first_and_the_needed_last() {
    let mut desk = small();
    desk.assign_plain([50]);
    desk.stored(object(1), extent(1, 4));
    desk.assign(vec![needs(60, &[1])]);
    desk.assign(vec![needs(61, &[])]);
    desk.stored(object(2), extent(5, 3));
    assert_eq!(short(&desk.stored(object(3), extent(8, 2))), ["spill 2"]);
    assert!(desk.event(spilled(2)).is_empty());
    assert!(desk.event(spilled(2)).is_empty(), "a repeated answer changes nothing");
}

#[test]
fn spilled_inputs_are_loaded_before_their_task_is_fed() {
    let mut desk = small();
    desk.stored(object(1), extent(1, 5));
    assert_eq!(short(&desk.stored(object(2), extent(6, 4))), ["spill 1"]);
    desk.event(spilled(1));
    assert_eq!(short(&desk.assign(vec![needs(7, &[1, 2, 1])])), ["load 1"]);
    let out = desk.event(loaded(1, 20, 5));
    let Action::Feed { run, .. } = &out[0] else { panic!("{out:?}") };
    let places = [20, 6, 20].map(|p| match p {
        6 => Place::Extent { extent: extent(6, 4), codec: Codec::RAW },
        p => Place::Extent { extent: extent(p, 5), codec: Codec::RAW },
    });
    assert_eq!(run.inputs, places);
    // All ten pages are pinned: nothing is spilled, although that is over the watermark.
    assert_eq!(out.len(), 1);
    assert_eq!(short(&desk.end(0, 7, 5)), ["spill 2", "ended 7 ok"]);
}

#[test]
fn a_pinned_object_is_freed_when_its_reader_has_ended() {
    let mut desk = small();
    desk.stored(object(1), extent(1, 2));
    desk.assign(vec![needs(7, &[1])]);
    assert!(desk.scheduler(ToWorker::Free { objects: vec![object(1)] }).is_empty());
    assert_eq!(short(&desk.end(0, 7, 5)), ["free 1", "ended 7 ok"]);
}

#[test]
fn a_grant_waits_for_its_victims() {
    let mut desk = small();
    desk.assign_plain([7]);
    desk.stored(object(1), extent(1, 6));
    let alloc = |request, pages: u64| Event::AllocRequested {
        executor: ExecutorId(0),
        request,
        task: task(7),
        size: pages * 4096,
    };
    assert_eq!(short(&desk.event(alloc(1, 5))), ["spill 1"]);
    assert_eq!(short(&desk.event(spilled(1))), ["grant 20480"]);
    let (executor, at) = (ExecutorId(0), extent(30, 5));
    desk.event(Event::Granted { executor, request: 1, extent: Some(at) });
    assert_eq!(desk.core.free_bytes(), 5 * 4096);
    // Nothing can be spilled for this one, and nothing else runs: it goes on on disk.
    assert_eq!(short(&desk.event(alloc(2, 6))), ["grant 24576 on disk"]);
    let on_disk = extent(90, 6);
    desk.event(Event::Granted { executor, request: 2, extent: Some(on_disk) });
    let out = desk.end_with(0, 7, 5, Ok(ReturnedBytes::Extent(on_disk)));
    assert_eq!(short(&out), ["ended 7 ok"]);
    assert_eq!(desk.core.free_bytes(), 10 * 4096, "what was not published came back");
}

#[test]
fn while_others_run_a_grant_waits_for_them() {
    let mut config = config(2, 10 * 4096);
    config.prestart = vec![RUST];
    let mut desk = Desk::with(config).all_started(2);
    desk.stored(object(1), extent(1, 6));
    desk.assign(vec![needs(7, &[1]), needs(8, &[])]);
    let (executor, size) = (ExecutorId(0), 5 * 4096);
    let event = Event::AllocRequested { executor, request: 1, task: task(8), size };
    assert!(desk.event(event).is_empty(), "task 7 pins what could be spilled");
    assert_eq!(short(&desk.end(1, 7, 5)), ["spill 1", "ended 7 ok"]);
    assert_eq!(short(&desk.event(spilled(1))), ["grant 20480"]);
}

#[test]
fn inputs_that_never_fit_come_into_a_file_on_disk() {
    let mut desk = small();
    for n in [1, 2] {
        let meta = ObjectMeta { codec: Codec::RAW, size: 6 * 4096, contains: Vec::new() };
        let executor = ExecutorId::CLIENT;
        desk.event(Event::Stored { object: object(n), meta, extent: None, executor });
    }
    desk.stored(object(3), extent(30, 1));
    let out = short(&desk.assign(vec![needs(7, &[1, 2])]));
    assert_eq!(out, ["load 1", "load 2 on disk"]);
    desk.event(loaded(1, 40, 6));
    assert_eq!(short(&desk.event(loaded(2, 50, 6))), ["feed 0 7"]);
    assert_eq!(desk.core.free_bytes(), 3 * 4096, "what lies on disk counts nothing");
}

#[test]
fn a_lost_object_fails_its_task_and_the_scheduler_is_told() {
    let mut desk = small();
    desk.stored(object(1), extent(1, 9));
    desk.event(spilled(1));
    assert_eq!(short(&desk.assign(vec![needs(7, &[1])])), ["load 1"]);
    let event = Event::Loaded { object: object(1), result: Err("bad sector".to_owned()) };
    assert_eq!(short(&desk.event(event)), ["lost 1", "ended 7 LostInput"]);
    assert_eq!(short(&desk.assign(vec![needs(8, &[1])])), ["ended 8 LostInput"]);
}

#[test]
fn a_disk_that_refuses_is_left_alone_for_a_while() {
    let mut desk = small();
    assert_eq!(short(&desk.stored(object(1), extent(1, 9))), ["spill 1"]);
    assert!(desk.event(Event::Spilled { object: object(1), ok: false }).is_empty());
    assert_eq!(short(&desk.assign(vec![needs(7, &[1])])), ["feed 0 7"], "it is still there");
}

#[test]
fn an_input_of_a_peer_is_fetched_once_for_all() {
    let mut desk = small();
    let place = InputPlace::Peers { workers: vec![WorkerId(5)], size: 4096 };
    let far =
        |n| Assignment { inputs: vec![input(object(1), place.clone())], ..assignment(task(n)) };
    assert_eq!(short(&desk.assign(vec![far(7), far(8)])), ["fetch 1"]);
    let meta = ObjectMeta { codec: Codec::RAW, size: 4096, contains: Vec::new() };
    let value = LocalValue::Extent { extent: extent(9, 1), codec: Codec::RAW };
    let out = desk.event(Event::Fetched { object: object(1), result: Ok((meta, value)) });
    assert_eq!(short(&out), ["feed 0 7", "feed 0 8", "copied 1"]);
    desk.assign(vec![]);
    let gone =
        |n| Assignment { inputs: vec![input(object(2), place.clone())], ..assignment(task(n)) };
    desk.end(0, 7, 1);
    desk.end(0, 8, 1);
    assert_eq!(short(&desk.assign(vec![gone(9)])), ["fetch 2"]);
    let event = Event::Fetched { object: object(2), result: Err("no route".to_owned()) };
    assert_eq!(short(&desk.event(event)), ["missing 2 for 9"]);
    assert_eq!(desk.core.holdings(), (3, 0), "the attempt is forgotten, and what it needed");
}

#[test]
fn a_read_waits_for_the_disk_and_pins() {
    let mut desk = small();
    desk.stored(object(1), extent(1, 9));
    desk.event(spilled(1));
    desk.assign_plain([7]);
    let read =
        |n| Event::ReadRequested { executor: ExecutorId(0), task: task(7), object: object(n) };
    assert_eq!(short(&desk.event(read(1))), ["load 1"]);
    assert_eq!(short(&desk.event(read(2))), ["readable 2 no"]);
    assert_eq!(short(&desk.event(loaded(1, 20, 9))), ["readable 1 yes"], "and not spilled again");
    assert_eq!(short(&desk.end(0, 7, 5)), ["spill 1", "ended 7 ok"]);
}

#[test]
fn small_values_are_sent_when_asked_for() {
    let mut desk = small();
    desk.assign_plain([1]);
    let bytes = bytes::Bytes::from(vec![1; 8 * 4096 + 1]);
    assert_eq!(
        short(&desk.end_with(0, 1, 5, Ok(ReturnedBytes::Inline(bytes.clone())))),
        ["spill 1", "ended 1 ok"]
    );
    let send = ToWorker::Send { objects: vec![object(1), object(2)] };
    assert_eq!(short(&desk.scheduler(send.clone())), ["values 1:true 2:false"]);
    desk.event(spilled(1));
    assert_eq!(short(&desk.scheduler(send)), ["load 1", "values 2:false"]);
    let value = LocalValue::Inline(Value { codec: Codec::MSGPACK, bytes });
    let out = desk.event(Event::Loaded { object: object(1), result: Ok(value) });
    assert_eq!(short(&out), ["spill 1", "values 1:true"]);
}
