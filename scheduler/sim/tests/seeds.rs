//! A thousand clusters, each run twice; and how jobs share the slots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Which seeds: `MANYHANDS_SIM_SEEDS=A..B`, or the first thousand.
fn range() -> (u64, u64) {
    let given = std::env::var("MANYHANDS_SIM_SEEDS").ok();
    let Some(given) = given else { return (0, 1_000) };
    let parsed = given.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("MANYHANDS_SIM_SEEDS is {given:?}, not like 0..1000"))
}

#[test]
fn every_seed_ends_right_and_twice_the_same() {
    let (from, to) = range();
    let next = AtomicU64::new(from);
    let began = Instant::now();
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let play = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= to || failures.len() >= 5 {
                    return failures;
                }
                if let Err(failure) = manyhands_sim::run_caught(seed) {
                    println!("seed {seed} failed: {failure}");
                    println!("replay: cargo run -p manyhands-sim -- --seed {seed} --trace");
                    failures.push((seed, failure));
                }
            }
        };
        let threads = [scope.spawn(play), scope.spawn(play)];
        threads.into_iter().flat_map(|thread| thread.join().expect("failures are caught")).collect()
    });
    let took: Duration = began.elapsed();
    println!("seeds {from}..{to}, each twice, in {:.1} s", took.as_secs_f64());
    assert!(failures.is_empty(), "failed: {failures:#?}");
}

#[test]
fn jobs_share_the_slots_by_their_weights() {
    manyhands_sim::fairness::check().unwrap();
}
