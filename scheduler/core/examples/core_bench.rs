//! The scheduler core alone: a random DAG and many virtual workers that run everything at once.
//!
//! ```text
//! cargo run --release -p manyhands-scheduler-core --example core_bench [tasks] [workers]
//! ```
//!
//! Prints events (tasks submitted and ended) per second of processor time, and the bytes that a task takes while all
//! are submitted, its inputs, edges and lookup included.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures; the core does not")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use manyhands_proto::client::{FromClient, FunctionSpec, Runtime};
use manyhands_proto::graph::{GraphBatch, Input, TaskRow};
use manyhands_proto::task::{Resources, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::{FromWorker, Output, TaskEnd, ToWorker, WorkerSpec};
use manyhands_proto::{FunctionId, JobId, Lane, SessionId, Time, WorkerId};
use manyhands_scheduler_core::{Action, Config, Core, Event};
use smallvec::smallvec;

/// The system's allocator, counting.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 4096;
const SESSION: SessionId = SessionId(1);
const LANE: Lane = Lane(1);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * limit) >> 32
    }
}

/// A graph in which each task needs up to three of the thousand tasks before it. Those that no other
/// needs are held.
fn graph(job: JobId, tasks: usize) -> Vec<GraphBatch> {
    let mut random = Random(7);
    let mut batches = Vec::new();
    let mut needed = vec![false; tasks];
    for first in (0..tasks).step_by(BATCH) {
        let mut rows = Vec::new();
        let mut inputs = Vec::new();
        for task in first..(first + BATCH).min(tasks) {
            for _ in 0..random.below(4).min(task as u64) {
                let back = 1 + random.below(1000.min(task as u64));
                needed[task - back as usize] = true;
                inputs.push(Input { source: 0, index: 0, seq: task as u64 - back });
            }
            let number = (rows.len() + 1) as u32;
            rows.push(TaskRow {
                function: 0,
                options: 0,
                outputs: 1,
                rank: task as u32,
                inputs_end: inputs.len() as u32,
                args_end: number * 8,
                flags: 0,
            });
        }
        let args = Bytes::from(vec![0; rows.len() * 8]);
        let more = first + BATCH < tasks;
        let (options, sources) = (vec![TaskOptions::default()], vec![(job, LANE)]);
        let first_seq = first as u64;
        batches.push(GraphBatch {
            job,
            lane: LANE,
            first_seq,
            options,
            sources,
            rows,
            inputs,
            args,
            more,
        });
    }
    for (row, needed) in batches.iter_mut().flat_map(|batch| &mut batch.rows).zip(needed) {
        row.flags = if needed { 0 } else { TaskRow::HELD };
    }
    batches
}

/// Processor time of this thread, so that what else the machine does counts for nothing.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Every assignment ends at once.
fn ends(actions: &mut Vec<Action>) -> Vec<Event> {
    let mut events = Vec::new();
    for action in actions.drain(..) {
        let Action::ToWorker { worker, message: ToWorker::Assign { tasks } } = action else {
            continue;
        };
        let ends = tasks.iter().map(|assignment| TaskEnd {
            task: assignment.task,
            attempt: assignment.attempt,
            duration_us: 1_000,
            pid: 1,
            result: Ok(smallvec![Output {
                meta: ObjectMeta { codec: Codec::MSGPACK, size: 8, contains: Vec::new() },
                value: None,
            }]),
        });
        let message = FromWorker::Ended { ends: ends.collect() };
        events.push(Event::FromWorker { worker, message });
    }
    events
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let tasks: usize = arguments.next().unwrap_or(1_000_000);
    let workers: u32 = arguments.next().unwrap_or(1_000) as u32;
    let job = JobId(Default::default());
    let batches = graph(job, tasks);

    let mut core = Core::new(Config::default());
    let mut out = Vec::new();
    let mut handle = |core: &mut Core, event| core.handle(Time(0), event, &mut out);
    handle(&mut core, Event::ClientJoined { session: SESSION, lane: LANE });
    let open = FromClient::OpenJob { job, name: "bench".into(), weight: 1 };
    handle(&mut core, Event::FromClient { session: SESSION, message: open });
    let spec = FunctionSpec {
        id: FunctionId(1),
        name: "work".into(),
        runtime: Runtime::Rust { program: 0 },
    };
    let functions = FromClient::Functions { first_slot: 0, functions: vec![spec] };
    handle(&mut core, Event::FromClient { session: SESSION, message: functions });

    let before = ALLOCATED.load(Ordering::Relaxed);
    let started = cpu_time();
    let mut batch_bytes = 0;
    for batch in batches {
        // What the batch's own memory gives back when it is dropped is not the core's.
        batch_bytes += batch.rows.capacity() * size_of::<TaskRow>()
            + batch.inputs.capacity() * size_of::<Input>()
            + batch.sources.capacity() * size_of::<(JobId, Lane)>()
            + batch.options.capacity() * size_of::<TaskOptions>();
        handle(
            &mut core,
            Event::FromClient { session: SESSION, message: FromClient::Submit(batch) },
        );
    }
    let submitted = cpu_time() - started;
    let grown = ALLOCATED.load(Ordering::Relaxed) + batch_bytes - before;

    for worker in 0..workers {
        let spec = WorkerSpec {
            name: String::new(),
            resources: Resources { millicores: 4_000, ..Resources::default() },
            labels: Vec::new(),
            store_limit: 1 << 40,
        };
        core.handle(Time(0), Event::WorkerJoined { worker: WorkerId(worker), spec }, &mut out);
    }
    let started = cpu_time();
    let (mut ended, mut rounds) = (0, 0);
    let mut inside = Duration::ZERO;
    core.round(Time(0), &mut out);
    loop {
        let events = ends(&mut out);
        if events.is_empty() {
            break;
        }
        let begun = cpu_time();
        for event in events {
            if let Event::FromWorker { message: FromWorker::Ended { ends }, .. } = &event {
                ended += ends.len();
            }
            core.handle(Time(rounds), event, &mut out);
        }
        core.round(Time(rounds), &mut out);
        inside += cpu_time() - begun;
        rounds += 1;
    }
    let all = cpu_time() - started;
    assert_eq!(ended, tasks, "every task ends");
    let rate = |n: usize, time: Duration| n as f64 / time.as_secs_f64() / 1e6;
    println!("{tasks} tasks, {workers} workers of 4 slots, {rounds} rounds");
    println!("submit      {:.2} M tasks/s", rate(tasks, submitted));
    println!(
        "run         {:.2} M tasks/s in the core ({:.2} with the workers' part)",
        rate(tasks, inside),
        rate(tasks, all)
    );
    println!("events      {:.2} M/s (submitted and ended)", rate(2 * tasks, submitted + inside));
    println!("memory      {} bytes a task, all submitted and none ended", grown / tasks);
}
