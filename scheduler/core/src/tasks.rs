//! The record of a task, and the states that it goes through.

use manyhands_proto::task::Failed;
use smallvec::SmallVec;

use crate::objects::{ObjRef, Object};
use crate::slab::{BlobIdx, FnIdx, LaneIdx, OptIdx, TaskIdx, WorkerIdx};

/// What a task is about to do, does, or came to.
#[derive(Debug)]
pub(crate) enum State {
    /// Needs this many inputs (counted as often as they are named) that do not exist yet.
    Waiting { missing: u32 },
    /// Lies in a queue of its job.
    Ready,
    /// With a worker.
    Assigned {
        worker: WorkerIdx,
        /// Where it stands in [`crate::workers::Worker::assigned`].
        position: u32,
        /// What was charged for it, in microseconds of one slot.
        expected_us: u32,
    },
    /// Ended well. Its objects may be gone by now; while the record has its inputs it can run
    /// again.
    Done,
    /// Ended badly.
    Failed(Box<Failed>),
}

/// Facts about a task that are true or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    /// A value that was put: it never runs.
    pub(crate) const PUT: u16 = 1;
    /// Its current attempt waits for objects and lends its slot away.
    pub(crate) const BLOCKED: u16 = 2;
    /// Its current attempt has waited for objects: how long it took says little.
    pub(crate) const HAS_WAITED: u16 = 4;
    /// Its current attempt speaks as a client.
    pub(crate) const SPEAKS: u16 = 8;
    /// Its worker was asked to give it back.
    pub(crate) const RETRACTING: u16 = 16;
    /// Its worker refused to give it back: it has begun.
    pub(crate) const KEPT: u16 = 32;
    /// Counted among the records that are kept only as lineage.
    pub(crate) const LINEAGE: u16 = 64;
    /// It cannot run again: its inputs or arguments are forgotten.
    pub(crate) const HOLLOW: u16 = 128;
    /// Runs on top of a blocked task.
    pub(crate) const IN_PLACE: u16 = 256;
    /// Its failures so far are on record.
    pub(crate) const HAS_FAILED: u16 = 512;
    /// Its current attempt was told to stop.
    pub(crate) const STOPPING: u16 = 1024;
    /// Room for its output is reserved at its worker.
    pub(crate) const RESERVED: u16 = 2048;
    /// A worker gave it back once: it stays where it is placed next, even if that is the same
    /// worker, or the two would pass it to and fro.
    pub(crate) const MOVED: u16 = 4096;

    /// It waits for a time, too: its inputs could not be fetched.
    pub(crate) const RESTS: u16 = 8192;

    /// An item of a stream: it never runs by itself, and is made by its one input's task.
    pub(crate) const ITEM: u16 = 16384;
    /// It makes a stream.
    pub(crate) const STREAM: u16 = 32768;

    /// All that says something about one attempt and not about the task.
    pub(crate) const OF_ATTEMPT: u16 = Self::BLOCKED
        | Self::HAS_WAITED
        | Self::SPEAKS
        | Self::RETRACTING
        | Self::KEPT
        | Self::IN_PLACE
        | Self::RESERVED;

    pub(crate) fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u16) {
        self.0 |= flag;
    }

    pub(crate) fn clear(&mut self, flags: u16) {
        self.0 &= !flags;
    }
}

/// Where a task's arguments lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args {
    pub(crate) blob: BlobIdx,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Args {
    pub(crate) const NONE: Args = Args { blob: BlobIdx::NONE, start: 0, end: 0 };
}

/// A task, or a value that was put. Everything that a million of them have is in here, so it is
/// kept small.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) seq: u64,
    /// Smaller runs earlier: priority, depth and rank (see [`order`]).
    pub(crate) order: u64,
    pub(crate) lane: LaneIdx,
    pub(crate) function: FnIdx,
    pub(crate) options: OptIdx,
    pub(crate) args: Args,
    /// Attempts begun so far. The current one, while there is one, is this less one.
    pub(crate) attempts: u32,
    /// Records that name this one among their inputs, counted as often as they do.
    pub(crate) refs: u32,
    pub(crate) flags: Flags,
    pub(crate) state: State,
    pub(crate) inputs: SmallVec<[ObjRef; 2]>,
    /// Its object number 0.
    pub(crate) first: Object,
    /// Its further objects.
    pub(crate) others: Option<Box<SmallVec<[Object; 1]>>>,
}

impl Task {
    pub(crate) fn outputs(&self) -> usize {
        1 + self.others.as_ref().map_or(0, |others| others.len())
    }

    pub(crate) fn object(&self, index: u32) -> Option<&Object> {
        match index {
            0 => Some(&self.first),
            _ => self.others.as_ref()?.get(index as usize - 1),
        }
    }

    pub(crate) fn object_mut(&mut self, index: u32) -> Option<&mut Object> {
        match index {
            0 => Some(&mut self.first),
            _ => self.others.as_mut()?.get_mut(index as usize - 1),
        }
    }

    /// All its objects, in order.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        std::iter::once(&self.first).chain(self.others.iter().flat_map(|others| others.iter()))
    }

    /// Whether anybody holds, needs or contains one of its objects.
    pub(crate) fn is_alive(&self) -> bool {
        self.first.is_alive()
            || self.others.as_ref().is_some_and(|others| others.iter().any(Object::is_alive))
    }

    /// It ended, well or badly, and will not run unless somebody needs it again.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Done | State::Failed(_))
    }

    pub(crate) fn worker(&self) -> Option<WorkerIdx> {
        match self.state {
            State::Assigned { worker, .. } => Some(worker),
            _ => None,
        }
    }

    /// A task without inputs: running it early only fills memory.
    pub(crate) fn is_root(&self) -> bool {
        self.inputs.is_empty()
    }

    /// How deep in a recursion of tasks that submit tasks it is.
    pub(crate) fn depth(&self) -> u16 {
        u16::MAX - (self.order >> 32) as u16
    }

    /// What one record takes, in bytes, for the limit on lineage.
    pub(crate) fn bytes(&self) -> u64 {
        let args = u64::from(self.args.end - self.args.start);
        let inputs =
            if self.inputs.spilled() { self.inputs.capacity() * size_of::<ObjRef>() } else { 0 };
        size_of::<Task>() as u64 + args + inputs as u64
    }
}

/// What orders tasks: larger priorities first (beyond ±32,767 they are equal), then the deeper of
/// nested tasks, so that a recursion runs depth first, then smaller ranks.
pub(crate) fn order(priority: i32, depth: u16, rank: u32) -> u64 {
    let priority = priority.clamp(i32::from(i16::MIN + 1), i32::from(i16::MAX));
    let priority = (i32::from(i16::MAX) - priority) as u64;
    priority << 48 | u64::from(u16::MAX - depth) << 32 | u64::from(rank)
}

/// A task's index with its number, to tell whether the record is still the one that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) task: TaskIdx,
    pub(crate) lane: LaneIdx,
    pub(crate) seq: u64,
}
