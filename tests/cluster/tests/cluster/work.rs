//! What the tests have done, and how they see it being done.

use std::time::Duration;

use manyhands::inspect::ClusterInfo;
use manyhands::{Client, Error, Handle, task};
use manyhands_cluster_tests::{Cluster, LIMIT, until};

/// Takes a while.
#[task]
pub(crate) fn slowly(number: u64, ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    number
}

/// An object that is too large to ride with a message.
#[task]
pub(crate) fn block(number: u64, words: usize) -> Vec<u64> {
    (0..words as u64).map(|word| word ^ number).collect()
}

/// A number that another block would not have.
#[task]
pub(crate) fn digest(block: manyhands::Slice<u64>) -> u64 {
    digest_of(&block)
}

/// The same from one made here.
pub(crate) fn digest_of(block: &[u64]) -> u64 {
    block.iter().fold(0, |sum, word| sum.rotate_left(7) ^ word)
}

/// The worker that runs it: the process id of its daemon.
#[task]
pub(crate) fn worker_pid(_number: u64, ms: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(ms));
    // An executor's parent is the template, whose parent is the daemon.
    let template = std::os::unix::process::parent_id();
    let status = std::fs::read_to_string(format!("/proc/{template}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
}

/// So many tasks of so many milliseconds, under way.
pub(crate) fn many_slowly(client: &Client, count: u64, ms: u64) -> Vec<Handle<u64>> {
    let submit = |number| slowly::submit(client, number, ms);
    (0..count).map(submit).collect::<Result<_, Error>>().unwrap()
}

/// Waits for all of them and compares.
pub(crate) fn check_all(client: &Client, handles: &[Handle<u64>]) {
    client.wait(handles, handles.len(), Some(LIMIT)).unwrap();
    assert_eq!(client.gather(handles).unwrap(), (0..handles.len() as u64).collect::<Vec<_>>());
}

/// Asks the scheduler until its numbers are as wanted.
pub(crate) fn until_info(
    cluster: &Cluster,
    what: &str,
    mut wanted: impl FnMut(&ClusterInfo) -> bool,
) -> ClusterInfo {
    let asked = manyhands::Cluster::connect(&cluster.for_clients).unwrap();
    until(what, || asked.info().ok().filter(|info| wanted(info)))
}

/// Makes every worker have an executor of this program, before anything goes wrong.
pub(crate) fn warm(cluster: &Cluster, client: &Client) {
    let mut seen = std::collections::BTreeSet::new();
    until("every worker has run a task of this program", || {
        let count = cluster.workers.len() as u64 * 4;
        let call = |number| worker_pid::submit(client, number, 20);
        let handles: Vec<_> = (0..count).map(call).collect::<Result<_, Error>>().unwrap();
        seen.extend(client.gather(&handles).unwrap());
        cluster.workers.iter().all(|worker| seen.contains(&worker.pid())).then_some(())
    });
}
