//! Plans as the messages that submit them.

use bytes::Bytes;
use manyhands_proto::graph::{GraphBatch, Input, TaskRow};
use manyhands_proto::{JobId, Lane};

use crate::plan::{Plan, TaskNo, encode_args};

/// These tasks, which have consecutive numbers in one lane, as a batch. `flags` says of each what
/// the session wants of it.
pub fn batch(
    plan: &Plan,
    tasks: &[TaskNo],
    more: bool,
    mut flags: impl FnMut(TaskNo) -> u8,
) -> GraphBatch {
    let first = plan.tasks[tasks[0]].id;
    let (mut options, mut sources) = (Vec::new(), Vec::new());
    let (mut rows, mut inputs, mut args) = (Vec::new(), Vec::new(), Vec::new());
    for &no in tasks {
        let task = &plan.tasks[no];
        for object in &task.inputs {
            let source = position(&mut sources, (object.task.job, object.task.lane)) as u32;
            inputs.push(Input { source, index: object.index, seq: object.task.seq });
        }
        args.extend_from_slice(&encode_args(task));
        rows.push(TaskRow {
            function: task.function,
            options: position(&mut options, task.options.clone()) as u16,
            outputs: task.outputs.len() as u16,
            rank: task.rank,
            inputs_end: inputs.len() as u32,
            args_end: args.len() as u32,
            flags: flags(no),
        });
    }
    let args = Bytes::from(args);
    let (job, lane, first_seq): (JobId, Lane, u64) = (first.job, first.lane, first.seq);
    GraphBatch { job, lane, first_seq, options, sources, rows, inputs, args, more }
}

fn position<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    // The last one is the likely one: tasks of a kind stand together.
    if let Some(found) = list.iter().rposition(|known| *known == item) {
        return found;
    }
    list.push(item);
    list.len() - 1
}
