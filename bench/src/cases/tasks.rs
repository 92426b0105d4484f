//! What the tasks of the cases do.

use manyhands::{Slice, task};
use rustix::time::{ClockId, clock_gettime};

#[task]
pub(super) fn noop(x: i64) -> i64 {
    x
}

#[task]
pub(super) fn inc(x: i64) -> i64 {
    x + 1
}

#[task]
pub(super) fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task]
pub(super) fn count(xs: Vec<i64>) -> usize {
    xs.len()
}

/// Bytes in and out.
#[task]
pub(super) fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Its executor's process id, after a while, so that no executor runs all of them.
#[task]
pub(super) fn pid_slowly(_i: i64) -> u32 {
    std::thread::sleep(std::time::Duration::from_millis(100));
    std::process::id()
}

/// Uses this much of its thread's processor time.
#[task]
pub(super) fn spin(ms: u64) -> u64 {
    let end = thread_time_ns() + ms * 1_000_000;
    while thread_time_ns() < end {}
    ms
}

fn thread_time_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// An array with every page written.
#[task]
pub(super) fn make(value: i64, bytes: usize) -> Vec<i64> {
    vec![value; bytes / 8]
}

/// Touches every page of an array.
#[task]
pub(super) fn read(array: Slice<i64>) -> i64 {
    sum_of_pages(&array)
}

/// Needs an array, and does next to nothing with it.
#[task]
pub(super) fn first(array: Slice<i64>) -> i64 {
    array[0]
}

pub(super) fn sum_of_pages(array: &[i64]) -> i64 {
    array.iter().step_by(512).sum()
}

/// Row `i` of a shuffle: one part for each column.
#[task(parts)]
pub(super) fn split(i: i64, parts: i64, bytes: usize) -> Vec<Vec<i64>> {
    (0..parts).map(|j| vec![i * parts + j; bytes / 8]).collect()
}

/// A column of a shuffle: the sum of its parts' first elements, and the bytes of all.
#[task]
pub(super) fn merge(parts: Vec<Slice<i64>>) -> (i64, usize) {
    let firsts = parts.iter().map(|part| part[0]).sum();
    (firsts, parts.iter().map(|part| part.as_bytes().len()).sum())
}
