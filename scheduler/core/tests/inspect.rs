//! Scripts of questions about the cluster.

mod support;

use bytes::Bytes;
use manyhands_proto::client::{FromClient, Outcome, PutPlace, Stream, TaskState, ToClient};
use manyhands_proto::inspect::{Answer, Question, WorkerState};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{FromWorker, WorkerStatus};
use manyhands_proto::{SessionId, WorkerId};
use manyhands_scheduler_core::{Action, Config, Event};
use support::*;

fn ask(b: &mut Bench, question: Question) -> Answer {
    b.client(2, FromClient::Ask { query: 9, question });
    let mut answers = b.round().into_iter().filter_map(|action| match action {
        Action::ToClient { session: SessionId(2), message: ToClient::Answer { query, answer } } => {
            assert_eq!(query, 9);
            Some(answer)
        }
        _ => None,
    });
    answers.next().expect("every question is answered")
}

fn tasks(b: &mut Bench, state: Option<TaskState>, limit: u32) -> (Vec<u64>, u64) {
    match ask(b, Question::Tasks { job: Some(job(1)), state, limit }) {
        Answer::Tasks { tasks, total } => (tasks.iter().map(|t| t.task.seq).collect(), total),
        other => panic!("tasks were asked for: {other:?}"),
    }
}

#[test]
fn the_cluster_in_numbers() {
    let mut b = Bench::new(&[2, 1]);
    b.now = 70;
    b.submit(1, batch(1, 0).tasks(5, HELD).task(HELD, &[4]));
    let placed = b.placed();
    assert_eq!(placed.len(), 3);
    b.worker(1, FromWorker::Draining);
    b.event(Event::WorkerAway { worker: WorkerId(0) });
    let status = WorkerStatus { store_used: 5, spilled: 6, executors: 2, bandwidth: 0 };
    b.worker(0, FromWorker::Status(status));
    let Answer::Cluster(info) = ask(&mut b, Question::Cluster) else { panic!() };
    assert_eq!((info.workers, info.draining, info.away, info.clients), (2, 1, 1, 2));
    assert_eq!((info.millicores, info.millicores_used, info.jobs), (3000, 3000, 2));
    assert_eq!((info.ready, info.assigned, info.waiting, info.ended), (2, 3, 1, 0));
    assert_eq!((info.store_used, info.spilled, info.records, info.uptime_us), (5, 6, 6, 70));
    let Answer::Workers(workers) = ask(&mut b, Question::Workers) else { panic!() };
    let states: Vec<_> = workers.iter().map(|info| (info.worker.0, info.state)).collect();
    assert_eq!(states, [(0, WorkerState::Away), (1, WorkerState::Draining)]);
    assert!(workers[0].note.contains("not been heard from"), "{}", workers[0].note);
    assert!(workers[1].note.contains("1 tasks have to end"), "{}", workers[1].note);
    assert!(workers[1].note.contains("no other worker"), "{}", workers[1].note);
    assert_eq!((workers[0].assigned, workers[0].status), (2, status));
}

#[test]
fn what_ended_and_what_ran_again_is_counted_over_the_life_of_the_cluster() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).task(0, &[]).task(HELD, &[0]));
    b.placed();
    b.end(0, task(1, 0), 0, 1 << 20);
    b.placed();
    b.event(Event::WorkerJoined { worker: WorkerId(1), spec: spec(1) });
    b.event(Event::WorkerLost { worker: WorkerId(0) });
    assert_eq!(b.placed(), [(1, 0, 1)]);
    b.end(1, task(1, 0), 1, 1 << 20);
    b.placed();
    b.end(1, task(1, 1), 1, 8);
    b.client(1, FromClient::Release { objects: vec![object(1, 1)] });
    b.client(1, FromClient::CloseJob { job: job(1) });
    let Answer::Cluster(info) = ask(&mut b, Question::Cluster) else { panic!() };
    assert_eq!((info.ended, info.rerun), (2, 2), "one had ended, one ran");
}

#[test]
fn jobs_have_names_and_ages_and_an_order() {
    let mut b = Bench::new(&[1]);
    b.client(1, FromClient::CloseJob { job: job(1) });
    for (number, name) in [(7, "later"), (1, "again")] {
        b.now += 10;
        b.client(1, FromClient::OpenJob { job: job(number), name: name.into(), weight: 3 });
    }
    b.client(2, FromClient::OpenJob { job: job(7), name: "other".into(), weight: 3 });
    b.now += 10;
    let Answer::Jobs(jobs) = ask(&mut b, Question::Jobs) else { panic!() };
    let told: Vec<_> = jobs.iter().map(|j| (j.job, &j.name[..], j.age_us)).collect();
    assert_eq!(told, [(job(2), "job", 30), (job(7), "later", 20), (job(1), "again", 10)]);
    assert_eq!(jobs[1].sessions, [SessionId(1), SessionId(2)]);
    assert_eq!(jobs[1].weight, 3);
}

#[test]
fn tasks_by_state_the_newest_first_and_no_more_than_asked_for() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(4, HELD).task(HELD, &[0]));
    assert_eq!(b.placed(), [(0, 0, 0)]);
    assert_eq!(tasks(&mut b, None, 100), (vec![4, 3, 2, 1, 0], 5));
    assert_eq!(tasks(&mut b, None, 2), (vec![4, 3], 5));
    assert_eq!(tasks(&mut b, None, 0), (vec![], 5));
    assert_eq!(tasks(&mut b, Some(TaskState::Ready), 9), (vec![3, 2, 1], 3));
    assert_eq!(tasks(&mut b, Some(TaskState::Waiting), 9), (vec![4], 1));
    assert_eq!(tasks(&mut b, Some(TaskState::Assigned), 9), (vec![0], 1));
    b.worker(0, FromWorker::Retracted { given: vec![], kept: vec![] });
    b.fail(0, task(1, 0), 0, FailureKind::Error { message: "no".into() });
    assert_eq!(tasks(&mut b, Some(TaskState::Failed), 9), (vec![4, 0], 2));
    let gone = Question::Tasks { job: Some(job(99)), state: None, limit: 1 };
    assert!(matches!(ask(&mut b, gone), Answer::Unknown { .. }));
}

#[test]
fn a_graph_names_its_inputs_in_the_order_of_submission() {
    let mut b = Bench::new(&[]);
    b.submit(1, batch(1, 0).tasks(2, HELD).task(HELD, &[0, 1]).task(HELD, &[2]));
    let question = Question::Graph { job: job(1), limit: 3 };
    let Answer::Graph { tasks, total } = ask(&mut b, question) else { panic!() };
    assert_eq!(total, 4);
    let seqs: Vec<_> = tasks.iter().map(|node| node.task.task.seq).collect();
    assert_eq!(seqs, [0, 1, 2]);
    assert_eq!(tasks[2].inputs, [object(1, 0), object(1, 1)]);
    assert_eq!((&tasks[2].task.name[..], tasks[2].task.state), ("f", TaskState::Waiting));
}

#[test]
fn objects_the_largest_first_and_why_they_are_kept() {
    let mut b = Bench::new(&[2]);
    let meta = ObjectMeta { codec: Codec::MSGPACK, size: 3, contains: vec![] };
    let place = PutPlace::Inline(Bytes::from_static(b"abc"));
    b.client(1, FromClient::Put { object: object(1, 0), meta, place });
    b.submit(1, batch(1, 1).task(0, &[]).task(HELD, &[1]).task(0, &[1]).task(HELD, &[3]));
    b.placed();
    b.end(0, task(1, 1), 0, 1 << 20);
    b.client(2, FromClient::Hold { objects: vec![object(1, 1)] });
    let question = Question::Objects { job: None, limit: 10 };
    let Answer::Objects { objects, total } = ask(&mut b, question) else { panic!() };
    assert_eq!(total, 2);
    assert_eq!((objects[0].object, objects[0].size), (object(1, 1), 1 << 20));
    assert_eq!(objects[0].workers, [WorkerId(0)]);
    let words = "held by the client session-2; needed 2 times by tasks that have not ended";
    assert_eq!(objects[0].reason, words);
    assert_eq!((objects[1].size, objects[1].workers.len()), (3, 0));
    assert_eq!(objects[1].reason, "held by the client session-1");
    b.worker(0, FromWorker::Draining);
    let question = Question::Objects { job: Some(job(1)), limit: 1 };
    let Answer::Objects { objects, total: 2 } = ask(&mut b, question) else { panic!() };
    let words = "it lies only with worker-0, which drains";
    assert!(objects[0].reason.contains(words), "{}", objects[0].reason);
}

#[test]
fn what_tasks_print_is_kept_and_the_oldest_forgotten() {
    let mut b = Bench::with(Config { logs_limit: 1000, ..Config::default() }, &[1]);
    b.submit(1, batch(1, 0).tasks(2, HELD));
    let print = |b: &mut Bench, seq: u64, stream, n: usize| {
        let bytes = Bytes::from(vec![b'a' + seq as u8; n]);
        b.worker(0, FromWorker::Output { task: task(1, seq), stream, bytes });
        b.round()
    };
    let told = print(&mut b, 0, Stream::Stdout, 10);
    let output = |action: &Action| {
        matches!(action, Action::ToClient { message: ToClient::Output { .. }, .. })
    };
    assert!(told.iter().any(output));
    print(&mut b, 0, Stream::Stderr, 5);
    let logs = |b: &mut Bench, seq| ask(b, Question::Logs { task: task(1, seq) });
    let pieces = vec![
        (Stream::Stdout, Bytes::from(vec![b'a'; 10])),
        (Stream::Stderr, Bytes::from(vec![b'a'; 5])),
    ];
    assert_eq!(logs(&mut b, 0), Answer::Logs { pieces, dropped: 0 });
    assert_eq!(logs(&mut b, 1), Answer::Logs { pieces: vec![], dropped: 0 });
    assert!(matches!(logs(&mut b, 7), Answer::Unknown { .. }));
    print(&mut b, 1, Stream::Stdout, 750);
    let Answer::Logs { pieces, dropped } = logs(&mut b, 0) else { panic!() };
    assert_eq!((pieces.len(), dropped), (1, 10));
}

#[test]
fn a_job_is_cancelled_whoever_asks() {
    let mut b = Bench::new(&[1]);
    b.submit(1, batch(1, 0).tasks(2, HELD | WANTED).task(HELD | WANTED, &[1]));
    b.submit(2, batch(2, 0).task(HELD | WANTED, &[]));
    let placed = b.placed();
    let reason = || "enough".to_owned();
    b.client(2, FromClient::CancelJob { job: job(1), reason: reason() });
    let actions = b.round();
    let kind = FailureKind::Cancelled { reason: reason() };
    let ended: Vec<_> = outcomes(&actions).into_iter().map(|(object, _)| object).collect();
    assert!(ended.contains(&object(1, 1)) && ended.contains(&object(1, 2)), "{ended:?}");
    if placed == [(0, 0, 0)] {
        b.fail(0, task(1, 0), 0, kind.clone());
        let (_, outcome) = outcomes(&b.round()).remove(0);
        let Outcome::Failed(failed) = outcome else { panic!() };
        assert_eq!(failed.failure.kind, kind);
    }
    assert_eq!(tasks(&mut b, Some(TaskState::Failed), 9).1, 3);
    b.client(2, FromClient::CancelJob { job: job(9), reason: reason() });
    assert!(format!("{:?}", b.round()).contains("nothing is cancelled"));
}
