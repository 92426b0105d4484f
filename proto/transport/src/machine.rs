//! What names a machine and a program, in the same way everywhere.

use std::io;
use std::path::Path;

/// What [`manyhands_proto::worker::Peer::host`] says for this machine: the same for all that runs
/// under this kernel, containers included, and for nothing else.
pub fn host() -> String {
    let read = |path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let found = read("/proc/sys/kernel/random/boot_id").filter(|text| !text.is_empty());
    found.or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default()
}

/// What names the program in this file: the first 16 bytes of its BLAKE3 hash, the first one the
/// highest. Never 0, which stands for the worker's own program.
pub fn program_hash(path: &Path) -> io::Result<u128> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap(path)?;
    Ok(program_name(&hasher.finalize()))
}

/// As [`program_hash`], of a program in memory.
pub fn program_hash_of(bytes: &[u8]) -> u128 {
    program_name(&blake3::hash(bytes))
}

fn program_name(hash: &blake3::Hash) -> u128 {
    let (first, _) = hash.as_bytes().split_first_chunk::<16>().expect("a hash has 32 bytes");
    u128::from_be_bytes(*first).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_by_its_content() {
        let own = Path::new("/proc/self/exe");
        let bytes = std::fs::read(own).unwrap();
        assert_eq!(program_hash(own).unwrap(), program_hash_of(&bytes));
        // The published test vector of the empty input begins so.
        assert_eq!(program_hash_of(b""), 0xaf1349b9_f5f9a1a6_a0404dea_36dcc949);
    }

    #[test]
    fn a_machine_has_one_name() {
        assert!(!host().is_empty());
        assert_eq!(host(), host());
    }
}
