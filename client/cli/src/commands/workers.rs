//! `manyhands workers`

use clap::Args;
use manyhands::inspect::{WorkerInfo, WorkerState};
use serde_json::{Map, Value, json};

use super::status::cores;
use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::table::{Table, print, print_json};
use crate::units::Bytes;

/// List the workers: what they have, what runs there, how full they are
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands workers")]
pub(crate) struct Workers {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Workers {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let workers = self.connect.cluster()?.workers()?;
        match self.shown.json {
            true => print_json(&workers.iter().map(to_json).collect()),
            false => print(&render(&workers)),
        }
    }
}

/// A worker with its numbers.
pub(crate) fn to_json(info: &WorkerInfo) -> Value {
    let spec = &info.spec;
    let named = spec.resources.named.iter();
    let named: Map<String, Value> =
        named.map(|(name, amount)| (name.clone(), json!(*amount as f64 / 1000.0))).collect();
    let labels: Map<String, Value> =
        spec.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "worker": info.worker.to_string(),
        "name": spec.name,
        "state": state(info.state),
        "note": info.note,
        "host": spec.host,
        "platform": spec.platform,
        "addresses": spec.addresses,
        "millicores": spec.resources.millicores,
        "millicores_used": info.millicores_used,
        "memory": spec.resources.memory,
        "resources": named,
        "labels": labels,
        "tasks": info.assigned,
        "executors": info.status.executors,
        "store_used": info.status.store_used,
        "store_limit": spec.store_limit,
        "spilled": info.status.spilled,
        "slowness": f64::from(info.slowness) / 1000.0,
        "bandwidth": info.bandwidth,
    })
}

fn render(workers: &[WorkerInfo]) -> String {
    if workers.is_empty() {
        return "no workers: the scheduler printed the line that adds one\n".to_owned();
    }
    let columns =
        ["worker", "name", "state", ">cores", ">tasks", ">memory", ">objects", ">on disk", "has"];
    let mut table = Table::new(&columns);
    for info in workers {
        table.row([
            info.worker.to_string(),
            info.spec.name.clone(),
            state(info.state).to_owned(),
            format!(
                "{}/{}",
                cores(info.millicores_used),
                cores(u64::from(info.spec.resources.millicores))
            ),
            info.assigned.to_string(),
            Bytes(info.spec.resources.memory).to_string(),
            format!("{}/{}", Bytes(info.status.store_used), Bytes(info.spec.store_limit)),
            Bytes(info.status.spilled).to_string(),
            has(info),
        ]);
    }
    let notes = workers.iter().filter(|info| !info.note.is_empty());
    let notes: String = notes
        .map(|info| format!("\n{} ({}): {}", info.worker, info.spec.name, info.note))
        .collect();
    table.render() + &notes + if notes.is_empty() { "" } else { "\n" }
}

/// Its named resources and labels.
fn has(info: &WorkerInfo) -> String {
    let named = info.spec.resources.named.iter();
    let named = named.map(|(name, amount)| format!("{name}={}", *amount as f64 / 1000.0));
    let labels = info.spec.labels.iter().map(|(key, value)| format!("{key}={value}"));
    named.chain(labels).collect::<Vec<_>>().join(" ")
}

fn state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Active => "active",
        WorkerState::Away => "away",
        WorkerState::Draining => "draining",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands::WorkerId;
    use manyhands_proto::task::Resources;
    use manyhands_proto::worker::{WorkerSpec, WorkerStatus};

    #[test]
    fn a_worker_is_one_line() {
        let info = WorkerInfo {
            worker: WorkerId(3),
            spec: WorkerSpec {
                name: "box".to_owned(),
                resources: Resources {
                    millicores: 8_000,
                    memory: 16 << 30,
                    named: vec![("gpu".to_owned(), 2_000)],
                },
                labels: vec![("zone".to_owned(), "b".to_owned())],
                store_limit: 4 << 30,
                ..WorkerSpec::default()
            },
            status: WorkerStatus { store_used: 1 << 20, ..WorkerStatus::default() },
            state: WorkerState::Draining,
            note: "2 tasks run".to_owned(),
            assigned: 2,
            millicores_used: 1_500,
            slowness: 1_000,
            bandwidth: 0,
        };
        let text = render(std::slice::from_ref(&info));
        let line = text.lines().nth(1).unwrap();
        let entries: Vec<&str> = line.split("  ").filter(|part| !part.is_empty()).collect();
        let expected = [
            "worker-3",
            "box",
            "draining",
            "1.5/8",
            "   2",
            "16 GiB",
            "1 MiB/4 GiB",
            "   0 B",
            "gpu=2 zone=b",
        ];
        let trimmed = |all: &[&str]| all.iter().map(|it| it.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&entries), trimmed(&expected));
        assert_eq!(text.lines().last(), Some("worker-3 (box): 2 tasks run"));
        assert_eq!(to_json(&info)["resources"]["gpu"], 2.0);
    }
}
