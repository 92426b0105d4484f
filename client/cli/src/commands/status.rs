//! `manyhands status`

use std::fmt::Write;

use clap::Args;
use manyhands::inspect::ClusterInfo;
use serde_json::{Value, json};

use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::table::{print, print_json};
use crate::units::{Bytes, Span};

/// Show the cluster in numbers
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands status")]
pub(crate) struct Status {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Status {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let info = self.connect.cluster()?.info()?;
        match self.shown.json {
            true => print_json(&to_json(&info)),
            false => print(&render(&info)),
        }
    }
}

fn to_json(info: &ClusterInfo) -> Value {
    json!(info)
}

fn render(info: &ClusterInfo) -> String {
    let mut text = format!("manyhands {}, up {}\n", info.version, Span::us(info.uptime_us));
    let mut line = |name: &str, words: String| {
        let _ = writeln!(text, "{name:<9}{words}");
    };
    let mut workers = info.workers.to_string();
    for (count, state) in [(info.draining, "draining"), (info.away, "away")] {
        if count > 0 {
            let _ = write!(workers, ", {count} {state}");
        }
    }
    line("workers", workers);
    let jobs = if info.jobs == 1 { "job" } else { "jobs" };
    line("clients", format!("{}, with {} open {jobs}", info.clients, info.jobs));
    line("cores", format!("{} of {} busy", cores(info.millicores_used), cores(info.millicores)));
    line(
        "tasks",
        format!(
            "{} with workers, {} ready, {} waiting; {} ended, {} attempts repeated",
            info.assigned, info.ready, info.waiting, info.ended, info.rerun
        ),
    );
    line(
        "objects",
        format!(
            "{} of {} in memory, {} on disk",
            Bytes(info.store_used),
            Bytes(info.store_limit),
            Bytes(info.spilled)
        ),
    );
    text
}

/// Thousandths of cores, for people.
pub(crate) fn cores(millicores: u64) -> String {
    match millicores % 1000 {
        0 => (millicores / 1000).to_string(),
        _ => format!("{:.1}", millicores as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_only_what_is_worth_saying() {
        let info = ClusterInfo {
            version: "0.1.0".to_owned(),
            uptime_us: 90_000_000,
            workers: 3,
            away: 1,
            clients: 2,
            jobs: 1,
            millicores: 8_000,
            millicores_used: 2_500,
            ended: 10,
            store_limit: 1 << 30,
            ..ClusterInfo::default()
        };
        let expected = "manyhands 0.1.0, up 1 min 30 s\n\
            workers  3, 1 away\n\
            clients  2, with 1 open job\n\
            cores    2.5 of 8 busy\n\
            tasks    0 with workers, 0 ready, 0 waiting; 10 ended, 0 attempts repeated\n\
            objects  0 B of 1 GiB in memory, 0 B on disk\n";
        assert_eq!(render(&info), expected);
        assert_eq!(to_json(&info)["millicores_used"], 2500);
    }
}
