//! Whole clusters of both cores under one seed: no threads, no clock, no chance but the seed's.
//!
//! A run has a real scheduler core, real worker cores and real sessions; the network, the
//! executors, the stores, the disks and the clients are virtual. What a run promises: everything in
//! it follows from the seed, so that it can be played again; and an oracle that knows the right
//! outcome of each task looks at all that reaches a client, and at what is left when everybody has
//! let go.
//!
//! # Layout
//! - [`scenario`]: what a seed means; [`features`] and [`shapes`] fill its [`plan`].
//! - [`troubles`]: what befalls workers: they join, die, slow down, are away, are drained.
//! - [`cluster`]: the loop. [`world`] is what all parts of it share, [`agenda`] what will happen.
//! - [`network`]: links with delays, repeats, overtaking and cuts, under sessions.
//! - [`worker`]: a core in a virtual shell, with its [`executor`]s and its [`store`].
//! - [`client`]: says what its script says; [`oracle`] judges what it is told, by the [`record`].
//! - [`nested`] and [`batch`]: plans as messages.
//! - [`policies`] and [`fairness`]: what each policy is worth, measured.
//! - [`rng`]: numbers that follow from the seed.

pub mod agenda;
pub mod batch;
pub mod client;
pub mod cluster;
pub mod executor;
pub mod fairness;
pub mod features;
pub mod nested;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod policies;
pub mod record;
pub mod rng;
pub mod scenario;
pub mod shapes;
pub mod store;
pub mod troubles;
pub mod worker;
pub mod world;

pub use cluster::{Cluster, Outline};
pub use scenario::Scenario;

/// Runs a seed once.
pub fn run(seed: u64, trace: bool) -> Result<Outline, String> {
    Cluster::new(Scenario::from_seed(seed), trace).run()
}

/// Runs a seed twice: equal actions both times, or it is an error.
pub fn run_twice(seed: u64) -> Result<Outline, String> {
    let first = run(seed, false)?;
    let second = run(seed, false)?;
    if first != second {
        return Err(format!("two runs of one seed differ: {first:?} and {second:?}"));
    }
    Ok(first)
}

/// As [`run_twice`], but a core's broken invariant, which panics, is an error as well.
pub fn run_caught(seed: u64) -> Result<Outline, String> {
    let caught = std::panic::catch_unwind(|| run_twice(seed));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a core panicked: {}", text.unwrap_or("without words")))
    })
}
