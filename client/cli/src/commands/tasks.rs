//! `manyhands tasks`

use clap::{Args, ValueEnum};
use manyhands::inspect::TaskInfo;
use manyhands::{Listed, TaskState};
use serde_json::{Value, json};

use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::names;
use crate::table::{Table, print, print_json};

/// List tasks, the newest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands tasks --job 1f3a09bc --state running")]
pub(crate) struct Tasks {
    /// Of this job only
    #[arg(long)]
    job: Option<String>,
    /// In this state only
    #[arg(long, value_enum)]
    state: Option<State>,
    /// How many at most
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

/// The states of tasks, as they are written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum State {
    Waiting,
    Ready,
    Assigned,
    Running,
    Done,
    Failed,
}

impl Tasks {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let job = self.job.as_deref().map(|name| names::job(&cluster, name)).transpose()?;
        let tasks = cluster.tasks(job, self.state.map(state), self.limit)?;
        match self.shown.json {
            true => print_json(&json!({
                "total": tasks.total,
                "tasks": tasks.items.iter().map(to_json).collect::<Vec<_>>(),
            })),
            false => print(&render(&tasks)),
        }
    }
}

fn state(state: State) -> TaskState {
    match state {
        State::Waiting => TaskState::Waiting,
        State::Ready => TaskState::Ready,
        State::Assigned => TaskState::Assigned,
        State::Running => TaskState::Running,
        State::Done => TaskState::Done,
        State::Failed => TaskState::Failed,
    }
}

/// The name of a state.
pub(crate) fn state_name(state: TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "waiting",
        TaskState::Ready => "ready",
        TaskState::Assigned => "assigned",
        TaskState::Running => "running",
        TaskState::Done => "done",
        TaskState::Failed => "failed",
        TaskState::Unknown => "unknown",
    }
}

/// A task with its numbers.
pub(crate) fn to_json(info: &TaskInfo) -> Value {
    json!({
        "task": info.task.to_string(),
        "job": info.task.job.to_string(),
        "name": info.name,
        "state": state_name(info.state),
        "worker": info.worker.map(|worker| worker.to_string()),
        "attempt": info.attempt,
    })
}

fn render(tasks: &Listed<TaskInfo>) -> String {
    if tasks.items.is_empty() {
        return "no tasks\n".to_owned();
    }
    let mut table = Table::new(&["task", "function", "state", "worker", ">attempt"]);
    for info in &tasks.items {
        table.row([
            info.task.to_string(),
            info.name.clone(),
            state_name(info.state).to_owned(),
            info.worker.map_or_else(String::new, |worker| worker.to_string()),
            (info.attempt + 1).to_string(),
        ]);
    }
    table.render() + &rest(tasks.items.len(), tasks.total)
}

/// A line about what a list leaves out.
pub(crate) fn rest(shown: usize, total: u64) -> String {
    match total > shown as u64 {
        true => format!("{shown} of {total}: --limit shows more\n"),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands::{JobId, Lane, TaskId, WorkerId};

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let task = TaskId { job: JobId(uuid::Uuid::from_u128(0xab)), lane: Lane(1), seq: 7 };
        let info = TaskInfo {
            task,
            name: "demo::count".to_owned(),
            state: TaskState::Running,
            worker: Some(WorkerId(2)),
            attempt: 1,
        };
        let text = render(&Listed { items: vec![info], total: 3 });
        let expected = "task              function     state    worker    attempt\n\
            job-000000ab/1.7  demo::count  running  worker-2        2\n\
            1 of 3: --limit shows more\n";
        assert_eq!(text, expected);
    }
}
