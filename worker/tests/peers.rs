//! Objects and programs on their way between workers, and from and to clients.

#![cfg(feature = "daemon")]

use std::time::Duration;

use manyhands_executor::{Arg, Invocation};
use manyhands_proto::link::Key;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{AssignedInput, Assignment, FromWorker, InputPlace, ToWorker};
use manyhands_proto::{ObjectId, TaskId, WorkerId};
use manyhands_transport::bulk::{PutError, Want};
use manyhands_transport::machine::program_hash_of;

mod crew;
mod town;
use crew::{task, value};
use town::{Town, assignment};

type Outcome = Result<(), FailureKind>;

tasks!(make, sum, which_program);

const FUNCTIONS: [&str; 3] = ["make", "sum", "which_program"];
const MAKE: u32 = 0;
const SUM: u32 = 1;
const WHICH_PROGRAM: u32 = 2;

fn number(call: &Invocation<'_>) -> Result<u64, FailureKind> {
    match call.arg(0)? {
        Arg::One(value) => Ok(u64::from_le_bytes(value.as_slice().try_into().unwrap())),
        Arg::List(_) => Err(FailureKind::Value { message: "a list".into() }),
    }
}

/// So many bytes, none like its neighbours.
fn pattern(size: u64) -> Vec<u8> {
    (0..size).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 16) as u8).collect()
}

fn make(call: &mut Invocation<'_>) -> Outcome {
    let bytes = pattern(number(call)?);
    call.return_bytes(Codec::RAW, Vec::new(), &bytes)
}

fn total(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().map(|(at, byte)| (at as u64 % 251 + 1) * u64::from(*byte)).sum()
}

fn sum(call: &mut Invocation<'_>) -> Outcome {
    let Arg::One(given) = call.arg(0)? else { panic!("it is given no list") };
    let total = total(given.as_slice());
    call.return_bytes(Codec::RAW, Vec::new(), &total.to_le_bytes())
}

fn which_program(call: &mut Invocation<'_>) -> Outcome {
    let path = std::fs::read_link("/proc/self/exe").unwrap();
    call.return_bytes(Codec::RAW, Vec::new(), path.as_os_str().as_encoded_bytes())
}

fn make_there(town: &mut Town, node: usize, seq: u64, size: u64) -> ObjectId {
    let args = value(&size.to_le_bytes());
    town.assign(node, assignment(task(seq), MAKE, args));
    let end = town.end(node, task(seq));
    assert_eq!(end.result.unwrap()[0].meta.size, size);
    task(seq).object(0)
}

fn needs(seq: u64, object: ObjectId, place: InputPlace) -> Assignment {
    let inputs = vec![AssignedInput { object, place }];
    Assignment { inputs, ..assignment(task(seq), SUM, vec![1, 0, 0, 0, 0]) }
}

fn at(workers: &[u32], size: u64) -> InputPlace {
    InputPlace::Peers { workers: workers.iter().map(|w| WorkerId(*w)).collect(), size }
}

fn returned(town: &mut Town, node: usize, task: TaskId) -> Vec<u8> {
    let end = town.end(node, task);
    end.result.unwrap()[0].value.as_ref().expect("it is small").to_vec()
}

#[test]
fn objects_of_all_sizes_go_from_worker_to_worker() {
    let mut town = Town::new(2, 256 << 20, &FUNCTIONS);
    let sizes = [3, 30_000, 65_537, 5 << 20, 33 << 20];
    for (seq, size) in (1..).zip(sizes) {
        let object = make_there(&mut town, 0, seq, size);
        town.assign(1, needs(100 + seq, object, at(&[0], size)));
        town.hear(1, "a copy", |message| match message {
            FromWorker::Copied { objects } => (objects == [object]).then_some(()),
            _ => None,
        });
        let expected = total(&pattern(size)).to_le_bytes();
        assert_eq!(returned(&mut town, 1, task(100 + seq)), expected, "{size} bytes");
        // The copy serves as well as the first.
        town.assign(1, needs(200 + seq, object, InputPlace::Here));
        assert_eq!(returned(&mut town, 1, task(200 + seq)), expected);
    }
}

#[test]
fn what_was_spilled_is_served_and_copies_go_where_there_is_room() {
    let size = 6 << 20;
    let mut town = Town::new(2, 8 << 20, &FUNCTIONS);
    let objects = [1, 2, 3].map(|seq| make_there(&mut town, 0, seq, size));
    for object in objects {
        let workers = vec![WorkerId(0)];
        town.say(1, ToWorker::Copy { object, size, workers });
        town.hear(1, "a copy", |message| match message {
            FromWorker::Copied { objects } => (objects == [object]).then_some(()),
            FromWorker::CopyFailed { message, .. } => panic!("{message}"),
            _ => None,
        });
    }
    assert!(town.nodes[0].store.stats().spilled > 0 && town.nodes[1].store.stats().spilled > 0);
    let client = town.client();
    for object in objects {
        let want = Want::new(Key::Object(object), size, vec![WorkerId(1)]);
        let (_, bytes) = town.meanwhile(|| client.read_blocking(want)).unwrap();
        assert!(bytes == pattern(size), "{object} is another one now");
    }
}

#[test]
fn what_nobody_has_is_said_in_words_and_the_task_handed_back() {
    let mut town = Town::new(2, 8 << 20, &FUNCTIONS);
    let object = task(77).object(0);
    town.assign(1, needs(1, object, at(&[0], 100_000)));
    let words = town.hear(1, "that an input is missing", |message| match message {
        FromWorker::Missing { task: t, attempt: 0, object: o, message } => {
            assert_eq!((t, o), (task(1), object));
            Some(message)
        }
        _ => None,
    });
    assert!(words.contains("worker-0"), "{words}");
    town.say(1, ToWorker::Copy { object, size: 5, workers: vec![WorkerId(0)] });
    town.hear(1, "that there is no copy", |message| {
        matches!(message, FromWorker::CopyFailed { .. }).then_some(())
    });
    assert_eq!(town.nodes[1].worker.holdings(), (0, 0));
}

#[test]
fn clients_send_and_fetch() {
    let mut town = Town::new(2, 64 << 20, &FUNCTIONS);
    let client = town.client();
    let (object, size) = (task(1).object(0), 3_000_000);
    let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
    let bytes = bytes::Bytes::from(pattern(size));
    let patience = Duration::from_secs(10);
    let key = Key::Object(object);
    let put = || client.put_blocking(WorkerId(0), key, meta.clone(), bytes.clone(), patience);
    town.meanwhile(put).unwrap();
    town.meanwhile(put).unwrap();
    town.assign(1, needs(2, object, at(&[0], size)));
    let expected = total(&bytes).to_le_bytes();
    assert_eq!(returned(&mut town, 1, task(2)), expected);
    let small = make_there(&mut town, 1, 3, 300);
    let want = |object, size| Want::new(Key::Object(object), size, vec![WorkerId(1)]);
    let (_, read) = town.meanwhile(|| client.read_blocking(want(object, size))).unwrap();
    assert!(read == bytes);
    let (_, read) = town.meanwhile(|| client.read_blocking(want(small, 300))).unwrap();
    assert_eq!(read, pattern(300));
    town.say(0, ToWorker::Free { objects: vec![object] });
    while town.nodes[0].store.stats().used > 0 {
        town.turn();
    }
    assert_eq!(town.nodes[0].worker.holdings(), (0, 0));
}

#[test]
fn a_worker_that_is_about_to_leave_takes_nothing_from_clients() {
    let mut town = Town::new(1, 64 << 20, &FUNCTIONS);
    let client = town.client();
    let (key, size) = (Key::Object(task(1).object(0)), 100_000);
    let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
    town.nodes[0].worker.drain();
    town.hear(0, "that it drains", |message| matches!(message, FromWorker::Draining).then_some(()));
    let patience = Duration::from_secs(10);
    let put = || client.put_blocking(WorkerId(0), key, meta, pattern(size).into(), patience);
    let refused = town.meanwhile(put).unwrap_err().to_string();
    assert!(refused.contains("about to leave"), "{refused}");
}

/// This program, made another one by some bytes behind its end.
fn other_program() -> (bytes::Bytes, u128) {
    let mut bytes = std::fs::read("/proc/self/exe").unwrap();
    bytes.extend(b"another one");
    let hash = program_hash_of(&bytes);
    (bytes.into(), hash)
}

fn needs_program(town: &mut Town, node: usize, program: u128) {
    town.hear(node, "the wish for a program", |message| match message {
        FromWorker::NeedProgram { program: p } => (p == program).then_some(()),
        _ => None,
    });
}

fn has_program(town: &mut Town, node: usize, program: u128) {
    town.hear(node, "that a program has come", |message| match message {
        FromWorker::HasProgram { program: p } => (p == program).then_some(()),
        FromWorker::Ended { ends } => panic!("{ends:?}"),
        _ => None,
    });
}

#[test]
fn a_program_goes_from_a_client_to_a_worker_and_on_to_the_next() {
    let mut town = Town::new(2, 8 << 20, &FUNCTIONS);
    let (bytes, program) = other_program();
    for node in [0, 1] {
        town.describe(node, 10, "which_program", program);
        town.assign(node, assignment(task(node as u64), 10, Vec::new()));
        needs_program(&mut town, node, program);
    }
    let client = town.client();
    town.say(0, ToWorker::Program { program, source: Ok(Vec::new()) });
    let meta = ObjectMeta { codec: Codec::RAW, size: bytes.len() as u64, contains: Vec::new() };
    let patience = Duration::from_secs(10);
    let put = || client.put_blocking(WorkerId(0), Key::Program(program), meta, bytes, patience);
    town.meanwhile(put).unwrap();
    has_program(&mut town, 0, program);
    town.say(1, ToWorker::Program { program, source: Ok(vec![WorkerId(0)]) });
    has_program(&mut town, 1, program);
    for node in [0, 1] {
        let path = returned(&mut town, node, task(node as u64));
        let path = String::from_utf8(path).unwrap();
        assert!(path.ends_with(&format!("{program:032x}")), "it ran in {path}");
        town.assign(node, assignment(task(10), WHICH_PROGRAM, Vec::new()));
        let own = returned(&mut town, node, task(10));
        assert_eq!(own, std::env::current_exe().unwrap().as_os_str().as_encoded_bytes());
    }
}

#[test]
fn what_is_no_program_fails_its_tasks_in_words_and_nothing_else() {
    let mut town = Town::new(1, 8 << 20, &FUNCTIONS);
    let client = town.client();
    let mut foreign = std::fs::read("/proc/self/exe").unwrap();
    foreign[18..20].copy_from_slice(&22_u16.to_ne_bytes());
    let cases = [(b"#!/bin/sh\nexit 0\n".to_vec(), "no ELF header"), (foreign, "built for s390x")];
    for (slot, (bytes, words)) in (10..).zip(cases) {
        let program = program_hash_of(&bytes);
        town.describe(0, slot, "which_program", program);
        town.assign(0, assignment(task(u64::from(slot)), slot, Vec::new()));
        needs_program(&mut town, 0, program);
        town.say(0, ToWorker::Program { program, source: Ok(Vec::new()) });
        let meta = ObjectMeta { codec: Codec::RAW, size: bytes.len() as u64, contains: Vec::new() };
        let key = Key::Program(program);
        let patience = Duration::from_secs(10);
        let put = || client.put_blocking(WorkerId(0), key, meta, bytes.into(), patience);
        let refused = town.meanwhile(put).unwrap_err();
        let PutError::Refused { message, .. } = refused else { panic!("{refused}") };
        assert!(message.contains(words), "{message}");
        let failure = town.end(0, task(u64::from(slot))).result.unwrap_err();
        let FailureKind::Infeasible { message } = *failure else { panic!("{failure:?}") };
        assert!(
            message.contains(words) && message.contains(&format!("{program:032x}")),
            "{message}"
        );
    }
    make_there(&mut town, 0, 1, 9);
}
