//! `manyhands drain`

use std::time::Duration;

use clap::Args;
use manyhands::inspect::WorkerInfo;
use serde_json::json;

use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::names;
use crate::table::{one_line, print, print_json};

/// How often a worker that drains is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Ask a worker to finish what runs there, hand its objects on, and leave
///
/// The same happens when the worker gets SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands drain worker-3 --wait")]
pub(crate) struct Drain {
    /// The worker: its id, number or name, as `manyhands workers` shows it
    worker: String,
    /// Return when it is gone, and not at once
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Drain {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let worker = names::worker(&cluster, &self.worker)?;
        cluster.drain(worker)?;
        let look = || -> Result<Option<WorkerInfo>, Failure> {
            Ok(cluster.workers()?.into_iter().find(|info| info.worker == worker))
        };
        let mut left = look()?;
        while self.wait && left.is_some() {
            std::thread::sleep(LOOK);
            left = look()?;
        }
        let gone = left.is_none();
        if self.shown.json {
            return print_json(&json!({ "worker": worker.to_string(), "gone": gone }));
        }
        let note = left.map(|info| info.note).filter(|note| !note.is_empty());
        print(&match (gone, note) {
            (true, _) => format!("{worker} is gone\n"),
            (false, None) => format!("{worker} drains\n"),
            (false, Some(note)) => format!("{worker} drains: {}\n", one_line(&note)),
        })
    }
}
