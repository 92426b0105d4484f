//! Functions, and what is known of their tasks so far.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::FunctionId;
use manyhands_proto::client::{Environment, FunctionSpec, Runtime};
use rustc_hash::{FxHashMap, FxHashSet};

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
    /// Sessions that name it, counted as often as they do.
    sessions: u32,
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
    /// Slots that nothing is in.
    vacant: Vec<FnIdx>,
    /// By program, too: two builds may have other code for the same function.
    ids: FxHashMap<(FunctionId, Runtime), FnIdx>,
    /// Environments that functions share: each came by itself.
    environments: FxHashSet<Arc<Environment>>,
    /// What the functions weigh that no session names any more, and how much of that to bear before
    /// somebody looks which of them no task needs either.
    idle_weight: u64,
    bearable: u64,
}

/// Bytes that a function is reckoned with besides its code.
const WEIGHT_OF_RECORD: u64 = 512;

/// What functions that no session names may weigh at least before somebody looks.
const BEARABLE: u64 = 8 << 20;

impl Function {
    fn weight(&self) -> u64 {
        weight(&self.spec)
    }
}

/// Bytes that a function takes, about.
pub(crate) fn weight(spec: &FunctionSpec) -> u64 {
    (spec.code.len() + spec.name.len()) as u64 + WEIGHT_OF_RECORD
}

impl Functions {
    /// The function of a spec, which one session more has.
    pub(crate) fn intern(&mut self, mut spec: FunctionSpec) -> FnIdx {
        self.share_environment(&mut spec.runtime);
        let key = (spec.id, spec.runtime.clone());
        if let Some(index) = self.ids.get(&key).copied() {
            let function = self.get_mut(index);
            function.sessions += 1;
            if function.sessions == 1 {
                self.idle_weight -= self.get(index).weight();
            }
            return index;
        }
        // It is part of a message, all of which it would keep.
        spec.code = Bytes::copy_from_slice(&spec.code);
        let function = Function { spec, sessions: 1, duration: None, bytes: 0 };
        let index = match self.vacant.pop() {
            Some(index) => {
                *self.get_mut(index) = function;
                index
            }
            None => {
                self.table.push(function);
                FnIdx(self.table.len() as u32 - 1)
            }
        };
        self.ids.insert(key, index);
        index
    }

    fn share_environment(&mut self, runtime: &mut Runtime) {
        let Runtime::Python(environment) = runtime else { return };
        match self.environments.get(environment) {
            Some(known) => *environment = known.clone(),
            None => drop(self.environments.insert(environment.clone())),
        }
    }

    /// A session does not name a function any more.
    pub(crate) fn release(&mut self, index: FnIdx) {
        let function = self.get_mut(index);
        function.sessions -= 1;
        if function.sessions == 0 {
            self.idle_weight += self.get(index).weight();
        }
    }

    /// Whether to look for functions that nobody needs.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.idle_weight > self.bearable.max(BEARABLE)
    }

    /// Forgets the functions that no session names and that are not `needed` by tasks. Hands out
    /// their slots, which others will have.
    pub(crate) fn sweep(&mut self, needed: &FxHashSet<FnIdx>) -> Vec<FnIdx> {
        let idle = |index: &FnIdx| self.get(*index).sessions == 0 && !needed.contains(index);
        let mut gone: Vec<FnIdx> = self.ids.values().copied().filter(idle).collect();
        gone.sort_unstable();
        for index in &gone {
            let nothing = FunctionSpec::rust(FunctionId(0), "", 0);
            let spec = std::mem::replace(&mut self.get_mut(*index).spec, nothing);
            self.idle_weight -= weight(&spec);
            self.ids.remove(&(spec.id, spec.runtime));
        }
        self.vacant.extend(&gone);
        // One here, and one for each function that has it, twice.
        self.environments.retain(|environment| Arc::strong_count(environment) > 1);
        self.bearable = 2 * self.idle_weight;
        gone
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

    /// Panics if what is counted is not so. `named`: by sessions, as often as they do.
    pub(crate) fn check(&self, named: &FxHashMap<FnIdx, u32>) {
        let mut idle_weight = 0;
        for index in self.ids.values() {
            let function = self.get(*index);
            let sessions = named.get(index).copied().unwrap_or(0);
            assert_eq!(function.sessions, sessions, "{} counts its sessions", function.spec.name);
            idle_weight += if sessions == 0 { function.weight() } else { 0 };
        }
        assert_eq!(idle_weight, self.idle_weight, "what idle functions weigh is counted");
        let slots = self.ids.len() + self.vacant.len();
        assert_eq!(slots, self.table.len(), "each slot has a function or is vacant");
    }
}
