//! Many tiny tasks.

use manyhands::{Client, Error, Lazy};

use crate::pure::hits;

/// How many results one task of the tree sums up.
const FAN_IN: usize = 256;

/// How many darts are thrown, and by how many tasks.
#[derive(Clone, Copy, Debug)]
pub struct Darts {
    /// Tasks that throw.
    pub tasks: u64,
    /// Darts that each of them throws.
    pub throws: u32,
}

impl Darts {
    /// All darts.
    pub fn all(&self) -> u64 {
        self.tasks * u64::from(self.throws)
    }
}

#[manyhands::task]
fn throw(seed: u64, throws: u32) -> u64 {
    hits(seed, throws)
}

#[manyhands::task]
fn sum(hits: Vec<u64>) -> u64 {
    hits.iter().sum()
}

/// How many of the darts hit. Task number `n` throws with seed `n`, so that the answer is always
/// the same.
pub fn estimate(client: &Client, darts: Darts) -> Result<u64, Error> {
    let mut level: Vec<Lazy<u64>> =
        (0..darts.tasks).map(|seed| throw::lazy(seed, darts.throws)).collect();
    while level.len() > 1 {
        level = level.chunks(FAN_IN).map(sum::lazy).collect();
    }
    match level.pop() {
        Some(root) => client.compute(&root),
        None => Ok(0),
    }
}
