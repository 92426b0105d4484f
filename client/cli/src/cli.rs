//! The commands, and the options that several of them share.

use clap::{Args, Parser, Subcommand};
use manyhands::Cluster;

use crate::commands::{
    cancel, completions, drain, explain, graph, jobs, logs, objects, run, scheduler, status, tasks,
    worker, workers,
};
use crate::failure::Failure;

/// Many hands make light work: plain functions and command lines over every core of every machine.
#[derive(Debug, Parser)]
#[command(
    name = "manyhands",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  \
        manyhands scheduler                 start a cluster on this machine\n  \
        manyhands worker manyhands://...    add a machine, with the line that the scheduler printed\n  \
        manyhands run -- hostname           run a command line somewhere in it"
)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Scheduler(Box<scheduler::Scheduler>),
    Worker(Box<worker::Worker>),
    Status(status::Status),
    Workers(workers::Workers),
    Tasks(tasks::Tasks),
    Objects(objects::Objects),
    Jobs(jobs::Jobs),
    Explain(explain::Explain),
    Cancel(cancel::Cancel),
    Drain(drain::Drain),
    Graph(graph::Graph),
    Logs(logs::Logs),
    Run(Box<run::Run>),
    Completions(completions::Completions),
}

/// Which cluster is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Connect {
    /// The cluster: the line that its scheduler printed for clients, manyhands://TOKEN@HOST:PORT, or
    /// HOST:PORT with the token in MANYHANDS_TOKEN or in the file that MANYHANDS_TOKEN_FILE names.
    /// Prefer the environment: everybody on a machine sees the arguments of its programs
    #[arg(long, env = "MANYHANDS_ADDRESS", hide_env_values = true)]
    pub(crate) address: Option<String>,
}

impl Connect {
    /// The address, if one was given.
    pub(crate) fn address(&self) -> Result<&str, Failure> {
        let given = self.address.as_deref().map(str::trim);
        given.filter(|address| !address.is_empty()).ok_or(Failure::NoAddress)
    }

    /// A session with the cluster, without a job.
    pub(crate) fn cluster(&self) -> Result<Cluster, Failure> {
        Ok(Cluster::connect(self.address()?)?)
    }
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Shown {
    /// Print JSON, with sizes in bytes and times in microseconds
    #[arg(long)]
    pub(crate) json: bool,
}
