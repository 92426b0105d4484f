//! One-line builders: a core with a client and workers, told of events, its actions looked at.
#![allow(dead_code, reason = "each test binary uses its part")]

use bytes::Bytes;
use manyhands_proto::client::{FromClient, FunctionSpec, Outcome, Runtime, ToClient};
use manyhands_proto::graph::{GraphBatch, Input, TaskRow};
use manyhands_proto::task::{FailureKind, Resources, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{Assignment, FromWorker, Output, TaskEnd, ToWorker, WorkerSpec};
use manyhands_proto::{FunctionId, JobId, Lane, ObjectId, SessionId, TaskId, Time, WorkerId};
use manyhands_scheduler_core::{Action, Config, Core, Event};

pub(crate) const HELD: u8 = TaskRow::HELD;
pub(crate) const WANTED: u8 = TaskRow::WANTED;

pub(crate) fn job(n: u128) -> JobId {
    JobId(uuid::Uuid::from_u128(n))
}

/// Task `seq` of client `client`, in that client's job.
pub(crate) fn task(client: u64, seq: u64) -> TaskId {
    TaskId { job: job(u128::from(client)), lane: Lane(client), seq }
}

pub(crate) fn object(client: u64, seq: u64) -> ObjectId {
    task(client, seq).object(0)
}

pub(crate) fn functions() -> Vec<FunctionSpec> {
    let names = ["f", "g", "h"];
    names.iter().zip(1..).map(|(name, id)| FunctionSpec::rust(FunctionId(id), *name, 0)).collect()
}

/// The functions, as those of a program.
pub(crate) fn describe(program: u128) -> FromClient {
    let runtime = Runtime::Rust { program };
    let spec = |spec| FunctionSpec { runtime: runtime.clone(), ..spec };
    FromClient::Functions { first_slot: 0, functions: functions().into_iter().map(spec).collect() }
}

pub(crate) fn spec(slots: u32) -> WorkerSpec {
    WorkerSpec {
        name: "w".into(),
        resources: Resources { millicores: slots * 1000, ..Resources::default() },
        labels: Vec::new(),
        store_limit: 1 << 30,
        ..WorkerSpec::default()
    }
}

/// A batch that grows row by row.
pub(crate) struct Batch(pub(crate) GraphBatch);

/// A batch of client `client`, from task `first` on.
pub(crate) fn batch(client: u64, first: u64) -> Batch {
    let id = task(client, first);
    batch_in(id)
}

/// A batch whose first task is this one.
pub(crate) fn batch_in(first: TaskId) -> Batch {
    Batch(GraphBatch {
        job: first.job,
        lane: first.lane,
        first_seq: first.seq,
        options: vec![TaskOptions::default()],
        sources: vec![(first.job, first.lane)],
        rows: Vec::new(),
        inputs: Vec::new(),
        args: Bytes::new(),
        more: false,
    })
}

impl Batch {
    /// A task that needs these tasks of its lane.
    pub(crate) fn task(mut self, flags: u8, inputs: &[u64]) -> Batch {
        for seq in inputs {
            self.0.inputs.push(Input { source: 0, index: 0, seq: *seq });
        }
        self.0.rows.push(TaskRow {
            function: 0,
            options: self.0.options.len() as u16 - 1,
            outputs: 1,
            rank: self.0.rows.len() as u32,
            inputs_end: self.0.inputs.len() as u32,
            args_end: 0,
            flags,
        });
        self
    }

    /// `n` tasks that need nothing.
    pub(crate) fn tasks(self, n: usize, flags: u8) -> Batch {
        (0..n).fold(self, |batch, _| batch.task(flags, &[]))
    }

    /// What the rows from here on ask for.
    pub(crate) fn with(mut self, options: TaskOptions) -> Batch {
        self.0.options.push(options);
        self
    }

    pub(crate) fn function(mut self, slot: u32) -> Batch {
        self.0.rows.last_mut().expect("a row").function = slot;
        self
    }

    pub(crate) fn rank(mut self, rank: u32) -> Batch {
        self.0.rows.last_mut().expect("a row").rank = rank;
        self
    }

    pub(crate) fn more(mut self) -> Batch {
        self.0.more = true;
        self
    }
}

/// A core under test. After every step its invariants are checked.
pub(crate) struct Bench {
    pub(crate) core: Core,
    pub(crate) now: u64,
    pub(crate) out: Vec<Action>,
}

impl Bench {
    /// With clients 1 and 2, each with a job of its own, and workers 0, 1, … with so many slots.
    pub(crate) fn new(workers: &[u32]) -> Bench {
        Bench::with(Config::default(), workers)
    }

    pub(crate) fn with(config: Config, workers: &[u32]) -> Bench {
        let mut bench = Bench { core: Core::new(config), now: 0, out: Vec::new() };
        for client in 1..=2 {
            let session = SessionId(client);
            bench.event(Event::ClientJoined { session, lane: Lane(client) });
            let job = job(u128::from(client));
            bench.client(client, FromClient::OpenJob { job, name: "job".into(), weight: 1 });
            let functions = functions();
            bench.client(client, FromClient::Functions { first_slot: 0, functions });
        }
        for (id, slots) in workers.iter().enumerate() {
            bench.event(Event::WorkerJoined { worker: WorkerId(id as u32), spec: spec(*slots) });
        }
        bench
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.core.handle(Time(self.now), event, &mut self.out);
        self.core.sanity_check();
    }

    pub(crate) fn client(&mut self, client: u64, message: FromClient) {
        self.event(Event::FromClient { session: SessionId(client), message });
    }

    pub(crate) fn worker(&mut self, worker: u32, message: FromWorker) {
        self.event(Event::FromWorker { worker: WorkerId(worker), message });
    }

    pub(crate) fn submit(&mut self, client: u64, batch: Batch) {
        self.client(client, FromClient::Submit(batch.0));
    }

    /// A round; what came of it and of the events before.
    pub(crate) fn round(&mut self) -> Vec<Action> {
        self.core.round(Time(self.now), &mut self.out);
        self.core.sanity_check();
        std::mem::take(&mut self.out)
    }

    /// A round; the tasks that it sends, by worker, as `(worker, seq, attempt)`.
    pub(crate) fn placed(&mut self) -> Vec<(u32, u64, u32)> {
        let actions = self.round();
        let sent = assignments(&actions);
        sent.iter().map(|(w, a)| (w.0, a.task.seq, a.attempt)).collect()
    }

    /// Attempts end well, with an object of this size.
    pub(crate) fn end(&mut self, worker: u32, task: TaskId, attempt: u32, size: u64) {
        let end = ended(task, attempt, 1000, size);
        self.worker(worker, FromWorker::Ended { ends: vec![end] });
    }

    pub(crate) fn fail(&mut self, worker: u32, task: TaskId, attempt: u32, kind: FailureKind) {
        let result = Err(Box::new(kind));
        let end = TaskEnd { task, attempt, duration_us: 1000, pid: 7, result };
        self.worker(worker, FromWorker::Ended { ends: vec![end] });
    }
}

/// An end with one object; up to 1 KiB its value rides along.
pub(crate) fn ended(task: TaskId, attempt: u32, duration_us: u32, size: u64) -> TaskEnd {
    let value = (size <= 1024).then(|| Bytes::from(vec![1; size as usize]));
    let meta = ObjectMeta { codec: Codec::MSGPACK, size, contains: Vec::new() };
    let output = Output { meta, value };
    TaskEnd { task, attempt, duration_us, pid: 7, result: Ok([output].into_iter().collect()) }
}

pub(crate) fn assignments(actions: &[Action]) -> Vec<(WorkerId, Assignment)> {
    let mut found = Vec::new();
    for action in actions {
        if let Action::ToWorker { worker, message: ToWorker::Assign { tasks } } = action {
            found.extend(tasks.iter().map(|task| (*worker, task.clone())));
        }
    }
    found
}

/// What clients were told of objects.
pub(crate) fn outcomes(actions: &[Action]) -> Vec<(ObjectId, Outcome)> {
    let mut found = Vec::new();
    for action in actions {
        if let Action::ToClient { message: ToClient::Ended { ends }, .. } = action {
            found.extend(ends.iter().cloned());
        }
    }
    found
}

/// What workers were told besides assignments and functions.
pub(crate) fn told(actions: &[Action]) -> Vec<(u32, ToWorker)> {
    let mut found = Vec::new();
    for action in actions {
        if let Action::ToWorker { worker, message } = action
            && !matches!(message, ToWorker::Assign { .. } | ToWorker::Functions { .. })
        {
            found.push((worker.0, message.clone()));
        }
    }
    found
}
