//! `manyhands explain`

use clap::Args;
use serde_json::json;

use super::tasks::state_name;
use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::names;
use crate::table::{print, print_json};

/// Tell why a task is where it is, and what it waits for
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands explain job-1f3a09bc/1.42")]
pub(crate) struct Explain {
    /// The task, as `manyhands tasks` shows it
    task: String,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Explain {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let task = names::task(&cluster, &self.task)?;
        let explanation = cluster.explain(task)?;
        let state = state_name(explanation.state);
        match self.shown.json {
            true => print_json(&json!({
                "task": task.to_string(),
                "state": state,
                "reason": explanation.reason,
            })),
            false => print(&format!("{state}: {}\n", explanation.reason)),
        }
    }
}
