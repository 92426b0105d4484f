//! Tasks that submit tasks and wait for them.

use std::time::Instant;

use manyhands::{Client, Error, task};

use super::{Measured, check, metrics};

/// Every call a task: submits two and waits, lending its slot.
#[task]
fn fib(n: u64) -> Result<u64, Error> {
    if n < 2 {
        return Ok(n);
    }
    let client = manyhands::current().expect("a task has a client");
    let (a, b) = (fib::submit(&client, n - 1)?, fib::submit(&client, n - 2)?);
    Ok(client.get(&a)? + client.get(&b)?)
}

/// Calls that `fib(n)` makes, itself counted.
fn calls(n: u64) -> u64 {
    if n < 2 { 1 } else { 1 + calls(n - 1) + calls(n - 2) }
}

pub(super) fn nested(client: &Client, scale: f64) -> Measured {
    let n = if scale < 1.0 { 16 } else { 20 };
    let start = Instant::now();
    let sum = client.compute(fib::lazy(n))?;
    let took = start.elapsed().as_secs_f64();
    check("nested", sum, [987, 6765][usize::from(n == 20)])?;
    let stats = client.local_stats().ok_or("not a local cluster")?;
    Ok(metrics([
        ("total_s", took),
        ("us/task", took * 1e6 / calls(n) as f64),
        ("tasks", calls(n) as f64),
        ("peak_processes", stats.peak_executors as f64),
    ]))
}
