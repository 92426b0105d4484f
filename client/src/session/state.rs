//! What a session's mutex guards.

use manyhands_executor::{TASKS, TaskEntry};
use manyhands_proto::client::{FromClient, FunctionSpec, Outcome, Runtime};
use manyhands_proto::graph::TaskRow;
use manyhands_proto::value::Codec;
use manyhands_proto::{FunctionId, Lane, ObjectId, TaskId};
use rustc_hash::FxHashMap;
use std::sync::Arc;

use super::asking::Questions;
use super::forming::Row;
use super::jobs::{Job, Jobs};
use super::table::{SMALL, Slot, State as ObjectState};
use super::waiting::Waiters;
use super::{Call, held};
use crate::connection::Connection;
use crate::error::Error;
use crate::foreign::{Callee, Function};

/// An object within a session: one of its own lane by job, number and index, or one that it found
/// inside a value ([`FOREIGN`]) by its place in [`State::foreign`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) seq: u64,
    pub(crate) index: u32,
    pub(crate) job: u32,
}

/// The [`Key::job`] of objects of other lanes.
pub(crate) const FOREIGN: u32 = u32::MAX;

impl Key {
    /// Of no object.
    pub(crate) const NONE: Key = Key { seq: 0, index: 0, job: u32::MAX - 1 };
}

/// No slot has been announced for the function.
const UNANNOUNCED: u32 = u32::MAX;

pub(super) struct State {
    pub(super) connection: Arc<dyn Connection>,
    pub(super) lane: Lane,
    pub(super) closed: Option<Arc<str>>,
    /// What the scheduler last refused, until somebody has been told.
    pub(super) refused: Option<String>,
    pub(super) outbox: Vec<FromClient>,
    /// Batches in the outbox.
    pub(super) batches_waiting: usize,
    /// The connection knows that there is something to take.
    pub(super) poked: bool,
    /// A graph is being sent: nothing else leaves, so that its batches follow each other.
    pub(super) graph_open: bool,
    /// Its task is about to return: see [`super::Session::retire`].
    pub(super) retired: bool,
    pub(super) jobs: Jobs,
    /// By place in [`TASKS`]: the session's slot for the function.
    functions: Vec<u32>,
    /// The slots of described functions, whose runtime is the session's unless they say otherwise.
    described: FxHashMap<(FunctionId, Option<Runtime>), u32>,
    announced: u32,
    /// What runs described functions: in a task whatever runs that.
    pub(super) runtime: Runtime,
    /// Objects whose count went from 0 to 1 (true) or back, in order.
    pub(super) changes: Vec<(ObjectId, bool)>,
    pub(super) waiters: Waiters,
    foreign: Vec<Option<Foreign>>,
    foreign_places: FxHashMap<ObjectId, u64>,
    foreign_free: Vec<u64>,
    pub(super) questions: Questions,
}

/// What became of an object.
pub(super) enum Found {
    /// Its value, very small.
    Small { codec: Codec, len: u8, bytes: [u8; SMALL] },
    /// Anything else.
    Known(Outcome),
}

/// An object of another lane.
struct Foreign {
    object: ObjectId,
    slot: Slot,
    /// The cluster holds it for the running task.
    borrowed: bool,
}

impl State {
    pub(super) fn new(connection: Arc<dyn Connection>) -> State {
        State {
            lane: connection.lane(),
            connection,
            closed: None,
            refused: None,
            outbox: Vec::new(),
            batches_waiting: 0,
            poked: false,
            graph_open: false,
            retired: false,
            jobs: Jobs::default(),
            functions: Vec::new(),
            described: FxHashMap::default(),
            announced: 0,
            runtime: Runtime::Rust { program: 0 },
            changes: Vec::new(),
            waiters: Waiters::default(),
            foreign: Vec::new(),
            foreign_places: FxHashMap::default(),
            foreign_free: Vec::new(),
            questions: Questions::default(),
        }
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        match &self.closed {
            None => Ok(()),
            Some(reason) => Err(Error::Closed { reason: reason.clone() }),
        }
    }

    /// Fails if the session is over, or the job gets no more tasks.
    pub(super) fn check_open_for(&mut self, job: u32) -> Result<(), Error> {
        self.check_open()?;
        self.jobs.check_open(job)
    }

    /// Numbers for `count` tasks or objects. The open batch must be empty.
    pub(super) fn reserve(&mut self, job: u32, count: u64) -> u64 {
        let forming = &mut self.jobs[job].forming;
        debug_assert!(forming.is_empty());
        let first = forming.first_seq;
        forming.first_seq += count;
        first
    }

    /// The session's slot for a function, announced if it is new.
    pub(super) fn function(&mut self, callee: &Callee) -> u32 {
        match callee {
            Callee::Linked(entry) => self.linked(entry),
            Callee::Described(function) => self.described(function),
        }
    }

    fn linked(&mut self, entry: &'static TaskEntry) -> u32 {
        let place = place_of(entry);
        if self.functions.len() <= place {
            self.functions.resize(TASKS.len().max(place + 1), UNANNOUNCED);
        }
        if self.functions[place] == UNANNOUNCED {
            let spec = FunctionSpec::rust(entry.id, entry.name, self.connection.program());
            self.functions[place] = self.announce(spec);
        }
        self.functions[place]
    }

    fn described(&mut self, function: &Function) -> u32 {
        let key = (function.id(), function.runtime().cloned());
        if let Some(slot) = self.described.get(&key) {
            return *slot;
        }
        let slot = self.announce(function.spec(&self.runtime));
        self.described.insert(key, slot);
        slot
    }

    fn announce(&mut self, function: FunctionSpec) -> u32 {
        let first_slot = self.announced;
        self.outbox.push(FromClient::Functions { first_slot, functions: vec![function] });
        self.announced += 1;
        first_slot
    }

    /// Appends one task to its job's open batch.
    pub(super) fn append(&mut self, job: u32, call: Call<'_>) -> Key {
        let function = self.function(call.callee);
        for &input in call.inputs {
            if input.job != job && input.job != FOREIGN {
                self.close_batch(input.job);
            }
            let object = self.object(input);
            self.jobs[job].forming.input(object);
        }
        let own = &mut self.jobs[job];
        let seq = own.forming.first_seq + own.forming.len() as u64;
        own.forming.push(Row {
            function,
            outputs: call.outputs,
            rank: 0,
            flags: held(call.wanted),
            args: call.args,
            options: call.options,
        });
        for index in 0..u32::from(call.outputs) {
            let state = if call.wanted { ObjectState::Wanted } else { ObjectState::Pending };
            own.table.retain(seq, index, state);
        }
        let full = own.forming.is_full();
        // What another job's handle stands for must not be released before this has left.
        let foreign = call.inputs.iter().any(|input| input.job != job && input.job != FOREIGN);
        if full || foreign {
            self.close_batch(job);
        }
        Key { job, seq, index: 0 }
    }

    /// Moves a job's open batch into the outbox.
    fn close_batch(&mut self, job: u32) {
        let lane = self.lane;
        let Job { id, forming, .. } = &mut self.jobs[job];
        // While a graph is being sent an open batch waits, however full it is.
        if !forming.is_empty() && !self.graph_open {
            let batch = forming.take(*id, lane, false);
            self.outbox.push(FromClient::Submit(batch));
            self.batches_waiting += 1;
        }
    }

    /// Moves everything that is still open into the outbox: batches, then holds and releases.
    pub(super) fn flush(&mut self) {
        if self.graph_open {
            return;
        }
        for place in 0..self.jobs.live() {
            self.close_batch(self.jobs.live_number(place));
        }
        if self.retired {
            self.changes.clear();
        }
        // In runs, since an object may be held again after it was released.
        let mut changes = std::mem::take(&mut self.changes).into_iter().peekable();
        while let Some((first, hold)) = changes.next() {
            let mut objects = vec![first];
            while let Some((object, _)) = changes.next_if(|(_, next)| *next == hold) {
                objects.push(object);
            }
            self.outbox.push(match hold {
                true => FromClient::Hold { objects },
                false => FromClient::Release { objects },
            });
        }
    }

    pub(super) fn drain(&mut self, into: &mut Vec<FromClient>) {
        self.flush();
        into.append(&mut self.outbox);
        self.batches_waiting = 0;
    }

    /// Tasks that wait to be taken.
    pub(super) fn rows_waiting(&self) -> usize {
        let open: usize = self.jobs.iter().map(|job| job.forming.len()).sum();
        open + self.batches_waiting * super::ROWS
    }

    pub(super) fn object(&self, key: Key) -> ObjectId {
        if key.job == FOREIGN {
            let foreign = &self.foreign[key.seq as usize];
            return foreign.as_ref().expect("a key is used only while it is held").object;
        }
        let job = self.jobs[key.job].id;
        TaskId { job, lane: self.lane, seq: key.seq }.object(key.index)
    }

    /// What is known of an object that somebody has a handle to.
    pub(super) fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        if key.job == FOREIGN {
            let foreign = self.foreign.get_mut(key.seq as usize)?.as_mut()?;
            return Some(&mut foreign.slot);
        }
        self.jobs.get(key.job)?.table.get(key.seq, key.index)
    }

    /// Whether there is a handle to an object.
    pub(super) fn is_held(&mut self, object: ObjectId) -> bool {
        let key = self.key(object);
        key.and_then(|key| self.slot(key)).is_some_and(|slot| slot.handles > 0)
    }

    /// The key of an object, if somebody has a handle to it or had one.
    pub(super) fn key(&self, object: ObjectId) -> Option<Key> {
        let ObjectId { task: TaskId { job, lane, seq }, index } = object;
        if lane == self.lane
            && let Some(job) = self.jobs.number(job)
        {
            return Some(Key { job, seq, index });
        }
        let place = *self.foreign_places.get(&object)?;
        Some(Key { job: FOREIGN, seq: place, index: 0 })
    }

    pub(super) fn retain(&mut self, key: Key) {
        if let Some(slot) = self.slot(key) {
            slot.handles += 1;
        }
    }

    /// One handle less; what was known of the object if that was the last one.
    pub(super) fn release(&mut self, key: Key) -> Option<ObjectState> {
        match key.job {
            FOREIGN => self.release_foreign(key.seq),
            _ => self.release_share(key, 1),
        }
    }

    /// As [`State::release`], of an object of this lane: of one handle or of the share that the
    /// session itself has until the object's end.
    pub(super) fn release_share(&mut self, key: Key, share: u32) -> Option<ObjectState> {
        let job = self.jobs.get(key.job)?;
        let freed = job.table.release(key.seq, key.index, share)?;
        if let Some(row) = job.forming.row(key.seq)
            && row.outputs == 1
        {
            // Nobody has been told of it yet: nobody need hear of its end.
            row.flags &= !(TaskRow::HELD | TaskRow::WANTED);
            return None;
        }
        let object = self.object(key);
        self.changes.push((object, false));
        self.forget_if_over(key.job);
        Some(freed)
    }

    /// Forgets a closed job of which nothing is left. An open graph may still name objects of it.
    pub(super) fn forget_if_over(&mut self, job: u32) {
        if !self.graph_open {
            self.jobs.forget_if_over(job);
        }
    }

    /// As [`State::forget_if_over`], of all jobs.
    pub(super) fn forget_closed(&mut self) {
        for place in (0..self.jobs.live()).rev() {
            self.forget_if_over(self.jobs.live_number(place));
        }
    }

    fn release_foreign(&mut self, place: u64) -> Option<ObjectState> {
        let place = place as usize;
        let foreign = self.foreign.get_mut(place)?.as_mut()?;
        foreign.slot.handles -= 1;
        if foreign.slot.handles > 0 {
            return None;
        }
        let Foreign { object, slot, borrowed } = self.foreign[place].take()?;
        self.foreign_places.remove(&object);
        self.foreign_free.push(place as u64);
        if !borrowed {
            self.changes.push((object, false));
        }
        Some(slot.state)
    }

    /// One more reference to an object that was found inside a value.
    pub(super) fn adopt(&mut self, object: ObjectId, borrowed: bool) -> Key {
        match self.key(object) {
            Some(key) if key.job == FOREIGN => {
                self.retain(key);
                return key;
            }
            Some(key) => {
                let table = &mut self.jobs[key.job].table;
                if table.retain(key.seq, key.index, ObjectState::Pending) {
                    self.changes.push((object, true));
                }
                return key;
            }
            None => {}
        }
        if !borrowed {
            self.changes.push((object, true));
        }
        let slot = Slot { handles: 1, ..Slot::default() };
        let place = self.foreign_free.pop().unwrap_or(self.foreign.len() as u64);
        if place == self.foreign.len() as u64 {
            self.foreign.push(None);
        }
        self.foreign[place as usize] = Some(Foreign { object, slot, borrowed });
        self.foreign_places.insert(object, place);
        Key { job: FOREIGN, seq: place, index: 0 }
    }

    /// What became of an object, or `None` if that is not known.
    pub(super) fn found(&mut self, key: Key) -> Result<Option<Found>, Error> {
        match self.slot(key).map(|slot| &slot.state) {
            Some(ObjectState::Small { codec, len, bytes }) => {
                Ok(Some(Found::Small { codec: *codec, len: *len, bytes: *bytes }))
            }
            Some(ObjectState::Known(outcome)) => Ok(Some(Found::Known((**outcome).clone()))),
            _ => self.check_open().map(|()| None),
        }
    }

    /// Where an object lies is not known any more.
    pub(super) fn forget_place(&mut self, key: Key) {
        if let Some(slot) = self.slot(key)
            && let ObjectState::Known(outcome) = &slot.state
            && matches!(**outcome, Outcome::Stored { .. })
        {
            slot.state = ObjectState::Pending;
        }
    }

    /// Has the scheduler tell of these, those that it does not tell of already.
    pub(super) fn want(&mut self, keys: &[Key]) {
        let mut wanted = Vec::new();
        for &key in keys {
            let Some(slot) = self.slot(key) else { continue };
            if !matches!(slot.state, ObjectState::Pending) {
                continue;
            }
            slot.state = ObjectState::Wanted;
            let open = self.jobs.get(key.job);
            match open.and_then(|job| job.forming.row(key.seq)) {
                Some(row) => row.flags |= TaskRow::WANTED,
                None => wanted.push(self.object(key)),
            }
        }
        if !wanted.is_empty() {
            self.flush();
            self.outbox.push(FromClient::Want { objects: wanted });
        }
    }

    /// Something is to be taken.
    pub(super) fn has_mail(&self) -> bool {
        !self.outbox.is_empty()
            || !self.changes.is_empty()
            || self.jobs.iter().any(|job| !job.forming.is_empty())
    }
}

/// Where an entry lies in [`TASKS`].
fn place_of(entry: &'static TaskEntry) -> usize {
    let base = TASKS.as_ptr() as usize;
    let place = (entry as *const TaskEntry as usize).wrapping_sub(base) / size_of::<TaskEntry>();
    assert!(place < TASKS.len(), "{} is not in the registry of tasks", entry.name);
    place
}
