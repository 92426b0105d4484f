//! A batch of a task graph, in columns.
//!
//! A graph of a million tasks is sent as some hundreds of batches. A batch makes three allocations
//! however many tasks it has: rows, inputs, and one blob with everybody's encoded arguments.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{JobId, Lane, ObjectId, TaskId};
use crate::task::TaskOptions;

/// Tasks in one batch at most.
pub const BATCH_LIMIT: usize = 1 << 16;

/// Some tasks of one graph, in an order in which every task comes after what it needs.
/// The task of row `i` is `(job, lane, first_seq + i)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphBatch {
    /// The job.
    pub job: JobId,
    /// The submitter's lane.
    pub lane: Lane,
    /// Sequence number of the first row.
    pub first_seq: u64,
    /// The options that rows name by number.
    pub options: Vec<TaskOptions>,
    /// The lanes that inputs name by number.
    pub sources: Vec<(JobId, Lane)>,
    /// The tasks.
    pub rows: Vec<TaskRow>,
    /// All inputs, row after row.
    pub inputs: Vec<Input>,
    /// All encoded arguments, row after row (see [`crate::executor`] for the layout of one).
    pub args: Bytes,
    /// More batches of the same graph follow. Until the graph's last batch has arrived the session
    /// holds every node of it.
    pub more: bool,
}

/// One task of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// The session's slot for the function.
    pub function: u32,
    /// Index in [`GraphBatch::options`].
    pub options: u16,
    /// How many objects it returns, at least 1.
    pub outputs: u16,
    /// Order within the graph: smaller first (critical path, depth first; made by the client).
    pub rank: u32,
    /// Where its inputs end in [`GraphBatch::inputs`].
    pub inputs_end: u32,
    /// Where its arguments end in [`GraphBatch::args`].
    pub args_end: u32,
    /// See [`TaskRow::HELD`] and [`TaskRow::WANTED`].
    pub flags: u8,
}

impl TaskRow {
    /// The session holds all the task's objects from the start.
    pub const HELD: u8 = 1;
    /// The session wants to be told when the task ends, with small values.
    pub const WANTED: u8 = 2;
}

/// An object that a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Index in [`GraphBatch::sources`].
    pub source: u32,
    /// Which of the task's objects.
    pub index: u32,
    /// The task's number in its lane.
    pub seq: u64,
}

/// A batch that no honest client sends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Too many rows.
    #[error("a batch holds at most {BATCH_LIMIT} tasks, this one claims {0}")]
    TooManyRows(usize),
    /// A row's `args_end` or `inputs_end` goes backwards or past the end.
    #[error("row {0} of the batch has bounds outside its arguments or inputs")]
    Bounds(usize),
    /// A row names an option, or an input a source, that the batch does not carry.
    #[error("row {0} of the batch names options or a source that the batch does not carry")]
    Reference(usize),
    /// A row returns nothing.
    #[error("row {0} of the batch returns no object")]
    NoOutputs(usize),
    /// A row needs its own result or that of a later row: a cycle, or a wrong order.
    #[error("row {0} of the batch needs a task that does not come before it (a cycle?)")]
    Order(usize),
}

impl GraphBatch {
    /// Checks everything that [`GraphBatch::rows_with_parts`] and a scheduler rely on.
    pub fn validate(&self) -> Result<(), BatchError> {
        if self.rows.len() > BATCH_LIMIT {
            return Err(BatchError::TooManyRows(self.rows.len()));
        }
        let (mut args, mut inputs) = (0, 0);
        for (i, row) in self.rows.iter().enumerate() {
            if row.args_end < args
                || row.args_end as usize > self.args.len()
                || row.inputs_end < inputs
                || row.inputs_end as usize > self.inputs.len()
            {
                return Err(BatchError::Bounds(i));
            }
            if row.outputs == 0 {
                return Err(BatchError::NoOutputs(i));
            }
            if row.options as usize >= self.options.len() {
                return Err(BatchError::Reference(i));
            }
            let own_seq = self.first_seq + i as u64;
            for input in &self.inputs[inputs as usize..row.inputs_end as usize] {
                let Some(source) = self.sources.get(input.source as usize) else {
                    return Err(BatchError::Reference(i));
                };
                if *source == (self.job, self.lane) && input.seq >= own_seq {
                    return Err(BatchError::Order(i));
                }
            }
            (args, inputs) = (row.args_end, row.inputs_end);
        }
        Ok(())
    }

    /// Every row with its id, its inputs and where its arguments lie in `args`. The batch must have
    /// passed [`GraphBatch::validate`].
    pub fn rows_with_parts(
        &self,
    ) -> impl Iterator<Item = (TaskId, &TaskRow, &[Input], std::ops::Range<u32>)> {
        let (mut args, mut inputs) = (0, 0);
        self.rows.iter().enumerate().map(move |(i, row)| {
            let own_inputs = &self.inputs[inputs as usize..row.inputs_end as usize];
            let own_args = args..row.args_end;
            (args, inputs) = (row.args_end, row.inputs_end);
            let id = TaskId { job: self.job, lane: self.lane, seq: self.first_seq + i as u64 };
            (id, row, own_inputs, own_args)
        })
    }

    /// The object that an input of this batch names.
    pub fn object(&self, input: &Input) -> ObjectId {
        let (job, lane) = self.sources[input.source as usize];
        TaskId { job, lane, seq: input.seq }.object(input.index)
    }
}
