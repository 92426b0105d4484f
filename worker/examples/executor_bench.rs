//! What a no-op costs between a worker and its executors: there and back, and in streams.
//!
//! `cargo run --release -p manyhands-worker --example executor_bench`

use std::collections::HashMap;
use std::time::Instant;

use manyhands_executor::Invocation;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::Codec;
use manyhands_worker::host::HostEvent;

#[path = "../tests/crew/mod.rs"]
mod crew;
use crew::{Crew, run, task};

fn nothing(call: &mut Invocation<'_>) -> Result<(), FailureKind> {
    call.return_bytes(Codec::MSGPACK, Vec::new(), &[0xc0])
}

tasks!(nothing);

const ROUND_TRIPS: usize = 20_000;
const STREAM: u64 = 2_000_000;
/// Tasks that an executor has at most.
const AHEAD: u64 = 512;

fn main() {
    let start = Instant::now();
    let mut crew = Crew::new();
    crew.executor();
    crew.feed(manyhands_worker_core::event::ExecutorId(0), &run("nothing", 0));
    crew.end();
    println!("start to first result: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    round_trips(&mut crew);
    stream(&mut crew, 1);
    crew.executor();
    stream(&mut crew, 2);
}

fn round_trips(crew: &mut Crew) {
    let executor = manyhands_worker_core::event::ExecutorId(0);
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for seq in 0..ROUND_TRIPS as u64 {
        let start = Instant::now();
        crew.feed(executor, &run("nothing", seq));
        crew.end();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[(ROUND_TRIPS as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("there and back: p50 {:.1} us, p99 {:.1} us", at(0.5), at(0.99));
}

fn stream(crew: &mut Crew, executors: u32) {
    let ids: Vec<_> = (0..executors).map(manyhands_worker_core::event::ExecutorId).collect();
    let mut ahead: HashMap<u32, u64> = HashMap::new();
    let (mut fed, mut ended, mut turns, mut events) = (0, 0, 0u64, Vec::new());
    let mut template = run("nothing", 0);
    let start = Instant::now();
    while ended < STREAM {
        for id in &ids {
            let ahead = ahead.entry(id.0).or_default();
            while *ahead < AHEAD && fed < STREAM {
                template.task = task(fed);
                crew.host.feed(*id, &template).unwrap();
                (*ahead, fed) = (*ahead + 1, fed + 1);
            }
        }
        crew.host.flush();
        crew.turn(&mut events);
        turns += 1;
        for event in events.drain(..) {
            if let HostEvent::Ended { id, .. } = event {
                *ahead.get_mut(&id.0).unwrap() -= 1;
                ended += 1;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (rate, batch) = (STREAM as f64 / seconds, STREAM as f64 / turns as f64);
    println!("{executors} executor(s): {rate:.0} tasks/s, {batch:.0} ends a turn");
}
