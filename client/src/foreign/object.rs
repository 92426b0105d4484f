//! Counted references to objects, and what became of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use manyhands_proto::ObjectId;
use manyhands_proto::value::{Codec, Value};

use crate::error::TaskError;
use crate::handle::Reference;
use crate::session::{Key, Session};

const HELD: u8 = 0;
const LET_GO: u8 = 1;
const FORGOTTEN: u8 = 2;

/// A counted reference to an object of one session. A clone counts.
pub struct Object {
    /// Always there, until it is dropped.
    reference: Option<Reference>,
    state: AtomicU8,
}

/// What is known of an object.
#[derive(Debug)]
pub enum Fetched {
    /// Its value, very small: the first `len` of these bytes.
    Small {
        /// How to read it.
        codec: Codec,
        /// How many bytes it has.
        len: u8,
        /// The bytes.
        bytes: [u8; 13],
    },
    /// Its value.
    Value(Value),
    /// It is there, and has to be read: [`Client::fetch_raw`](crate::Client::fetch_raw).
    Stored,
    /// Its task failed.
    Failed(Box<TaskError>),
    /// Nothing yet.
    Pending,
    /// The reference was let go of.
    Gone,
}

impl Object {
    pub(crate) fn of(reference: Reference) -> Object {
        Object { reference: Some(reference), state: AtomicU8::new(HELD) }
    }

    fn reference(&self) -> &Reference {
        self.reference.as_ref().expect("only its end takes it")
    }

    pub(crate) fn to_reference(&self) -> Reference {
        self.reference().clone()
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.reference().session
    }

    pub(crate) fn key(&self) -> Key {
        self.reference().key
    }

    pub(crate) fn is_let_go(&self) -> bool {
        self.state.load(Ordering::Acquire) != HELD
    }

    /// Its id.
    pub fn id(&self) -> ObjectId {
        self.reference().object()
    }

    /// Whether its task is known to have ended, well or badly.
    pub fn is_done(&self) -> bool {
        self.session().is_done(self.key())
    }

    /// What is known of it, without waiting.
    pub fn fetched(&self) -> Fetched {
        let mut found = Fetched::Pending;
        let look = std::iter::once((self.key(), self.is_let_go()));
        self.session().look_at(look, &mut |fetched| found = fetched);
        found
    }

    /// Gives the reference up, but lets the task end: it is not cancelled for want of one. What
    /// comes of it is forgotten. The second time nothing happens.
    pub fn let_go(&self) {
        if self.state.swap(LET_GO, Ordering::AcqRel) == HELD {
            self.session().let_go(self.key());
        }
    }

    /// Nothing is done with it any more, not even freed: for a process that was forked and has a
    /// copy of its parent's.
    pub fn forget(&self) {
        self.state.store(FORGOTTEN, Ordering::Release);
    }
}

impl Clone for Object {
    fn clone(&self) -> Object {
        Object::of(self.to_reference())
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        match (*self.state.get_mut(), &mut self.reference) {
            (FORGOTTEN, reference) => std::mem::forget(reference.take()),
            (LET_GO, Some(reference)) => reference.key = Key::NONE,
            _ => {}
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.id())
    }
}
