//! A batch of tasks that is still open: rows are appended until the other side takes it.

use bytes::Bytes;
use manyhands_proto::graph::{GraphBatch, Input, TaskRow};
use manyhands_proto::task::TaskOptions;
use manyhands_proto::{JobId, Lane, ObjectId};

/// Rows of one batch at most: some hundreds of KiB, so that the scheduler begins with the first
/// while the next are made.
pub(crate) const ROWS: usize = 4096;

/// Bytes of arguments in one batch, after which it is full.
const ARGS: usize = 1 << 20;

/// Different options that one batch looks through before it adds another row of the same.
const OPTIONS_SEARCHED: usize = 32;

/// One task to append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) function: u32,
    pub(crate) outputs: u16,
    pub(crate) rank: u32,
    pub(crate) flags: u8,
    pub(crate) args: &'a [u8],
    /// What differs from the default.
    pub(crate) options: Option<&'a TaskOptions>,
}

/// The open batch of one job.
#[derive(Debug, Default)]
pub(crate) struct Forming {
    pub(crate) first_seq: u64,
    options: Vec<TaskOptions>,
    sources: Vec<(JobId, Lane)>,
    rows: Vec<TaskRow>,
    inputs: Vec<Input>,
    args: Vec<u8>,
}

impl Forming {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS || self.args.len() >= ARGS
    }

    /// An input of the row that the next [`Forming::push`] appends.
    pub(crate) fn input(&mut self, object: ObjectId) {
        let source = (object.task.job, object.task.lane);
        let known = self.sources.iter().rposition(|known| *known == source);
        let number = known.unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        let input = Input { source: number as u32, index: object.index, seq: object.task.seq };
        self.inputs.push(input);
    }

    /// Appends a task with the inputs since the last one.
    pub(crate) fn push(&mut self, row: Row<'_>) {
        let options = self.option(row.options);
        self.args.extend_from_slice(row.args);
        self.rows.push(TaskRow {
            function: row.function,
            options,
            outputs: row.outputs,
            rank: row.rank,
            inputs_end: self.inputs.len() as u32,
            args_end: self.args.len() as u32,
            flags: row.flags,
        });
    }

    fn option(&mut self, options: Option<&TaskOptions>) -> u16 {
        if self.options.is_empty() {
            self.options.push(TaskOptions::default());
        }
        let Some(options) = options else { return 0 };
        let recent = self.options.len().saturating_sub(OPTIONS_SEARCHED);
        let known = self.options[recent..].iter().position(|known| known == options);
        let number = known.map(|i| recent + i).unwrap_or_else(|| {
            self.options.push(options.clone());
            self.options.len() - 1
        });
        number as u16
    }

    /// The row of a task, if it is in this batch.
    pub(crate) fn row(&mut self, seq: u64) -> Option<&mut TaskRow> {
        self.rows.get_mut(seq.checked_sub(self.first_seq)? as usize)
    }

    /// Closes the batch. The next one begins behind it.
    pub(crate) fn take(&mut self, job: JobId, lane: Lane, more: bool) -> GraphBatch {
        let closed = std::mem::take(self);
        self.first_seq = closed.first_seq + closed.rows.len() as u64;
        GraphBatch {
            job,
            lane,
            first_seq: closed.first_seq,
            options: closed.options,
            sources: closed.sources,
            rows: closed.rows,
            inputs: closed.inputs,
            args: Bytes::from(closed.args),
            more,
        }
    }
}
