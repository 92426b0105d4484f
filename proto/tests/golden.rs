//! The bytes of every message that crosses a machine's border, as they were when they were last
//! looked at. A change here is a change of [`PROTOCOL`](manyhands_proto::frame::PROTOCOL): raise
//! it, and write the file anew with `UPDATE_GOLDEN=1 cargo test -p manyhands-proto --test golden`.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::client::{
    Explanation, FromClient, FunctionSpec, JobCounts, Outcome, PutPlace, Stream, TaskState,
    ToClient,
};
use manyhands_proto::frame::{Hello, PROTOCOL, Role};
use manyhands_proto::graph::{GraphBatch, Input, TaskRow};
use manyhands_proto::inspect::{Answer, Question};
use manyhands_proto::link::{Batch, Join, Key, Open, Opened, Reply};
use manyhands_proto::session::Resume;
use manyhands_proto::task::{Death, Failed, FailureKind, Resources, TaskFailure, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{
    AssignedInput, Assignment, FromWorker, InputPlace, Output, Peer, TaskEnd, ToWorker, WorkerSpec,
    WorkerStatus,
};
use manyhands_proto::{FunctionId, JobId, Lane, ObjectId, SessionId, TaskId, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

const GOLDEN: &str = include_str!("golden.txt");

fn task() -> TaskId {
    TaskId { job: JobId(Uuid::from_u128(0x0123_4567_89ab)), lane: Lane(3), seq: 7 }
}

fn object() -> ObjectId {
    task().object(1)
}

fn value() -> Value {
    Value { codec: Codec::MSGPACK, bytes: Bytes::from_static(b"\x2a") }
}

fn meta() -> ObjectMeta {
    ObjectMeta { codec: Codec::POD, size: 70_000, contains: vec![object()] }
}

fn function() -> FunctionSpec {
    FunctionSpec::rust(FunctionId(9), "add", 5)
}

fn options() -> TaskOptions {
    TaskOptions {
        retries: 1,
        time_limit_us: Some(2),
        labels: vec![("zone".into(), "a".into())],
        resources: Resources { named: vec![("gpu".into(), 1000)], ..Resources::default() },
        ..TaskOptions::default()
    }
}

fn peer() -> Peer {
    let addresses = vec!["127.0.0.1:7471".parse().unwrap(), "[::1]:7471".parse().unwrap()];
    Peer { worker: WorkerId(2), addresses, host: "machine".into() }
}

fn failed(kind: FailureKind) -> Failed {
    let failure = TaskFailure {
        task: task(),
        name: "add".into(),
        args: vec![object()],
        kind,
        attempts: Vec::new(),
    };
    Failed { failure: Arc::new(failure), chain: vec![(task(), "add".into())] }
}

fn batch() -> GraphBatch {
    let row = TaskRow {
        function: 0,
        options: 0,
        outputs: 1,
        rank: 4,
        inputs_end: 1,
        args_end: 2,
        flags: TaskRow::HELD | TaskRow::WANTED,
    };
    GraphBatch {
        job: task().job,
        lane: Lane(3),
        first_seq: 8,
        options: vec![options()],
        sources: vec![(task().job, Lane(3))],
        rows: vec![row],
        inputs: vec![Input { source: 0, index: 1, seq: 7 }],
        args: Bytes::from_static(&[1, 2]),
        more: false,
    }
}

fn assignment() -> Assignment {
    let input = |place| AssignedInput { object: object(), place };
    Assignment {
        task: task(),
        attempt: 1,
        function: 0,
        outputs: 1,
        wanted: true,
        order: 12,
        expected_us: 30,
        expected_bytes: 8,
        options: Arc::new(options()),
        inputs: vec![
            input(InputPlace::Inline(value())),
            input(InputPlace::Here),
            input(InputPlace::Peers { workers: vec![WorkerId(2)], size: 70_000 }),
        ],
        args: Bytes::from_static(&[1, 2]),
        in_place_of: None,
    }
}

fn end(result: Result<Output, FailureKind>) -> TaskEnd {
    let result = result.map(|output| [output].into()).map_err(Box::new);
    TaskEnd { task: task(), attempt: 1, duration_us: 20, pid: 4711, result }
}

/// Each message once, checked to be read as what it was written.
#[derive(Default)]
struct Book(String);

impl Book {
    fn write<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(&mut self, message: M) {
        let bytes = rmp_serde::to_vec(&message).expect("messages can be encoded");
        let read: M = rmp_serde::from_slice(&bytes).expect("what was written can be read");
        assert_eq!(read, message);
        self.line(&format!("{message:?}"), &bytes);
    }

    fn line(&mut self, name: &str, bytes: &[u8]) {
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.0, "{name} {hex}").expect("strings take everything");
    }
}

fn from_clients(book: &mut Book) {
    let (job, objects, tasks) = (task().job, vec![object()], vec![task()]);
    book.write(FromClient::OpenJob { job, name: "flights".into(), weight: 2 });
    book.write(FromClient::Functions { first_slot: 1, functions: vec![function()] });
    book.write(FromClient::Submit(batch()));
    let inline = PutPlace::Inline(Bytes::from_static(b"\x2a"));
    book.write(FromClient::Put { object: object(), meta: meta(), place: inline });
    let place = PutPlace::Stored(WorkerId(2));
    book.write(FromClient::Put { object: object(), meta: meta(), place });
    book.write(FromClient::Hold { objects: objects.clone() });
    book.write(FromClient::Release { objects: objects.clone() });
    book.write(FromClient::Want { objects });
    book.write(FromClient::Cancel { tasks, reason: "enough".into() });
    book.write(FromClient::Explain { query: 1, task: task() });
    book.write(FromClient::Watch { job });
    book.write(FromClient::CloseJob { job });
    book.write(FromClient::CancelJob { job, reason: "enough".into() });
    book.write(FromClient::Drain { worker: WorkerId(2) });
    book.write(FromClient::Room { task: task(), from: 16, upto: 32 });
    book.write(FromClient::Stream);
    book.write(FromClient::ProgramFailed { program: 5, message: "gone".into() });
    let question = Question::Tasks { job: Some(job), state: Some(TaskState::Ready), limit: 9 };
    book.write(FromClient::Ask { query: 2, question });
}

fn to_clients(book: &mut Book) {
    let stored = Outcome::Stored { codec: Codec::POD, size: 70_000, workers: vec![WorkerId(2)] };
    let death = Death {
        signal: Some(9),
        exit_code: None,
        peak_memory: 1 << 20,
        stderr_tail: "killed".into(),
    };
    let kinds = [
        FailureKind::Error { message: "no".into() },
        FailureKind::Died(death),
        FailureKind::Deadline,
        FailureKind::WorkerLost { worker: WorkerId(2) },
        FailureKind::LostInput { object: object() },
    ];
    for outcome in [Outcome::Value(value()), stored] {
        book.write(ToClient::Ended { ends: vec![(object(), outcome)] });
    }
    for kind in kinds {
        book.write(ToClient::Ended { ends: vec![(object(), Outcome::Failed(failed(kind)))] });
    }
    book.write(ToClient::Output {
        task: task(),
        name: "add".into(),
        stream: Stream::Stderr,
        bytes: Bytes::from_static(b"hi\n"),
    });
    let explanation = Explanation { state: TaskState::Waiting, reason: "it waits".into() };
    book.write(ToClient::Explained { query: 1, explanation });
    let counts = JobCounts { submitted: 4, assigned: 3, done: 2, failed: 1 };
    book.write(ToClient::Progress { job: task().job, counts });
    book.write(ToClient::Room { upto: 32 });
    book.write(ToClient::Refused { message: "no".into() });
    let answer = Answer::Unknown { message: "no such job".into() };
    book.write(ToClient::Answer { query: 2, answer });
    book.write(ToClient::SendProgram { program: 5, worker: WorkerId(2) });
    book.write(ToClient::Workers { peers: vec![peer()], gone: vec![WorkerId(1)] });
}

fn to_workers(book: &mut Book) {
    let (objects, tasks) = (vec![object()], vec![(task(), 1)]);
    book.write(ToWorker::Functions { functions: vec![(0, function())] });
    book.write(ToWorker::Assign { tasks: vec![assignment()] });
    book.write(ToWorker::Retract { tasks });
    book.write(ToWorker::Cancel { tasks: vec![(task(), 1, FailureKind::Deadline)] });
    book.write(ToWorker::Free { objects: objects.clone() });
    book.write(ToWorker::Send { objects });
    let message = ToClient::Refused { message: "no".into() };
    book.write(ToWorker::ToTask { task: task(), attempt: 1, message });
    book.write(ToWorker::Explain { query: 1, task: task() });
    book.write(ToWorker::Peers { peers: vec![peer()] });
    book.write(ToWorker::PeersGone { workers: vec![WorkerId(2)] });
    book.write(ToWorker::Copy { object: object(), size: 9, workers: vec![WorkerId(2)] });
    book.write(ToWorker::Program { program: 5, source: Ok(vec![WorkerId(2)]) });
    book.write(ToWorker::Program { program: 5, source: Err("gone".into()) });
    book.write(ToWorker::Drain);
    book.write(ToWorker::Leave);
}

fn from_workers(book: &mut Book) {
    let output = Output { meta: meta(), value: Some(Bytes::from_static(b"\x2a")) };
    book.write(FromWorker::Ended { ends: vec![end(Ok(output)), end(Err(FailureKind::Deadline))] });
    book.write(FromWorker::Retracted { given: vec![(task(), 1)], kept: vec![(task(), 2)] });
    let waits_for = vec![object()];
    book.write(FromWorker::Blocked { task: task(), attempt: 1, waits_for, at_limit: true });
    book.write(FromWorker::Unblocked { task: task(), attempt: 1 });
    let message = FromClient::Want { objects: vec![object()] };
    book.write(FromWorker::FromTask { task: task(), attempt: 1, message });
    book.write(FromWorker::Values { values: vec![(object(), Some(value())), (object(), None)] });
    book.write(FromWorker::Copied { objects: vec![object()] });
    book.write(FromWorker::Lost { objects: vec![object()] });
    let (stream, bytes) = (Stream::Stdout, Bytes::from_static(b"hi\n"));
    book.write(FromWorker::Output { task: task(), stream, bytes });
    let explanation = Explanation { state: TaskState::Running, reason: "it runs".into() };
    book.write(FromWorker::Explained { query: 1, explanation });
    let status = WorkerStatus { store_used: 1, spilled: 2, executors: 3, bandwidth: 4 };
    book.write(FromWorker::Status(status));
    book.write(FromWorker::Moved { addresses: peer().addresses });
    book.write(FromWorker::Draining);
    let message = "unreachable".to_owned();
    book.write(FromWorker::Missing { task: task(), attempt: 1, object: object(), message });
    book.write(FromWorker::CopyFailed { object: object(), message: "no room".into() });
    book.write(FromWorker::NeedProgram { program: 5 });
    book.write(FromWorker::HasProgram { program: 5 });
}

fn links(book: &mut Book) {
    let resume = Resume { epoch: 2, received: 9 };
    let spec = WorkerSpec { name: "w".into(), addresses: peer().addresses, ..Default::default() };
    let client = Join::Client { name: "c".into() };
    book.write(Open::New { key: 77, join: client });
    book.write(Open::New { key: 77, join: Join::Worker(spec) });
    book.write(Open::Again { session: SessionId(4), key: 77, resume });
    let session = SessionId(4);
    book.write(Opened::Client { session, lane: Lane(4), grace_us: 1 });
    book.write(Opened::Worker { session, worker: WorkerId(2), grace_us: 1 });
    book.write(Opened::Again { resume });
    book.write(Opened::Refused { message: "over".into(), over: true });
    book.write(Batch { ack: 3, messages: Bytes::from_static(&[0x90]) });
    book.write(Key::Object(object()));
    book.write(Key::Program(5));
    book.write(Reply::Refused { message: "no".into() });
}

#[test]
fn messages_are_the_bytes_that_they_were() {
    let mut book = Book::default();
    writeln!(book.0, "protocol {PROTOCOL}").unwrap();
    let version = "0.1.0".into();
    let hello = Hello { protocol: PROTOCOL, version, node: "n".into(), role: Role::Worker };
    book.line("Hello", &hello.to_bytes());
    for part in [from_clients, to_clients, to_workers, from_workers, links] {
        part(&mut book);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
        std::fs::write(path, &book.0).expect("the sources can be written");
        return;
    }
    for (number, (new, old)) in book.0.lines().zip(GOLDEN.lines()).enumerate() {
        assert_eq!(new, old, "line {} of golden.txt", number + 1);
    }
    assert_eq!(book.0.lines().count(), GOLDEN.lines().count(), "lines of golden.txt");
}
