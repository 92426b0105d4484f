//! The same count without a cluster: one file after the other, in this thread.

use std::collections::HashMap;

use crate::text::{TextError, TextFile, count_words};
use crate::{Answer, top_of};

/// Counts the words of these files, and keeps the `top` most frequent ones.
pub fn alone(files: &[TextFile], top: usize) -> Result<Answer, TextError> {
    let mut counts = HashMap::new();
    for file in files {
        count_words(&file.path, &mut counts)?;
    }
    let (words, distinct) = (counts.values().sum(), counts.len() as u64);
    Ok(Answer { words, distinct, top: top_of(counts, top) })
}
