//! One-line builders, and a core that is checked after every step.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::client::{FunctionSpec, Runtime};
use manyhands_proto::executor::{End, Extent, Returned, ReturnedBytes};
use manyhands_proto::task::{Death, FailureKind, Resources, TaskOptions};
use manyhands_proto::value::Codec;
use manyhands_proto::worker::{
    AssignedInput, Assignment, FromWorker, InputPlace, TaskEnd, ToWorker, WorkerSpec,
};
use manyhands_proto::{FunctionId, JobId, Lane, ObjectId, TaskId, Time, WorkerId};

use crate::{Action, Config, Core, Event, ExecutorId};

pub(super) const RUST: Runtime = Runtime::Rust { program: 0 };

pub(super) fn task(seq: u64) -> TaskId {
    TaskId { job: JobId(uuid::Uuid::from_u128(7)), lane: Lane(1), seq }
}

pub(super) fn config(slots: u32, store_limit: u64) -> Config {
    Config::new(WorkerSpec {
        name: "desk".to_owned(),
        resources: Resources { millicores: slots * 1000, memory: 0, named: Vec::new() },
        labels: Vec::new(),
        store_limit,
        ..WorkerSpec::default()
    })
}

/// Two functions of one runtime, in slots 0 and 1.
pub(super) fn functions() -> ToWorker {
    ToWorker::Functions { functions: vec![function(0, 0), function(1, 0)] }
}

pub(super) fn function(slot: u32, program: u128) -> (u32, FunctionSpec) {
    (slot, FunctionSpec::rust(FunctionId(u128::from(slot)), format!("f{slot}"), program))
}

pub(super) fn assignment(task: TaskId) -> Assignment {
    Assignment {
        task,
        attempt: 0,
        function: 0,
        outputs: 1,
        wanted: false,
        order: task.seq,
        expected_us: 0,
        expected_bytes: 0,
        options: Arc::new(TaskOptions::default()),
        inputs: Vec::new(),
        args: Bytes::new(),
        in_place_of: None,
    }
}

pub(super) fn input(object: ObjectId, place: InputPlace) -> AssignedInput {
    AssignedInput { object, place }
}

pub(super) fn extent(page: u64, pages: u64) -> Extent {
    Extent { segment: 0, offset: page * 4096, len: pages * 4096 }
}

pub(super) fn returned(bytes: ReturnedBytes) -> Returned {
    Returned { codec: Codec::MSGPACK, bytes, contains: Vec::new() }
}

/// A core at work. Time is in its field; every event is followed by a round, and both by a check.
pub(super) struct Desk {
    pub(super) core: Core,
    pub(super) now: Time,
}

impl Desk {
    pub(super) fn new(slots: u32) -> Desk {
        Desk::with(config(slots, 1 << 20))
    }

    pub(super) fn with(config: Config) -> Desk {
        let mut desk = Desk { core: Core::new(WorkerId(3), config), now: Time(1_000_000) };
        desk.scheduler(functions());
        desk
    }

    /// With the executors of the first slots started, `ExecutorId(0)` and on.
    pub(super) fn started(slots: u32) -> Desk {
        let mut config = config(slots, 1 << 20);
        config.prestart = vec![RUST];
        Desk::with(config).all_started(slots)
    }

    pub(super) fn all_started(mut self, executors: u32) -> Desk {
        for n in 0..executors {
            self.event(Event::ExecutorStarted { executor: ExecutorId(n), pid: 100 + n });
        }
        self
    }

    /// All that the core wants done, statuses left out.
    pub(super) fn event(&mut self, event: Event) -> Vec<Action> {
        self.events([event])
    }

    pub(super) fn events(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Action> {
        let mut out = Vec::new();
        for event in events {
            self.core.handle(self.now, event, &mut out);
            self.core.sanity_check();
        }
        self.core.round(self.now, &mut out);
        self.core.sanity_check();
        out.retain(|a| !matches!(a, Action::ToScheduler(FromWorker::Status(_))));
        out
    }

    pub(super) fn scheduler(&mut self, message: ToWorker) -> Vec<Action> {
        self.event(Event::FromScheduler(message))
    }

    pub(super) fn assign(&mut self, tasks: Vec<Assignment>) -> Vec<Action> {
        self.scheduler(ToWorker::Assign { tasks })
    }

    /// Plain tasks by number.
    pub(super) fn assign_plain(&mut self, numbers: impl IntoIterator<Item = u64>) -> Vec<Action> {
        self.assign(numbers.into_iter().map(|n| assignment(task(n))).collect())
    }

    /// A task ends well with a value of one byte.
    pub(super) fn end(&mut self, executor: u32, n: u64, duration_us: u32) -> Vec<Action> {
        let bytes = ReturnedBytes::Inline(Bytes::from_static(b"x"));
        self.end_with(executor, n, duration_us, Ok(bytes))
    }

    pub(super) fn end_with(
        &mut self,
        executor: u32,
        n: u64,
        duration_us: u32,
        result: Result<ReturnedBytes, FailureKind>,
    ) -> Vec<Action> {
        self.event(ended(executor, n, duration_us, false, result))
    }

    /// A task ends well, and its executor claims nothing more.
    pub(super) fn end_and_leave(&mut self, executor: u32, n: u64) -> Vec<Action> {
        let bytes = ReturnedBytes::Inline(Bytes::from_static(b"x"));
        self.event(ended(executor, n, 1, true, Ok(bytes)))
    }

    pub(super) fn took_back(&mut self, executor: u32, n: u64, ok: bool) -> Vec<Action> {
        let executor = ExecutorId(executor);
        self.event(Event::TookBack { executor, task: task(n), attempt: 0, ok })
    }

    pub(super) fn dies(&mut self, executor: u32) -> Vec<Action> {
        self.event(Event::ExecutorDied { executor: ExecutorId(executor), death: segfault() })
    }

    pub(super) fn blocks(&mut self, executor: u32, n: u64, waits: &[u64]) -> Vec<Action> {
        let waits_for = waits.iter().map(|w| task(*w).object(0)).collect();
        let executor = ExecutorId(executor);
        self.event(Event::Blocked { executor, task: task(n), attempt: 0, waits_for })
    }

    pub(super) fn unblocks(&mut self, executor: u32, n: u64) -> Vec<Action> {
        let executor = ExecutorId(executor);
        self.event(Event::Unblocked { executor, task: task(n), attempt: 0 })
    }

    pub(super) fn passes(&mut self, us: u64) -> Vec<Action> {
        self.now = self.now + us;
        self.event(Event::Tick)
    }

    /// Puts an object of so many pages into the store.
    pub(super) fn stored(&mut self, object: ObjectId, at: Extent) -> Vec<Action> {
        let meta = manyhands_proto::value::ObjectMeta {
            codec: Codec::RAW,
            size: at.len,
            contains: Vec::new(),
        };
        let executor = ExecutorId::CLIENT;
        self.event(Event::Stored { object, meta, extent: Some(at), executor })
    }
}

fn ended(
    executor: u32,
    n: u64,
    duration_us: u32,
    leaves: bool,
    result: Result<ReturnedBytes, FailureKind>,
) -> Event {
    let result = result.map(|b| [returned(b)].into_iter().collect()).map_err(Box::new);
    let end = End { task: task(n), attempt: 0, duration_us, printed: None, leaves, result };
    Event::TaskEnded { executor: ExecutorId(executor), end }
}

pub(super) fn segfault() -> Death {
    Death { signal: Some(11), exit_code: None, peak_memory: 1 << 20, stderr_tail: "oh".to_owned() }
}

/// The actions in short: `feed 0 7` is task 7 for executor 0.
pub(super) fn short(actions: &[Action]) -> Vec<String> {
    actions.iter().map(one).collect()
}

fn one(action: &Action) -> String {
    match action {
        Action::StartExecutor { executor, .. } => format!("start {}", executor.0),
        Action::Feed { executor, run } => format!("feed {} {}", executor.0, run.task.seq),
        Action::RunInPlace { executor, run } => format!("in place {} {}", executor.0, run.task.seq),
        Action::TakeBack { executor, task, .. } => format!("take back {} {}", executor.0, task.seq),
        Action::Interrupt { executor, task, .. } => {
            format!("interrupt {} {}", executor.0, task.seq)
        }
        Action::Kill { executor } => format!("kill {}", executor.0),
        Action::Retire { executor } => format!("retire {}", executor.0),
        Action::Grant { size, on_disk, .. } => format!("grant {size}{}", disk(*on_disk)),
        Action::Readable { object, place, .. } => {
            format!("readable {} {}", object.task.seq, if place.is_ok() { "yes" } else { "no" })
        }
        Action::Fetch { object, on_disk, .. } => {
            format!("fetch {}{}", object.task.seq, disk(*on_disk))
        }
        Action::Spill { object, .. } => format!("spill {}", object.task.seq),
        Action::Load { object, on_disk } => format!("load {}{}", object.task.seq, disk(*on_disk)),
        Action::Free { object } => format!("free {}", object.task.seq),
        Action::ToExecutor { executor, .. } => format!("tell {}", executor.0),
        Action::Serve { ticket, value } => {
            format!("serve {ticket} {}", if value.is_some() { "value" } else { "none" })
        }
        Action::Peers { peers } => format!("peers {}", peers.len()),
        Action::PeersGone { workers } => format!("peers gone {}", workers.len()),
        Action::FetchProgram { program, .. } => format!("fetch program {program}"),
        Action::Leave => "leave".to_owned(),
        Action::ToScheduler(message) => said(message),
    }
}

fn disk(on_disk: bool) -> &'static str {
    if on_disk { " on disk" } else { "" }
}

fn said(message: &FromWorker) -> String {
    match message {
        FromWorker::Ended { ends } => {
            let ends: Vec<String> = ends.iter().map(end_in_short).collect();
            format!("ended {}", ends.join(", "))
        }
        FromWorker::Retracted { given, kept } => {
            let seqs = |keys: &[(TaskId, u32)]| keys.iter().map(|k| k.0.seq).collect::<Vec<_>>();
            format!("given {:?} kept {:?}", seqs(given), seqs(kept))
        }
        FromWorker::Blocked { task, at_limit, .. } => {
            format!("blocked {}{}", task.seq, if *at_limit { " at limit" } else { "" })
        }
        FromWorker::Unblocked { task, .. } => format!("unblocked {}", task.seq),
        FromWorker::Copied { objects } => format!("copied {}", objects[0].task.seq),
        FromWorker::Lost { objects } => format!("lost {}", objects[0].task.seq),
        FromWorker::Values { values } => {
            let values = values.iter().map(|(id, v)| format!("{}:{}", id.task.seq, v.is_some()));
            format!("values {}", values.collect::<Vec<_>>().join(" "))
        }
        FromWorker::Explained { explanation, .. } => {
            format!("{:?}: {}", explanation.state, explanation.reason)
        }
        FromWorker::Draining => "draining".to_owned(),
        FromWorker::Missing { task, object, .. } => {
            format!("missing {} for {}", object.task.seq, task.seq)
        }
        FromWorker::CopyFailed { object, .. } => format!("copy failed {}", object.task.seq),
        FromWorker::NeedProgram { program } => format!("need program {program}"),
        FromWorker::HasProgram { program } => format!("has program {program}"),
        FromWorker::FromTask { task, .. } => format!("from task {}", task.seq),
        other => format!("{other:?}"),
    }
}

fn end_in_short(end: &TaskEnd) -> String {
    let how = match &end.result {
        Ok(_) => "ok".to_owned(),
        Err(failure) => {
            let debug = format!("{failure:?}");
            debug.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    };
    format!("{} {how}", end.task.seq)
}
