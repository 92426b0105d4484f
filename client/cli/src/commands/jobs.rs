//! `manyhands jobs`

use clap::Args;
use manyhands::inspect::JobInfo;
use serde_json::{Value, json};

use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::table::{Table, print, print_json};
use crate::units::Span;

/// List the open jobs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands jobs")]
pub(crate) struct Jobs {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Jobs {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let jobs = self.connect.cluster()?.jobs()?;
        match self.shown.json {
            true => print_json(&jobs.iter().map(to_json).collect()),
            false => print(&render(&jobs)),
        }
    }
}

fn to_json(info: &JobInfo) -> Value {
    json!({
        "job": info.job.to_string(),
        "id": info.job.0.to_string(),
        "name": info.name,
        "weight": info.weight,
        "sessions": info.sessions.iter().map(|session| session.0).collect::<Vec<_>>(),
        "submitted": info.counts.submitted,
        "assigned": info.counts.assigned,
        "done": info.counts.done,
        "failed": info.counts.failed,
        "age_us": info.age_us,
    })
}

fn render(jobs: &[JobInfo]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let columns = ["job", "name", ">weight", ">tasks", ">with workers", ">done", ">failed", ">age"];
    let mut table = Table::new(&columns);
    for info in jobs {
        table.row([
            info.job.to_string(),
            info.name.clone(),
            info.weight.to_string(),
            info.counts.submitted.to_string(),
            info.counts.assigned.to_string(),
            info.counts.done.to_string(),
            info.counts.failed.to_string(),
            Span::us(info.age_us).to_string(),
        ]);
    }
    table.render()
}
