//! The words of a folder of text: map, shuffle, reduce.
//!
//! [`count`] builds the graph: a task for each chunk of files counts its words and splits them by
//! their hash into as many parts as there are reducing tasks, one object for each part; each
//! reducing task adds up the same part of all chunks; the last one picks the most frequent words.
//!
//! ```text
//! chunk 0 ─ map ─┬─ part 0 ───┬─ reduce 0 ─┐
//!                └─ part 1 ──╮│            ├─ finish
//! chunk 1 ─ map ─┬─ part 0 ──┼┴─ reduce 1 ─┘
//!                └─ part 1 ──╯
//! ```
//!
//! # Layout
//! - [`text`]: which files are read, and what a word is.
//! - [`graph`]: the tasks, and the graph that they make.
//! - [`mod@alone`]: the same without a cluster.

pub mod alone;
pub mod graph;
pub mod text;

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

pub use alone::alone;
pub use graph::count;

/// What there was to count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Words, all together.
    pub words: u64,
    /// Different ones.
    pub distinct: u64,
    /// The most frequent ones with their counts, most frequent first; equal ones in the order of
    /// the alphabet.
    pub top: Vec<(String, u64)>,
}

/// The most frequent of these words, at most `top`.
pub(crate) fn top_of(
    words: impl IntoIterator<Item = (String, u64)>,
    top: usize,
) -> Vec<(String, u64)> {
    let mut words: Vec<_> = words.into_iter().collect();
    words.sort_unstable_by(|(a, n), (b, m)| (Reverse(n), a).cmp(&(Reverse(m), b)));
    words.truncate(top);
    words
}
