//! Functions, and what is known of their tasks so far.

use manyhands_proto::FunctionId;
use manyhands_proto::client::{FunctionSpec, Runtime};
use rustc_hash::FxHashMap;

use crate::slab::FnIdx;

/// What a task of a function that never ended is reckoned with, in microseconds: as much as is sent
/// ahead to a slot, so that few are sent before the first has ended.
pub(crate) const UNKNOWN_US: u32 = 5_000;

/// How much of the average one task makes, as a shift.
const WEIGHT: u32 = 3;

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) spec: FunctionSpec,
    /// Moving average of the durations, microseconds in 1/256; `None` before the first end.
    duration: Option<u64>,
    /// Moving average of the bytes returned.
    bytes: u64,
}

impl Function {
    /// How long a task will take, in microseconds.
    pub(crate) fn expected_us(&self) -> u32 {
        self.duration.map_or(UNKNOWN_US, |us| u32::try_from(us >> 8).unwrap_or(u32::MAX))
    }

    /// The same for people and workers: 0 when it is not known.
    pub(crate) fn known_us(&self) -> u32 {
        self.duration.map_or(0, |us| u32::try_from(us >> 8).unwrap_or(u32::MAX).max(1))
    }

    /// Bytes that a task will return; 0 when it is not known.
    pub(crate) fn expected_bytes(&self) -> u64 {
        self.bytes
    }

    /// A task ended well.
    pub(crate) fn ended(&mut self, duration_us: Option<u32>, bytes: u64) {
        let first = self.duration.is_none();
        if let Some(us) = duration_us {
            let us = u64::from(us) << 8;
            self.duration = Some(self.duration.map_or(us, |old| average(old, us)));
        }
        self.bytes = if first { bytes } else { average(self.bytes, bytes) };
    }
}

fn average(old: u64, new: u64) -> u64 {
    // Rounded towards the new value, so that it is reached.
    if new > old {
        old + (new - old).div_ceil(1 << WEIGHT)
    } else {
        old - (old - new).div_ceil(1 << WEIGHT)
    }
}

/// All functions, by the slot number that workers know them by.
#[derive(Default)]
pub(crate) struct Functions {
    table: Vec<Function>,
    /// By program, too: two builds may have other code for the same function.
    ids: FxHashMap<(FunctionId, Runtime), FnIdx>,
}

impl Functions {
    pub(crate) fn intern(&mut self, spec: FunctionSpec) -> FnIdx {
        let key = (spec.id, spec.runtime.clone());
        if let Some(index) = self.ids.get(&key) {
            return *index;
        }
        let index = FnIdx(self.table.len() as u32);
        self.ids.insert(key, index);
        self.table.push(Function { spec, duration: None, bytes: 0 });
        index
    }

    pub(crate) fn get(&self, index: FnIdx) -> &Function {
        &self.table[index.0 as usize]
    }

    pub(crate) fn get_mut(&mut self, index: FnIdx) -> &mut Function {
        &mut self.table[index.0 as usize]
    }

    /// A task's name for people; values that were put have no function.
    pub(crate) fn name(&self, index: FnIdx) -> &str {
        self.table.get(index.0 as usize).map_or("put", |function| &function.spec.name)
    }
}
