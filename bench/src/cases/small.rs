//! Many small tasks.

use std::time::Instant;

use manyhands::{Client, Error, Handle};

use super::tasks::{echo, noop};
use super::{Measured, check, metrics, size};

pub(super) fn noop_throughput(client: &Client, scale: f64) -> Measured {
    let k = size(10_000, scale);
    let start = Instant::now();
    let handles: Vec<Handle<i64>> =
        (0..k as i64).map(|i| noop::submit(client, i)).collect::<Result<_, Error>>()?;
    let submitted = start.elapsed();
    let values = client.gather(&handles)?;
    let took = start.elapsed();
    check("noop_throughput", values, (0..k as i64).collect())?;
    Ok(metrics([
        ("tasks/s", k as f64 / took.as_secs_f64()),
        ("submit_us", submitted.as_secs_f64() / k as f64 * 1e6),
    ]))
}

pub(super) fn noop_map(client: &Client, scale: f64) -> Measured {
    let k = size(10_000, scale);
    let map = |n: i64| -> Result<Vec<i64>, Error> { client.map(0..n, noop::lazy).collect() };
    map(100)?;
    let start = Instant::now();
    let values = map(k as i64)?;
    let took = start.elapsed();
    check("noop_map", values, (0..k as i64).collect())?;
    Ok(metrics([("tasks/s", k as f64 / took.as_secs_f64())]))
}

pub(super) fn latency(client: &Client, scale: f64) -> Measured {
    let mut took_us = Vec::new();
    for i in 0..size(1_000, scale) as i64 {
        let start = Instant::now();
        let value = noop::submit(client, i)?.get()?;
        took_us.push(start.elapsed().as_secs_f64() * 1e6);
        check("latency", value, i)?;
    }
    took_us.sort_by(f64::total_cmp);
    let at = |share: f64| took_us[(took_us.len() as f64 * share) as usize];
    Ok(metrics([("p50_us", at(0.5)), ("p99_us", at(0.99))]))
}

pub(super) fn small_args(client: &Client, scale: f64) -> Measured {
    let k = size(10_000, scale);
    let mut payload: Vec<u8> = (0..1024u32).map(|i| (i * 7 % 251) as u8).collect();
    let start = Instant::now();
    let mut handles = Vec::with_capacity(k);
    for i in 0..k as u32 {
        payload[1020..].copy_from_slice(&i.to_le_bytes());
        handles.push(echo::submit(client, &payload)?);
    }
    let values = client.gather(&handles)?;
    let took = start.elapsed();
    check("small_args", (values.len(), values.last()), (k, Some(&payload)))?;
    Ok(metrics([("tasks/s", k as f64 / took.as_secs_f64())]))
}
