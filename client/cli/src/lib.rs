//! The command line of manyhands: one program that is the scheduler, a worker, and what people ask
//! and order of a cluster.
//!
//! It promises that a command that fails says what to do, on standard error, and ends with a code
//! that is not 0; that what is printed for people aligns and carries units, and that `--json` prints
//! the same as JSON, which never loses fields; and that `run` ends as the command it ran.
//!
//! # Layout
//! - `cli`: the commands and what they share.
//! - `commands`: a file for each command.
//! - `order`: a command line as a task: what runs on a worker.
//! - `settings`: flags, environment and file, in that order.
//! - `names`: jobs, tasks and workers as people write them.
//! - `units`, `table`: how numbers and lists are shown.
//! - `failure`: what can go wrong, and what to do about it.

pub mod cli;
mod commands;
mod failure;
mod names;
mod order;
mod settings;
mod table;
mod units;

use std::process::ExitCode;

use clap::Parser;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
