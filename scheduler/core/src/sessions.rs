//! Sessions: clients, and running tasks that speak as clients.

use manyhands_proto::client::Outcome;
use manyhands_proto::{Lane, ObjectId, SessionId};

use crate::objects::ObjRef;
use crate::slab::{FnIdx, TaskIdx};

/// Slots for functions that a session may use.
pub(crate) const FUNCTION_LIMIT: usize = 1 << 16;

/// Bytes that the functions of a session may take.
pub(crate) const FUNCTION_BYTES: u64 = 256 << 20;

/// Bytes that the words of an environment may have: an interpreter is told them as an argument.
pub(crate) const ENVIRONMENT_BYTES: usize = 64 << 10;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// A client.
    Client(SessionId),
    /// The current attempt of a task.
    Task(TaskIdx),
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) speaker: Speaker,
    pub(crate) lane: Lane,
    /// How deep its tasks are: 0 for those of clients, one more than its own for those of a task.
    pub(crate) depth: u16,
    /// The session's slots for functions. Nothing is in those whose description was refused.
    pub(crate) functions: Vec<Option<FnIdx>>,
    /// Bytes that those took when they were described.
    pub(crate) function_bytes: u64,
    /// Objects that it came to hold or want. Some it has let go of since.
    pub(crate) holds: Vec<ObjRef>,
    /// How many of those it still holds or wants.
    pub(crate) held: usize,
    /// The tasks of its graphs of which more batches follow.
    pub(crate) graph: Vec<TaskIdx>,
    /// What it will be told at the end of the round.
    pub(crate) ends: Vec<(ObjectId, Outcome)>,
    /// Bytes of the values in `ends`.
    pub(crate) end_bytes: usize,
    /// It stands in the list of sessions to tell.
    pub(crate) listed: bool,
    /// Its link is broken.
    pub(crate) away: bool,
}

impl Session {
    /// The client whose session it is; `None` for that of a task.
    pub(crate) fn client(&self) -> Option<SessionId> {
        match self.speaker {
            Speaker::Client(session) => Some(session),
            Speaker::Task(_) => None,
        }
    }

    /// The function of a slot, if one was described for it.
    pub(crate) fn function(&self, slot: u32) -> Option<FnIdx> {
        *self.functions.get(slot as usize)?
    }

    pub(crate) fn new(speaker: Speaker, lane: Lane, depth: u16) -> Session {
        Session {
            speaker,
            lane,
            depth,
            functions: Vec::new(),
            function_bytes: 0,
            holds: Vec::new(),
            held: 0,
            graph: Vec::new(),
            ends: Vec::new(),
            end_bytes: 0,
            listed: false,
            away: false,
        }
    }
}
