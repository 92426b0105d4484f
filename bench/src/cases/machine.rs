//! Processor time, memory, a process that is killed, starting and stopping.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use manyhands::{Client, Handle};
use rustix::process::{Pid, Signal, kill_process};

use super::tasks::{noop, pid_slowly, spin};
use super::{Measured, SLOTS, check, metrics, size};
use crate::census;

pub(super) fn startup(_scale: f64) -> Measured {
    let start = Instant::now();
    let client = Client::builder().slots(SLOTS).local()?;
    let value = noop::submit(&client, 0)?.get()?;
    let ready = start.elapsed();
    check("startup", value, 0)?;
    let start = Instant::now();
    drop(client);
    let stopped = start.elapsed();
    Ok(metrics([("first_result_s", ready.as_secs_f64()), ("stop_s", stopped.as_secs_f64())]))
}

pub(super) fn cpu_bound(client: &Client, scale: f64) -> Measured {
    let efficiency = |ms: u64, base: usize| -> Result<f64, Box<dyn Error>> {
        let k = size(base, scale);
        let took = spin_all(client, k, ms)?;
        Ok(100.0 * (k as u64 * ms) as f64 / 1e3 / f64::from(SLOTS) / took.as_secs_f64())
    };
    Ok(metrics([
        ("1ms_efficiency_%", efficiency(1, 2_000)?),
        ("10ms_efficiency_%", efficiency(10, 200)?),
    ]))
}

fn spin_all(client: &Client, k: usize, ms: u64) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let handles: Vec<Handle<u64>> =
        (0..k).map(|_| spin::submit(client, ms)).collect::<Result<_, manyhands::Error>>()?;
    let values = client.gather(&handles)?;
    let took = start.elapsed();
    check("spin", values.len(), k)?;
    Ok(took)
}

/// Proportional set sizes: of this process, which is client, scheduler and worker; of the
/// executors; and of what else it takes (the executors' template).
pub(super) fn memory(client: &Client, scale: f64) -> Measured {
    let executors = executor_pids(client)?;
    let idle = Census::now(&executors);
    let k = size(100_000, scale);
    let start = Instant::now();
    let handles: Vec<Handle<i64>> =
        (0..k as i64).map(|i| noop::submit(client, i)).collect::<Result<_, manyhands::Error>>()?;
    let values = client.gather(&handles)?;
    let took = start.elapsed();
    check("memory", values.len(), k)?;
    drop(values);
    let held = Census::now(&executors);
    let growth = held.total().saturating_sub(idle.total());
    Ok(metrics([
        ("idle_client_MiB", mib(idle.client)),
        ("idle_workers_MiB", mib(idle.executors)),
        ("idle_other_MiB", mib(idle.other)),
        ("idle_total_MiB", mib(idle.total())),
        ("held_fill_s", took.as_secs_f64()),
        ("held_client_MiB", mib(held.client)),
        ("held_workers_MiB", mib(held.executors)),
        ("held_other_MiB", mib(held.other)),
        ("held_total_MiB", mib(held.total())),
        ("bytes/future", growth as f64 / k as f64),
    ]))
}

/// Who has how many bytes.
struct Census {
    client: u64,
    executors: u64,
    other: u64,
}

impl Census {
    fn now(executors: &BTreeSet<u32>) -> Census {
        let mut census = Census { client: census::pss(std::process::id()), executors: 0, other: 0 };
        for process in census::descendants() {
            match executors.contains(&process.pid) {
                true => census.executors += census::pss(process.pid),
                false => census.other += census::pss(process.pid),
            }
        }
        census
    }

    fn total(&self) -> u64 {
        self.client + self.executors + self.other
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The executors' process ids.
fn executor_pids(client: &Client) -> Result<BTreeSet<u32>, Box<dyn Error>> {
    let mut pids = BTreeSet::new();
    for _ in 0..20 {
        let handles: Vec<Handle<u32>> = (0..2 * i64::from(SLOTS))
            .map(|i| pid_slowly::submit(client, i))
            .collect::<Result<_, manyhands::Error>>()?;
        pids.extend(client.gather(&handles)?);
        if pids.len() >= SLOTS as usize {
            return Ok(pids);
        }
    }
    Err(format!("{SLOTS} slots, but only these executors: {pids:?}").into())
}

/// `finished` is 1 if all results came; `extra_s` is what the loss of an executor cost.
pub(super) fn fault(client: &Client, scale: f64) -> Measured {
    let (k, ms) = (size(2_000, scale), 10);
    let executors = executor_pids(client)?;
    let victim = executors.first().and_then(|pid| Pid::from_raw(*pid as i32));
    let victim = victim.ok_or("there is no executor to kill")?;
    let calm = spin_all(client, k, ms)?;
    let struck = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(calm / 2);
            // If it is gone already, nothing is lost, and the figure shows it.
            let _ = kill_process(victim, Signal::KILL);
        });
        spin_all(client, k, ms)
    })?;
    Ok(metrics([
        ("calm_s", calm.as_secs_f64()),
        ("finished", 1.0),
        ("extra_s", struck.as_secs_f64() - calm.as_secs_f64()),
    ]))
}
