//! What code inside a running task can ask for.
//!
//! All of it belongs to the thread that runs the task. Another thread, and any program outside an
//! executor, has no task: there [`current`] is `None` and the rest says so.
//!
//! What a task says as a client is queued, and sent when it blocks, when it ends, when much is
//! queued, or on [`flush`].

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::executor::{Extent, FromExecutor, Place};
use manyhands_proto::value::{Codec, INLINE_LIMIT, Value};
use manyhands_proto::{Lane, ObjectId, TaskId};
use thiserror::Error;

use crate::executor::{self, Executor, Running, with};
use crate::foreign::{self, idle};
use crate::signals;

/// The task that the calling thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// The task.
    pub task: TaskId,
    /// Which attempt of it, counted from 0.
    pub attempt: u32,
}

impl Current {
    /// The lane in which it names what it submits.
    pub fn lane(&self) -> Lane {
        self.task.child_lane()
    }
}

/// Why the task cannot have what it asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    /// The calling thread runs no task.
    #[error("this thread runs no task of manyhands")]
    NoTask,
    /// The attempt shall stop.
    #[error("{0} was told to stop")]
    Cancelled(TaskId),
    /// The worker refused, or the message cannot be sent.
    #[error("{0}")]
    Refused(String),
}

/// What the calling thread runs, if it runs a task.
pub fn current() -> Option<Current> {
    with(|executor| executor.stack.last().map(Running::current)).flatten()
}

/// Whether the attempt that the calling thread runs has been told to stop: by a cancel, its time
/// limit or its deadline. It has a short grace time from then on. `false` outside of a task.
pub fn is_cancelled() -> bool {
    with(|executor| executor.is_cancelled()).unwrap_or(false)
}

/// Hands out `count` sequence numbers of the running task's lane, and gives the first. Counted from
/// 0 in every attempt, so that a second attempt names its children as the first did.
pub fn take_numbers(count: u64) -> Result<u64, ContextError> {
    running(|running| {
        let first = running.named;
        running.named += count;
        first
    })
}

/// Says something as a client of the task's job. Queued: see [`flush`].
pub fn send(message: FromClient) -> Result<(), ContextError> {
    task(|executor, Current { task, attempt }| {
        let message = FromExecutor::Client { task, attempt, message };
        executor.link.queue(&message).map_err(ContextError::Refused)
    })?
}

/// Sends what is queued, for a task that goes on working.
pub fn flush() {
    with(|executor| executor.link.flush());
}

/// Gives `on_message` what the running task has been told so far, without waiting.
pub fn deliver(on_message: &mut dyn FnMut(ToClient)) -> Result<(), ContextError> {
    task(|executor, _| executor.take_all())?;
    hand_out(on_message)
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// `done` said so.
    Done,
    /// The time was over first.
    TimedOut,
}

/// Waits until `done`, and lends the task's slot away meanwhile. `waits_for` names what it needs
/// most: another process, or this one in the midst of the wait, will work on that.
///
/// Whatever the task is told is given to `on_message`, after each batch of which `done` is asked.
/// Both may use this module. Fails when the attempt shall stop.
pub fn block(
    waits_for: &[ObjectId],
    on_message: &mut dyn FnMut(ToClient),
    done: &mut dyn FnMut() -> bool,
    timeout: Option<Duration>,
) -> Result<Waited, ContextError> {
    deliver(on_message)?;
    if done() {
        return Ok(Waited::Done);
    }
    wait_lent(waits_for, &mut || deliver(on_message), done, timeout)
}

/// Waits until the running task may make item `number` of its stream. What else it is told meanwhile
/// stays for [`deliver`].
pub(crate) fn block_for_room(number: u64) -> Result<(), ContextError> {
    let mut has_room = || running(|running| running.room > number).unwrap_or(true);
    let take = || task(|executor, _| executor.take_all());
    if !has_room() {
        take()?;
    }
    if !has_room() {
        wait_lent(&[], &mut || take(), &mut has_room, None)?;
    }
    Ok(())
}

/// Waits with the slot lent away. After each batch of messages `deliver` is called, and `done` asked.
fn wait_lent(
    waits_for: &[ObjectId],
    deliver: &mut dyn FnMut() -> Result<(), ContextError>,
    done: &mut dyn FnMut() -> bool,
    timeout: Option<Duration>,
) -> Result<Waited, ContextError> {
    let start = Instant::now();
    let until = timeout.and_then(|timeout| start.checked_add(timeout));
    let me = task(|executor, Current { task, attempt }| {
        let waits_for = waits_for.to_vec();
        executor.say(&FromExecutor::Blocked { task, attempt, waits_for });
        executor.link.flush();
        // Whatever came before must not wait for a worker that was left asleep.
        executor.wake_worker();
        Current { task, attempt }
    })?;
    let result = pump(deliver, done, until);
    task(|executor, _| {
        executor.say(&FromExecutor::Unblocked { task: me.task, attempt: me.attempt });
        executor.link.flush();
    })?;
    running(|running| running.waited += start.elapsed())?;
    result
}

fn pump(
    deliver: &mut dyn FnMut() -> Result<(), ContextError>,
    done: &mut dyn FnMut() -> bool,
    until: Option<Instant>,
) -> Result<Waited, ContextError> {
    loop {
        while let Some(run) = task(|executor, _| executor.in_place.pop_front())? {
            executor::execute_in_place(&run);
        }
        deliver()?;
        if done() {
            return Ok(Waited::Done);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Waited::TimedOut);
        }
        let socket = task(|executor, _| {
            executor.link.flush();
            executor.in_place.is_empty().then(|| executor.link.socket_number())
        })?;
        if let Some(socket) = socket {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            idle(|| signals::wait(socket, left, is_cancelled));
        }
        task(|executor, current| {
            executor.take_all();
            match executor.is_cancelled() {
                true => Err(ContextError::Cancelled(current.task)),
                false => Ok(()),
            }
        })??;
    }
}

/// Reads an object that lies in a store, here or elsewhere. Waits for it without lending the slot:
/// the object exists. Large values are mapped and not copied; one that is kept after the task is copied
/// when that ends.
pub fn read_stored(object: ObjectId) -> Result<Value, ContextError> {
    task(|executor, Current { task, .. }| executor.say(&FromExecutor::Read { task, object }))?;
    let place = answer(|executor| executor.readable.remove(&object))?;
    match place.map_err(ContextError::Refused)? {
        Place::Inline(value) => Ok(value),
        Place::Extent { extent, codec } => {
            let bytes = map(extent).map_err(ContextError::Refused)?;
            Ok(Value { codec, bytes })
        }
    }
}

/// Puts a value larger than [`INLINE_LIMIT`] into the store under `object`. The caller announces it
/// right after with [`FromClient::Put`].
pub fn put_stored(object: ObjectId, codec: Codec, bytes: &[u8]) -> Result<(), ContextError> {
    put_stored_pieces(object, codec, &[bytes])
}

/// As [`put_stored`], of a value whose bytes lie in several places: they are copied once, to where
/// they stay.
pub fn put_stored_pieces(
    object: ObjectId,
    codec: Codec,
    pieces: &[&[u8]],
) -> Result<(), ContextError> {
    debug_assert!(total(pieces) > INLINE_LIMIT, "small values travel in messages");
    let current = running(|running| running.current())?;
    let extent = store(current.task, pieces).map_err(ContextError::Refused)?;
    task(|executor, _| executor.say(&FromExecutor::Stored { object, codec, extent }))
}

/// Bytes of all pieces together.
pub(crate) fn total(pieces: &[&[u8]]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// The bytes of an extent, where they lie.
pub(crate) fn map(extent: Extent) -> Result<Bytes, String> {
    let map = |executor: &mut Executor| {
        let (bytes, alive) = executor.segments.bytes(extent)?;
        if let Some(running) = executor.stack.last_mut() {
            running.views.push(alive);
        }
        Ok(bytes)
    };
    with(map).unwrap_or_else(|| Err(no_store()))
}

/// Writes bytes to the object store, to an extent that is asked for.
pub(crate) fn store(task: TaskId, pieces: &[&[u8]]) -> Result<Extent, String> {
    let size = total(pieces) as u64;
    let ask = |executor: &mut Executor| {
        let request = executor.next_request;
        executor.next_request += 1;
        executor.say(&FromExecutor::Alloc { request, task, size });
        request
    };
    let request = with(ask).ok_or_else(no_store)?;
    let granted = answer(|executor| executor.granted.remove(&request));
    let extent = granted.map_err(|error| error.to_string())??;
    let write = |executor: &mut Executor| executor.segments.write(extent, pieces);
    with(write).unwrap_or_else(|| Err(no_store()))?;
    Ok(Extent { len: size, ..extent })
}

fn no_store() -> String {
    "there is no object store here: this is not an executor".to_owned()
}

/// Waits for the answer to what was just said.
fn answer<T>(mut find: impl FnMut(&mut Executor) -> Option<T>) -> Result<T, ContextError> {
    loop {
        let look = |executor: &mut Executor| executor.look_for(&mut find);
        match with(look).ok_or(ContextError::NoTask)? {
            Ok(answer) => return Ok(answer),
            Err(socket) => idle(|| signals::wait_readable(socket)),
        }
    }
}

/// With the executor and the task that runs on top.
fn task<R>(body: impl FnOnce(&mut Executor, Current) -> R) -> Result<R, ContextError> {
    let body = |executor: &mut Executor| {
        let current = executor.stack.last()?.current();
        Some(body(executor, current))
    };
    with(body).flatten().ok_or(ContextError::NoTask)
}

fn running<R>(body: impl FnOnce(&mut Running) -> R) -> Result<R, ContextError> {
    let body = |executor: &mut Executor| executor.stack.last_mut().map(body);
    with(body).flatten().ok_or(ContextError::NoTask)
}

/// Gives `on_message` what lies in the inbox of the running task.
fn hand_out(on_message: &mut dyn FnMut(ToClient)) -> Result<(), ContextError> {
    loop {
        let messages = running(|running| std::mem::take(&mut running.inbox))?;
        if messages.is_empty() {
            return Ok(());
        }
        messages.into_iter().for_each(&mut *on_message);
    }
}

impl Running {
    fn current(&self) -> Current {
        Current { task: self.task, attempt: self.attempt }
    }
}

impl Executor {
    pub(crate) fn is_cancelled(&self) -> bool {
        let running = self.stack.last();
        running.is_some_and(|running| self.ends.is_interrupted(running.fingerprint))
    }

    /// Looks for an answer until it is there. Where waiting is the runtime's business: until nothing
    /// more has come, and then says where it will.
    fn look_for<T>(
        &mut self,
        find: &mut impl FnMut(&mut Executor) -> Option<T>,
    ) -> Result<T, RawFd> {
        self.link.flush();
        loop {
            if let Some(answer) = find(self) {
                return Ok(answer);
            }
            let message = match foreign::runtime() {
                None => self.link.wait(),
                Some(_) => match self.link.next() {
                    Some(message) => message,
                    None => return Err(self.link.socket_number()),
                },
            };
            self.take(message);
        }
    }

    /// Takes what has come, without waiting.
    fn take_all(&mut self) {
        while let Some(message) = self.link.next() {
            self.take(message);
        }
    }
}
