//! The tasks, and the graph that they make.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::path::PathBuf;

use manyhands::{Client, Error, Lazy};
use rustc_hash::FxHasher;

use crate::text::{TextError, TextFile, chunks, count_words};
use crate::{Answer, top_of};

/// Tasks that map, at most.
const CHUNKS: usize = 64;

/// Tasks that reduce, and so objects that every mapping task returns.
const PARTS: usize = 16;

/// Words and how often they came.
type Counts = Vec<(String, u64)>;

/// Counts the words of some files. Every word belongs to the part that its hash says, the same in
/// every process.
#[manyhands::task(parts)]
fn map(files: Vec<PathBuf>) -> Result<Vec<Counts>, TextError> {
    let mut counts = HashMap::new();
    for file in &files {
        count_words(file, &mut counts)?;
    }
    let hasher = BuildHasherDefault::<FxHasher>::default();
    let mut parts = vec![Counts::new(); PARTS];
    for (word, count) in counts {
        let part = hasher.hash_one(&word) % PARTS as u64;
        parts[part as usize].push((word, count));
    }
    Ok(parts)
}

/// Adds up one part of all chunks.
#[manyhands::task]
fn reduce(chunks: Vec<Counts>, top: usize) -> Answer {
    let mut counts = HashMap::new();
    for (word, count) in chunks.into_iter().flatten() {
        *counts.entry(word).or_default() += count;
    }
    let (words, distinct) = (counts.values().sum(), counts.len() as u64);
    Answer { words, distinct, top: top_of(counts, top) }
}

/// Puts the parts together: no word is in two of them.
#[manyhands::task]
fn finish(parts: Vec<Answer>, top: usize) -> Answer {
    let words = parts.iter().map(|part| part.words).sum();
    let distinct = parts.iter().map(|part| part.distinct).sum();
    let candidates = parts.into_iter().flat_map(|part| part.top);
    Answer { words, distinct, top: top_of(candidates, top) }
}

/// Has the cluster of `client` count the words of these files, and keep the `top` most frequent.
pub fn count(client: &Client, files: &[TextFile], top: usize) -> Result<Answer, Error> {
    let chunks = chunks(files, CHUNKS);
    let mapped: Vec<Vec<Lazy<Counts>>> =
        chunks.into_iter().map(|files| map::lazy(files).parts(PARTS)).collect();
    let reduced = (0..PARTS).map(|part| {
        let same_part: Vec<_> = mapped.iter().map(|parts| parts[part].clone()).collect();
        reduce::lazy(same_part, top)
    });
    client.compute(&finish::lazy(reduced.collect::<Vec<_>>(), top))
}
