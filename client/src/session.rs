//! One client's link with a scheduler: what it has said, what it holds, what it waits for.
//!
//! Everything sits behind one mutex, which the submitting threads take once per task, and the
//! thread that brings ends once per batch. What is to be said gathers in the outbox, and leaves
//! when the other side takes it ([`Session::drain`]).

mod asking;
mod foreign;
mod forming;
mod inbox;
mod jobs;
mod state;
mod stream;
mod table;
mod waiting;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_proto::client::{FromClient, Outcome, PutPlace};
use manyhands_proto::graph::{GraphBatch, TaskRow};
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::{Codec, INLINE_LIMIT, ObjectMeta, Value};
use manyhands_proto::{JobId, ObjectId, TaskId};
use uuid::Uuid;

use crate::connection::{Connection, LocalStats, Stored};
use crate::error::{Error, TaskError};
use crate::foreign::{Callee, Pieces, joined};
use crate::handle::{Reader, Reference, decode_for};
use crate::output::Printer;
use crate::value::{Data, Encoded, decode, is_plain};

pub(crate) use forming::{Forming, ROWS, Row};
pub use inbox::Ends;
pub(crate) use state::Key;
use state::{Found, State};
use table::State as ObjectState;
pub(crate) use waiting::Order;

/// Tasks that may wait in the outbox before whoever submits has to wait too.
const OUTBOX_ROWS: usize = 1 << 20;

/// The shortest and the longest pause before an object that cannot be read is asked for again.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Batches of a graph that may wait in the outbox.
const GRAPH_BATCHES: usize = 4;

/// Releases of small objects that are sent without anything else to send.
const IDLE_RELEASES: usize = 256;

/// One client's link with a scheduler.
///
/// Whoever carries it (a [`Connection`]) hands it what the scheduler says and drains what it has to
/// say; clients and handles share it, and its end closes the connection.
pub struct Session {
    pub(crate) connection: Arc<dyn Connection>,
    shared: Arc<Shared>,
}

/// What a session shares with whoever carries it. A carrier that keeps this for a moment does not
/// keep the session: that ends on a thread of its owners', which can wait for its goodbye.
pub struct Shared {
    state: Mutex<State>,
    /// The outbox has been drained.
    drained: Condvar,
    pub(crate) printer: Printer,
}

impl std::ops::Deref for Session {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A task to submit as it is.
pub(crate) struct Call<'a> {
    pub(crate) callee: &'a Callee,
    pub(crate) outputs: u16,
    pub(crate) args: &'a [u8],
    /// Objects of this session, in the order of their numbers in `args`.
    pub(crate) inputs: &'a [Key],
    pub(crate) options: Option<&'a TaskOptions>,
    pub(crate) wanted: bool,
}

impl Session {
    /// A session over a connection, which is attached to it.
    pub fn open(connection: Arc<dyn Connection>) -> Arc<Session> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(connection.clone())),
            drained: Condvar::new(),
            printer: Printer::default(),
        });
        connection.attach(Ends(Arc::downgrade(&shared)));
        Arc::new(Session { connection, shared })
    }

    /// Unlocks, and says that there is something to take if that is news.
    fn poke(&self, mut state: MutexGuard<'_, State>) {
        let news = !std::mem::replace(&mut state.poked, true);
        drop(state);
        if news {
            self.connection.poke();
        }
    }

    /// Opens a job; its number in this session.
    pub(crate) fn open_job(&self, name: String, weight: u32) -> Result<(u32, JobId), Error> {
        let job = JobId(Uuid::now_v7());
        let mut state = self.lock();
        state.check_open()?;
        let number = state.jobs.add(job)?;
        state.outbox.push(FromClient::OpenJob { job, name, weight: weight.max(1) });
        self.poke(state);
        Ok((number, job))
    }

    /// Takes in a job that is open already: that of the running task.
    pub(crate) fn join_job(&self, job: JobId) -> u32 {
        self.lock().jobs.add(job).expect("a task's session has one job")
    }

    pub(crate) fn job_id(&self, job: u32) -> JobId {
        self.lock().jobs[job].id
    }

    /// How many jobs are not forgotten.
    #[cfg(test)]
    fn live_jobs(&self) -> usize {
        self.lock().jobs.live()
    }

    /// The job gets no more tasks: what nobody else holds is cancelled and forgotten.
    pub(crate) fn close_job(&self, job: u32) {
        let mut state = self.lock();
        state.flush();
        let Some(id) = state.jobs.close(job) else { return };
        state.outbox.push(FromClient::CloseJob { job: id });
        state.forget_if_over(job);
        self.poke(state);
    }

    /// Submits one task; a reference to its first object.
    pub(crate) fn submit(self: &Arc<Self>, job: u32, call: Call<'_>) -> Result<Reference, Error> {
        let mut state = self.lock();
        state.check_open_for(job)?;
        if state.rows_waiting() >= OUTBOX_ROWS && !self.connection.is_pumped() {
            state = self.wait_drained(state, |state| state.rows_waiting() < OUTBOX_ROWS);
            state.check_open_for(job)?;
        }
        let key = state.append(job, call);
        self.poke(state);
        Ok(Reference { session: self.clone(), key })
    }

    fn wait_drained<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        mut enough: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        let held_up = |state: &mut State| state.closed.is_none() && !enough(state);
        self.drained.wait_while(state, held_up).unwrap_or_else(PoisonError::into_inner)
    }

    /// References to the objects after the first of a task that was just submitted.
    pub(crate) fn further(&self, first: &Reference, outputs: u16) -> Vec<Reference> {
        let further = (1..u32::from(outputs)).map(|index| Key { index, ..first.key });
        further.map(|key| Reference { session: first.session.clone(), key }).collect()
    }

    /// Makes room for a graph of `rows` tasks: the number of the first. Until
    /// [`Session::end_graph`] nothing else of this session leaves.
    pub(crate) fn begin_graph(&self, job: u32, rows: u64) -> Result<u64, Error> {
        let mut state = self.lock();
        state.check_open_for(job)?;
        while state.graph_open {
            state = self.wait_drained(state, |state| !state.graph_open);
            state.check_open_for(job)?;
        }
        state.flush();
        state.graph_open = true;
        Ok(state.reserve(job, rows))
    }

    /// The session's slots for these functions.
    pub(crate) fn function_slots<'a>(&self, callees: impl Iterator<Item = &'a Callee>) -> Vec<u32> {
        let mut state = self.lock();
        callees.map(|callee| state.function(callee)).collect()
    }

    /// Sends a batch of the graph that is open. Waits while several are still in the outbox.
    pub(crate) fn send_graph(&self, batch: GraphBatch) -> Result<(), Error> {
        let mut state = self.lock();
        if !self.connection.is_pumped() {
            state = self.wait_drained(state, |state| state.batches_waiting < GRAPH_BATCHES);
        }
        state.check_open()?;
        state.outbox.push(FromClient::Submit(batch));
        state.batches_waiting += 1;
        self.poke(state);
        Ok(())
    }

    /// The graph's last batch has been sent, or the graph was given up.
    pub(crate) fn end_graph(&self) {
        let mut state = self.lock();
        state.graph_open = false;
        state.flush();
        state.forget_closed();
        self.poke(state);
        self.drained.notify_all();
    }

    /// A reference to an object that a task of the open graph will return.
    pub(crate) fn expect(
        self: &Arc<Self>,
        job: u32,
        seq: u64,
        index: u32,
        wanted: bool,
    ) -> Reference {
        let key = Key { job, seq, index };
        let known = if wanted { ObjectState::Wanted } else { ObjectState::Pending };
        self.lock().jobs[job].table.retain(seq, index, known);
        Reference { session: self.clone(), key }
    }

    /// Puts an encoded value.
    pub(crate) fn put(
        self: &Arc<Self>,
        job: u32,
        codec: Codec,
        bytes: PutBytes<'_>,
        contains: &[Reference],
    ) -> Result<Reference, Error> {
        let (key, object) = {
            let mut state = self.lock();
            state.check_open_for(job)?;
            while state.graph_open {
                state = self.wait_drained(state, |state| !state.graph_open);
                state.check_open_for(job)?;
            }
            state.flush();
            let seq = state.reserve(job, 1);
            state.jobs[job].table.retain(seq, 0, ObjectState::Pending);
            let key = Key { job, seq, index: 0 };
            (key, state.object(key))
        };
        let reference = Reference { session: self.clone(), key };
        let size = bytes.len();
        let contains = self.own_objects(contains)?;
        let meta = ObjectMeta { codec, size: size as u64, contains };
        let place = if size <= INLINE_LIMIT {
            PutPlace::Inline(bytes.into_bytes())
        } else {
            let stored = self.connection.put_stored(object, &meta, &bytes.pieces());
            PutPlace::Stored(stored.map_err(|message| Error::Store { size, message })?)
        };
        let mut state = self.lock();
        // What the session puts is there: no answer will say so.
        if let PutPlace::Inline(bytes) = &place {
            let value = Value { codec, bytes: bytes.clone() };
            state.set(key, Outcome::Value(value));
        } else if let PutPlace::Stored(worker) = &place {
            let size = size as u64;
            state.set(key, Outcome::Stored { codec, size, workers: vec![*worker] });
        }
        state.outbox.push(FromClient::Put { object, meta, place });
        self.poke(state);
        Ok(reference)
    }

    /// The ids of references, which must be this session's.
    pub(crate) fn own_objects(&self, references: &[Reference]) -> Result<Vec<ObjectId>, Error> {
        references.iter().map(|reference| Ok(self.object(self.own_key(reference)?))).collect()
    }

    /// The key of a reference, which must be this session's.
    pub(crate) fn own_key(&self, reference: &Reference) -> Result<Key, Error> {
        if !std::ptr::eq(&*reference.session, self) {
            return Err(Error::ForeignHandle { object: reference.object() });
        }
        Ok(reference.key)
    }

    pub(crate) fn object(&self, key: Key) -> ObjectId {
        self.lock().object(key)
    }

    pub(crate) fn retain(&self, key: Key) {
        self.lock().retain(key);
    }

    pub(crate) fn release(&self, key: Key) {
        let mut state = self.lock();
        let ended = state.closed.is_some().then(|| state.object(key));
        let freed = state.release(key);
        if let Some(object) = ended {
            let held = state.is_held(object);
            drop(state);
            drop(freed);
            if !held {
                self.connection.free(object);
            }
            return;
        }
        // A small result that is forgotten can wait for company; memory and running work cannot.
        let urgent = !matches!(freed, None | Some(ObjectState::Small { .. })) && !state.retired;
        if urgent || state.changes.len() >= IDLE_RELEASES {
            self.poke(state);
        } else {
            drop(state);
        }
        drop(freed);
    }

    /// A reference to an object that was found inside a value. What the running task was given it
    /// need not hold: the cluster does, for the task.
    pub(crate) fn adopt(self: &Arc<Self>, object: ObjectId, borrowed: bool) -> Reference {
        let key = self.lock().adopt(object, borrowed);
        Reference { session: self.clone(), key }
    }

    /// Whether every object of a task is still held, from its first one's key.
    pub(crate) fn holds_all(&self, first: Key, outputs: u16) -> bool {
        let mut state = self.lock();
        (0..u32::from(outputs)).all(|index| state.slot(Key { index, ..first }).is_some())
    }

    pub(crate) fn is_done(&self, key: Key) -> bool {
        self.lock().slot(key).is_some_and(|slot| slot.state.is_done())
    }

    pub(crate) fn local_stats(&self) -> Option<LocalStats> {
        self.connection.local_stats()
    }

    pub(crate) fn is_pumped(&self) -> bool {
        self.connection.is_pumped()
    }

    /// Waits for an object and reads it.
    pub(crate) fn fetch<T: Data>(self: &Arc<Self>, key: Key) -> Result<T, Error> {
        let mut tries = Tries::default();
        loop {
            let found = self.lock().found(key)?;
            match found {
                None => {
                    self.wait(&[key], 1, None)?;
                }
                Some(Found::Small { codec, len, bytes }) => {
                    return self.decode(key, codec, &&bytes[..len as usize]);
                }
                Some(Found::Known(Outcome::Value(value))) => {
                    return self.decode(key, value.codec, &value.bytes);
                }
                Some(Found::Known(Outcome::Failed(failed))) => {
                    return Err(Box::new(TaskError::new(self.object(key), failed)).into());
                }
                Some(Found::Known(Outcome::Stored { codec, size, workers })) => {
                    let (object, stored) = (self.object(key), Stored { codec, size, workers });
                    match self.connection.read_stored(object, &stored) {
                        Ok(value) => return self.decode(key, value.codec, &value.bytes),
                        Err(message) if !tries.again(self.connection.patience()) => {
                            return Err(Error::Unreadable { object, message });
                        }
                        // It may have moved, or be made again: whoever knows will say.
                        Err(_) => self.lock().forget_place(key),
                    }
                }
            };
        }
    }

    fn decode<T: Data>(
        self: &Arc<Self>,
        key: Key,
        codec: Codec,
        bytes: &impl Encoded,
    ) -> Result<T, Error> {
        let decoded = match is_plain::<T>() {
            true => decode(codec, bytes),
            false => decode_for(Reader::Session(self.clone()), || decode(codec, bytes)),
        };
        decoded.map_err(|message| Error::Decode {
            object: self.object(key),
            type_name: std::any::type_name::<T>(),
            message,
        })
    }

    /// Stops tasks.
    pub(crate) fn cancel(&self, tasks: Vec<TaskId>, reason: String) -> Result<(), Error> {
        let mut state = self.lock();
        state.check_open()?;
        state.flush();
        state.outbox.push(FromClient::Cancel { tasks, reason });
        self.poke(state);
        Ok(())
    }

    /// Says all that there is to say, and nothing of holds and releases from now on: the task that
    /// the session belongs to is about to return, and the end of it settles them. Said before, a
    /// release could overtake the result that contains the handle.
    pub(crate) fn retire(&self) {
        self.connection.poke();
        self.lock().retired = true;
    }

    /// Ends the session. What a handle is of, and is there, can be read still.
    pub(crate) fn shut_down(&self) {
        self.connection.close();
        self.end("the client was shut down");
        self.connection.keep(&|object| self.lock().is_held(object));
        self.printer.finish();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the session has to say, in order.
    pub(crate) fn drain(&self, into: &mut Vec<FromClient>) {
        let mut state = self.lock();
        state.poked = false;
        state.drain(into);
        drop(state);
        self.drained.notify_all();
    }

    /// Says something, with what was to be said before it. The carrier has to be poked.
    fn say(&self, message: FromClient) {
        let mut state = self.lock();
        state.flush();
        state.outbox.push(message);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close();
        self.printer.finish();
    }
}

/// The bytes of a value that is put: kept if it comes to that.
pub(crate) enum PutBytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
    Pieces(&'a Pieces),
}

impl PutBytes<'_> {
    fn len(&self) -> usize {
        match self {
            PutBytes::Borrowed(bytes) => bytes.len(),
            PutBytes::Owned(bytes) => bytes.len(),
            PutBytes::Pieces(pieces) => pieces.len(),
        }
    }

    fn pieces(&self) -> Vec<&[u8]> {
        match self {
            PutBytes::Borrowed(bytes) => vec![bytes],
            PutBytes::Owned(bytes) => vec![bytes],
            PutBytes::Pieces(pieces) => pieces.iter().collect(),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            PutBytes::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            PutBytes::Owned(bytes) => bytes,
            PutBytes::Pieces(_) => joined(&self.pieces()),
        }
    }
}

/// Attempts at reading an object.
#[derive(Default)]
struct Tries {
    since: Option<Instant>,
    pause: Duration,
}

impl Tries {
    /// Whether to try once more; waits a little before, longer each time.
    fn again(&mut self, patience: Duration) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(self.pause);
        self.pause = (2 * self.pause).clamp(RETRY_PAUSES.0, RETRY_PAUSES.1);
        true
    }
}

/// The flags of a row that its session holds, and wants if `wanted`.
pub(crate) fn held(wanted: bool) -> u8 {
    TaskRow::HELD | if wanted { TaskRow::WANTED } else { 0 }
}

#[cfg(test)]
mod tests;
