//! A fresh directory for each command, and what killed executors left behind.
//!
//! Each executor has a directory, which it keeps locked for as long as it lives; a command has one
//! within it. Directories that nobody locks any more are removed by the next executor that makes its
//! own, and by a worker when it starts and when it ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "manyhands-run-";

/// The directory of one command; removed with all that is in it.
pub(super) struct Scratch {
    path: PathBuf,
}

struct Base {
    path: PathBuf,
    /// Locked.
    _dir: File,
}

impl Scratch {
    pub(super) fn new() -> io::Result<Scratch> {
        static BASE: OnceLock<Base> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base = match BASE.get() {
            Some(base) => base,
            None => {
                let made = Base::new(&std::env::temp_dir())?;
                BASE.get_or_init(|| made)
            }
        };
        let path = base.path.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path)?;
        Ok(Scratch { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Most commands leave nothing.
        if fs::remove_dir(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Base {
    fn new(within: &Path) -> io::Result<Base> {
        remove_abandoned(within);
        let mut number = u64::from(std::process::id());
        loop {
            let path = within.join(format!("{PREFIX}{number}"));
            match fs::DirBuilder::new().create_private(&path) {
                Ok(()) => {
                    if let Some(dir) = lock(&path) {
                        return Ok(Base { path, _dir: dir });
                    }
                }
                // Another namespace has a process of this number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            number += 1 << 32;
        }
    }
}

/// Locks a directory. `None` if somebody else has it, or has removed it before it was locked.
fn lock(path: &Path) -> Option<File> {
    let dir = File::open(path).ok()?;
    flock(&dir, FlockOperation::NonBlockingLockExclusive).ok()?;
    let is = |meta: fs::Metadata| (meta.dev(), meta.ino());
    (is(dir.metadata().ok()?) == is(fs::metadata(path).ok()?)).then_some(dir)
}

trait Private {
    fn create_private(&mut self, path: &Path) -> io::Result<()>;
}

impl Private for fs::DirBuilder {
    fn create_private(&mut self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        self.mode(0o700).create(path)
    }
}

/// Removes the directories of executors that are gone. What cannot be removed stays.
pub(crate) fn sweep() {
    remove_abandoned(&std::env::temp_dir());
}

fn remove_abandoned(within: &Path) {
    let Ok(entries) = fs::read_dir(within) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if ours
            && is_dir
            && let Some(_locked) = lock(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_executor_left_is_removed_and_the_rest_is_not() {
        let temp = std::env::temp_dir().join(format!("manyhands-cli-test-{}", std::process::id()));
        fs::create_dir(&temp).unwrap();
        let alive = Base::new(&temp).unwrap();
        fs::write(alive.path.join("file"), "x").unwrap();
        let dead = temp.join(format!("{PREFIX}0"));
        fs::create_dir_all(dead.join("within")).unwrap();
        fs::create_dir(temp.join("other")).unwrap();
        let second = Base::new(&temp).unwrap();
        assert!(alive.path.join("file").exists() && temp.join("other").exists());
        assert!(!dead.exists());
        assert_ne!(second.path, alive.path);
        let removed = second.path.clone();
        fs::remove_dir(&removed).unwrap();
        assert!(lock(&removed).is_none() && lock(&alive.path).is_none());
        fs::remove_dir_all(&temp).unwrap();
    }
}
