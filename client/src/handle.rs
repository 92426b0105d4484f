//! References to objects, typed and counted.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytemuck::Pod;
use manyhands_proto::{JobId, Lane, ObjectId, TaskId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::session::{Key, Session};
use crate::slice::Slice;
use crate::value::Data;

/// A counted reference to an object, of whatever type.
pub(crate) struct Reference {
    pub(crate) session: Arc<Session>,
    pub(crate) key: Key,
}

impl Reference {
    pub(crate) fn object(&self) -> ObjectId {
        self.session.object(self.key)
    }

    /// As it is written inside a value.
    pub(crate) fn written(&self) -> Written {
        let ObjectId { task: TaskId { job, lane, seq }, index } = self.object();
        Written { job, lane, seq, index }
    }
}

impl Clone for Reference {
    fn clone(&self) -> Self {
        self.session.retain(self.key);
        Reference { session: self.session.clone(), key: self.key }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if self.key != Key::NONE {
            self.session.release(self.key);
        }
    }
}

/// The result of a task, or a value that was put: there, on its way, or still to be computed.
///
/// It can be awaited (any runtime will do), given to other tasks as an argument before it exists,
/// also inside structures, and sent between threads. The object lives as long as somebody needs it:
/// a clone counts, and the last one to be dropped releases it.
///
/// ```
/// # #[manyhands::task]
/// # fn add(a: i64, b: i64) -> i64 { a + b }
/// # fn main() -> Result<(), manyhands::Error> {
/// let client = manyhands::Client::local()?;
/// let three = add::submit(&client, 1, 2)?;
/// let six = add::submit(&client, &three, 3)?;
/// assert_eq!(client.get(&six)?, 6);
/// # Ok(())
/// # }
/// ```
pub struct Handle<T> {
    pub(crate) reference: Reference,
    of: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    pub(crate) fn new(reference: Reference) -> Handle<T> {
        Handle { reference, of: PhantomData }
    }

    /// The object's id.
    pub fn id(&self) -> ObjectId {
        self.reference.object()
    }

    /// Whether it is known that the task has ended, well or badly. Does not ask the cluster: of an
    /// object that nobody in this session wants yet, nothing is known.
    pub fn is_done(&self) -> bool {
        self.reference.session.is_done(self.reference.key)
    }
}

impl<T: Data> Handle<T> {
    /// Waits for the value: [`Client::get`](crate::Client::get) without a client.
    pub fn get(&self) -> Result<T, Error> {
        self.reference.session.fetch(self.reference.key)
    }
}

impl<T: Pod + Send> Handle<Vec<T>> {
    /// The same object, to be read where it lies and not copied.
    pub fn slice(&self) -> Handle<Slice<T>> {
        Handle::new(self.reference.clone())
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle::new(self.reference.clone())
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.id())
    }
}

impl<T: Data> IntoFuture for Handle<T> {
    type Output = Result<T, Error>;
    type IntoFuture = HandleFuture<T>;

    fn into_future(self) -> HandleFuture<T> {
        HandleFuture { handle: self, waiter: None }
    }
}

impl<T: Data> IntoFuture for &Handle<T> {
    type Output = Result<T, Error>;
    type IntoFuture = HandleFuture<T>;

    fn into_future(self) -> HandleFuture<T> {
        self.clone().into_future()
    }
}

/// A handle that is awaited. Needs no runtime of its own. Within a task it waits in `poll`, since
/// the task's process has one thread.
#[derive(Debug)]
pub struct HandleFuture<T> {
    handle: Handle<T>,
    /// Its place among those who wait, once it has been polled.
    waiter: Option<u32>,
}

impl<T> Unpin for HandleFuture<T> {}

impl<T: Data> Future for HandleFuture<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Reference { session, key } = &this.handle.reference;
        if session.is_pumped() || session.poll_done(*key, &mut this.waiter, context.waker()) {
            return Poll::Ready(session.fetch(*key));
        }
        Poll::Pending
    }
}

impl<T> Drop for HandleFuture<T> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter.take() {
            let Reference { session, key } = &self.handle.reference;
            session.forget_waiter(waiter, &[*key]);
        }
    }
}

thread_local! {
    /// Handles that the encoder has met, while somebody collects them.
    static MET: RefCell<Option<Vec<Reference>>> = const { RefCell::new(None) };
    /// Whose handles the decoder makes.
    static READER: RefCell<Option<Reader>> = const { RefCell::new(None) };
}

/// In whose name values with handles in them are decoded.
#[derive(Clone)]
pub(crate) enum Reader {
    /// A session's, which holds from then on what it finds.
    Session(Arc<Session>),
    /// The running task's, which the cluster keeps its arguments alive for.
    Task,
}

/// Runs an encoder; also hands out the handles that it met, in order.
pub(crate) fn collect_handles<R>(encode: impl FnOnce() -> R) -> (R, Vec<Reference>) {
    let outer = MET.replace(Some(Vec::new()));
    let result = encode();
    let met = MET.replace(outer).unwrap_or_default();
    (result, met)
}

/// Runs a decoder in somebody's name.
pub(crate) fn decode_for<R>(reader: Reader, decode: impl FnOnce() -> R) -> R {
    let outer = READER.replace(Some(reader));
    let result = decode();
    READER.set(outer);
    result
}

/// A handle inside a value.
#[derive(Serialize, Deserialize)]
pub(crate) struct Written {
    job: JobId,
    lane: Lane,
    seq: u64,
    index: u32,
}

// A handle inside a value is a reference that the cluster must know of: the encoder reports it, so
// that the object lives as long as the value. Written any other way it would dangle.
impl<T> Serialize for Handle<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let collected = MET.with_borrow_mut(|met| {
            met.as_mut().map(|met| met.push(self.reference.clone())).is_some()
        });
        if !collected {
            return Err(serde::ser::Error::custom(
                "a handle can only be written as part of an argument, a result, or a value that is \
                 put; get its value first",
            ));
        }
        self.reference.written().serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Handle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { job, lane, seq, index } = Written::deserialize(deserializer)?;
        let object = TaskId { job, lane, seq }.object(index);
        let reference = match READER.with_borrow(Clone::clone) {
            Some(Reader::Session(session)) => Some(session.adopt(object, false)),
            Some(Reader::Task) => crate::nested::session().map(|own| own.adopt(object, true)),
            None => None,
        };
        reference.map(Handle::new).ok_or_else(|| {
            serde::de::Error::custom("a handle can only be read by a task or a client")
        })
    }
}
