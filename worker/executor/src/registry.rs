//! The functions of this program that can run as tasks.
//!
//! Every `#[manyhands::task]` adds a [`TaskEntry`] to [`TASKS`] at link time, so an executor knows
//! its functions without running any code of the program's own.

use std::rc::Rc;

use bytes::Bytes;
use linkme::distributed_slice;
use manyhands_proto::FunctionId;
use manyhands_proto::task::FailureKind;
use rustc_hash::FxHashMap;

use crate::foreign::Declared;
use crate::invocation::Invocation;

/// The functions of this program, in no particular order.
#[distributed_slice]
pub static TASKS: [TaskEntry];

/// A function that can run as a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskEntry {
    /// Its name, for people: the path of the function.
    pub name: &'static str,
    /// What names it in messages: [`function_id`] of its path and signature.
    pub id: FunctionId,
    /// Decodes the arguments, calls the function and hands over what it returned.
    pub invoke: fn(&mut Invocation<'_>) -> Result<(), FailureKind>,
}

/// The id of a function: FNV-1a, 128 bits, of a text that tells it apart from all others of the
/// program (module path, name and signature). The same in every build of the same source.
pub const fn function_id(text: &str) -> FunctionId {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = text.as_bytes();
    let mut hash = OFFSET;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u128).wrapping_mul(PRIME);
        i += 1;
    }
    FunctionId(hash)
}

/// The function with this id, if this program has it. Looks through all of them.
pub fn find(id: FunctionId) -> Option<&'static TaskEntry> {
    TASKS.iter().find(|entry| entry.id == id)
}

/// All functions by id, and what is known of how long they run.
pub(crate) struct Functions {
    by_id: FxHashMap<FunctionId, usize>,
    known: Vec<Function>,
    /// The one that was looked up last.
    last: usize,
    /// The one that ended last.
    ended: usize,
    /// How many the worker has declared.
    declared: usize,
}

/// What to call.
#[derive(Clone)]
pub(crate) enum Callee {
    /// A function of this program.
    Linked(&'static TaskEntry),
    /// One that the worker has declared, for the runtime of another language.
    Declared(Rc<Declared>),
}

impl Callee {
    fn id(&self) -> FunctionId {
        match self {
            Callee::Linked(entry) => entry.id,
            Callee::Declared(declared) => declared.id,
        }
    }
}

/// A function as the executor knows it.
pub(crate) struct Function {
    /// What to call.
    pub(crate) callee: Callee,
    /// How long it ran the last time; `u32::MAX` if it never has.
    pub(crate) last_us: u32,
}

impl Functions {
    pub(crate) fn new() -> Functions {
        let linked = |entry| Function { callee: Callee::Linked(entry), last_us: u32::MAX };
        let known: Vec<Function> = TASKS.iter().map(linked).collect();
        let by_id =
            known.iter().enumerate().map(|(i, function)| (function.callee.id(), i)).collect();
        Functions { by_id, known, last: 0, ended: usize::MAX, declared: 0 }
    }

    /// Adds a function of another language. One that is known already stays as it is.
    pub(crate) fn declare(&mut self, id: FunctionId, name: String, code: Bytes) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let declared = Declared { id, name, code, slot: self.declared };
        self.declared += 1;
        self.by_id.insert(id, self.known.len());
        let callee = Callee::Declared(Rc::new(declared));
        self.known.push(Function { callee, last_us: u32::MAX });
    }

    /// Where a function is; tasks of one function mostly come one after the other.
    pub(crate) fn index(&mut self, id: FunctionId) -> Option<usize> {
        if self.known.get(self.last).is_none_or(|function| function.callee.id() != id) {
            self.last = *self.by_id.get(&id)?;
        }
        Some(self.last)
    }

    pub(crate) fn get(&self, index: usize) -> &Function {
        &self.known[index]
    }

    /// Notes how long a function ran. `true`: the last one that ended was another.
    pub(crate) fn ended(&mut self, index: usize, duration_us: u32) -> bool {
        self.known[index].last_us = duration_us;
        std::mem::replace(&mut self.ended, index) != index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_found_and_declared_once() {
        let mut functions = Functions::new();
        let linked = functions.known.len();
        let declare = |functions: &mut Functions, id, code: &'static [u8]| {
            functions.declare(FunctionId(id), format!("f{id}"), Bytes::from_static(code));
        };
        declare(&mut functions, 1, b"one");
        declare(&mut functions, 2, b"two");
        declare(&mut functions, 1, b"another");
        assert_eq!(functions.known.len(), linked + 2);
        let index = functions.index(FunctionId(2)).unwrap();
        let Callee::Declared(second) = &functions.get(index).callee else { panic!("it is linked") };
        assert_eq!((second.slot, &second.code[..], second.name.as_str()), (1, &b"two"[..], "f2"));
        let index = functions.index(FunctionId(1)).unwrap();
        let Callee::Declared(first) = &functions.get(index).callee else { panic!("it is linked") };
        assert_eq!((first.slot, &first.code[..]), (0, &b"one"[..]));
        assert!(functions.index(FunctionId(3)).is_none());
    }

    #[test]
    fn ids_are_fnv_1a_of_128_bits() {
        // The published vectors of the empty text and of "a".
        assert_eq!(function_id("").0, 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(function_id("a").0, 0xd228cb696f1a8caf78912b704e4a8964);
        assert_eq!(function_id("foobar").0, 0x343e1662793c64bf6f0d3597ba446f18);
    }
}
