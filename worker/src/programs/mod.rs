//! The programs that have come from clients, and archives of Python modules: files in a directory,
//! named by the hash of their content.
//!
//! A file is written under a temporary name, checked, and renamed: what has a hash for a name has that
//! hash. When there is no room for a new one, the longest unused go. A program that runs keeps running
//! without its file.
//!
//! # Layout
//! - [`Programs`], here: the directory.
//! - `elf`: whether a program can run on this machine. An archive can be read on any.
//! - `mapped`: a program's bytes, to be sent to others.

mod elf;
mod mapped;

use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use manyhands_proto::words;
use manyhands_transport::machine::program_hash;

/// Only the daemon's user may read or run a program, and nobody change it.
const MODE: u32 = 0o500;

/// How names of files that are being written begin.
const UNFINISHED: &str = "coming-";

/// The directory.
#[derive(Debug)]
pub(crate) struct Programs {
    dir: PathBuf,
    /// Bytes that all of them may take.
    limit: u64,
    next: AtomicU64,
    known: Mutex<HashMap<u128, Known>>,
}

#[derive(Debug)]
struct Known {
    size: u64,
    last_use: SystemTime,
    /// It was seen to be what its name says, in this daemon's life.
    checked: bool,
    bytes: Option<Bytes>,
}

/// Why a program that came is not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not what it was said to be, or the disk does not take it. It may come again.
    NotKept(String),
    /// It is what it was said to be, and can never run here.
    Unusable(String),
}

impl Programs {
    /// Opens the directory, which is made if it is not there. Nobody else may use it at the same time.
    pub(crate) fn open(dir: PathBuf, limit: u64) -> io::Result<Programs> {
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        let mut known = HashMap::new();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let hash = name.to_str().filter(|name| name.len() == 32);
            match hash.and_then(|name| u128::from_str_radix(name, 16).ok()) {
                Some(hash) => {
                    let metadata = entry.metadata()?;
                    let last_use = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    let (size, checked) = (metadata.len(), false);
                    known.insert(hash, Known { size, last_use, checked, bytes: None });
                }
                // Of a daemon that was killed while it came.
                None if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) => {
                    let _ = fs::remove_file(entry.path());
                }
                None => {}
            }
        }
        Ok(Programs { dir, limit, next: AtomicU64::new(0), known: Mutex::new(known) })
    }

    /// The programs that are here.
    pub(crate) fn all(&self) -> Vec<u128> {
        self.lock().keys().copied().collect()
    }

    /// The file of a program, which is about to be used. One that was found here when the daemon
    /// started is checked first: a machine that lost its power may have kept only a part of it. That
    /// reads the file once in the daemon's life, on the caller's thread.
    pub(crate) fn path(&self, program: u128) -> Option<PathBuf> {
        let mut known = self.lock();
        let path = self.path_of(program);
        let found = known.get_mut(&program)?;
        if !found.checked && program_hash(&path).ok() != Some(program) {
            log::warn!("{} is damaged: it is fetched again", path.display());
            known.remove(&program);
            let _ = fs::remove_file(&path);
            return None;
        }
        let found = known.get_mut(&program)?;
        found.checked = true;
        found.last_use = SystemTime::now();
        // Remembered for the next start, if the file system can.
        let _ = File::open(&path).and_then(|file| file.set_modified(found.last_use));
        Some(path)
    }

    /// The content of a program that is here.
    pub(crate) fn bytes(&self, program: u128) -> Option<Bytes> {
        let mut known = self.lock();
        let found = known.get_mut(&program)?;
        if found.bytes.is_none() {
            let mapped = File::open(self.path_of(program)).and_then(|file| mapped::map(&file));
            found.bytes = mapped.ok();
        }
        found.bytes.clone()
    }

    /// A file for a program that is about to come.
    pub(crate) fn begin(&self) -> io::Result<Coming> {
        let name = format!("{UNFINISHED}{}", self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.dir.join(name);
        let mut options = File::options();
        let writer = options.write(true).create_new(true).mode(0o600).open(&path)?;
        let reader = File::open(&path)?;
        Ok(Coming { path, writer: Mutex::new(Some(writer)), reader, limit: self.limit })
    }

    /// All of a program has come: it is checked, and is here from now on. Returns those that had to
    /// make room for it. Reads the whole file: not for a thread that others wait for.
    pub(crate) fn keep(&self, coming: &Coming, program: u128) -> Result<Vec<u128>, Refusal> {
        let not_kept = |error: io::Error| Refusal::NotKept(error.to_string());
        coming.close();
        let hash = program_hash(&coming.path).map_err(not_kept)?;
        if hash != program {
            let message = format!("what came has the hash {hash:032x}");
            return Err(Refusal::NotKept(message));
        }
        let words = |why| format!("program {program:032x} does not run here: {why}");
        let checked = if is_archive(&coming.reader) { Ok(()) } else { elf::check(&coming.reader) };
        checked.map_err(|why| Refusal::Unusable(words(why)))?;
        let size = coming.reader.metadata().map_err(not_kept)?.len();
        let gone = self.make_room(size);
        coming.reader.set_permissions(Permissions::from_mode(MODE)).map_err(not_kept)?;
        coming.reader.sync_all().map_err(not_kept)?;
        fs::rename(&coming.path, self.path_of(program)).map_err(not_kept)?;
        let last_use = SystemTime::now();
        self.lock().insert(program, Known { size, last_use, checked: true, bytes: None });
        Ok(gone)
    }

    /// Removes the longest unused until there is room for so many bytes more.
    fn make_room(&self, size: u64) -> Vec<u128> {
        let (mut known, mut gone) = (self.lock(), Vec::new());
        while known.values().map(|known| known.size).sum::<u64>().saturating_add(size) > self.limit
        {
            let oldest = known.iter().min_by_key(|(hash, known)| (known.last_use, **hash));
            let Some(oldest) = oldest.map(|(hash, _)| *hash) else { break };
            let _ = fs::remove_file(self.path_of(oldest));
            known.remove(&oldest);
            gone.push(oldest);
        }
        gone
    }

    fn path_of(&self, program: u128) -> PathBuf {
        self.dir.join(format!("{program:032x}"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file is a zip archive, as its first bytes tell: of an entry, or of the end of an empty one.
fn is_archive(file: &File) -> bool {
    let mut start = [0; 4];
    file.read_exact_at(&mut start, 0).is_ok() && matches!(&start, b"PK\x03\x04" | b"PK\x05\x06")
}

/// A program on its way. Dropped, what has come of it is removed, unless it was kept.
#[derive(Debug)]
pub(crate) struct Coming {
    path: PathBuf,
    /// Closed before the program is used: what somebody may write to cannot be run.
    writer: Mutex<Option<File>>,
    reader: File,
    limit: u64,
}

impl Coming {
    /// Writes a piece of it.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.limit) {
            let message =
                format!("it is larger than the {} for programs", words::Bytes(self.limit));
            return Err(io::Error::other(message));
        }
        match &*self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(writer) => writer.write_all_at(bytes, offset),
            None => Err(io::Error::other("all of it has come")),
        }
    }

    fn close(&self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads what has come.
    pub(crate) fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        self.reader.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // It has another name if it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

/// A directory under `state` that no other daemon uses, and the lock that says so: a worker that is
/// started again on its machine finds the programs that it had, and two never share one.
pub(crate) fn own_directory(state: &Path) -> io::Result<(PathBuf, File)> {
    const WORKERS_LIMIT: u32 = 4096;
    for number in 0..WORKERS_LIMIT {
        let dir = state.join(format!("worker-{number}"));
        fs::create_dir_all(&dir)?;
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(dir.join("lock"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok((dir, lock)),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let message = format!("{WORKERS_LIMIT} workers use {} already", state.display());
    Err(io::Error::other(message))
}

#[cfg(test)]
mod tests;
