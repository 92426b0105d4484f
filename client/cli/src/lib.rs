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

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os()))
}

/// Runs a command line, the first word of which is the program's name; the code to end with.
pub fn run(words: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match cli::Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(refused) => {
            // Help that nobody wants to read any more is no failure.
            let _ = refused.print();
            return refused.exit_code() as u8;
        }
    };
    commands::run(cli).unwrap_or_else(|failure| failure.report())
}
