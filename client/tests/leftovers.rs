//! A local cluster leaves no process, no file and no segment behind, however it ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use manyhands::{Client, task};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Set for the process that this test starts and kills.
const VICTIM: &str = "MANYHANDS_TEST_VICTIM";

#[task]
fn large(i: u64) -> Vec<u64> {
    vec![i; 1 << 17]
}

/// Starts a process of its own that would outlive everybody, and says which processes there are.
#[task]
#[expect(clippy::zombie_processes, reason = "that it outlives its parent is the point")]
fn settle() -> Vec<u32> {
    let sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    vec![std::process::id(), std::os::unix::process::parent_id(), sleeper.id()]
}

/// The program that is killed: has objects in memory and on disk, then says who belongs to it.
#[test]
fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let client = Client::builder().slots(2).store_limit(4 << 20).spill_dir(&dir).local().unwrap();
    let objects: Vec<_> = (0..16).map(|i| large::submit(&client, i).unwrap()).collect();
    client.wait(&objects, objects.len(), None).unwrap();
    let pids = client.compute(&settle::lazy()).unwrap();
    let words: Vec<String> = pids.iter().map(u32::to_string).collect();
    println!("\nprocesses {}", words.join(" "));
    loop {
        std::thread::park();
    }
}

fn start_victim(dir: &Path) -> (Child, Vec<u32>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).find_map(|line| {
        let words = line.strip_prefix("processes ")?;
        Some(words.split(' ').map(|word| word.parse().unwrap()).collect())
    });
    (child, said.expect("the victim names its processes"))
}

fn watch(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid as i32).expect("a process id is not 0");
    pidfd_open(pid, PidfdFlags::empty()).expect("the process lives")
}

/// Waits for the end of a process, a minute at most.
fn wait_for_end(pid: u32, watched: &OwnedFd) {
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    let mut fds = [PollFd::new(watched, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&minute)), Ok(1), "waited for the end of process {pid}");
}

fn names_in(dir: &str) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

#[test]
fn a_program_that_is_killed_leaves_no_process_no_file_and_no_memory() {
    let dir = std::env::temp_dir().join(format!("manyhands-leftovers-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let shared_before = names_in("/dev/shm");
    let (mut child, pids) = start_victim(&dir);
    let watched: Vec<_> = pids.iter().map(|&pid| (pid, watch(pid))).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for (pid, fd) in &watched {
        wait_for_end(*pid, fd);
    }
    // Segments are memfds: with the last process that mapped them their memory is gone. Nothing has
    // a name that could be left.
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "files left in the spill directory");
    assert!(names_in("/dev/shm").is_subset(&shared_before), "files left in /dev/shm");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_client_that_is_dropped_ends_its_executors() {
    let client = Client::builder().slots(2).local().unwrap();
    let pids = client.compute(&settle::lazy()).unwrap();
    let watched: Vec<_> = pids.iter().map(|&pid| (pid, watch(pid))).collect();
    drop(client);
    for (pid, fd) in &watched {
        wait_for_end(*pid, fd);
    }
}
