//! How a worker's core is set up.

use manyhands_proto::client::Runtime;
use manyhands_proto::worker::WorkerSpec;

/// What a core is told once, at its start. [`Config::new`] gives the usual values.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the worker has: resources, labels, the store's limit in bytes.
    pub spec: WorkerSpec,
    /// Microseconds since the Unix epoch at the core's `Time(0)`: deadlines are given by that
    /// epoch.
    pub unix_offset_us: u64,
    /// Hash of the program that the worker itself is part of, which [`Runtime::Rust`] also knows as
    /// program 0; 0 where nobody asks for it by its hash.
    pub own_program: u128,
    /// Executor processes per slot at most, those blocked included.
    pub processes_per_slot: u32,
    /// From SIGINT to SIGKILL, in microseconds.
    pub interrupt_grace_us: u64,
    /// Part of the store's limit (0 to 1) above which cold objects are spilled.
    pub spill_watermark: f64,
    /// Executors of these runtimes are started in the first round, one for each slot, so that the
    /// first task does not wait for a process.
    pub prestart: Vec<Runtime>,
    /// Work that an executor is fed beyond the running task, in microseconds of expected duration.
    pub feed_ahead_us: u64,
    /// A task that has run for so long (microseconds) loses what was fed behind it to idle
    /// executors.
    pub long_run_us: u64,
    /// Executors of one runtime that may fail to start in a row before tasks fail for it.
    pub start_attempts: u32,
    /// How long an idle executor beyond the slots is kept for the next task that blocks, in
    /// microseconds.
    pub spare_idle_us: u64,
    /// Between two `Status` messages, in microseconds at least.
    pub status_interval_us: u64,
}

impl Config {
    /// The usual values for a worker that has `spec`.
    pub fn new(spec: WorkerSpec) -> Config {
        Config {
            spec,
            unix_offset_us: 0,
            own_program: 0,
            processes_per_slot: 4,
            interrupt_grace_us: 500_000,
            spill_watermark: 0.8,
            prestart: Vec::new(),
            feed_ahead_us: 2_000,
            long_run_us: 5_000,
            start_attempts: 3,
            spare_idle_us: 1_000_000,
            status_interval_us: 100_000,
        }
    }
}
