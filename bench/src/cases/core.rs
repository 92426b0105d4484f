//! The scheduler core alone: no threads, no processes, no messages encoded.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::client::{FromClient, FunctionSpec};
use manyhands_proto::graph::{BATCH_LIMIT, GraphBatch, Input, TaskRow};
use manyhands_proto::task::{Resources, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{Assignment, FromWorker, Output, TaskEnd, ToWorker, WorkerSpec};
use manyhands_proto::{FunctionId, JobId, Lane, SessionId, TaskId, Time, WorkerId};
use manyhands_scheduler_core::{Action, Config, Core, Event};

use super::{Measured, metrics, size};
use crate::census;

const TASKS: usize = 1_000_000;
const WORKERS: u32 = 1_000;
const SLOTS: usize = 8;
/// Inputs come from so many tasks before, at most.
const REACH: u64 = 100_000;
/// Virtual time that a task takes.
const TASK_US: u64 = 1_000;
const SESSION: SessionId = SessionId(1);
const LANE: Lane = Lane(1);

/// A random graph of a million tasks, two inputs each on average, on a thousand virtual workers
/// that do what they are told and take one virtual millisecond for each task. An event is a task
/// that is submitted or that ends; the time is processor time of the core itself, so that what else
/// the machine does counts for little.
pub(super) fn core(scale: f64) -> Measured {
    let tasks = size(TASKS, scale);
    let graph = Graph::random(tasks);
    let mut bench = Bench::new();
    bench.open(&graph);
    let before = census::pss(std::process::id());
    for batch in graph.batches() {
        bench.tell(Event::FromClient { session: SESSION, message: FromClient::Submit(batch) });
    }
    let bytes = census::pss(std::process::id()).saturating_sub(before);
    let submitted = bench.took;
    bench.join_workers();
    bench.run(tasks)?;
    let ended = bench.took - submitted;
    Ok(metrics([
        ("events/s", 2.0 * tasks as f64 / bench.took.as_secs_f64()),
        ("submit_tasks/s", tasks as f64 / submitted.as_secs_f64()),
        ("place_and_end_tasks/s", tasks as f64 / ended.as_secs_f64()),
        ("bytes/task", bytes as f64 / tasks as f64),
        ("virtual_makespan_over_bound", bench.now.0 as f64 / graph.bound_us()),
    ]))
}

/// The core and what stands around it.
struct Bench {
    core: Core,
    now: Time,
    actions: Vec<Action>,
    workers: Vec<Worker>,
    /// Processor time spent in the core.
    took: Duration,
}

#[derive(Default)]
struct Worker {
    queue: VecDeque<Assignment>,
    answers: Vec<FromWorker>,
}

impl Bench {
    fn new() -> Bench {
        let (actions, workers) = (Vec::new(), Vec::new());
        let core = Core::new(Config::default());
        Bench { core, now: Time(0), actions, workers, took: Duration::ZERO }
    }

    fn tell(&mut self, event: Event) {
        let start = cpu_time();
        self.core.handle(self.now, event, &mut self.actions);
        self.took += cpu_time() - start;
    }

    fn round(&mut self) {
        let start = cpu_time();
        self.core.round(self.now, &mut self.actions);
        self.took += cpu_time() - start;
    }

    fn open(&mut self, graph: &Graph) {
        self.tell(Event::ClientJoined { session: SESSION, lane: LANE });
        let open = FromClient::OpenJob { job: graph.job, name: "bench".to_owned(), weight: 1 };
        let noop = FunctionSpec::rust(FunctionId(1), "noop", 0);
        let functions = FromClient::Functions { first_slot: 0, functions: vec![noop] };
        for message in [open, functions] {
            self.tell(Event::FromClient { session: SESSION, message });
        }
    }

    fn join_workers(&mut self) {
        for number in 0..WORKERS {
            let millicores = 1000 * SLOTS as u32;
            let spec = WorkerSpec {
                name: format!("worker-{number}"),
                resources: Resources { millicores, memory: 64 << 30, named: Vec::new() },
                labels: Vec::new(),
                store_limit: 16 << 30,
                ..WorkerSpec::default()
            };
            self.tell(Event::WorkerJoined { worker: WorkerId(number), spec });
            self.workers.push(Worker::default());
        }
    }

    /// Runs until all tasks have ended.
    fn run(&mut self, tasks: usize) -> Result<(), String> {
        let mut left = tasks;
        while left > 0 {
            self.round();
            self.deliver();
            self.now = self.now + TASK_US;
            let ended = self.work();
            if ended == 0 && self.workers.iter().all(|worker| worker.answers.is_empty()) {
                self.skip_to_next_tick(left)?;
            }
            left -= ended;
            self.answer();
            if self.core.next_tick().is_some_and(|due| due <= self.now) {
                self.tell(Event::Tick);
            }
        }
        Ok(())
    }

    fn skip_to_next_tick(&mut self, left: usize) -> Result<(), String> {
        let due = self.core.next_tick().filter(|due| *due != Time::NEVER);
        self.now = self.now.max(due.ok_or(format!("the core is stuck with {left} tasks left"))?);
        Ok(())
    }

    /// Hands the workers what the core has for them.
    fn deliver(&mut self) {
        for action in self.actions.drain(..) {
            let Action::ToWorker { worker, message } = action else { continue };
            let worker = &mut self.workers[worker.0 as usize];
            match message {
                ToWorker::Assign { tasks } => worker.queue.extend(tasks),
                ToWorker::Retract { tasks } => worker.give_back(tasks),
                _ => {}
            }
        }
    }

    /// Each worker ends as many tasks as it has slots; how many that are.
    fn work(&mut self) -> usize {
        self.workers.iter_mut().map(Worker::work).sum()
    }

    fn answer(&mut self) {
        // The clock costs a system call: it is read once for all answers.
        let start = cpu_time();
        for (number, worker) in (0..).zip(&mut self.workers) {
            for message in worker.answers.drain(..) {
                let event = Event::FromWorker { worker: WorkerId(number), message };
                self.core.handle(self.now, event, &mut self.actions);
            }
        }
        self.took += cpu_time() - start;
    }
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Worker {
    fn work(&mut self) -> usize {
        let count = self.queue.len().min(SLOTS);
        if count > 0 {
            let ends = self.queue.drain(..count).map(|assignment| end(&assignment)).collect();
            self.answers.push(FromWorker::Ended { ends });
        }
        count
    }

    fn give_back(&mut self, asked: Vec<(TaskId, u32)>) {
        let waiting = |asked: &(TaskId, u32)| {
            self.queue.iter().any(|task| (task.task, task.attempt) == *asked)
        };
        let (given, kept): (Vec<_>, Vec<_>) = asked.into_iter().partition(waiting);
        self.queue.retain(|task| !given.contains(&(task.task, task.attempt)));
        self.answers.push(FromWorker::Retracted { given, kept });
    }
}

/// How an assignment ends: well, with eight bytes.
fn end(assignment: &Assignment) -> TaskEnd {
    let meta = ObjectMeta { codec: Codec::MSGPACK, size: 8, contains: Vec::new() };
    let output = Output { meta, value: Some(Bytes::from_static(&[0; 8])) };
    TaskEnd {
        task: assignment.task,
        attempt: assignment.attempt,
        duration_us: TASK_US as u32,
        pid: 1,
        result: Ok(std::iter::once(output).collect()),
    }
}

/// A graph, task by task: the tasks that each needs.
struct Graph {
    job: JobId,
    inputs: Vec<Input>,
    ends: Vec<u32>,
    /// Nobody needs these: the client holds and wants them.
    sinks: Vec<bool>,
}

impl Graph {
    fn random(tasks: usize) -> Graph {
        let mut random = Random(1);
        let (mut inputs, mut ends) = (Vec::with_capacity(2 * tasks), Vec::with_capacity(tasks));
        let mut sinks = vec![true; tasks];
        for task in 0..tasks as u64 {
            for _ in 0..random.below(5).min(task) {
                let seq = task - 1 - random.below(task.min(REACH));
                sinks[seq as usize] = false;
                inputs.push(Input { source: 0, index: 0, seq });
            }
            ends.push(inputs.len() as u32);
        }
        Graph { job: JobId(uuid::Uuid::now_v7()), inputs, ends, sinks }
    }

    fn of(&self, task: usize) -> &[Input] {
        let start = if task == 0 { 0 } else { self.ends[task - 1] };
        &self.inputs[start as usize..self.ends[task] as usize]
    }

    fn batches(&self) -> impl Iterator<Item = GraphBatch> {
        let tasks = self.ends.len();
        (0..tasks).step_by(BATCH_LIMIT).map(move |first| {
            let last = (first + BATCH_LIMIT).min(tasks);
            self.batch(first, last, last < tasks)
        })
    }

    fn batch(&self, first: usize, last: usize, more: bool) -> GraphBatch {
        let (mut rows, mut inputs, mut args) = (Vec::new(), Vec::new(), Vec::new());
        for task in first..last {
            inputs.extend_from_slice(self.of(task));
            // A small number: its codec, its length, its one byte.
            args.extend_from_slice(&[0, Codec::MSGPACK.0, 1, 0, 0, 0, 7]);
            let sink = self.sinks[task];
            rows.push(TaskRow {
                function: 0,
                options: 0,
                outputs: 1,
                rank: task as u32,
                inputs_end: inputs.len() as u32,
                args_end: args.len() as u32,
                flags: if sink { TaskRow::HELD | TaskRow::WANTED } else { 0 },
            });
        }
        GraphBatch {
            job: self.job,
            lane: LANE,
            first_seq: first as u64,
            options: vec![TaskOptions::default()],
            sources: vec![(self.job, LANE)],
            rows,
            inputs,
            args: args.into(),
            more,
        }
    }

    /// Virtual microseconds that no schedule can beat: the critical path, or all work over all
    /// slots.
    fn bound_us(&self) -> f64 {
        let tasks = self.ends.len();
        let mut depth = vec![1u32; tasks];
        for task in 0..tasks {
            let below = self.of(task).iter().map(|input| depth[input.seq as usize]).max();
            depth[task] = below.unwrap_or(0) + 1;
        }
        let path = f64::from(depth.into_iter().max().unwrap_or(0));
        let work = tasks as f64 / (WORKERS as f64 * SLOTS as f64);
        path.max(work) * TASK_US as f64
    }
}

/// A linear congruential generator (Knuth's constants): the same graph every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit.max(1)
    }
}
