//! Who is who.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The work that belongs together. A UUIDv7 (RFC 9562), made by the client that opens the job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub Uuid);

/// Who hands out sequence numbers: a client's session has a lane of its own from its hello, and a
/// task that submits has the lane that [`TaskId::child_lane`] derives, so that a second attempt
/// names its children as the first did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane(pub u64);

/// A task: one call of a function within a job. Whoever submits hands these out without asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The job that the task belongs to.
    pub job: JobId,
    /// Who named it.
    pub lane: Lane,
    /// Its number in the lane, counted from 0 without gaps.
    pub seq: u64,
}

/// An object: return value number `index` of a task, or a value put by a client (which takes a
/// sequence number of the client's lane as a task does, with index 0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId {
    /// The task that returns it, or the sequence number it was put under.
    pub task: TaskId,
    /// Which of the task's values.
    pub index: u32,
}

/// A function, named by the hash of its content (128 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionId(pub u128);

/// One link of a client or worker to the scheduler, through all its connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A worker: the daemon of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub u32);

impl Lane {
    const NESTED: u64 = 1 << 63;

    /// Whether a task, and not a client, names its children in this lane.
    pub fn is_nested(self) -> bool {
        self.0 & Self::NESTED != 0
    }
}

impl TaskId {
    /// The lane in which this task names the tasks that it submits. Two tasks of one job share a
    /// lane with a probability of about n² / 2⁶⁴ for n tasks that submit.
    pub fn child_lane(self) -> Lane {
        Lane(mix(mix(self.lane.0) ^ self.seq) | Lane::NESTED)
    }

    /// The lane in which this task, if it makes a stream, names the items of that.
    pub fn item_lane(self) -> Lane {
        Lane(mix(self.child_lane().0) | Lane::NESTED)
    }

    /// Item `number` of the stream that this task makes, counted from 0.
    pub fn item(self, number: u64) -> ObjectId {
        let lane = self.item_lane();
        ObjectId { task: TaskId { job: self.job, lane, seq: number }, index: 0 }
    }

    /// Return value number `index`.
    pub fn object(self, index: u32) -> ObjectId {
        ObjectId { task: self, index }
    }
}

/// SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

// Tasks are hashed on hot paths. Lane and number tell the tasks of a job apart, and two jobs rarely
// meet in one map, so the job takes no part: equal ids still hash alike.
impl Hash for TaskId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.lane.0 ^ self.seq.rotate_left(32));
    }
}

impl Hash for ObjectId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.task.lane.0 ^ self.task.seq.rotate_left(32) ^ u64::from(self.index));
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first half of a UUIDv7 is its time: the last eight digits tell jobs apart.
        write!(f, "job-{:08x}", self.0.as_u128() as u32)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}.{}", self.job, self.lane.0, self.seq)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.task, self.index)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker-{}", self.0)
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

macro_rules! debug_as_display {
    ($($t:ty),*) => { $(impl fmt::Debug for $t {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    })* };
}
debug_as_display!(JobId, TaskId, ObjectId, WorkerId, FunctionId);

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane-{:x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session-{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_names_its_children_as_the_first_did() {
        let task = TaskId { job: JobId(Uuid::from_u128(7)), lane: Lane(1), seq: 42 };
        assert_eq!(task.child_lane(), task.child_lane());
        assert!(task.child_lane().is_nested());
        assert!(!task.lane.is_nested());
        let sibling = TaskId { seq: 43, ..task };
        assert_ne!(task.child_lane(), sibling.child_lane());
    }
}
