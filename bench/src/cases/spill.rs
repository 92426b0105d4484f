//! More than fits.

use std::time::Instant;

use manyhands::{Client, Error, Handle};

use super::tasks::{make, read};
use super::{Measured, SLOTS, check, metrics, size};

const MIB: usize = 1 << 20;

/// Objects of 16 MiB, three times as many as the store may hold, all held by the client: made, and
/// then read twice, in the worst order for whoever forgets the oldest first.
pub(super) fn spill(scale: f64) -> Measured {
    let limit = size(256, scale).max(64) * MIB;
    let bytes = 16 * MIB;
    let count = 3 * limit / bytes;
    let client = Client::builder().slots(SLOTS).store_limit(limit as u64).local()?;
    super::warm(&client)?;
    let start = Instant::now();
    let made: Vec<Handle<Vec<i64>>> =
        (0..count as i64).map(|i| make::submit(&client, i, bytes)).collect::<Result<_, Error>>()?;
    for _ in 0..2 {
        let sums: Vec<Handle<i64>> =
            made.iter().map(|array| read::submit(&client, array)).collect::<Result<_, Error>>()?;
        let expected = (0..count as i64).map(|i| i * (bytes / 4096) as i64).collect();
        check("spill", client.gather(&sums)?, expected)?;
    }
    let took = start.elapsed().as_secs_f64();
    let store = client.local_stats().ok_or("not a local cluster")?;
    let in_mib = |bytes: u64| bytes as f64 / MIB as f64;
    Ok(metrics([
        ("total_s", took),
        ("MB/s", (3 * count * bytes) as f64 / 1e6 / took),
        ("store_limit_MiB", (limit / MIB) as f64),
        ("store_peak_MiB", in_mib(store.store_peak)),
        ("spilled_MiB", in_mib(store.spilled_total)),
    ]))
}
