//! Functions that are described by a client, and those that are linked.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_executor::TaskEntry;
use manyhands_proto::FunctionId;
use manyhands_proto::client::{FunctionSpec, Runtime};

/// A function that is not part of this program. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Function(Arc<Described>);

#[derive(Debug)]
struct Described {
    id: FunctionId,
    name: String,
    code: Bytes,
    /// `None`: the session's.
    runtime: Option<Runtime>,
}

impl Function {
    /// A function that the session's runtime makes of `code`. Its id is the hash of that
    /// (BLAKE3, 128 bits).
    pub fn described(name: &str, code: Bytes) -> Function {
        Function::of(name, code, None)
    }

    /// As [`Function::described`], made by a runtime of its own; one of Python by the session's, if
    /// that is Python too.
    pub(crate) fn of_runtime(name: &str, code: Bytes, runtime: Runtime) -> Function {
        Function::of(name, code, Some(runtime))
    }

    fn of(name: &str, code: Bytes, runtime: Option<Runtime>) -> Function {
        let hash = blake3::hash(&code);
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        let id = FunctionId(u128::from_le_bytes(*first));
        Function(Arc::new(Described { id, name: name.to_owned(), code, runtime }))
    }

    /// A task of a Rust program, as [`manyhands_executor::registry`] knows it there.
    pub fn linked(program: u128, id: FunctionId, name: &str) -> Function {
        let runtime = Some(Runtime::Rust { program });
        Function(Arc::new(Described { id, name: name.to_owned(), code: Bytes::new(), runtime }))
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What names it in messages, with its runtime.
    pub fn id(&self) -> FunctionId {
        self.0.id
    }

    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.0.runtime.as_ref()
    }

    /// As the scheduler is told of it.
    pub(crate) fn spec(&self, session: &Runtime) -> FunctionSpec {
        let Described { id, name, code, runtime } = &*self.0;
        let runtime = match runtime {
            // Python is set up as the session says, if it says so.
            Some(Runtime::Python(_)) if matches!(session, Runtime::Python(_)) => session,
            Some(own) => own,
            None => session,
        };
        let runtime = runtime.clone();
        FunctionSpec { id: *id, name: name.clone(), runtime, code: code.clone() }
    }
}

/// What a call calls.
#[derive(Clone, Debug)]
pub(crate) enum Callee {
    /// A task of this program.
    Linked(&'static TaskEntry),
    /// Anything else.
    Described(Function),
}

impl Callee {
    pub(crate) fn name(&self) -> &str {
        match self {
            Callee::Linked(entry) => entry.name,
            Callee::Described(function) => function.name(),
        }
    }
}
