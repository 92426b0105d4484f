//! What the tasks of a run are, what they do, and what must come of them: known before it begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::client::{Environment, FunctionSpec, Runtime};
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::{Codec, INLINE_LIMIT, Value};
use manyhands_proto::{FunctionId, JobId, Lane, ObjectId, TaskId};
use rustc_hash::FxHashMap;

use crate::rng::{mix, mix2};

/// A task's number in [`Plan::tasks`].
pub type TaskNo = usize;

/// How an attempt ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// With its values.
    Well,
    /// The first so many attempts return an error or panic, then it ends well.
    Errs(u32),
    /// The first so many attempts kill their executor, then it ends well.
    Crashes(u32),
    /// Every attempt runs past the time limit.
    Hangs,
    /// Every attempt comes to own this much memory, more than its limit.
    Swells(u64),
}

/// A task.
#[derive(Clone, Debug)]
pub struct TaskPlan {
    /// Its id.
    pub id: TaskId,
    /// Its job, a number in [`Plan::jobs`].
    pub job: usize,
    /// Its function's slot.
    pub function: u32,
    /// What its arguments refer to, in order; the same object may come twice.
    pub inputs: Vec<ObjectId>,
    /// Size in bytes of each value that it returns.
    pub outputs: Vec<u64>,
    /// How long it runs, without what it waits for.
    pub duration_us: u64,
    /// How it ends.
    pub ending: Ending,
    /// It makes a stream while it runs.
    pub stream: Option<StreamPlan>,
    /// It submits these and waits for them, half-way through.
    pub children: Vec<TaskNo>,
    /// It puts a value of this size into the store, half-way through, and releases it at its end.
    pub puts: Option<u64>,
    /// Its first value contains a handle to the first child's first value.
    pub hands_over: bool,
    /// Whether it heeds an interrupt; one that does not is killed.
    pub heeds: bool,
    /// What the user asked of it.
    pub options: TaskOptions,
    /// Order within its graph.
    pub rank: u32,
    /// The task that submits it, if no client does.
    pub parent: Option<TaskNo>,
}

/// What a task puts one after the other.
#[derive(Clone, Copy, Debug)]
pub struct StreamPlan {
    /// How many items there are.
    pub items: u64,
    /// Bytes of each.
    pub size: u64,
}

/// A value that a client puts before it submits.
#[derive(Clone, Debug)]
pub struct PutPlan {
    /// Its id.
    pub object: ObjectId,
    /// Its job.
    pub job: usize,
    /// Bytes.
    pub size: u64,
    /// The worker in whose store it lies; inline if `None`.
    pub at: Option<usize>,
}

/// A job.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// Its id.
    pub id: JobId,
    /// The client that owns it.
    pub client: usize,
    /// Its share.
    pub weight: u32,
    /// Values put first.
    pub puts: Vec<PutPlan>,
    /// Tasks that the client submits itself, in order.
    pub tasks: Vec<TaskNo>,
}

/// Everything that is submitted in a run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All tasks, nested ones as well.
    pub tasks: Vec<TaskPlan>,
    /// All jobs.
    pub jobs: Vec<JobPlan>,
    /// Which task an id is.
    pub by_id: FxHashMap<TaskId, TaskNo>,
    /// Whose stream's items a lane names.
    by_item_lane: FxHashMap<(JobId, Lane), TaskNo>,
    /// The functions are those of several programs.
    pub programs: bool,
    /// Some functions are Python's, in two environments, one of which has an archive of modules.
    pub pythons: bool,
    /// Tasks that ask for what no worker has.
    pub infeasible: BTreeSet<TaskNo>,
    /// Tasks that must fail, or need one that must; and which that is.
    doomed: Vec<Option<TaskNo>>,
    /// The right value of every object that can come to exist: a hash of its id and of all that
    /// went into it.
    truth: FxHashMap<ObjectId, u64>,
}

/// The archive of modules of an environment, by its hash.
const ARCHIVE: u128 = 7;

/// Functions that the plans' tasks run.
pub const FUNCTIONS: u32 = 6;

impl Plan {
    /// Computes ids' numbers and the truth. Tasks come after what they need, children after their
    /// parents.
    pub fn finish(&mut self) {
        self.by_id = self.tasks.iter().enumerate().map(|(no, task)| (task.id, no)).collect();
        let streams = self.tasks.iter().enumerate().filter(|(_, task)| task.stream.is_some());
        let lanes = streams.map(|(no, task)| ((task.id.job, task.id.item_lane()), no));
        self.by_item_lane = lanes.collect();
        for job in &self.jobs {
            for put in &job.puts {
                self.truth.insert(put.object, put_value(put.object));
            }
        }
        // Children stand after their parents and the parents' value needs theirs: two passes over
        // each, children first, until a task's inputs and children are all known.
        for no in 0..self.tasks.len() {
            self.settle(no);
        }
        self.doomed = vec![None; self.tasks.len()];
        for no in 0..self.tasks.len() {
            let producers =
                self.tasks[no].inputs.iter().filter_map(|input| self.by_id.get(&input.task));
            let by_input = producers.filter_map(|&producer| self.doomed[producer]).next();
            self.doomed[no] = if self.must_fail(no) { Some(no) } else { by_input };
        }
        for no in (0..self.tasks.len()).rev() {
            // Children stand after their parents, and take them along.
            if let (Some(culprit), Some(parent)) = (self.doomed[no], self.tasks[no].parent) {
                self.doomed[parent].get_or_insert(culprit);
            }
        }
    }

    fn must_fail(&self, no: TaskNo) -> bool {
        let task = &self.tasks[no];
        match task.ending {
            Ending::Well => self.infeasible.contains(&no),
            Ending::Errs(times) => times > task.options.retries,
            Ending::Crashes(times) => times > task.options.crash_retries,
            Ending::Hangs | Ending::Swells(_) => true,
        }
    }

    /// What makes it sure that a task fails.
    pub fn doomed(&self, no: TaskNo) -> Option<TaskNo> {
        self.doomed[no]
    }

    fn settle(&mut self, no: TaskNo) -> u64 {
        let id = self.tasks[no].id;
        if let Some(&known) = self.truth.get(&id.object(0)) {
            return known;
        }
        let mut hash = mix2(id.lane.0, id.seq) ^ mix(id.job.0.as_u128() as u64);
        for input in self.tasks[no].inputs.clone() {
            let value = match self.by_id.get(&input.task) {
                Some(&producer) => {
                    self.settle(producer);
                    self.truth[&input]
                }
                None => self.truth[&input],
            };
            hash = mix2(hash, value);
        }
        for child in self.tasks[no].children.clone() {
            hash = mix2(hash, self.settle(child));
        }
        if self.tasks[no].puts.is_some() {
            let object = self.put_by(no);
            self.truth.insert(object, put_value(object));
        }
        for number in 0..self.tasks[no].stream.map_or(0, |stream| stream.items) {
            self.truth.insert(id.item(number), mix2(hash, number ^ 0x17e8));
        }
        for index in 0..self.tasks[no].outputs.len() {
            self.truth.insert(id.object(index as u32), mix2(hash, index as u64));
        }
        self.truth[&id.object(0)]
    }

    /// The right value of an object.
    pub fn value(&self, object: ObjectId) -> Option<u64> {
        self.truth.get(&object).copied()
    }

    /// The task whose stream an object is, or would be, an item of.
    pub fn maker_of(&self, object: ObjectId) -> Option<TaskNo> {
        self.by_item_lane.get(&(object.task.job, object.task.lane)).copied()
    }

    /// The size that the object was planned with.
    pub fn size(&self, object: ObjectId) -> Option<u64> {
        if let Some(maker) = self.maker_of(object) {
            return self.tasks[maker].stream.map(|stream| stream.size);
        }
        let task = &self.tasks[*self.by_id.get(&object.task)?];
        task.outputs.get(object.index as usize).copied()
    }

    /// What runs a task. Children are of their parent's runtime.
    pub fn runtime_of(&self, no: TaskNo) -> Runtime {
        let mut no = no;
        while let Some(parent) = self.tasks[no].parent {
            no = parent;
        }
        self.runtime(self.tasks[no].function)
    }

    /// What runs the function of a slot, if a client calls it.
    fn runtime(&self, slot: u32) -> Runtime {
        match slot {
            4.. if self.pythons => {
                let archive = if slot == 5 { ARCHIVE } else { 0 };
                Runtime::Python(Arc::new(Environment { archive, ..Environment::default() }))
            }
            _ if self.programs => Runtime::Rust { program: program(slot) },
            _ => Runtime::Rust { program: 0 },
        }
    }

    /// The functions as a client describes them, slot by slot.
    pub fn functions(&self) -> Vec<FunctionSpec> {
        (0..FUNCTIONS).map(|slot| function(slot, self.runtime(slot))).collect()
    }

    /// The functions as a running task describes them: all of its own runtime.
    pub fn functions_of(&self, no: TaskNo) -> Vec<FunctionSpec> {
        let own = self.runtime_of(no);
        let described = |slot| FunctionSpec {
            // Which is known by this name there.
            runtime: Runtime::Rust { program: 0 },
            ..function(slot, own.clone())
        };
        (0..FUNCTIONS).map(described).collect()
    }

    /// The objects that a task returns.
    pub fn objects_of(&self, no: TaskNo) -> impl Iterator<Item = ObjectId> {
        let task = &self.tasks[no];
        (0..task.outputs.len() as u32).map(|index| task.id.object(index))
    }

    /// The object that a task puts: it takes the number after its children's.
    pub fn put_by(&self, no: TaskNo) -> ObjectId {
        let id = self.tasks[no].id;
        let seq = self.tasks[no].children.len() as u64;
        TaskId { job: id.job, lane: id.child_lane(), seq }.object(0)
    }

    /// The longest way through the graph, microseconds.
    pub fn critical_path_us(&self) -> u64 {
        let mut ends = vec![0u64; self.tasks.len()];
        for no in 0..self.tasks.len() {
            let task = &self.tasks[no];
            let producers = task.inputs.iter().filter_map(|input| self.by_id.get(&input.task));
            let start = producers.map(|&producer| ends[producer]).max().unwrap_or(0);
            ends[no] = start + task.duration_us;
        }
        ends.into_iter().max().unwrap_or(0)
    }

    /// All durations together, microseconds.
    pub fn work_us(&self) -> u64 {
        self.tasks.iter().map(|task| task.duration_us).sum()
    }

    /// Whether `root` is `task` or something that it needs or waits for.
    pub fn descends(&self, task: TaskNo, root: TaskNo) -> bool {
        self.any_above(task, |no| no == root)
    }

    /// Whether a task, or something that it needs or waits for, needs an object.
    pub fn needs(&self, task: TaskNo, object: ObjectId) -> bool {
        self.any_above(task, |no| self.tasks[no].inputs.contains(&object))
    }

    fn any_above(&self, task: TaskNo, is_it: impl Fn(TaskNo) -> bool) -> bool {
        let mut seen = vec![false; self.tasks.len()];
        let mut stack = vec![task];
        while let Some(no) = stack.pop() {
            if is_it(no) {
                return true;
            }
            if std::mem::replace(&mut seen[no], true) {
                continue;
            }
            let task = &self.tasks[no];
            stack.extend(task.inputs.iter().filter_map(|input| self.by_id.get(&input.task)));
            stack.extend(&task.children);
        }
        false
    }
}

impl TaskPlan {
    /// Whether it does something half-way through.
    pub fn pauses(&self) -> bool {
        !self.children.is_empty() || self.puts.is_some() || self.stream.is_some()
    }

    /// How long an item of its stream takes, microseconds.
    pub fn item_us(&self) -> u64 {
        self.stream.map_or(0, |stream| self.duration_us / 2 / (stream.items + 1))
    }
}

fn put_value(object: ObjectId) -> u64 {
    mix2(mix2(object.task.lane.0, object.task.seq), 0x7075)
}

/// A value as it travels: its hash, then zeros up to its size.
pub fn encode_value(hash: u64, size: u64) -> Value {
    debug_assert!(size as usize <= INLINE_LIMIT);
    let mut bytes = vec![0; size.max(8) as usize];
    bytes[..8].copy_from_slice(&hash.to_le_bytes());
    Value { codec: Codec::RAW, bytes: Bytes::from(bytes) }
}

/// What [`encode_value`] was given.
pub fn decode_value(value: &Value) -> Option<u64> {
    value.bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Whether a value of this size travels inside messages.
pub fn is_inline(size: u64) -> bool {
    size <= INLINE_LIMIT as u64
}

/// The encoded arguments of a task: a value made of its id, then its inputs by number.
pub fn encode_args(task: &TaskPlan) -> Vec<u8> {
    let mut args = vec![0, Codec::RAW.0, 8, 0, 0, 0];
    args.extend_from_slice(&mix2(task.id.lane.0, task.id.seq).to_le_bytes());
    for number in 0..task.inputs.len() as u32 {
        args.push(1);
        args.extend_from_slice(&number.to_le_bytes());
    }
    args
}

/// A function. Only those of Python have code.
fn function(slot: u32, runtime: Runtime) -> FunctionSpec {
    let id = FunctionId(u128::from(mix2(slot.into(), 0x66)));
    let code = match &runtime {
        Runtime::Rust { .. } => Bytes::new(),
        Runtime::Python(_) => code_of(id),
    };
    FunctionSpec { id, name: format!("function_{slot}"), runtime, code }
}

/// The code of a Python function.
pub fn code_of(id: FunctionId) -> Bytes {
    Bytes::copy_from_slice(&id.0.to_le_bytes())
}

/// The program of a function where there are several: 0 is that of the workers themselves.
fn program(slot: u32) -> u128 {
    u128::from(slot % 3)
}
