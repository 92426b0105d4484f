//! `manyhands objects`

use clap::Args;
use manyhands::Listed;
use manyhands::inspect::ObjectInfo;
use serde_json::{Value, json};

use super::tasks::rest;
use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::names;
use crate::table::{Table, print, print_json};
use crate::units::Bytes;

/// List the objects that exist, the largest first, and why each is alive
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands objects --limit 10")]
pub(crate) struct Objects {
    /// Of this job only
    #[arg(long)]
    job: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Objects {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let job = self.job.as_deref().map(|name| names::job(&cluster, name)).transpose()?;
        let objects = cluster.objects(job, self.limit)?;
        match self.shown.json {
            true => print_json(&json!({
                "total": objects.total,
                "objects": objects.items.iter().map(to_json).collect::<Vec<_>>(),
            })),
            false => print(&render(&objects)),
        }
    }
}

fn to_json(info: &ObjectInfo) -> Value {
    json!({
        "object": info.object.to_string(),
        "size": info.size,
        "workers": info.workers.iter().map(|worker| worker.to_string()).collect::<Vec<_>>(),
        "reason": info.reason,
    })
}

fn render(objects: &Listed<ObjectInfo>) -> String {
    if objects.items.is_empty() {
        return "no objects\n".to_owned();
    }
    let mut table = Table::new(&["object", ">size", "workers", "alive because"]);
    for info in &objects.items {
        let workers: Vec<String> = info.workers.iter().map(|id| id.0.to_string()).collect();
        table.row([
            info.object.to_string(),
            Bytes(info.size).to_string(),
            workers.join(","),
            info.reason.clone(),
        ]);
    }
    table.render() + &rest(objects.items.len(), objects.total)
}
