//! Large values. As in the peers' figures, `MB/s` is 10^6 bytes a second.

use std::time::{Duration, Instant};

use manyhands::{Client, Error, Lazy};

use super::tasks::{make, merge, read, split, sum_of_pages};
use super::{Measured, check, metrics, size};

const MIB: usize = 1 << 20;

pub(super) fn transfer(client: &Client, scale: f64) -> Measured {
    let [small_tasks, small_client] = moved(client, 8, size(32, scale))?;
    let [large_tasks, large_client] = moved(client, 64, size(8, scale))?;
    Ok(metrics([
        ("8MiB_worker_worker_MB/s", small_tasks),
        ("8MiB_worker_client_MB/s", small_client),
        ("64MiB_worker_worker_MB/s", large_tasks),
        ("64MiB_worker_client_MB/s", large_client),
    ]))
}

/// From the producers' submission until the values have been read: by other tasks, and by the
/// client.
fn moved(
    client: &Client,
    mib: usize,
    count: usize,
) -> Result<[f64; 2], Box<dyn std::error::Error>> {
    let bytes = mib * MIB;
    let expected = |i: i64| i * (bytes / 4096) as i64;
    let start = Instant::now();
    let made: Vec<_> =
        (0..count as i64).map(|i| make::submit(client, i, bytes)).collect::<Result<_, Error>>()?;
    let sums: Vec<_> =
        made.iter().map(|array| read::submit(client, array)).collect::<Result<_, Error>>()?;
    let sums = client.gather(&sums)?;
    let to_tasks = start.elapsed();
    check("transfer", sums, (0..count as i64).map(expected).collect())?;
    drop(made);

    let start = Instant::now();
    for i in 0..count as i64 {
        let array = make::submit(client, i, bytes)?.slice().get()?;
        check("transfer", sum_of_pages(&array), expected(i))?;
    }
    Ok([to_tasks, start.elapsed()].map(|took| rate(count * bytes, took)))
}

pub(super) fn put_get(client: &Client, scale: f64) -> Measured {
    let array = make(3, size(256, scale) * MIB);
    let bytes = array.len() * 8;
    let start = Instant::now();
    let handle = client.put(&array)?;
    let put = start.elapsed();
    let mapped = handle.slice().get()?;
    let get = start.elapsed() - put;
    let sum = sum_of_pages(&mapped);
    let read = start.elapsed() - put;
    check("put_get", sum, sum_of_pages(&array))?;
    Ok(metrics([
        ("put_MB/s", rate(bytes, put)),
        ("get_MB/s", rate(bytes, read)),
        ("get_ms", get.as_secs_f64() * 1e3),
    ]))
}

pub(super) fn broadcast(client: &Client, scale: f64) -> Measured {
    let array = make(3, size(64, scale) * MIB);
    let start = Instant::now();
    let handle = client.put(&array)?;
    let sums: Vec<_> =
        (0..64).map(|_| read::submit(client, &handle)).collect::<Result<_, Error>>()?;
    let sums = client.gather(&sums)?;
    let took = start.elapsed();
    check("broadcast", sums, vec![sum_of_pages(&array); 64])?;
    Ok(metrics([("MB/s", rate(64 * array.len() * 8, took))]))
}

pub(super) fn shuffle(client: &Client, scale: f64) -> Measured {
    const PARTS: usize = 32;
    let bytes = size(MIB, scale) / 8 * 8;
    let start = Instant::now();
    let rows: Vec<Vec<Lazy<Vec<i64>>>> =
        (0..PARTS as i64).map(|i| split::lazy(i, PARTS as i64, bytes).parts(PARTS)).collect();
    let column = |j: usize| -> Vec<_> { rows.iter().map(|row| row[j].slice()).collect() };
    let merged: Vec<Lazy<(i64, usize)>> = (0..PARTS).map(|j| merge::lazy(column(j))).collect();
    let columns = client.compute(merged)?;
    let took = start.elapsed();
    let sum: i64 = columns.iter().map(|(firsts, _)| firsts).sum();
    check("shuffle", sum, (0..(PARTS * PARTS) as i64).sum())?;
    check("shuffle", columns[0].1, PARTS * bytes)?;
    Ok(metrics([("total_s", took.as_secs_f64()), ("MB/s", rate(PARTS * PARTS * bytes, took))]))
}

/// 10^6 bytes a second.
fn rate(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
