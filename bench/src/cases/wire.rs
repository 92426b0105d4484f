//! What the network does to bytes, and what others do with the same work: the transport alone at
//! two sizes of datagrams, one large object from task to task, and links that lose.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manyhands::Client;
use manyhands_cluster_tests::{Cluster, Daemon, Faults, Plan, Relay};

use super::tasks::{make, read};
use super::{Measured, check, metrics, million, size};

const MIB: usize = 1 << 20;

/// Where a worker gives objects away. Its address is its own, so no other program has the port.
const DATA_PORT: u16 = 7471;

/// The transport alone: `proto/transport/examples/bulk.rs`, both ends in processes of their own.
pub(super) fn transport(scale: f64) -> Measured {
    let mib = size(1024, scale).to_string();
    let mut measured = metrics([]);
    for mtu in ["6500", "1452"] {
        let line = example(&[&mib, "3", mtu])?;
        let rate = number_after(&line, ": ")?;
        let (giver, taker) = (number_after(&line, "giver ")?, number_after(&line, "taker ")?);
        measured.extend(metrics([
            (&format!("mtu{mtu}_GiB/s"), rate),
            (&format!("mtu{mtu}_giver_core_s_GiB"), giver),
            (&format!("mtu{mtu}_taker_core_s_GiB"), taker),
        ]));
    }
    Ok(measured)
}

fn example(args: &[&str]) -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).ok_or("this program lies in no folder")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(cargo)
        .args(["run", "--release", "--quiet", "--package", "manyhands-transport"])
        .args(["--features", "quic", "--example", "bulk", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .arg("--")
        .args(args)
        .output()?;
    if !output.status.success() {
        Err(format!("the example `bulk`: {}", String::from_utf8_lossy(&output.stderr)))?;
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The number that stands behind these words.
fn number_after(line: &str, words: &str) -> Result<f64, String> {
    let rest = line.split_once(words).map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split([' ', ',']).next()?.parse().ok());
    number.ok_or_else(|| format!("no number behind {words:?} in {line:?}"))
}

/// Has a task on the first worker make an array and one on the second read it; the seconds from the
/// reader's submission to its result.
fn made_and_read(client: &Client, bytes: usize) -> Result<f64, Box<dyn Error>> {
    let array = client.submit(&make::lazy(7, bytes).label("worker", "w0"))?;
    client.wait(std::slice::from_ref(&array), 1, None)?;
    let start = Instant::now();
    let sum = client.submit(&read::lazy(&array).label("worker", "w1"))?;
    let sum = client.get(&sum)?;
    let took = start.elapsed().as_secs_f64();
    check("the sum of an array's pages", sum, 7 * (bytes as i64 / 8).div_euclid(512))?;
    Ok(took)
}

/// 256 MiB from a task on one worker to a task on another: scheduler, both workers and the mapping
/// of the object included.
pub(super) fn task_to_task(scale: f64) -> Measured {
    let bytes = size(256, scale) * MIB;
    let plan = Plan { machines: 2, workers: 2, store: 2 << 30, loopback: true, ..Plan::default() };
    let cluster = Cluster::start(plan);
    let client = cluster.client();
    made_and_read(&client, MIB)?;
    let took = made_and_read(&client, bytes)?;
    Ok(metrics([("GB/s", bytes as f64 / 1e9 / took), ("took_s", took)]))
}

/// As `task_to_task`, but what the first worker gives away goes over a link that loses 5 % and
/// takes 20 ms, each way.
pub(super) fn lossy_workers(scale: f64) -> Measured {
    let plan = Plan { machines: 2, workers: 0, ..Plan::default() };
    let mut cluster = Cluster::start(plan);
    let machine = cluster.machines[1].clone();
    let relay = Relay::open(&machine, machine.at(DATA_PORT), Faults::default(), 42);
    let (bind, advertise) = (machine.at(DATA_PORT).to_string(), relay.address().to_string());
    let giver = cluster.worker(0, &["--bind", &bind, "--advertise", &advertise]);
    giver.line("that it has joined", |line| line.contains("joined the scheduler").then_some(()));
    cluster.workers.push(giver);
    cluster.join(1);
    let client = cluster.client();
    made_and_read(&client, MIB)?;
    let before = relay.counts();
    relay.set(Faults { loss: 0.05, delay: Duration::from_millis(20), ..Faults::default() });
    let bytes = size(16, scale) * MIB;
    let took = made_and_read(&client, bytes)?;
    let counts = relay.counts();
    let (lost, passed) = (counts.lost - before.lost, counts.passed - before.passed);
    Ok(metrics([
        ("MB/s", bytes as f64 / 1e6 / took),
        ("lost_share", lost as f64 / (lost + passed).max(1) as f64),
    ]))
}

/// The case `million` with daemons of their own.
pub(super) fn million_over_quic(scale: f64) -> Measured {
    let cores = super::SLOTS;
    let plan = Plan { machines: 1, workers: 1, cores, loopback: true, ..Plan::default() };
    let cluster = Cluster::start(plan);
    let client = cluster.client();
    super::warm(&client)?;
    let before = [&cluster.scheduler, &cluster.workers[0]].map(Daemon::resident);
    let mut measured = million::million(&client, scale)?;
    let after = [&cluster.scheduler, &cluster.workers[0]].map(Daemon::resident);
    let grown = |at: usize| after[at].saturating_sub(before[at]) as f64;
    let count = size(1_000_000, scale) as f64;
    measured.extend(metrics([
        ("scheduler_bytes/task", grown(0) / count),
        ("worker_bytes/task", grown(1) / count),
    ]));
    Ok(measured)
}

/// What `xargs` takes for the work of the case `run-array`.
pub(super) fn xargs(scale: f64) -> Result<f64, Box<dyn Error>> {
    let count = size(10_000, scale);
    let start = Instant::now();
    let slots = super::SLOTS.to_string();
    let mut child = Command::new("xargs")
        .args(["-P", &slots, "-n", "1", "true"])
        .stdin(Stdio::piped())
        .spawn()?;
    let numbers: String = (1..=count).map(|number| format!("{number}\n")).collect();
    std::io::Write::write_all(
        &mut child.stdin.take().expect("its input is piped"),
        numbers.as_bytes(),
    )?;
    let status = child.wait()?;
    match status.success() {
        true => Ok(count as f64 / start.elapsed().as_secs_f64()),
        false => Err(format!("xargs: {status}"))?,
    }
}
