//! A cluster of processes that ends with the test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_manyhands");

pub(crate) struct Cluster {
    dir: PathBuf,
    scheduler: Child,
    workers: Vec<Child>,
    /// For clients.
    pub(crate) address: String,
    /// For workers.
    pub(crate) worker_address: String,
}

impl Cluster {
    /// A scheduler, which listens by now, and so many workers with one core each.
    pub(crate) fn start(workers: usize) -> Cluster {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("manyhands-cli-cluster-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut scheduler = program(&dir)
            .args(["scheduler", "--bind", "127.0.0.1:0", "--state-dir", "scheduler"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(scheduler.stdout.take().unwrap()).lines();
        let mut after = |start: &str| loop {
            let line = lines.next().expect("waited for the scheduler to listen").unwrap();
            if let Some(address) = line.trim().strip_prefix(start) {
                break address.to_owned();
            }
        };
        let worker_address = after("manyhands worker ");
        let address = after("export MANYHANDS_ADDRESS=");
        let mut cluster = Cluster { dir, scheduler, workers: Vec::new(), address, worker_address };
        (0..workers).for_each(|number| cluster.add_worker(&format!("w{number}")));
        cluster
    }

    pub(crate) fn add_worker(&mut self, name: &str) {
        let worker = program(&self.dir)
            .args(["worker", "--cores", "1", "--name", name, "--bind", "127.0.0.1:0"])
            .args(["--state-dir", "workers", "--memory", "1GiB"])
            .env("MANYHANDS_WORKER_ADDRESS", &self.worker_address)
            .spawn();
        self.workers.push(worker.unwrap());
    }

    /// Kills a worker of those that were started, counted from 0, as a crash would.
    pub(crate) fn kill_worker(&mut self, place: usize) {
        self.workers[place].kill().unwrap();
    }

    /// A command of the program as a client, in the cluster's directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program(&self.dir);
        command.args(args).env("MANYHANDS_ADDRESS", &self.address);
        command
    }

    /// Runs it to its end, with this standard input.
    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What it prints, if it ends well.
    pub(crate) fn prints(&self, args: &[&str]) -> String {
        let output = self.run(args, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {}: {stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().chain([&mut self.scheduler]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn program(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MANYHANDS_")) {
        command.env_remove(name);
    }
    command.env("MANYHANDS_LOG", "warn").env("TMPDIR", dir);
    command
}
