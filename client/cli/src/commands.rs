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
pub(crate) mod status;
pub(crate) mod tasks;
pub(crate) mod workers;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Runs a command; the code to end with.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let done = match cli.command {
        Command::Run(run) => return run.run(),
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
    done.map(|()| ExitCode::SUCCESS)
}
