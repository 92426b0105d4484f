//! Functions: what the scheduler has described, and which executor was told of it.

use bytes::Bytes;
use manyhands_proto::FunctionId;
use manyhands_proto::client::{FunctionSpec, Runtime};
use manyhands_proto::executor::ToExecutor;
use manyhands_proto::task::FailureKind;

use crate::action::Action;
use crate::attempts::{Attempt, AttemptIx};
use crate::core::Core;
use crate::event::ExecutorId;

/// Functions that a worker knows at most. The scheduler numbers them without gaps, and uses the numbers
/// of those that are gone again.
const FUNCTIONS_LIMIT: usize = 1 << 20;

/// Functions that an executor is told of at most, and bytes of their code, before another one takes its
/// place: it never forgets one.
const TOLD_LIMIT: usize = 4096;
const TOLD_BYTES: usize = 64 << 20;

/// A function that the scheduler has described.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) id: FunctionId,
    pub(crate) name: String,
    pub(crate) runtime: Runtime,
    /// The pool of its runtime; none if that was forgotten.
    pub(crate) pool: Option<u32>,
    /// What executors have to be told of it; empty for most.
    pub(crate) code: Bytes,
    /// How long its tasks take here, in microseconds: a moving average.
    pub(crate) mean_us: Option<f32>,
}

impl Core {
    pub(crate) fn on_functions(&mut self, functions: Vec<(u32, FunctionSpec)>) {
        for (slot, spec) in functions {
            let at = slot as usize;
            if at >= FUNCTIONS_LIMIT {
                continue;
            }
            if self.functions.len() <= at {
                self.functions.resize_with(at + 1, || None);
            }
            match &self.functions[at] {
                Some(known) if known.id == spec.id && known.runtime == spec.runtime => continue,
                Some(_) => self.fail_calls(slot),
                None => {}
            }
            let FunctionSpec { id, name, code, runtime } = spec;
            let (pool, mean_us) = (None, None);
            self.functions[at] = Some(Function { id, name, runtime, pool, code, mean_us });
        }
    }

    /// The pool in which calls of a function run; `None` for a function that is not known.
    pub(crate) fn pool_of_function(&mut self, slot: u32) -> Option<u32> {
        let function = self.functions.get(slot as usize)?.as_ref()?;
        if let Some(pool) = function.pool {
            return Some(pool);
        }
        let runtime = function.runtime.clone();
        let pool = self.pool_of(&runtime);
        if let Some(Some(function)) = self.functions.get_mut(slot as usize) {
            function.pool = Some(pool);
        }
        Some(pool)
    }

    /// A slot stands for another function now. Nothing that has not begun may still mean the old one:
    /// the scheduler knows of no such task.
    fn fail_calls(&mut self, slot: u32) {
        let call = |(ix, attempt): (AttemptIx, &Attempt)| {
            (attempt.assignment.function == slot && attempt.executor().is_none()).then_some(ix)
        };
        let calls: Vec<AttemptIx> = self.attempts.iter().filter_map(call).collect();
        for ix in calls {
            let message = format!("function {slot} has become another one");
            self.fail_here(ix, FailureKind::Value { message });
        }
    }

    /// Before the first task of a function that is not part of its program an executor is told of that.
    #[inline]
    pub(crate) fn introduce(&mut self, id: ExecutorId, ix: AttemptIx, out: &mut Vec<Action>) {
        let slot = self.attempts[ix].assignment.function;
        if self.functions[slot as usize].as_ref().is_some_and(|f| !f.code.is_empty()) {
            self.tell_of_function(id, slot, out);
        }
    }

    fn tell_of_function(&mut self, id: ExecutorId, slot: u32, out: &mut Vec<Action>) {
        let Some(Some(function)) = self.functions.get(slot as usize) else { return };
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        if !executor.told.insert(function.id) {
            return;
        }
        executor.told_bytes += function.code.len();
        let much = executor.told.len() >= TOLD_LIMIT || executor.told_bytes >= TOLD_BYTES;
        if much && !std::mem::replace(&mut executor.worn, true) {
            self.worn.push(id);
        }
        let (name, code) = (function.name.clone(), function.code.clone());
        let message = ToExecutor::Function { id: function.id, name, code };
        out.push(Action::ToExecutor { executor: id, message });
    }
}
