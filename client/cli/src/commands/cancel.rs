//! `manyhands cancel`

use clap::Args;
use manyhands::TaskState;
use serde_json::json;

use super::tasks::state_name;
use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::names::{self, Target};
use crate::table::{print, print_json};

/// Stop tasks, or all tasks of a job
///
/// What waits never runs; what runs is interrupted, and killed if it does not end. What depends on it
/// fails with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manyhands cancel job-1f3a09bc\n  \
                        manyhands cancel job-1f3a09bc/1.42 --reason 'wrong input'")]
pub(crate) struct Cancel {
    /// Tasks and jobs, as `manyhands tasks` and `manyhands jobs` show them
    #[arg(required = true)]
    targets: Vec<String>,
    /// What their owner is told
    #[arg(long, default_value = "cancelled from the command line")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Cancel {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let targets = self.targets.iter().map(|name| names::target(&cluster, name));
        // All names are looked up before anything is stopped.
        let targets = targets.collect::<Result<Vec<Target>, Failure>>()?;
        let mut told = Vec::new();
        for target in targets {
            let (name, was) = match target {
                Target::Job(job) => {
                    cluster.cancel_job(job, &self.reason)?;
                    (job.to_string(), None)
                }
                Target::Task(task) => {
                    let was = cluster.explain(task)?.state;
                    cluster.cancel(vec![task], &self.reason)?;
                    (task.to_string(), Some(was))
                }
            };
            if !self.shown.json {
                print(&format!("{name}: {}\n", words(was)))?;
            }
            told.push(json!({ "target": name, "was": was.map(state_name) }));
        }
        match self.shown.json {
            true => print_json(&told.into()),
            false => Ok(()),
        }
    }
}

fn words(was: Option<TaskState>) -> String {
    match was {
        None => "its tasks are being stopped".to_owned(),
        Some(TaskState::Done | TaskState::Failed) => "it had ended already".to_owned(),
        Some(TaskState::Unknown) => "nothing is known of it any more".to_owned(),
        Some(state) => format!("was {}, is being stopped", state_name(state)),
    }
}
