//! The record of an object: who keeps it alive, and where it is.

use manyhands_proto::value::Codec;
use smallvec::SmallVec;

use crate::holders::Interests;
use crate::slab::{ContainsIdx, CopiesIdx, TaskIdx, ValueIdx, WorkerIdx};

/// An object: the task that makes it, and which of its objects it is. A record that names one keeps
/// the task's record alive, so that this never dangles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjRef {
    pub(crate) task: TaskIdx,
    pub(crate) index: u32,
}

/// Whether an object exists.
#[derive(Debug)]
pub(crate) enum ObjectState {
    /// Not yet made (or to be made again). The waiting tasks that need it, as often as they name
    /// it.
    Pending(SmallVec<[TaskIdx; 4]>),
    /// It exists.
    There(There),
    /// It was made, and is no more: nobody needed it, or it was lost; or its task failed.
    Gone,
}

/// Where an object that exists is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct There {
    /// Encoded, in bytes.
    pub(crate) size: u64,
    /// A worker that has it; none if only the scheduler does.
    pub(crate) copy: WorkerIdx,
    /// Further workers that have it.
    pub(crate) more: CopiesIdx,
    /// Its bytes in the scheduler's memory.
    pub(crate) value: ValueIdx,
    /// The handles that it contains.
    pub(crate) contains: ContainsIdx,
}

/// An object as the scheduler knows it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) state: ObjectState,
    /// The sessions that hold it or want to be told of it.
    pub(crate) interests: Interests,
    /// Tasks that have not ended and name it among their inputs, as often as they do.
    pub(crate) needed_by: u32,
    /// Objects that exist and contain a handle to it.
    pub(crate) contained_by: u32,
    /// How to read it, once it exists.
    pub(crate) codec: Codec,
    /// A worker was asked for its value and has not answered.
    pub(crate) asked: bool,
}

impl Object {
    pub(crate) fn pending() -> Object {
        Object {
            state: ObjectState::Pending(SmallVec::new()),
            interests: Interests::None,
            needed_by: 0,
            contained_by: 0,
            codec: Codec(0),
            asked: false,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.needed_by > 0 || self.contained_by > 0 || !self.interests.is_empty()
    }

    pub(crate) fn there(&self) -> Option<&There> {
        match &self.state {
            ObjectState::There(there) => Some(there),
            _ => None,
        }
    }
}
