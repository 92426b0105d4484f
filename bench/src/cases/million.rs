//! A million tasks that do nothing.

use std::time::Instant;

use manyhands::{Client, Lazy};

use super::tasks::noop;
use super::{Measured, check, metrics, size};
use crate::census;

/// One graph of a million no-op tasks, all of whose results the client holds. The time is from the
/// first node made to the last result read; the bytes are what the whole tree of processes has
/// grown by when all results are there and held.
pub(super) fn million(client: &Client, scale: f64) -> Measured {
    let k = size(1_000_000, scale);
    let before = census::pss_of_tree();
    let start = Instant::now();
    let nodes: Vec<Lazy<i64>> = (0..k as i64).map(noop::lazy).collect();
    let built = start.elapsed();
    let handles = client.submit(nodes)?;
    let submitted = start.elapsed();
    let values = client.gather(&handles)?;
    let took = start.elapsed();
    check("million", values, (0..k as i64).collect())?;
    let grown = census::pss_of_tree().saturating_sub(before);
    Ok(metrics([
        ("tasks/s", k as f64 / took.as_secs_f64()),
        ("bytes/task", grown as f64 / k as f64),
        ("build_s", built.as_secs_f64()),
        ("submit_s", (submitted - built).as_secs_f64()),
        ("total_s", took.as_secs_f64()),
    ]))
}
