//! What a task that submits tasks says, and what it waits for.

use manyhands_proto::ObjectId;
use manyhands_proto::client::FromClient;
use manyhands_proto::graph::TaskRow;

use crate::batch::batch;
use crate::plan::{Plan, TaskNo, TaskPlan};

/// The messages by which a task submits its children; none if it has none.
pub fn submission(plan: &Plan, no: TaskNo) -> Vec<FromClient> {
    let children = &plan.tasks[no].children;
    if children.is_empty() {
        return Vec::new();
    }
    let flags = |_| TaskRow::HELD | TaskRow::WANTED;
    vec![
        FromClient::Functions { first_slot: 0, functions: plan.functions_of(no) },
        FromClient::Submit(batch(plan, children, false, flags)),
    ]
}

/// What it waits for: every value of every child.
pub fn results(plan: &Plan, no: TaskNo) -> Vec<ObjectId> {
    let children = plan.tasks[no].children.iter().map(|&child| &plan.tasks[child]);
    children
        .flat_map(|child| (0..child.outputs.len() as u32).map(|index| child.id.object(index)))
        .collect()
}

/// What it may let go of before it ends: what it hands over lives on in its own value.
pub fn results_to_release(plan: &Plan, no: TaskNo) -> Vec<ObjectId> {
    let mut objects = results(plan, no);
    let handed = handed_over(plan, no);
    objects.retain(|object| !handed.contains(object));
    objects
}

/// The handles in a task's first value.
pub fn handed_over(plan: &Plan, no: TaskNo) -> Vec<ObjectId> {
    let task: &TaskPlan = &plan.tasks[no];
    match task.children.first() {
        Some(&child) if task.hands_over => vec![plan.tasks[child].id.object(0)],
        _ => Vec::new(),
    }
}
