//! Copying large values.

use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

/// Values from this size on (bytes) are copied by two threads. One gets about half of what the
/// memory can do (9 GB/s of 17 for 256 MiB, on a virtual machine with two cores); starting the
/// other takes about 50 us, as long as half a MiB.
const SPLIT: usize = 8 << 20;

/// Copies `from` to `to`, which is as long.
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    if from.len() < SPLIT {
        return to.copy_from_slice(from);
    }
    // Whole pages, so that the two never fault on the same one.
    let half = (from.len() / 2).next_multiple_of(4096);
    let (to_first, to_second) = to.split_at_mut(half);
    let (first, second) = from.split_at(half);
    let first = Mutex::new(Some((to_first, first)));
    let copy_first = || {
        let taken = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((to, from)) = taken {
            to.copy_from_slice(from);
        }
    };
    std::thread::scope(|scope| {
        // If the system has no thread for us, or starts it late, this one copies all.
        let _ = Builder::new().name("manyhands-copy".to_owned()).spawn_scoped(scope, copy_first);
        to_second.copy_from_slice(second);
        copy_first();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_once() {
        for len in [0, 1, SPLIT - 1, SPLIT, 2 * SPLIT + 4097] {
            let from: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
            let mut to = vec![0; len];
            copy(&mut to, &from);
            assert!(to == from, "{len} bytes");
        }
    }
}
