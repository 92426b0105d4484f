//! Arbitrary events against the invariants; and workers that do as they are told, with whom every
//! task that is held ends.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use manyhands_proto::client::{FromClient, Outcome, PutPlace, Stream};
use manyhands_proto::inspect::Question;
use manyhands_proto::task::{Death, FailureKind, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{AssignedInput, Assignment, FromWorker, InputPlace, ToWorker};
use manyhands_proto::{Lane, ObjectId, SessionId, TaskId, WorkerId};
use manyhands_scheduler_core::{Action, Config, Event, Placement, Policies};
use proptest::prelude::*;
use support::*;

/// A step of an arbitrary run. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        client: u64,
        rows: Vec<(u8, Vec<u64>, u8)>,
        more: bool,
        first: Option<u64>,
    },
    Put {
        client: u64,
        stored: bool,
    },
    Hold(u64, u64),
    Release(u64, u64),
    Want(u64, u64),
    Cancel(u64, u64),
    Explain(u64, u64),
    EndOk {
        pick: usize,
        size: u64,
        contains: Option<u64>,
    },
    EndBad {
        pick: usize,
        crash: bool,
    },
    /// An attempt that is stale, or that never was.
    EndWrong {
        worker: u32,
        seq: u64,
        attempt: u32,
    },
    Repeat,
    Block {
        pick: usize,
        on: u64,
        at_limit: bool,
    },
    Unblock {
        pick: usize,
    },
    Nested {
        pick: usize,
        rows: u64,
        want: bool,
    },
    Give {
        pick: usize,
        give: bool,
    },
    Values {
        worker: u32,
        seq: u64,
        there: bool,
    },
    Copied {
        worker: u32,
        seq: u64,
    },
    Lost {
        worker: u32,
        seq: u64,
    },
    WorkerLost(u32),
    WorkerJoined(u32),
    Away(u32),
    Back(u32),
    Draining(u32),
    Drain(u64, u32),
    CopyFailed {
        worker: u32,
        seq: u64,
    },
    Missing {
        pick: usize,
        seq: u64,
    },
    Ask(u64, u32),
    CancelJob(u64, u64),
    Output(u64),
    NeedProgram(u32, u128),
    HasProgram(u32, u128),
    ProgramFailed(u64, u128),
    Describe(u64, u128),
    ClientLost(u64),
    ClientJoined(u64),
    CloseJob(u64),
    Tick,
    Round,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || 1..=2u64;
    let seq = || 0..24u64;
    let worker = || 0..3u32;
    let row = (0..4u8, prop::collection::vec(seq(), 0..3), 0..4u8);
    let rows = prop::collection::vec(row, 0..5);
    let pick = || 0..8usize;
    prop_oneof![
        8 => (client(), rows, prop::bool::weighted(0.2), prop::option::weighted(0.1, 0..30u64))
            .prop_map(|(client, rows, more, first)| Step::Submit { client, rows, more, first }),
        1 => (client(), any::<bool>()).prop_map(|(client, stored)| Step::Put { client, stored }),
        1 => (client(), seq()).prop_map(|(c, s)| Step::Hold(c, s)),
        4 => (client(), seq()).prop_map(|(c, s)| Step::Release(c, s)),
        3 => (client(), seq()).prop_map(|(c, s)| Step::Want(c, s)),
        1 => (client(), seq()).prop_map(|(c, s)| Step::Cancel(c, s)),
        1 => (client(), seq()).prop_map(|(c, s)| Step::Explain(c, s)),
        10 => (pick(), prop_oneof![Just(8u64), Just(5000), Just(1 << 20)], prop::option::of(seq()))
            .prop_map(|(pick, size, contains)| Step::EndOk { pick, size, contains }),
        3 => (pick(), any::<bool>()).prop_map(|(pick, crash)| Step::EndBad { pick, crash }),
        1 => (worker(), seq(), 0..3u32)
            .prop_map(|(worker, seq, attempt)| Step::EndWrong { worker, seq, attempt }),
        1 => Just(Step::Repeat),
        2 => (pick(), seq(), any::<bool>())
            .prop_map(|(pick, on, at_limit)| Step::Block { pick, on, at_limit }),
        2 => pick().prop_map(|pick| Step::Unblock { pick }),
        2 => (pick(), 1..3u64, any::<bool>())
            .prop_map(|(pick, rows, want)| Step::Nested { pick, rows, want }),
        2 => (pick(), any::<bool>()).prop_map(|(pick, give)| Step::Give { pick, give }),
        2 => (worker(), seq(), any::<bool>())
            .prop_map(|(worker, seq, there)| Step::Values { worker, seq, there }),
        1 => (worker(), seq()).prop_map(|(worker, seq)| Step::Copied { worker, seq }),
        1 => (worker(), seq()).prop_map(|(worker, seq)| Step::Lost { worker, seq }),
        1 => worker().prop_map(Step::WorkerLost),
        2 => worker().prop_map(Step::WorkerJoined),
        1 => worker().prop_map(Step::Away),
        1 => worker().prop_map(Step::Back),
        1 => worker().prop_map(Step::Draining),
        1 => (client(), worker()).prop_map(|(c, w)| Step::Drain(c, w)),
        1 => (worker(), seq()).prop_map(|(worker, seq)| Step::CopyFailed { worker, seq }),
        2 => (pick(), seq()).prop_map(|(pick, seq)| Step::Missing { pick, seq }),
        1 => (worker(), 0..3u128).prop_map(|(worker, program)| Step::NeedProgram(worker, program)),
        1 => (worker(), 0..3u128).prop_map(|(worker, program)| Step::HasProgram(worker, program)),
        1 => (client(), 0..3u128).prop_map(|(c, program)| Step::ProgramFailed(c, program)),
        1 => (client(), 0..3u128).prop_map(|(c, program)| Step::Describe(c, program)),
        1 => (0..7u64, 0..9u32).prop_map(|(question, limit)| Step::Ask(question, limit)),
        1 => (client(), client()).prop_map(|(c, job)| Step::CancelJob(c, job)),
        1 => seq().prop_map(Step::Output),
        1 => client().prop_map(Step::ClientLost),
        1 => client().prop_map(Step::ClientJoined),
        1 => client().prop_map(Step::CloseJob),
        1 => Just(Step::Tick),
        8 => Just(Step::Round),
    ]
}

/// A bench and what an observer of its actions knows.
struct Run {
    bench: Bench,
    /// Assignments not yet answered.
    assigned: Vec<(u32, TaskId, u32)>,
    next_seq: [u64; 2],
    last: Option<Event>,
}

fn options(kind: u8) -> TaskOptions {
    let mut options = TaskOptions { retries: u32::from(kind), ..TaskOptions::default() };
    match kind {
        1 => options.priority = 5,
        2 => options.deadline_unix_us = Some(40),
        3 => options.resources.memory = 10,
        _ => {}
    }
    options
}

impl Run {
    fn new(config: Config) -> Run {
        let bench = Bench::with(config, &[2, 1]);
        Run { bench, assigned: Vec::new(), next_seq: [0; 2], last: None }
    }

    fn event(&mut self, event: Event) {
        self.last = Some(event.clone());
        self.bench.event(event);
    }

    fn client(&mut self, client: u64, message: FromClient) {
        self.event(Event::FromClient { session: SessionId(client), message });
    }

    fn worker(&mut self, worker: u32, message: FromWorker) {
        self.event(Event::FromWorker { worker: WorkerId(worker), message });
    }

    fn picked(&self, pick: usize) -> Option<(u32, TaskId, u32)> {
        self.assigned.get(pick % self.assigned.len().max(1)).copied()
    }

    fn take(&mut self, pick: usize) -> Option<(u32, TaskId, u32)> {
        let at = pick % self.assigned.len().max(1);
        (at < self.assigned.len()).then(|| self.assigned.remove(at))
    }

    fn round(&mut self) {
        let actions = self.bench.round();
        for (worker, assignment) in assignments(&actions) {
            self.assigned.push((worker.0, assignment.task, assignment.attempt));
        }
    }

    fn step(&mut self, step: Step) {
        self.bench.now += 1;
        match step {
            Step::Submit { client, rows, more, first } => {
                let next = &mut self.next_seq[client as usize - 1];
                let first = first.unwrap_or(*next);
                *next = (*next).max(first + rows.len() as u64);
                let mut all = batch(client, first);
                for (kind, inputs, flags) in rows {
                    all = all.with(options(kind)).task(flags, &inputs);
                }
                self.client(client, FromClient::Submit(if more { all.more().0 } else { all.0 }));
            }
            Step::Put { client, stored } => {
                let seq = self.next_seq[client as usize - 1];
                self.next_seq[client as usize - 1] += 1;
                let meta = ObjectMeta { codec: Codec::MSGPACK, size: 3, contains: Vec::new() };
                let place = match stored {
                    true => PutPlace::Stored(WorkerId(0)),
                    false => PutPlace::Inline(vec![1, 2, 3].into()),
                };
                self.client(client, FromClient::Put { object: object(client, seq), meta, place });
            }
            Step::Hold(c, s) => self.client(c, FromClient::Hold { objects: vec![object(c, s)] }),
            Step::Release(c, s) => {
                self.client(c, FromClient::Release { objects: vec![object(c, s)] })
            }
            Step::Want(c, s) => self.client(c, FromClient::Want { objects: vec![object(c, s)] }),
            Step::Cancel(c, s) => {
                self.client(c, FromClient::Cancel { tasks: vec![task(c, s)], reason: "x".into() })
            }
            Step::Explain(c, s) => {
                self.client(c, FromClient::Explain { query: s, task: task(c, s) })
            }
            Step::EndOk { pick, size, contains } => {
                let Some((worker, task, attempt)) = self.take(pick) else { return };
                let mut end = ended(task, attempt, 1000, size);
                if let (Ok(outputs), Some(seq)) = (&mut end.result, contains) {
                    outputs[0].meta.contains = vec![object(1, seq), object(2, seq)];
                }
                self.worker(worker, FromWorker::Ended { ends: vec![end] });
            }
            Step::EndBad { pick, crash } => {
                let Some((worker, task, attempt)) = self.take(pick) else { return };
                self.bench.fail(worker, task, attempt, failure(crash));
            }
            Step::EndWrong { worker, seq, attempt } => {
                let end = ended(task(1, seq), attempt, 1000, 8);
                self.worker(worker, FromWorker::Ended { ends: vec![end] });
            }
            Step::Repeat => {
                if let Some(event) = self.last.clone() {
                    self.event(event);
                }
            }
            Step::Block { pick, on, at_limit } => {
                let Some((worker, task, attempt)) = self.picked(pick) else { return };
                let waits_for = vec![object(1, on), task.child_lane_object(on)];
                let blocked = FromWorker::Blocked { task, attempt, waits_for, at_limit };
                self.worker(worker, blocked);
            }
            Step::Unblock { pick } => {
                let Some((worker, task, attempt)) = self.picked(pick) else { return };
                self.worker(worker, FromWorker::Unblocked { task, attempt });
            }
            Step::Nested { pick, rows, want } => {
                let Some((worker, task, attempt)) = self.picked(pick) else { return };
                let first = TaskId { job: task.job, lane: task.child_lane(), seq: 0 };
                let flags = if want { WANTED | HELD } else { HELD };
                let all = batch_in(first).tasks(rows as usize, flags);
                let describe = FromClient::Functions { first_slot: 0, functions: functions() };
                for message in [describe, FromClient::Submit(all.0)] {
                    self.worker(worker, FromWorker::FromTask { task, attempt, message });
                }
            }
            Step::Give { pick, give } => {
                let Some((worker, task, attempt)) = self.picked(pick) else { return };
                let (mut given, mut kept) = (Vec::new(), Vec::new());
                if give { &mut given } else { &mut kept }.push((task, attempt));
                if give {
                    self.take(pick);
                }
                self.worker(worker, FromWorker::Retracted { given, kept });
            }
            Step::Values { worker, seq, there } => {
                let value = Value { codec: Codec::MSGPACK, bytes: vec![1; 8].into() };
                let values = vec![(object(1, seq), there.then_some(value))];
                self.worker(worker, FromWorker::Values { values });
            }
            Step::Copied { worker, seq } => {
                self.worker(worker, FromWorker::Copied { objects: vec![object(1, seq)] })
            }
            Step::Lost { worker, seq } => {
                self.worker(worker, FromWorker::Lost { objects: vec![object(1, seq)] })
            }
            Step::WorkerLost(worker) => {
                self.assigned.retain(|(w, ..)| *w != worker);
                self.event(Event::WorkerLost { worker: WorkerId(worker) });
            }
            Step::WorkerJoined(worker) => {
                self.assigned.retain(|(w, ..)| *w != worker);
                self.event(Event::WorkerJoined {
                    worker: WorkerId(worker),
                    spec: spec(worker + 1),
                });
            }
            Step::Away(worker) => self.event(Event::WorkerAway { worker: WorkerId(worker) }),
            Step::Back(worker) => self.event(Event::WorkerBack { worker: WorkerId(worker) }),
            Step::Draining(worker) => self.worker(worker, FromWorker::Draining),
            Step::Drain(client, worker) => {
                self.client(client, FromClient::Drain { worker: WorkerId(worker) });
            }
            Step::Missing { pick, seq } => {
                let Some((worker, task, attempt)) = self.take(pick) else { return };
                let (object, message) = (object(1, seq), "no".to_owned());
                self.worker(worker, FromWorker::Missing { task, attempt, object, message });
            }
            Step::Ask(question, limit) => {
                let question = match question {
                    0 => Question::Cluster,
                    1 => Question::Workers,
                    2 => Question::Jobs,
                    3 => Question::Tasks { job: None, state: None, limit },
                    4 => Question::Objects { job: Some(job(1)), limit },
                    5 => Question::Graph { job: job(1), limit },
                    _ => Question::Logs { task: task(1, u64::from(limit)) },
                };
                self.client(1, FromClient::Ask { query: 1, question });
            }
            Step::CancelJob(client, of) => {
                let (job, reason) = (job(u128::from(of)), "x".to_owned());
                self.client(client, FromClient::CancelJob { job, reason });
            }
            Step::Output(seq) => {
                let (stream, bytes) = (Stream::Stderr, vec![1; 9].into());
                self.worker(0, FromWorker::Output { task: task(1, seq), stream, bytes });
            }
            Step::NeedProgram(worker, program) => {
                self.worker(worker, FromWorker::NeedProgram { program });
            }
            Step::HasProgram(worker, program) => {
                self.worker(worker, FromWorker::HasProgram { program });
            }
            Step::ProgramFailed(client, program) => {
                let message = "no".to_owned();
                self.client(client, FromClient::ProgramFailed { program, message });
            }
            Step::Describe(client, program) => {
                self.client(client, describe(program));
            }
            Step::ClientJoined(client) => {
                let (session, lane) = (SessionId(client), Lane(client));
                self.event(Event::ClientJoined { session, lane });
            }
            Step::CopyFailed { worker, seq } => {
                let message = "no".to_owned();
                let failed = FromWorker::CopyFailed { object: object(1, seq), message };
                self.worker(worker, failed);
            }
            Step::ClientLost(client) => {
                self.event(Event::ClientLost { session: SessionId(client) });
            }
            Step::CloseJob(client) => {
                let job = job(u128::from(client));
                self.client(client, FromClient::CloseJob { job });
            }
            Step::Tick => self.event(Event::Tick),
            Step::Round => self.round(),
        }
    }
}

trait ChildObject {
    fn child_lane_object(self, seq: u64) -> ObjectId;
}

impl ChildObject for TaskId {
    fn child_lane_object(self, seq: u64) -> ObjectId {
        TaskId { job: self.job, lane: self.child_lane(), seq }.object(0)
    }
}

fn failure(crash: bool) -> FailureKind {
    if !crash {
        return FailureKind::Error { message: "no".into() };
    }
    FailureKind::Died(Death {
        signal: Some(11),
        exit_code: None,
        peak_memory: 0,
        stderr_tail: String::new(),
    })
}

fn config() -> impl Strategy<Value = Config> {
    let flags = prop::array::uniform8(prop::bool::weighted(0.8));
    (flags, any::<bool>()).prop_map(|(on, small)| {
        let placement = if on[0] { Placement::Cost } else { Placement::Random };
        let [_, rank_order, hold_back_roots, batch_small, steal, fairness, admission, pace] = on;
        Config {
            policies: Policies {
                placement,
                rank_order,
                hold_back_roots,
                batch_small,
                steal,
                fairness,
                admission,
                pace,
            },
            cache_limit: if small { 16 } else { 1 << 20 },
            lineage_limit: if small { 800 } else { 1 << 20 },
            ..Config::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, max_shrink_iters: 20_000, ..Default::default() })]

    /// Whatever happens, in whatever order, the invariants hold; and what two cores are told alike
    /// they do alike.
    #[test]
    fn arbitrary_events_keep_the_invariants(
        config in config(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut run, mut twin) = (Run::new(config.clone()), Run::new(config));
        for step in steps {
            run.step(step.clone());
            twin.step(step);
            prop_assert_eq!(&run.bench.out, &twin.bench.out);
            prop_assert_eq!(&run.assigned, &twin.assigned);
        }
        run.round();
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Faults {
    Nothing,
    /// Workers leave in good order, and others come.
    Drains,
    /// Tasks fail, workers are lost, drain and are away, copies fail.
    All,
}

/// Workers that run what they are sent, now and then badly, and answer what they are asked.
struct Oracle {
    bench: Bench,
    random: u64,
    faults: Faults,
    running: BTreeMap<u32, Vec<Assignment>>,
    /// Copies that were asked for.
    copies: Vec<(u32, ObjectId, Vec<WorkerId>)>,
    away: Vec<u32>,
    /// Those that were away before the last round began to fill.
    known_away: Vec<u32>,
    told: BTreeMap<ObjectId, Outcome>,
    /// Who has what, as far as the scheduler has been told.
    copies_at: BTreeSet<(ObjectId, u32)>,
    /// Results that are too large for the scheduler to keep.
    large: BTreeSet<ObjectId>,
    /// How often each task ended well.
    ended: BTreeMap<TaskId, u32>,
    next_worker: u32,
}

impl Oracle {
    fn new(bench: Bench, random: u64, faults: Faults) -> Oracle {
        let running = (0..3).map(|worker| (worker, Vec::new())).collect();
        let (copies, away, known_away, told, ended) = Default::default();
        let (copies_at, large) = Default::default();
        let next_worker = 3;
        Oracle {
            bench,
            random,
            faults,
            running,
            copies,
            away,
            known_away,
            told,
            copies_at,
            large,
            ended,
            next_worker,
        }
    }

    fn chance(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99_991);
        (self.random >> 33) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.chance(from.len() as u64) as usize]
    }

    fn see(&mut self, actions: Vec<Action>) {
        for (object, outcome) in outcomes(&actions) {
            self.told.insert(object, outcome);
        }
        for (worker, message) in told(&actions) {
            if let ToWorker::Free { objects } = message {
                self.copies_at.retain(|(object, at)| *at != worker || !objects.contains(object));
            }
        }
        for (worker, assignment) in assignments(&actions) {
            let object = assignment.task.object(0);
            let somewhere = self.copies_at.range((object, 0)..=(object, u32::MAX)).next();
            let kept = self.large.contains(&object) && somewhere.is_some();
            assert!(!kept, "{object} is made again though it is at {somewhere:?}");
            let away = self.away.contains(&worker.0) && self.known_away.contains(&worker.0);
            assert!(!away, "nothing new goes to a worker that is away");
            self.running.get_mut(&worker.0).expect("it is there").push(assignment);
        }
        for (worker, message) in told(&actions) {
            if self.running.contains_key(&worker) {
                self.answer(worker, message);
            }
        }
        self.known_away = self.away.clone();
    }

    fn answer(&mut self, worker: u32, message: ToWorker) {
        match message {
            ToWorker::Send { objects } => {
                let value = Value { codec: Codec::MSGPACK, bytes: vec![1; 8].into() };
                let values = objects.into_iter().map(|o| (o, Some(value.clone()))).collect();
                self.bench.worker(worker, FromWorker::Values { values });
            }
            ToWorker::Retract { tasks } => {
                let running = self.running.get_mut(&worker).expect("it is there");
                let (mut given, mut kept) = (Vec::new(), Vec::new());
                for (task, attempt) in tasks {
                    let at = running.iter().position(|a| (a.task, a.attempt) == (task, attempt));
                    match at {
                        Some(at) if at > 0 => {
                            running.remove(at);
                            given.push((task, attempt));
                        }
                        _ => kept.push((task, attempt)),
                    }
                }
                self.bench.worker(worker, FromWorker::Retracted { given, kept });
            }
            ToWorker::Copy { object, workers, .. } => self.copies.push((worker, object, workers)),
            ToWorker::Leave => self.lose(worker),
            _ => {}
        }
    }

    fn lose(&mut self, worker: u32) {
        let kept = self.running.remove(&worker);
        if self.faults == Faults::Drains {
            assert_eq!(kept.map(|kept| kept.len()), Some(0), "nothing is left behind");
        }
        self.copies.retain(|(target, ..)| *target != worker);
        self.copies_at.retain(|(_, at)| *at != worker);
        self.away.retain(|away| *away != worker);
        self.bench.event(Event::WorkerLost { worker: WorkerId(worker) });
    }

    fn join(&mut self) {
        let worker = self.next_worker;
        self.next_worker += 1;
        self.running.insert(worker, Vec::new());
        self.bench.event(Event::WorkerJoined { worker: WorkerId(worker), spec: spec(2) });
    }

    fn copied(&mut self, worker: u32, objects: Vec<ObjectId>) {
        self.copies_at.extend(objects.iter().map(|object| (*object, worker)));
        self.bench.worker(worker, FromWorker::Copied { objects });
    }

    fn is_there(&self, worker: WorkerId) -> bool {
        self.running.contains_key(&worker.0)
    }

    /// A worker leaves, is lost, or cannot be heard for a while.
    fn disturb(&mut self) {
        let workers: Vec<u32> = self.running.keys().copied().collect();
        let worker = self.pick(&workers);
        match (self.faults, self.chance(4)) {
            (Faults::Nothing, _) => {}
            (Faults::Drains, _) | (Faults::All, 0) => {
                self.join();
                if self.chance(2) == 0 {
                    self.bench.worker(worker, FromWorker::Draining);
                } else {
                    let worker = WorkerId(worker);
                    self.bench.client(1, FromClient::Drain { worker });
                }
            }
            (Faults::All, 1) if !self.away.contains(&worker) => {
                self.away.push(worker);
                self.bench.event(Event::WorkerAway { worker: WorkerId(worker) });
            }
            (Faults::All, 2) => {
                for worker in std::mem::take(&mut self.away) {
                    self.bench.event(Event::WorkerBack { worker: WorkerId(worker) });
                }
            }
            (Faults::All, _) => {
                self.lose(worker);
                self.join();
            }
        }
    }

    /// A copy that was asked for is made, if it can be had.
    fn copy(&mut self) -> bool {
        let Some((target, object, workers)) = self.copies.pop() else { return false };
        let there = workers.iter().any(|worker| self.is_there(*worker));
        if there && (self.faults != Faults::All || self.chance(4) > 0) {
            self.copied(target, vec![object]);
        } else {
            let message = "it is not there".into();
            self.bench.worker(target, FromWorker::CopyFailed { object, message });
        }
        true
    }

    /// The first task of a worker ends, or cannot get its inputs.
    fn end_one(&mut self) -> bool {
        let busy = self.running.iter().filter(|(w, r)| !r.is_empty() && !self.away.contains(w));
        let busy: Vec<u32> = busy.map(|(worker, _)| *worker).collect();
        if busy.is_empty() {
            return false;
        }
        let worker = self.pick(&busy);
        let Assignment { task, attempt, inputs, .. } =
            self.running.get_mut(&worker).expect("busy").remove(0);
        self.bench.now += 500;
        let mut fetched = Vec::new();
        for AssignedInput { object, place } in inputs {
            let InputPlace::Peers { workers, .. } = place else { continue };
            if !workers.iter().any(|worker| self.is_there(*worker)) {
                let message = "nobody has it".into();
                self.bench.worker(worker, FromWorker::Missing { task, attempt, object, message });
                return true;
            }
            fetched.push(object);
        }
        if !fetched.is_empty() {
            self.copied(worker, fetched);
        }
        if self.faults == Faults::All && self.chance(20) == 0 {
            self.bench.fail(worker, task, attempt, failure(false));
        } else {
            let size = [8, 5_000, 1 << 20][self.chance(3) as usize];
            self.bench.end(worker, task, attempt, size);
            self.copies_at.insert((task.object(0), worker));
            if size > 1024 {
                self.large.insert(task.object(0));
            } else {
                self.large.remove(&task.object(0));
            }
            *self.ended.entry(task).or_default() += 1;
        }
        true
    }

    /// Something happens. `false` when there is nothing left to happen.
    fn go_on(&mut self) -> bool {
        if self.faults != Faults::Nothing && self.chance(15) == 0 && self.next_worker < 40 {
            self.disturb();
            return true;
        }
        let copy_first = self.chance(2) == 0;
        if copy_first && self.copy() || self.end_one() || self.copy() {
            return true;
        }
        if let Some(due) = self.bench.core.next_tick() {
            self.bench.now = self.bench.now.max(due.0);
            self.bench.event(Event::Tick);
            return true;
        }
        let back = std::mem::take(&mut self.away);
        for worker in &back {
            self.bench.event(Event::WorkerBack { worker: WorkerId(*worker) });
        }
        !back.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    /// Every object that is wanted is told of, though tasks fail and workers are lost; without
    /// faults every one of them with a value. Where workers come and leave in good order nothing
    /// runs twice and what was put stays.
    #[test]
    fn every_wanted_task_ends(
        config in config(),
        seed in any::<u64>(),
        faults in prop::sample::select(vec![Faults::Nothing, Faults::Drains, Faults::All]),
        rows in prop::collection::vec(prop::collection::vec(1..20u64, 0..4), 1..150),
    ) {
        let config = Config { lineage_limit: 1 << 20, ..config };
        let mut oracle = Oracle::new(Bench::with(config, &[2, 1, 4]), seed, faults);
        let options = TaskOptions { retries: 3, crash_retries: 3, ..TaskOptions::default() };
        let mut all = batch(1, 0).with(options);
        let tasks = rows.len() as u64;
        for (seq, back) in (0..).zip(rows) {
            let inputs: Vec<u64> = back.iter().filter_map(|b| u64::checked_sub(seq, *b)).collect();
            all = all.task(if seq % 3 == 0 { HELD | WANTED } else { WANTED }, &inputs);
        }
        oracle.bench.submit(1, all);
        let put = object(1, tasks);
        let meta = ObjectMeta { codec: Codec::MSGPACK, size: 1 << 20, contains: Vec::new() };
        let place = PutPlace::Stored(WorkerId(0));
        oracle.bench.client(1, FromClient::Put { object: put, meta, place });
        loop {
            let actions = oracle.bench.round();
            let said = !actions.is_empty();
            oracle.see(actions);
            if !oracle.go_on() && !said {
                break;
            }
        }
        prop_assert_eq!(oracle.told.len() as u64, tasks, "all that is wanted is told of");
        for (object, outcome) in &oracle.told {
            let good = !matches!(outcome, Outcome::Failed(_));
            let may_fail = faults == Faults::All;
            prop_assert!(good || may_fail, "{} failed without a fault: {:?}", object, outcome);
        }
        if faults != Faults::All {
            prop_assert!(oracle.ended.values().all(|times| *times == 1), "nothing runs twice");
            oracle.bench.client(1, FromClient::Want { objects: vec![put] });
            let told = outcomes(&oracle.bench.round());
            let there = match &told[0].1 {
                Outcome::Stored { workers, .. } => workers.iter().all(|w| oracle.is_there(*w)),
                _ => false,
            };
            prop_assert!(there, "what was put is where it is said to be: {:?}", told);
        }
        oracle.bench.now += 1;
        let objects = (0..=tasks).map(|seq| object(1, seq)).collect();
        oracle.bench.client(1, FromClient::Release { objects });
        oracle.bench.round();
        prop_assert_eq!(oracle.bench.core.records(), 0, "what nobody holds is forgotten");
    }
}
