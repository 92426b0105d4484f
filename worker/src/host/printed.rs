//! What an executor's tasks print: two files in memory that they append to, read by the daemon.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, OFlags, fallocate, fcntl_setfl, fstat, memfd_create};

/// Bytes of one stream that are given at once; what is more is left out.
const TAKE_LIMIT: u64 = 1 << 20;

/// Bytes of standard error that are kept for the word on a death.
const TAIL_LIMIT: u64 = 4 << 10;

const PAGE: u64 = 4096;

pub(super) struct Printed {
    stdout: File,
    stderr: File,
}

/// A file in memory that is appended to.
pub(super) struct File {
    file: OwnedFd,
    /// What was given before.
    taken: u64,
    /// What was given back to the kernel.
    freed: u64,
}

impl Printed {
    /// Two new files, and their descriptors for the executor.
    pub(super) fn new() -> io::Result<(Printed, [OwnedFd; 2])> {
        let (stdout, stderr) = (File::new("manyhands-stdout")?, File::new("manyhands-stderr")?);
        let theirs = [stdout.file.try_clone()?, stderr.file.try_clone()?];
        Ok((Printed { stdout, stderr }, theirs))
    }

    /// What was printed since the last call, up to these sizes of the files.
    pub(super) fn take(&mut self, up_to: Option<(u64, u64)>) -> (Vec<u8>, Vec<u8>) {
        let (stdout, stderr) = up_to.unwrap_or((u64::MAX, u64::MAX));
        (self.stdout.take(stdout), self.stderr.take(stderr))
    }

    /// The last lines of standard error.
    pub(super) fn tail(&self) -> String {
        self.stderr.tail()
    }
}

impl File {
    pub(super) fn new(name: &str) -> io::Result<File> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        // Several processes may write: each of their writes goes to the end.
        fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(File { file, taken: 0, freed: 0 })
    }

    /// For whoever writes to it.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Its last lines.
    pub(super) fn tail(&self) -> String {
        let end = self.size();
        let start = end.saturating_sub(TAIL_LIMIT).max(self.freed.min(end));
        let bytes = self.read(start, end);
        let text = String::from_utf8_lossy(&bytes);
        // The first line is probably cut.
        match text.split_once('\n') {
            Some((_, rest)) if start > 0 && !rest.is_empty() => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    fn size(&self) -> u64 {
        fstat(&self.file).map_or(0, |stat| stat.st_size as u64)
    }

    fn take(&mut self, up_to: u64) -> Vec<u8> {
        if up_to <= self.taken {
            return Vec::new();
        }
        // A task may have cut its own output off.
        let end = up_to.min(self.size());
        let left_out = end.saturating_sub(self.taken).saturating_sub(TAKE_LIMIT);
        let mut bytes = Vec::new();
        if left_out > 0 {
            bytes.extend_from_slice(format!("[manyhands: {left_out} bytes left out]\n").as_bytes());
        }
        bytes.append(&mut self.read(self.taken + left_out, end));
        self.taken = self.taken.max(end);
        self.free();
        bytes
    }

    fn read(&self, start: u64, end: u64) -> Vec<u8> {
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::pread(&self.file, &mut bytes[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// Frees the memory of what was given, but for what the word on a death may need.
    fn free(&mut self) {
        let end = self.taken.saturating_sub(TAIL_LIMIT) / PAGE * PAGE;
        if end > self.freed {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if fallocate(self.file.as_fd(), flags, self.freed, end - self.freed).is_ok() {
                self.freed = end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(file: &OwnedFd, bytes: &[u8]) {
        assert_eq!(rustix::io::write(file, bytes).unwrap(), bytes.len());
    }

    #[test]
    fn what_was_printed_is_given_once_and_up_to_where_it_was_asked_for() {
        let (mut printed, [stdout, stderr]) = Printed::new().unwrap();
        print(&stdout, b"one two");
        print(&stderr, b"oh");
        assert_eq!(printed.take(Some((3, 0))), (b"one".to_vec(), vec![]));
        assert_eq!(printed.take(Some((3, 1))), (vec![], b"o".to_vec()));
        assert_eq!(printed.take(None), (b" two".to_vec(), b"h".to_vec()));
        assert_eq!(printed.take(None), (vec![], vec![]));
    }

    #[test]
    fn a_flood_is_cut_and_its_memory_freed() {
        let (mut printed, [stdout, _stderr]) = Printed::new().unwrap();
        (0..3).for_each(|_| print(&stdout, &vec![b'x'; TAKE_LIMIT as usize]));
        let (bytes, _) = printed.take(None);
        assert!(bytes.starts_with(b"[manyhands: 2097152 bytes left out]\nxxx"));
        let blocks = fstat(&stdout).unwrap().st_blocks * 512;
        assert!(blocks <= (TAIL_LIMIT + PAGE) as i64, "{blocks} bytes are still there");
    }

    #[test]
    fn the_tail_of_stderr_outlives_being_taken() {
        let (mut printed, [_stdout, stderr]) = Printed::new().unwrap();
        (0..1000).for_each(|i| print(&stderr, format!("line {i}\n").as_bytes()));
        printed.take(None);
        let tail = printed.tail();
        assert!(tail.starts_with("line ") && tail.ends_with("line 999\n"), "{tail}");
        assert!(tail.len() <= TAIL_LIMIT as usize);
    }
}
