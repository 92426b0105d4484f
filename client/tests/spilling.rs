//! A working set larger than the object store goes to disk and comes back.

use manyhands::{Client, Lazy, task};

const MIB: u64 = 1 << 20;
const PARTS: u64 = 24;
const PART_WORDS: u64 = 2 * MIB / 8;
const STORE_LIMIT: u64 = 16 * MIB;

#[task]
fn make(i: u64) -> Vec<u64> {
    (0..PART_WORDS).map(|j| i.wrapping_mul(1_000_003) ^ j).collect()
}

#[task]
fn mix(a: Vec<u64>, b: Vec<u64>) -> Vec<u64> {
    a.iter().zip(&b).map(|(a, b)| a.wrapping_add(*b)).collect()
}

#[task]
fn sum(part: Vec<u64>) -> u64 {
    part.iter().fold(0, |sum, x| sum.wrapping_add(*x))
}

fn expected() -> Vec<u64> {
    let parts: Vec<Vec<u64>> = (0..PARTS).map(make).collect();
    (0..PARTS as usize)
        .map(|i| sum(mix(parts[i].clone(), parts[(i + 7) % PARTS as usize].clone())))
        .collect()
}

#[test]
fn three_times_the_stores_limit_completes_and_the_store_stays_under_it() {
    let client = Client::builder().slots(2).store_limit(STORE_LIMIT).local().unwrap();
    // All parts are held until every pair is done: 48 MiB of them, for a store of 16.
    let parts: Vec<_> = (0..PARTS).map(|i| make::submit(&client, i).unwrap()).collect();
    client.wait(&parts, parts.len(), None).unwrap();
    let sums: Vec<Lazy<u64>> = (0..PARTS as usize)
        .map(|i| sum::lazy(mix::lazy(&parts[i], &parts[(i + 7) % PARTS as usize])))
        .collect();
    assert_eq!(client.compute(sums).unwrap(), expected());
    let stats = client.local_stats().unwrap();
    assert!(stats.store_peak <= STORE_LIMIT, "{} at the most", stats.store_peak);
    assert!(stats.spilled_total > 0, "something went to disk");
}
