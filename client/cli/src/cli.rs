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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use clap::CommandFactory;

    use super::*;

    /// The help of every command.
    fn reference() -> String {
        let mut text = String::from(
            "# The command line\n\nMade from the program's own help: `MANYHANDS_BLESS=1 cargo test -p \
             manyhands-cli reference` writes it anew.\n",
        );
        let mut command = Cli::command().term_width(100);
        command.build();
        let _ = write!(text, "\n## manyhands\n\n```text\n{}```\n", command.render_long_help());
        for command in command.get_subcommands_mut().filter(|it| it.get_name() != "help") {
            let (name, help) = (command.get_name().to_owned(), command.render_long_help());
            let _ = write!(text, "\n## manyhands {name}\n\n```text\n{help}```\n");
        }
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn the_reference_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cli-reference.md");
        let made = reference();
        if std::env::var_os("MANYHANDS_BLESS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(kept == made, "cli-reference.md is out of date: MANYHANDS_BLESS=1 writes it anew");
    }

    #[test]
    fn every_command_shows_an_example() {
        let mut command = Cli::command();
        command.build();
        command.debug_assert();
        for command in Cli::command().get_subcommands() {
            let shown = command.get_after_help().map(|help| help.to_string());
            assert!(shown.is_some_and(|it| it.contains("manyhands ")), "{}", command.get_name());
        }
    }

    #[test]
    fn a_command_line_keeps_its_own_options() {
        let cli = Cli::try_parse_from(["manyhands", "run", "--cpus", "2", "--", "ls", "--json"]);
        let Command::Run(run) = cli.unwrap().command else { panic!("it is `run`") };
        assert_eq!(run.words(), ["ls", "--json"]);
        let missing = Cli::try_parse_from(["manyhands", "run"]).unwrap_err().to_string();
        assert!(missing.contains("COMMAND"), "{missing}");
    }
}
