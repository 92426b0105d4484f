//! Small tasks over a network: daemons of their own, on this machine.

use std::time::{Duration, Instant};

use manyhands::{Client, Error, Handle};
use manyhands_cluster_tests::{Cluster, Daemon, Faults, Plan, Relay};

use super::tasks::noop;
use super::{Measured, SLOTS, check, metrics, size};

/// A cluster of one worker on loopback.
fn small() -> Cluster {
    Cluster::start(Plan {
        machines: 1,
        workers: 1,
        cores: SLOTS,
        loopback: true,
        ..Plan::default()
    })
}

/// p50 and p99 of round trips, in microseconds.
fn round_trips(client: &Client, count: usize, pause: Duration) -> Result<(f64, f64), Error> {
    let mut took_us = Vec::with_capacity(count);
    for i in 0..count as i64 {
        std::thread::sleep(pause);
        let start = Instant::now();
        noop::submit(client, i)?.get()?;
        took_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    took_us.sort_by(f64::total_cmp);
    let at = |share: f64| took_us[(took_us.len() as f64 * share) as usize];
    Ok((at(0.5), at(0.99)))
}

pub(super) fn roundtrip(scale: f64) -> Measured {
    let cluster = small();
    let client = cluster.client();
    super::warm(&client)?;
    let (p50, p99) = round_trips(&client, size(5_000, scale), Duration::ZERO)?;
    let pause = Duration::from_millis(2);
    let (idle_p50, idle_p99) = round_trips(&client, size(500, scale), pause)?;
    Ok(metrics([
        ("p50_us", p50),
        ("p99_us", p99),
        ("idle_p50_us", idle_p50),
        ("idle_p99_us", idle_p99),
    ]))
}

/// Seconds for so many calls, one submission each.
fn one_by_one(client: &Client, count: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let handles: Vec<Handle<i64>> =
        (0..count as i64).map(|i| noop::submit(client, i)).collect::<Result<_, Error>>()?;
    let values = client.gather(&handles)?;
    let took = start.elapsed().as_secs_f64();
    check("no-op calls", values, (0..count as i64).collect())?;
    Ok(took)
}

pub(super) fn many_noops(scale: f64) -> Measured {
    let cluster = small();
    let client = cluster.client();
    super::warm(&client)?;
    let count = size(100_000, scale);
    let before = cluster.scheduler.processor_time();
    let calls = one_by_one(&client, count)?;
    let scheduler = cluster.scheduler.processor_time() - before;
    let nodes: Vec<_> = (0..count as i64).map(noop::lazy).collect();
    let start = Instant::now();
    let values = client.compute(&nodes)?;
    let graph = start.elapsed().as_secs_f64();
    check("a graph of no-ops", values.len(), count)?;
    Ok(metrics([
        ("tasks/s", count as f64 / calls),
        ("graph_tasks/s", count as f64 / graph),
        ("scheduler_us/task", scheduler / count as f64 * 1e6),
    ]))
}

pub(super) fn lossy(scale: f64) -> Measured {
    let cluster = small();
    let to = cluster.scheduler_address();
    let relay = Relay::open(cluster.client_machine(), to, Faults::default(), 42);
    let client = cluster.client_by(&Cluster::by_way_of(&cluster.for_clients, relay.address()));
    super::warm(&client)?;
    let delay = Duration::from_millis(20);
    relay.set(Faults { loss: 0.05, delay, jitter: Duration::from_millis(2) });
    let count = size(20_000, scale);
    let took = one_by_one(&client, count)?;
    let (p50, p99) = round_trips(&client, size(50, scale), Duration::ZERO)?;
    let counts = relay.counts();
    let lost = counts.lost as f64 / (counts.lost + counts.passed) as f64;
    Ok(metrics([
        ("tasks/s", count as f64 / took),
        ("p50_us", p50),
        ("p99_us", p99),
        ("lost_share", lost),
    ]))
}

pub(super) fn run_array(scale: f64) -> Measured {
    let cluster = small();
    let run = |count: usize| -> Result<f64, String> {
        let array = format!("1-{count}");
        let start = Instant::now();
        let output = cluster.run(&["run", "--array", &array, "--", "true"]);
        let took = start.elapsed().as_secs_f64();
        let errors = || String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(took).ok_or_else(errors)
    };
    run(100)?;
    let count = size(10_000, scale);
    let took = run(count)?;
    let xargs = super::wire::xargs(scale)?;
    Ok(metrics([("tasks/s", count as f64 / took), ("took_s", took), ("xargs_tasks/s", xargs)]))
}

/// How long the scheduler is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// Tasks a second that it is given.
const RATE: f64 = 10_000.0;

pub(super) fn many_workers(scale: f64) -> Measured {
    let workers = size(200, scale);
    let plan = Plan { machines: 100, workers, cores: 1, loopback: true, ..Plan::default() };
    let start = Instant::now();
    let cluster = Cluster::start(plan);
    let joined = start.elapsed().as_secs_f64();
    let scheduler = &cluster.scheduler;
    let joined_mib = mib(scheduler.resident());

    // Idle: nothing but signs of life.
    let watch = || -> f64 {
        let before = scheduler.processor_time();
        std::thread::sleep(WATCHED);
        (scheduler.processor_time() - before) / WATCHED.as_secs_f64() * 100.0
    };
    let used = || -> f64 { cluster.workers.iter().map(Daemon::processor_time).sum() };
    let (before, start) = (used(), Instant::now());
    let idle = watch();
    let idle_of_workers = (used() - before) / start.elapsed().as_secs_f64() * 100.0;
    let worker_idle = idle_of_workers / workers as f64;
    let resident: u64 = cluster.workers.iter().map(Daemon::resident).sum();
    let worker_mib = mib(resident) / workers as f64;

    // Every worker gets the program and an executor.
    let client = cluster.client();
    let start = Instant::now();
    let handles: Vec<Handle<u32>> = (0..2 * workers as i64)
        .map(|i| super::tasks::pid_slowly::submit(&client, i))
        .collect::<Result<_, Error>>()?;
    client.gather(&handles)?;
    let warm = start.elapsed().as_secs_f64();

    let (before, start) = (scheduler.processor_time(), Instant::now());
    let mut given = 0u64;
    let mut open: std::collections::VecDeque<Handle<i64>> = std::collections::VecDeque::new();
    while start.elapsed() < WATCHED {
        let due = (start.elapsed().as_secs_f64() * RATE) as u64;
        while given < due {
            open.push_back(noop::submit(&client, given as i64)?);
            given += 1;
        }
        // Results that have come are let go, as a service would.
        while open.len() > 2_000 {
            if let Some(oldest) = open.pop_front() {
                client.get(&oldest)?;
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let open: Vec<_> = open.into();
    client.gather(&open)?;
    let took = start.elapsed().as_secs_f64();
    let busy = (scheduler.processor_time() - before) / took * 100.0;
    Ok(metrics([
        ("workers", workers as f64),
        ("join_s", joined),
        ("first_tasks_s", warm),
        ("joined_MiB", joined_mib),
        ("idle_core_percent", idle),
        ("worker_MiB", worker_mib),
        ("worker_idle_core_percent", worker_idle),
        ("tasks/s", given as f64 / took),
        ("busy_core_percent", busy),
        ("busy_MiB", mib(scheduler.resident())),
    ]))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
