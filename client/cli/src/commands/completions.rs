//! `manyhands completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::table::print;

/// Print what a shell needs to complete commands and options
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    manyhands completions bash > ~/.local/share/bash-completion/completions/manyhands\n  \
    manyhands completions fish > ~/.config/fish/completions/manyhands.fish")]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "manyhands", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
