//! Knows what may come of each task, and judges what does.

use manyhands_proto::ObjectId;
use manyhands_proto::client::Outcome;
use manyhands_proto::task::{FailureKind, TaskFailure};

use crate::plan::{Ending, Plan, TaskNo, decode_value};
use crate::record::{Fate, Record};
use crate::world::World;

/// Whether an outcome is right: the one right value, or a failure that the task, or something it
/// needs, has really met.
pub fn judge(object: ObjectId, outcome: &Outcome, world: &World) -> Result<(), String> {
    let plan = &*world.plan;
    if let Some(maker) = plan.maker_of(object) {
        return judge_item(object, maker, outcome, world);
    }
    let no = plan.by_id.get(&object.task).copied();
    match outcome {
        Outcome::Value(value) => {
            must_be_able(no, plan)?;
            if decode_value(value) != plan.value(object) {
                return Err("has a wrong value".to_owned());
            }
            Ok(())
        }
        Outcome::Stored { size, .. } => {
            must_be_able(no, plan)?;
            match plan.size(object) {
                Some(planned) if planned.max(8) != *size => Err(format!("has {size} bytes")),
                _ => Ok(()),
            }
        }
        Outcome::Failed(failed) => {
            let failure = &failed.failure;
            if let FailureKind::LostInput { object: lost } = failure.kind {
                return put_was_lost(object, lost, world);
            }
            let Some(no) = no else { return Err("was put, and failed".to_owned()) };
            let Some(&root) = plan.by_id.get(&failure.task) else {
                return Err(format!("failed for {}, which nobody submitted", failure.task));
            };
            if !plan.descends(no, root) {
                return Err(format!("failed for {}, which it does not need", failure.task));
            }
            attempts_add_up(failure)?;
            happened(root, failure, world)
        }
    }
}

/// An item of a stream: as planned, or one behind the last, or its task has failed.
fn judge_item(
    object: ObjectId,
    maker: TaskNo,
    outcome: &Outcome,
    world: &World,
) -> Result<(), String> {
    let plan = &*world.plan;
    let items = plan.tasks[maker].stream.map_or(0, |stream| stream.items);
    match outcome {
        Outcome::Value(value) if decode_value(value) != plan.value(object) => {
            Err("has a wrong value".to_owned())
        }
        Outcome::Value(_) | Outcome::Stored { .. } => Ok(()),
        Outcome::Failed(failed) => match failed.failure.kind {
            FailureKind::LostInput { object: lost } if lost == object => {
                let behind = object.task.seq >= items;
                if behind { Ok(()) } else { Err(format!("was lost, of {items} items")) }
            }
            _ => judge(plan.tasks[maker].id.object(0), outcome, world),
        },
    }
}

/// A large value that a client put is lost with the worker that had it, or once it was released and
/// what it was made into is lost; it takes with it what needs it. Nothing else is ever lost.
fn put_was_lost(object: ObjectId, lost: ObjectId, world: &World) -> Result<(), String> {
    if !world.put_at.contains_key(&lost) {
        return Err(format!("failed for {lost}, which can be made again"));
    }
    if !world.is_lossy() {
        return Err(format!("failed for {lost}, and no worker was lost"));
    }
    let no = world.plan.by_id.get(&object.task);
    if object != lost && !no.is_some_and(|&no| world.plan.needs(no, lost)) {
        return Err(format!("failed for {lost}, which it does not need"));
    }
    Ok(())
}

/// Whether two outcomes of one object say the same.
pub fn agree(a: &Outcome, b: &Outcome) -> bool {
    match (a, b) {
        (Outcome::Failed(a), Outcome::Failed(b)) => a.failure == b.failure,
        (Outcome::Failed(_), _) | (_, Outcome::Failed(_)) => false,
        _ => true,
    }
}

/// A task that came to a value must be one that can, and so must all that it needs.
fn must_be_able(no: Option<TaskNo>, plan: &Plan) -> Result<(), String> {
    let Some(no) = no else { return Ok(()) };
    let doomed = plan.doomed(no).map(|culprit| plan.tasks[culprit].id);
    doomed.map_or(Ok(()), |culprit| Err(format!("has a value although {culprit} must fail")))
}

fn attempts_add_up(failure: &TaskFailure) -> Result<(), String> {
    let numbers: Vec<u32> = failure.attempts.iter().map(|attempt| attempt.attempt).collect();
    if !numbers.is_sorted_by(|a, b| a < b) {
        return Err(format!("has attempts out of order: {numbers:?}"));
    }
    Ok(())
}

/// Whether the failure of the first task that failed is one that it has met.
fn happened(root: TaskNo, failure: &TaskFailure, world: &World) -> Result<(), String> {
    let (plan, record) = (&*world.plan, &world.record);
    let task = &plan.tasks[root];
    let (retries, crashes) = (task.options.retries, task.options.crash_retries);
    let count = |fate| record.count(root, fate);
    let anew = record.submitted_anew(plan, root);
    let exactly = |planned, what, seen, allowed| limits(planned, what, seen, allowed, anew);
    match &failure.kind {
        FailureKind::Error { .. } | FailureKind::Panicked { .. } | FailureKind::Raised { .. } => {
            let broken = broken_by_child(root, plan, record);
            let planned = matches!(task.ending, Ending::Errs(_)) || broken;
            exactly(planned, "errors", count(Fate::Erred), retries + 1)
        }
        FailureKind::Died(_) | FailureKind::WorkerLost { .. } if world.is_lossy() => {
            // It may have been with workers that were lost, and not have begun there.
            let deaths = count(Fate::Died) + world.losses;
            if deaths > crashes { Ok(()) } else { Err(format!("failed after {deaths} deaths")) }
        }
        FailureKind::Died(_) => exactly(true, "deaths", count(Fate::Died), crashes + 1),
        FailureKind::TimeLimit { limit_us } => {
            let hangs =
                task.ending == Ending::Hangs && task.options.time_limit_us == Some(*limit_us);
            exactly(hangs, "time limits", count(Fate::Stopped), retries + 1)
        }
        FailureKind::MemoryLimit { limit, used } => {
            let swells =
                task.ending == Ending::Swells(*used) && task.options.memory_limit == Some(*limit);
            exactly(swells, "memory limits", count(Fate::Stopped), retries + 1)
        }
        FailureKind::Cancelled { .. } => {
            let mut above = Some(root);
            while let Some(no) = above {
                if world.cancelled.contains(&no) {
                    return Ok(());
                }
                above = plan.tasks[no].parent;
            }
            Err(format!("{} was cancelled by nobody", task.id))
        }
        FailureKind::Deadline if task.options.deadline_unix_us.is_some() => Ok(()),
        FailureKind::Infeasible { .. } if plan.infeasible.contains(&root) => Ok(()),
        // Its worker could start no executor, several times in a row.
        FailureKind::Infeasible { .. } if world.faults.start_failure > 0 => Ok(()),
        other => Err(format!("{} failed by itself: {other:?}", task.id)),
    }
}

/// A task fails of its own when something that it submitted and waits for has failed.
fn broken_by_child(no: TaskNo, plan: &Plan, record: &Record) -> bool {
    let children = &plan.tasks[no].children;
    children.iter().any(|&child| record.count(child, Fate::Well) == 0)
}

fn limits(planned: bool, what: &str, seen: u32, allowed: u32, anew: bool) -> Result<(), String> {
    if !planned {
        return Err(format!("failed by {what}, which were not planned"));
    }
    // One that was submitted anew has a record of both lives.
    if seen < allowed || (seen > allowed && !anew) {
        return Err(format!("failed after {seen} {what} where {allowed} are the limit"));
    }
    Ok(())
}
