//! How fast large values go into the store and out of it: `cargo run --release -p manyhands-store
//! --example store_bench [MiB]`.

use std::hint::black_box;
use std::time::Instant;

use manyhands_proto::value::Codec;
use manyhands_proto::{JobId, Lane, ObjectId, TaskId};
use manyhands_store::{Store, StoreConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mib = std::env::args().nth(1).map_or(Ok(256), |arg| arg.parse::<usize>())?;
    let spill_dir = Some(std::env::temp_dir());
    let store = Store::new(StoreConfig { spill_dir, ..StoreConfig::default() })?;
    let input = vec![7u8; mib << 20];
    let gigabytes = input.len() as f64 / 1e9;
    for round in 0..4 {
        let id = object(round);
        let start = Instant::now();
        store.put(id, Codec::RAW, &input)?;
        let put = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let value = store.get(id)?.expect("it was just put");
        let got = start.elapsed().as_secs_f64();
        let start = Instant::now();
        black_box(value.bytes.iter().step_by(64).map(|byte| u64::from(*byte)).sum::<u64>());
        let read = start.elapsed().as_secs_f64();

        let kind = if round == 0 { "cold" } else { "warm" };
        println!(
            "{kind}: put {mib} MiB {:.1} GB/s; get {:.3} ms, read {:.1} ms",
            gigabytes / put,
            got * 1e3,
            read * 1e3
        );
        drop(value);
        store.free(id);
    }
    let id = object(9);
    store.put(id, Codec::RAW, &input)?;
    for round in 0..2 {
        let start = Instant::now();
        store.spill(id)?;
        let spilled = start.elapsed().as_secs_f64();
        let start = Instant::now();
        store.load(id)?;
        let loaded = start.elapsed().as_secs_f64();
        println!(
            "round {round}: spill {:.1} GB/s, load {:.1} GB/s",
            gigabytes / spilled,
            gigabytes / loaded
        );
    }
    println!("{:?}", store.stats());
    Ok(())
}

fn object(seq: u64) -> ObjectId {
    let job = JobId(uuid::Uuid::from_u128(1));
    TaskId { job, lane: Lane(1), seq }.object(0)
}
