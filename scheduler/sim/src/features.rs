//! What makes a plan of plain tasks interesting: children, puts, failures, limits, wishes.

use std::collections::BTreeSet;

use manyhands_proto::Time;
use manyhands_proto::task::{Resources, TaskOptions};

use crate::client::Deed;
use crate::plan::{Ending, JobPlan, Plan, StreamPlan, TaskNo};
use crate::rng::Rng;
use crate::shapes::{Drawing, Scale};

/// Changes some tasks of a plan; says what, in words.
pub fn add(plan: &mut Plan, rng: &mut Rng) -> String {
    let mut words = String::new();
    let mut chosen = |name: &str, parts: u32, rng: &mut Rng| {
        let chosen = rng.chance(parts);
        if chosen {
            words.push_str(", ");
            words.push_str(name);
        }
        chosen
    };
    let nested = chosen("nested", 25_000, rng);
    let puts = chosen("puts", 20_000, rng);
    let errors = chosen("errors", 25_000, rng);
    let limits = chosen("limits", 15_000, rng);
    let wishes = chosen("wishes", 25_000, rng);
    let priorities = chosen("priorities", 25_000, rng);
    plan.programs = chosen("programs", 20_000, rng);
    plan.pythons = chosen("pythons", 20_000, rng);
    let streams = chosen("streams", 20_000, rng);
    for no in 0..plan.tasks.len() {
        if errors && rng.chance(5_000) {
            err(plan, no, rng);
        } else if limits && rng.chance(500) {
            limit(plan, no, rng);
        }
        if wishes && rng.chance(20_000) {
            wish(plan, no, rng);
        }
        if priorities {
            plan.tasks[no].options.priority = rng.below(3) as i32 - 1;
        }
        if puts && rng.chance(5_000) {
            let size = rng.scaled(8, 1 << 20);
            plan.tasks[no].puts = Some(size);
        } else if streams && rng.chance(2_000) {
            let size = *rng.pick(&[8, 500, 100_000]);
            plan.tasks[no].stream = Some(StreamPlan { items: rng.below(60), size });
        }
    }
    if nested {
        nest(plan, rng);
    }
    words
}

fn err(plan: &mut Plan, no: TaskNo, rng: &mut Rng) {
    let task = &mut plan.tasks[no];
    let times = rng.range(1, 3) as u32;
    // Most come through, or nothing of a deep graph would.
    let enough = rng.chance(85_000);
    task.options.retries = if enough { times } else { times - 1 };
    task.options.crash_retries = task.options.retries;
    task.ending = if rng.below(3) == 0 { Ending::Crashes(times) } else { Ending::Errs(times) };
}

fn limit(plan: &mut Plan, no: TaskNo, rng: &mut Rng) {
    let task = &mut plan.tasks[no];
    task.heeds = rng.below(2) == 0;
    task.options.retries = rng.below(2) as u32;
    if rng.below(2) == 0 {
        task.options.time_limit_us = Some(task.duration_us * 4 + rng.range(1_000, 20_000));
        task.ending = Ending::Hangs;
    } else {
        let limit = rng.range(2 << 20, 64 << 20);
        task.options.memory_limit = Some(limit);
        task.ending = Ending::Swells(limit * 2);
    }
}

fn wish(plan: &mut Plan, no: TaskNo, rng: &mut Rng) {
    let options = &mut plan.tasks[no].options;
    match rng.below(4) {
        0 => options.labels = vec![("zone".to_owned(), "a".to_owned())],
        1 => options.resources.named = vec![("gpu".to_owned(), 1000)],
        2 => {
            options.resources = Resources { millicores: 500, memory: 1 << 30, named: Vec::new() };
        }
        _ if rng.below(10) == 0 => {
            options.labels = vec![("zone".to_owned(), "nowhere".to_owned())];
            plan.infeasible.insert(no);
        }
        _ => options.resources.memory = rng.range(1, 4 << 30),
    }
}

/// The labels of a worker: the first and every third other one lie in zone a.
pub fn labels(worker: usize) -> Vec<(String, String)> {
    let zone = if worker.is_multiple_of(3) { "a" } else { "b" };
    vec![("zone".to_owned(), zone.to_owned())]
}

/// Some tasks submit children, and those again.
fn nest(plan: &mut Plan, rng: &mut Rng) {
    let mut parents: Vec<(TaskNo, u32)> = Vec::new();
    for no in 0..plan.tasks.len() {
        let plain = plan.tasks[no].ending == Ending::Well && plan.tasks[no].stream.is_none();
        if plain && rng.chance(6_000) {
            parents.push((no, rng.range(1, 4) as u32));
        }
    }
    while let Some((parent, depth)) = parents.pop() {
        if plan.tasks.len() > 6_000 {
            return;
        }
        let (job, lane) = (plan.tasks[parent].job, plan.tasks[parent].id.child_lane());
        let scale =
            Scale { duration_us: (1, 500), size: *rng.pick(&[(8, 100), (50_000, 200_000)]) };
        let fork = rng.fork();
        let mut drawing = Drawing::new(plan, fork, scale, job, lane, 0);
        let mut before = None;
        for _ in 0..rng.range(1, 4) {
            let inputs = before.filter(|_| rng.chance(30_000)).into_iter().collect();
            before = Some(drawing.task(inputs));
        }
        let children = std::mem::take(&mut drawing.tasks);
        for &child in &children {
            plan.tasks[child].parent = Some(parent);
            plan.tasks[child].options = TaskOptions::default();
            if depth > 1 && rng.chance(50_000) {
                parents.push((child, depth - 1));
            }
        }
        plan.tasks[parent].children = children;
        plan.tasks[parent].hands_over = rng.chance(30_000);
    }
}

/// Handles dropped early and tasks cancelled, at some time after the submission.
pub fn interventions(
    plan: &Plan,
    job: &JobPlan,
    held: &BTreeSet<TaskNo>,
    at: Time,
    rng: &mut Rng,
) -> Vec<(Time, Deed)> {
    let mut deeds = Vec::new();
    if rng.chance(20_000) {
        let dropped = held.iter().filter(|_| rng.chance(20_000));
        let objects = dropped.flat_map(|&no| plan.objects_of(no)).collect::<Vec<_>>();
        if !objects.is_empty() {
            deeds.push((at + rng.scaled(10, 100_000), Deed::Drop(objects)));
        }
    }
    let infeasible = job.tasks.iter().filter(|no| plan.infeasible.contains(no));
    let infeasible: Vec<_> = infeasible.map(|&no| plan.tasks[no].id).collect();
    if !infeasible.is_empty() {
        // They wait for a worker that has what they ask for, and none comes.
        deeds.push((at + rng.range(10_000, 1_000_000), Deed::Cancel(infeasible)));
    }
    if rng.chance(20_000) {
        let tasks: Vec<_> =
            (0..rng.range(1, 10)).map(|_| plan.tasks[*rng.pick(&job.tasks)].id).collect();
        deeds.push((at + rng.scaled(10, 100_000), Deed::Cancel(tasks)));
    }
    deeds
}
