//! What is measured. The cases of `peers/cases.py` have their names, shapes and sizes; the others
//! are the project's own.

mod bytes;
mod cluster;
mod core;
mod far;
mod graphs;
mod machine;
mod million;
mod nested;
mod small;
mod spill;
mod tasks;
mod wire;

use std::error::Error;

use manyhands::Client;

use crate::record::Metrics;

/// Slots of the local cluster, as many as the peers have workers.
pub(crate) const SLOTS: u32 = 2;

/// What a case measured.
type Measured = Result<Metrics, Box<dyn Error>>;

/// Something to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: Run,
    /// How often in each process.
    pub(crate) repeats: u32,
    /// Fresh processes.
    pub(crate) processes: u32,
    /// Seconds for one process before it is given up.
    pub(crate) limit_s: u64,
}

/// How a case is run. Both take the scale that multiplies sizes.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// It makes what it needs by itself.
    Alone(fn(f64) -> Measured),
    /// In a local cluster of two slots, after 200 tasks to warm up.
    WithClient(fn(&Client, f64) -> Measured),
}

const fn case(name: &'static str, about: &'static str, run: Run) -> Case {
    Case { name, about, run, repeats: 3, processes: 1, limit_s: 180 }
}

const fn with_client(
    name: &'static str,
    about: &'static str,
    run: fn(&Client, f64) -> Measured,
) -> Case {
    case(name, about, Run::WithClient(run))
}

/// All cases, in the order of `all`.
#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    Case { repeats: 1, processes: 3, ..case("core", "scheduler core alone, random graph of 1M tasks, 1,000 virtual workers", Run::Alone(core::core)) },
    Case { repeats: 1, processes: 3, ..with_client("million", "1,000,000 no-op tasks in one graph, handles held", million::million) },
    with_client("fan-in", "10,000 tasks into one, as a graph", graphs::fan_in),
    Case { repeats: 1, processes: 3, ..with_client("nested", "fib(20), every call a task that submits two and waits", nested::nested) },
    Case { repeats: 1, processes: 3, ..case("spill", "a working set of three times the store's limit", Run::Alone(spill::spill)) },
    Case { repeats: 1, processes: 5, ..case("startup", "start of the cluster to the first result, and stop", Run::Alone(machine::startup)) },
    with_client("noop_throughput", "10,000 no-op calls, one submission each, gather all", small::noop_throughput),
    with_client("noop_map", "the same by the batched call", small::noop_map),
    with_client("latency", "1,000 sequential round trips", small::latency),
    with_client("small_args", "10,000 calls, 1 KiB in and out", small::small_args),
    with_client("chain", "1,000 dependent tasks by futures and as a graph; 10,000 as a graph", graphs::chain),
    with_client("tree_reduce", "binary sum over 4,096 leaves", graphs::tree_reduce),
    with_client("wide", "5,000 tasks into one", graphs::wide),
    with_client("transfer", "8 and 64 MiB arrays from task to task and to the client", bytes::transfer),
    with_client("put_get", "256 MiB array from the client and back", bytes::put_get),
    with_client("broadcast", "64 MiB array put once, read by 64 tasks", bytes::broadcast),
    with_client("shuffle", "32 x 32 parts of 1 MiB", bytes::shuffle),
    with_client("cpu_bound", "2,000 x 1 ms and 200 x 10 ms of processor time", machine::cpu_bound),
    Case { repeats: 1, limit_s: 400, ..with_client("memory", "memory idle, and with 100,000 finished handles held", machine::memory) },
    Case { repeats: 1, processes: 3, ..with_client("fault", "kill -9 of an executor halfway through 2,000 x 10 ms", machine::fault) },
];

/// Cases with daemons of their own, which `all` leaves out: minutes, and root for some.
#[rustfmt::skip]
pub(crate) const CLUSTER: &[Case] = &[
    Case { repeats: 1, processes: 3, ..case("quic-roundtrip", "one task there and back over loopback QUIC, cores awake and idle", Run::Alone(cluster::roundtrip)) },
    Case { repeats: 1, processes: 3, ..case("quic-noop", "100,000 no-op tasks over loopback QUIC, as a graph and one by one", Run::Alone(cluster::many_noops)) },
    Case { repeats: 1, processes: 3, ..case("bulk", "64 MiB objects from worker to worker: on loopback, and over links with an MTU of 1,500", Run::Alone(far::bulk)) },
    Case { repeats: 1, processes: 3, ..case("broadcast-quic", "1 GiB to 8 workers, against one copy: on loopback, and over links of 125 MB/s", Run::Alone(far::broadcast)) },
    Case { repeats: 1, processes: 3, ..case("lossy", "5 % loss and 20 ms of delay each way between a client and its cluster", Run::Alone(cluster::lossy)) },
    Case { repeats: 1, processes: 3, ..case("run-array", "manyhands run --array 1-10000 -- true", Run::Alone(cluster::run_array)) },
    Case { repeats: 1, processes: 3, ..case("quic-million", "1,000,000 no-op tasks over loopback QUIC in one graph, handles held", Run::Alone(wire::million_over_quic)) },
    Case { repeats: 1, processes: 3, limit_s: 600, ..case("bulk-transport", "1 GiB between two processes, the transport alone, in datagrams of 6,500 and of 1,452 bytes", Run::Alone(wire::transport)) },
    Case { repeats: 1, processes: 3, ..case("bulk-task", "256 MiB made by a task on one worker, read by a task on another", Run::Alone(wire::task_to_task)) },
    Case { repeats: 1, processes: 3, ..case("lossy-workers", "16 MiB from worker to worker at 5 % loss and 20 ms of delay each way", Run::Alone(wire::lossy_workers)) },
    Case { repeats: 1, limit_s: 600, ..case("many-workers", "200 workers of one slot: the scheduler idle, and at 10,000 tasks/s", Run::Alone(cluster::many_workers)) },
];

/// Gets everything started that starts with the first tasks.
pub(crate) fn warm(client: &Client) -> Result<(), Box<dyn Error>> {
    let handles: Vec<_> =
        (0..200).map(|i| tasks::noop::submit(client, i)).collect::<Result<_, _>>()?;
    client.gather(&handles)?;
    Ok(())
}

/// A size at a scale, at least 2.
fn size(base: usize, scale: f64) -> usize {
    ((base as f64 * scale) as usize).max(2)
}

fn metrics<const N: usize>(values: [(&str, f64); N]) -> Metrics {
    values.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

/// A wrong answer, which no figure may hide.
fn check<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what}: a wrong answer, {got:.80?} and not {expected:.80?}"))
}
