//! A scheduler and its workers, each on a machine of its own, and one machine more for clients.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use manyhands::Client;
use serde_json::Value;

use crate::daemon::{Daemon, output};
use crate::machines::{Machine, Machines};
use crate::program::{Folder, program, scratch};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Machines that are there for workers.
    pub machines: usize,
    /// Workers that run from the start, one on each of these machines, and again from the first.
    pub workers: usize,
    /// Slots of each.
    pub cores: u32,
    /// Bytes that objects may take in the memory of each.
    pub store: u64,
    /// The machines are addresses in 127.0.0.0/8, where datagrams are large and take no time.
    pub loopback: bool,
    /// More arguments of the scheduler.
    pub scheduler: Vec<String>,
    /// More arguments of every worker.
    pub worker: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        let (scheduler, worker) = (Vec::new(), Vec::new());
        let (cores, store, loopback) = (2, 512 << 20, false);
        Plan { machines: 3, workers: 3, cores, store, loopback, scheduler, worker }
    }
}

/// A running cluster. Everything ends with this value.
pub struct Cluster {
    /// The scheduler.
    pub scheduler: Daemon,
    /// The workers that have been started and not been taken away, in the order of their start.
    pub workers: Vec<Daemon>,
    /// The scheduler's machine, then those for workers, then the clients'.
    pub machines: Machines,
    /// The line that the scheduler printed for workers.
    pub for_workers: String,
    /// The line that the scheduler printed for clients.
    pub for_clients: String,
    plan: Plan,
    /// Removed last: daemons write there.
    folder: Folder,
}

impl Cluster {
    /// Starts one, and waits until all its workers have joined. The calling thread, and those that
    /// it starts from now on, are on the machine for clients.
    pub fn start(plan: Plan) -> Cluster {
        let machines = match plan.loopback {
            true => Machines::on_loopback(plan.machines + 2),
            false => Machines::new(plan.machines + 2),
        };
        let folder = Folder::new();
        let mut command = daemon(&machines[0], "scheduler");
        command.arg("--bind").arg(machines[0].at(0).to_string());
        command.arg("--state-dir").arg(folder.path().join("scheduler"));
        command.args(&plan.scheduler);
        let scheduler = Daemon::start("scheduler", command);
        let mut addresses = Vec::new();
        scheduler.line("the lines that let others in", |line| {
            let begin = line.find("manyhands://")?;
            addresses.push(line[begin..].trim().to_owned());
            (addresses.len() == 2).then_some(())
        });
        let for_clients = addresses.pop().unwrap_or_default();
        let for_workers = addresses.pop().unwrap_or_default();
        let (workers, count) = (Vec::new(), plan.workers);
        let mut cluster =
            Cluster { scheduler, workers, machines, for_workers, for_clients, plan, folder };
        let started: Vec<Daemon> = (0..count).map(|at| cluster.worker(at, &[])).collect();
        started.iter().for_each(joined);
        cluster.workers = started;
        cluster.client_machine().settle();
        cluster
    }

    /// Starts a worker with this number, which is that of its machine (of those for workers),
    /// without waiting.
    pub fn worker(&self, at: usize, args: &[&str]) -> Daemon {
        let machine = &self.machines[at % self.plan.machines + 1];
        self.worker_at(machine, at, &self.for_workers, args)
    }

    /// Starts a worker on any machine, by a line of the caller's.
    pub fn worker_at(&self, machine: &Machine, at: usize, line: &str, args: &[&str]) -> Daemon {
        let mut command = daemon(machine, "worker");
        command.arg(line).args(["--name", &format!("w{at}"), "--host", &format!("machine-{at}")]);
        command.args(["--cores", &self.plan.cores.to_string(), "--memory", "2GiB"]);
        command.args([
            "--store-limit",
            &self.plan.store.to_string(),
            "--program-limit",
            "2GiB",
            "--gpus",
            "0",
        ]);
        if !args.contains(&"--bind") {
            command.args(["--bind", &machine.at(0).to_string()]);
        }
        if !args.contains(&"--state-dir") && !self.plan.worker.iter().any(|it| it == "--state-dir")
        {
            // Programs that an earlier test has sent are there already.
            command.arg("--state-dir").arg(scratch().join("workers"));
        }
        command.args(&self.plan.worker).args(args);
        Daemon::start(&format!("worker w{at}"), command)
    }

    /// Starts one more worker, and waits until it has joined.
    pub fn join(&mut self, at: usize) {
        let worker = self.worker(at, &[]);
        joined(&worker);
        self.workers.push(worker);
    }

    /// The machine for clients.
    pub fn client_machine(&self) -> &Machine {
        &self.machines[self.plan.machines + 1]
    }

    /// Gives the machine for clients another address, as [`Machine::readdress`] does.
    pub fn readdress_client(&mut self, last_byte: u8) {
        let moved = self.machines[self.plan.machines + 1].readdress(last_byte);
        moved.unwrap_or_else(|error| panic!("the clients' machine keeps its address: {error}"));
    }

    /// Gives a machine for workers another address.
    pub fn readdress_worker(&mut self, at: usize, last_byte: u8) {
        let moved = self.machines[at % self.plan.machines + 1].readdress(last_byte);
        moved.unwrap_or_else(|error| panic!("machine {at} keeps its address: {error}"));
    }

    /// Where the scheduler listens.
    pub fn scheduler_address(&self) -> SocketAddr {
        let place = self.for_clients.rsplit_once('@').map_or("", |(_, place)| place);
        place.parse().unwrap_or_else(|error| panic!("{place}: {error}"))
    }

    /// The line for clients or workers, with another place behind it.
    pub fn by_way_of(line: &str, place: SocketAddr) -> String {
        let token = line.rsplit_once('@').map_or(line, |(token, _)| token);
        format!("{token}@{place}")
    }

    /// Connects from the machine for clients.
    pub fn client(&self) -> Client {
        self.client_by(&self.for_clients)
    }

    /// Connects from the machine for clients, by another line.
    pub fn client_by(&self, line: &str) -> Client {
        Client::connect(line).unwrap_or_else(|error| {
            self.scheduler.show();
            panic!("a client cannot connect: {error}")
        })
    }

    /// A command of the command line, to be run on the machine for clients.
    pub fn command<W: AsRef<OsStr>>(&self, words: &[W]) -> Command {
        let mut command = clean(self.client_machine(), program());
        command.args(words).env("MANYHANDS_ADDRESS", &self.for_clients);
        command.current_dir(self.folder.path());
        command
    }

    /// Runs a command of the command line there up to its end.
    pub fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> Output {
        output(self.command(words))
    }

    /// What a command says with `--json`, line after line if it says several.
    pub fn json(&self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = self.run(&words);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{words:?}: {}: {out}{err}", output.status);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error} in {out}"))
    }

    /// A number of `manyhands status`.
    pub fn number(&self, name: &str) -> u64 {
        let status = self.json(&["status"]);
        status[name].as_u64().unwrap_or_else(|| panic!("no number {name:?} in {status}"))
    }

    /// Where the cluster's files lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Seconds that `work` takes.
    pub fn seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
        let start = Instant::now();
        let value = work();
        (value, start.elapsed().as_secs_f64())
    }
}

/// Waits until a worker has joined.
fn joined(worker: &Daemon) {
    worker.line("that it has joined", |line| line.contains("joined the scheduler").then_some(()));
}

fn daemon(machine: &Machine, role: &str) -> Command {
    let mut command = clean(machine, program());
    command.arg(role);
    command
}

/// A command without settings of whoever runs the tests.
fn clean(machine: &Machine, program: &Path) -> Command {
    let mut command = machine.command(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MANYHANDS_") {
            command.env_remove(name);
        }
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
