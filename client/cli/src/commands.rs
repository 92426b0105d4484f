//! A file for each command.

pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod drain;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod objects;
pub(crate) mod run;
pub(crate) mod scheduler;
pub(crate) mod status;
pub(crate) mod tasks;
pub(crate) mod worker;
pub(crate) mod workers;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Runs a command; the code to end with.
pub(crate) fn run(cli: Cli) -> Result<u8, Failure> {
    let done = match cli.command {
        Command::Run(run) => return run.run(),
        Command::Scheduler(scheduler) => scheduler.run(),
        Command::Worker(worker) => worker.run(),
        Command::Status(status) => status.run(),
        Command::Workers(workers) => workers.run(),
        Command::Tasks(tasks) => tasks.run(),
        Command::Objects(objects) => objects.run(),
        Command::Jobs(jobs) => jobs.run(),
        Command::Explain(explain) => explain.run(),
        Command::Cancel(cancel) => cancel.run(),
        Command::Drain(drain) => drain.run(),
        Command::Graph(graph) => graph.run(),
        Command::Logs(logs) => logs.run(),
        Command::Completions(completions) => completions.run(),
    };
    done.map(|()| 0)
}

/// What daemons log, on standard error: `MANYHANDS_LOG` says how much, `info` unless set.
fn start_logging() {
    let filter = env_logger::Env::new().filter_or("MANYHANDS_LOG", "info");
    env_logger::Builder::from_env(filter).init();
}

/// `NAME=N`, or `NAME` for one of it.
fn named(text: &str) -> Result<(String, f64), String> {
    let (name, amount) = text.split_once('=').unwrap_or((text, "1"));
    match amount.parse::<f64>() {
        Ok(amount) if amount >= 0.0 && amount.is_finite() && !name.is_empty() => {
            Ok((name.to_owned(), amount))
        }
        _ => Err(format!("{text:?} is no amount: gpu=2 was expected, a name and a number")),
    }
}

/// `KEY=VALUE`.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label: zone=b was expected, a key and a value")),
    }
}
