//! Dependencies, submitted future by future and as one graph.

use std::time::Instant;

use manyhands::{Client, Error, Handle, Lazy};

use super::tasks::{add, count, inc, noop};
use super::{Measured, check, metrics, size};

pub(super) fn chain(client: &Client, scale: f64) -> Measured {
    let (k, long) = (size(1_000, scale), size(10_000, scale));
    let futures = timed(k, k as i64, || {
        let mut last = inc::submit(client, 0)?;
        for _ in 1..k {
            last = inc::submit(client, &last)?;
        }
        last.get()
    })?;
    let graph = timed(k, k as i64, || client.compute(&chain_of(k)))?;
    let long = timed(long, long as i64, || client.compute(&chain_of(long)))?;
    Ok(metrics([
        ("futures_us/task", futures),
        ("graph_us/task", graph),
        ("graph_10k_us/task", long),
    ]))
}

fn chain_of(links: usize) -> Lazy<i64> {
    (1..links).fold(inc::lazy(0), |last, _| inc::lazy(last))
}

pub(super) fn tree_reduce(client: &Client, scale: f64) -> Measured {
    let leaves = 1i64 << size(4_096, scale).ilog2();
    let (tasks, expected) = (2 * leaves as usize - 1, leaves * (leaves + 1) / 2);
    let futures = timed(tasks, expected, || {
        let mut level: Vec<Handle<i64>> =
            (0..leaves).map(|i| inc::submit(client, i)).collect::<Result<_, _>>()?;
        while level.len() > 1 {
            let pairs = level.chunks(2).map(|pair| add::submit(client, &pair[0], &pair[1]));
            level = pairs.collect::<Result<_, Error>>()?;
        }
        level[0].get()
    })?;
    let graph = timed(tasks, expected, || {
        let mut level: Vec<Lazy<i64>> = (0..leaves).map(inc::lazy).collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|pair| add::lazy(&pair[0], &pair[1])).collect();
        }
        client.compute(&level[0])
    })?;
    Ok(metrics([("futures_us/task", futures), ("graph_us/task", graph)]))
}

pub(super) fn wide(client: &Client, scale: f64) -> Measured {
    let k = size(5_000, scale);
    let futures = timed(k + 1, k, || {
        let parts: Vec<Handle<i64>> =
            (0..k as i64).map(|i| noop::submit(client, i)).collect::<Result<_, Error>>()?;
        count::submit(client, &parts)?.get()
    })?;
    let graph = timed(k + 1, k, || client.compute(&into_one(k)))?;
    Ok(metrics([("futures_us/task", futures), ("graph_us/task", graph)]))
}

pub(super) fn fan_in(client: &Client, scale: f64) -> Measured {
    let k = size(10_000, scale);
    let graph = timed(k + 1, k, || client.compute(&into_one(k)))?;
    Ok(metrics([("graph_us/task", graph), ("total_s", graph * (k + 1) as f64 / 1e6)]))
}

fn into_one(parts: usize) -> Lazy<usize> {
    let parts: Vec<Lazy<i64>> = (0..parts as i64).map(noop::lazy).collect();
    count::lazy(parts)
}

/// Microseconds a task, the building of the graph included.
fn timed<T: PartialEq + std::fmt::Debug>(
    tasks: usize,
    expected: T,
    run: impl FnOnce() -> Result<T, Error>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let value = run()?;
    let took = start.elapsed();
    check("a graph", value, expected)?;
    Ok(took.as_secs_f64() / tasks as f64 * 1e6)
}
