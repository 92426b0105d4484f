//! Large objects between workers.

use std::error::Error;
use std::time::Instant;

use manyhands::{Client, Handle};
use manyhands_cluster_tests::{Cluster, Plan};

use super::tasks::{first, make};
use super::{Measured, check, metrics, size};
use crate::record::Metrics;

const MIB: usize = 1 << 20;
const GIB: f64 = (1u64 << 30) as f64;

/// Bytes a second of a link of 1 Gbit/s.
const LINK: u64 = 125_000_000;

/// Has an array made by a worker, and waits until it lies there.
fn made_at(
    client: &Client,
    worker: &str,
    bytes: usize,
) -> Result<Handle<Vec<i64>>, Box<dyn Error>> {
    let call = make::lazy(7, bytes).label("worker", worker);
    let array = client.submit(&call)?;
    client.wait(std::slice::from_ref(&array), 1, None)?;
    Ok(array)
}

/// Has workers look at an array, which has to come to them for that; seconds until all have.
fn looked_at(
    client: &Client,
    array: &Handle<Vec<i64>>,
    workers: &[String],
) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let calls: Vec<_> =
        workers.iter().map(|worker| first::lazy(array).label("worker", worker)).collect();
    let values = client.compute(&calls)?;
    let took = start.elapsed().as_secs_f64();
    check("first elements", values, vec![7; workers.len()])?;
    Ok(took)
}

/// Every worker runs a task of this program, so that nothing but arrays travels later.
fn warm(client: &Client, workers: &[String]) -> Result<(), Box<dyn Error>> {
    let small = made_at(client, &workers[0], 1 << 20)?;
    looked_at(client, &small, workers)?;
    Ok(())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("w{number}")).collect()
}

/// GiB/s of 64 MiB objects from one worker to another, one after the other.
fn worker_to_worker(cluster: &Cluster, count: usize) -> Result<f64, Box<dyn Error>> {
    let client = cluster.client();
    let names = names(2);
    warm(&client, &names)?;
    let arrays =
        (0..count).map(|_| made_at(&client, &names[0], 64 * MIB)).collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let calls: Vec<_> =
        arrays.iter().map(|array| first::lazy(array).label("worker", &names[1])).collect();
    let values = client.compute(&calls)?;
    let took = start.elapsed().as_secs_f64();
    check("first elements", values, vec![7; count])?;
    Ok((count * 64 * MIB) as f64 / GIB / took)
}

pub(super) fn bulk(scale: f64) -> Measured {
    let count = size(16, scale);
    let plan = Plan { machines: 2, workers: 2, store: 4 << 30, loopback: true, ..Plan::default() };
    let near = Cluster::start(plan.clone());
    let mut measured = metrics([("loopback_GiB/s", worker_to_worker(&near, count)?)]);
    drop(near);
    let far = Cluster::start(Plan { loopback: false, ..plan });
    match far.machines.are_apart() {
        true => measured.extend(metrics([("mtu1500_GiB/s", worker_to_worker(&far, count)?)])),
        false => eprintln!("no network namespaces: links with an MTU of 1,500 are left out"),
    }
    Ok(measured)
}

/// One copy, then copies for 8 workers at once; both from a worker of their own.
fn spread(cluster: &Cluster, bytes: usize, of: &str) -> Result<Metrics, Box<dyn Error>> {
    let client = cluster.client();
    let names = names(9);
    warm(&client, &names)?;
    let array = made_at(&client, &names[0], bytes)?;
    let one = looked_at(&client, &array, &names[1..2])?;
    drop(array);
    let array = made_at(&client, &names[0], bytes)?;
    let eight = looked_at(&client, &array, &names[1..9])?;
    Ok(metrics([
        (&format!("{of}_one_s"), one),
        (&format!("{of}_eight_s"), eight),
        (&format!("{of}_times_one"), eight / one),
    ]))
}

pub(super) fn broadcast(scale: f64) -> Measured {
    let bytes = size(1024, scale) * MIB;
    let store = 2 * bytes as u64 + (256 << 20);
    let plan = Plan { machines: 9, workers: 9, store, loopback: true, ..Plan::default() };
    let near = Cluster::start(plan.clone());
    let mut measured = spread(&near, bytes, "loopback")?;
    drop(near);
    let far = Cluster::start(Plan { loopback: false, ..plan });
    match far.machines.limit_rate(LINK) {
        Ok(()) => measured.extend(spread(&far, bytes, "1Gbit")?),
        Err(error) => eprintln!("links of 1 Gbit/s are left out: {error}"),
    }
    Ok(measured)
}
