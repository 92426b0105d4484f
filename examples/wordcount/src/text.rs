//! Which files are read, and what a word is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file larger than this is no text that people wrote; it is left out. In bytes.
const FILE_LIMIT: u64 = 4 << 20;

/// Why there is nothing to count.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A folder or a file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// cargo does not say where the dependencies lie.
    #[error("cargo metadata does not tell where the dependencies are: {0}")]
    Metadata(String),
}

/// A file of text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// The files of text below these folders, sorted by path. Links are not followed.
pub fn files_below(folders: &[PathBuf]) -> Result<Vec<TextFile>, TextError> {
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = left.pop() {
        let unreadable = |source| TextError::Unreadable { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, meta) = (entry.path(), entry.metadata().map_err(unreadable)?);
            if meta.is_dir() {
                left.push(path);
            } else if meta.is_file() && meta.len() <= FILE_LIMIT && is_text(&path) {
                files.push(TextFile { path, size: meta.len() });
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("rs" | "md" | "txt" | "toml" | "rst" | "c" | "h" | "html"))
}

/// The folders with the sources of the project's own dependencies, as `cargo metadata` names them.
pub fn dependencies() -> Result<Vec<PathBuf>, TextError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--filter-platform", &platform])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .map_err(|error| TextError::Metadata(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(TextError::Metadata(said.trim().to_owned()));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .map_err(|error| TextError::Metadata(error.to_string()))?;
    let mut folders: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some())
        .filter_map(|package| package.manifest_path.parent().map(Path::to_owned))
        .collect();
    folders.sort();
    Ok(folders)
}

/// What is needed of cargo's answer: a package from a registry has a source, one of ours none.
#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Splits files, in order, into at most `parts` chunks of about equal bytes. None is empty.
pub fn chunks(files: &[TextFile], parts: usize) -> Vec<Vec<PathBuf>> {
    let total: u64 = files.iter().map(|file| file.size).sum();
    let share = total.div_ceil(parts.max(1) as u64).max(1);
    let (mut chunks, mut chunk, mut before) = (Vec::new(), Vec::new(), 0);
    for file in files {
        chunk.push(file.path.clone());
        before += file.size;
        if before >= share * (chunks.len() as u64 + 1) {
            chunks.push(std::mem::take(&mut chunk));
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

/// Counts the words of a file: runs of letters, digits and `_` that begin with a letter, in lower
/// case. What is not UTF-8 separates words.
pub fn count_words(path: &Path, counts: &mut HashMap<String, u64>) -> Result<(), TextError> {
    let text = std::fs::read(path)
        .map_err(|source| TextError::Unreadable { path: path.to_owned(), source })?;
    let mut word = String::new();
    for run in text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_') {
        if run.first().is_some_and(u8::is_ascii_alphabetic) {
            word.clear();
            word.extend(run.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            match counts.get_mut(word.as_str()) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.clone(), 1)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> TextFile {
        TextFile { path: PathBuf::from(name), size }
    }

    #[test]
    fn chunks_keep_every_file_once_and_are_about_equal() {
        let files: Vec<_> = (0..100).map(|n| file(&format!("{n:03}"), 10 + n % 7)).collect();
        for parts in [1, 3, 10, 100, 1000] {
            let chunks = chunks(&files, parts);
            assert!(chunks.len() <= parts && chunks.iter().all(|chunk| !chunk.is_empty()));
            let together: Vec<_> = chunks.concat();
            assert_eq!(together, files.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
        }
        let sizes: Vec<_> = chunks(&files, 4).iter().map(Vec::len).collect();
        assert!(sizes.iter().all(|size| (23..=27).contains(size)), "{sizes:?}");
    }

    #[test]
    fn one_large_file_does_not_make_empty_chunks() {
        let files = [file("a", 1), file("b", 1000), file("c", 1)];
        let chunks = chunks(&files, 8);
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        assert_eq!(chunks.concat().len(), 3);
    }
}
