//! What a store may take, and how full it is.

use std::path::PathBuf;

/// What a store may take, and where.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes of memory that objects, and what is kept for the next ones, may take together.
    pub memory_limit: u64,
    /// Where to spill to; `None`: nothing is ever spilled.
    pub spill_dir: Option<PathBuf>,
    /// Bytes on disk that spilled objects may take together.
    pub disk_limit: u64,
    /// Size of a segment in memory, in bytes. Larger objects get segments of their own.
    pub segment_size: u64,
    /// Size of a spill file, in bytes. Larger objects get files of their own.
    pub spill_file_size: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            memory_limit: u64::MAX,
            spill_dir: None,
            disk_limit: u64::MAX,
            segment_size: 64 << 20,
            spill_file_size: 1 << 30,
        }
    }
}

/// How full a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Objects, in memory and on disk.
    pub objects: usize,
    /// Bytes of memory granted, published, or held by readers after they were freed; whole pages.
    pub used: u64,
    /// Bytes of memory free, but kept for the next objects.
    pub free_kept: u64,
    /// The most that `used` and `free_kept` were together.
    pub peak: u64,
    /// Bytes of address space that segments in memory take.
    pub mapped: u64,
    /// Segments in memory.
    pub segments: usize,
    /// Bytes of objects on disk; whole pages.
    pub spilled: u64,
    /// Bytes of objects that ever went to disk.
    pub spilled_total: u64,
    /// Bytes on disk free, but kept for the next objects.
    pub spill_kept: u64,
    /// Spill files.
    pub spill_files: usize,
}
