//! `manyhands graph`

use std::collections::HashMap;

use clap::Args;
use manyhands::graph::Picture;
use manyhands::inspect::GraphNode;
use manyhands::{Listed, TaskId};
use serde_json::json;

use super::tasks::{state_name, to_json};
use crate::cli::Connect;
use crate::failure::Failure;
use crate::names;
use crate::table::{print, print_json};

/// Draw the tasks of a job, and what they need
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  manyhands graph job-1f3a09bc --svg > graph.svg\n  \
                        manyhands graph job-1f3a09bc --dot | dot -Tpdf > graph.pdf")]
pub(crate) struct Graph {
    /// The job, as `manyhands jobs` shows it
    job: String,
    /// In the language of Graphviz (this is the default)
    #[arg(long, group = "format")]
    dot: bool,
    /// As an SVG picture
    #[arg(long, group = "format")]
    svg: bool,
    /// As JSON
    #[arg(long, group = "format")]
    json: bool,
    /// How many tasks at most, the earliest first
    #[arg(long, default_value_t = 20_000)]
    limit: u32,
    #[command(flatten)]
    connect: Connect,
}

impl Graph {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let job = names::job(&cluster, &self.job)?;
        let graph = cluster.graph(job, self.limit)?;
        if self.json {
            let node = |node: &GraphNode| {
                let mut task = to_json(&node.task);
                task["inputs"] = node.inputs.iter().map(|object| object.to_string()).collect();
                task
            };
            let tasks: Vec<_> = graph.items.iter().map(node).collect();
            return print_json(&json!({ "total": graph.total, "tasks": tasks }));
        }
        let picture = picture(&graph);
        match self.svg {
            true => print(&picture.svg()),
            false => print(&picture.dot()),
        }
    }
}

/// The tasks with their states, each behind what it needs.
fn picture(graph: &Listed<GraphNode>) -> Picture {
    let numbers: HashMap<TaskId, u32> =
        graph.items.iter().enumerate().map(|(i, node)| (node.task.task, i as u32)).collect();
    let mut picture = Picture::new(graph.total as usize);
    for node in &graph.items {
        let name = node.task.name.rsplit("::").next().unwrap_or_default();
        let needs = node.inputs.iter().filter_map(|input| numbers.get(&input.task).copied());
        let mut needs: Vec<u32> = needs.collect();
        needs.sort_unstable();
        needs.dedup();
        picture.add(format!("{name} ({})", state_name(node.task.state)), needs);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands::inspect::TaskInfo;
    use manyhands::{JobId, Lane, TaskState};

    #[test]
    fn a_job_is_drawn_with_its_states() {
        let task = |seq| TaskId { job: JobId(uuid::Uuid::from_u128(1)), lane: Lane(1), seq };
        let node = |seq, inputs: &[u64]| GraphNode {
            task: TaskInfo {
                task: task(seq),
                name: "demo::add".to_owned(),
                state: TaskState::Done,
                worker: None,
                attempt: 0,
            },
            inputs: inputs.iter().map(|seq| task(*seq).object(0)).collect(),
        };
        let items = vec![node(3, &[]), node(4, &[3, 3, 1])];
        let dot = picture(&Listed { items, total: 5 }).dot();
        assert!(dot.contains("n1 [label=\"add (done)\"]"), "{dot}");
        assert_eq!(dot.matches("n0 -> n1").count(), 1, "{dot}");
        assert!(dot.contains("2 of 5 tasks"), "{dot}");
    }
}
