//! The memory of a tree of processes, as the kernel counts it.

use std::collections::BTreeMap;
use std::fs;

/// A process below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// How many levels below: 1 for a child.
    pub(crate) depth: u32,
}

/// All processes below this one.
pub(crate) fn descendants() -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = living_child_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![Process { pid: std::process::id(), depth: 0 }];
    while let Some(Process { pid, depth }) = next.pop() {
        let below = children.get(&pid).into_iter().flatten();
        let below: Vec<_> = below.map(|pid| Process { pid: *pid, depth: depth + 1 }).collect();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// The parent of a process that has not ended.
fn living_child_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, can hold anything.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

/// Proportional set size of a process in bytes: its pages, those it shares divided by how many
/// share them. 0 for one that is gone.
pub(crate) fn pss(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Proportional set size of this process and all below it, in bytes.
pub(crate) fn pss_of_tree() -> u64 {
    let below: u64 = descendants().iter().map(|process| pss(process.pid)).sum();
    pss(std::process::id()) + below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_weighed() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let found = Process { pid: child.id(), depth: 1 };
        assert!(descendants().contains(&found));
        assert!(pss_of_tree() >= pss(std::process::id()) && pss(std::process::id()) > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!descendants().contains(&found));
    }
}
