//! Streams: objects that a task puts one after the other while it runs, as far as its consumer gives
//! it room.
//!
//! An item is a record of its own, that of a task which never runs by itself: it names the task that
//! makes the stream as its input, and so keeps that one's lineage. It comes to be when somebody gives
//! room for it, waits until it is put, and is gone when it is released; so however many items a stream
//! has, there are records of those alone that somebody waits for or holds.

use std::collections::BTreeMap;

use manyhands_proto::client::{Outcome, PutPlace, ROOM_LIMIT, ToClient};
use manyhands_proto::task::{Failed, FailureKind, TaskOptions};
use manyhands_proto::value::{INLINE_LIMIT, ObjectMeta, Value};
use manyhands_proto::words::Bytes;
use manyhands_proto::{ObjectId, TaskId};
use smallvec::smallvec;

use crate::action::Action;
use crate::clients::unknown_object;
use crate::core::Core;
use crate::holders::{HOLDS, WANTS};
use crate::objects::{ObjRef, Object};
use crate::sessions::Speaker;
use crate::slab::{SessionIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Args, Flags, State, Task};

/// What is known of a stream besides the records of its task and its items.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The first item that may not be made yet.
    upto: u64,
    /// How many the current attempt has made; when it has ended, that one.
    made: u64,
    /// The current attempt wants to be told of more room.
    listens: bool,
    /// The items that somebody waits for, by number.
    awaited: BTreeMap<u64, TaskIdx>,
}

impl Core {
    /// A session gives room for some items, which it wants.
    pub(crate) fn on_room(
        &mut self,
        session: SessionIdx,
        id: TaskId,
        from: u64,
        upto: u64,
        out: &mut Vec<Action>,
    ) {
        if let Err(reason) = self.check_room(id, from, upto) {
            return self.refuse(session, reason, out);
        }
        let Some(task) = self.lanes.task(id) else {
            for number in from..upto {
                let failed = unknown_object(id.object(0));
                self.queue_end(session, id.item(number), Outcome::Failed(failed));
            }
            return;
        };
        self.tasks[task].flags.set(Flags::STREAM);
        let stream = self.streams.entry(task).or_default();
        stream.upto = stream.upto.max(upto);
        for number in from..upto {
            self.expect_item(session, task, number);
        }
        self.tell_room(task, out);
    }

    fn check_room(&mut self, id: TaskId, from: u64, upto: u64) -> Result<(), String> {
        let many = |n: u64| {
            format!("room for {n} items of {id} was given at one time: {ROOM_LIMIT} are the most")
        };
        let given = upto.saturating_sub(from);
        if given > ROOM_LIMIT {
            return Err(many(given));
        }
        let Some(task) = self.lanes.task(id) else { return Ok(()) };
        if self.tasks[task].flags.has(Flags::PUT | Flags::ITEM) {
            return Err(format!("{id} is a value, and makes no stream"));
        }
        let awaited = self.streams.get(&task).map_or(0, |stream| stream.awaited.len() as u64);
        if awaited + given > 2 * ROOM_LIMIT {
            return Err(many(awaited + given));
        }
        let far = self.lanes.find(id.job, id.item_lane());
        let far = far.filter(|lane| {
            given > 0 && !(self.lanes.can_hold(*lane, from) && self.lanes.can_hold(*lane, upto - 1))
        });
        match far {
            Some(_) => Err(format!("item {from} of {id} is too far from the others")),
            None => Ok(()),
        }
    }

    /// A session holds and wants an item.
    fn expect_item(&mut self, session: SessionIdx, task: TaskIdx, number: u64) {
        let id = self.task_id(task).item(number);
        if let Some(object) = self.find_object(id) {
            self.bind(session, object, HOLDS);
            return self.want(session, object);
        }
        let made = self.streams[&task].made;
        match &self.tasks[task].state {
            State::Failed(failed) => {
                let failed = (**failed).clone();
                self.queue_end(session, id, Outcome::Failed(failed));
            }
            State::Done if number >= made => {
                let failed = unknown_object(id);
                self.queue_end(session, id, Outcome::Failed(failed));
            }
            _ => {
                let item = self.add_item(task, number);
                self.bind(session, ObjRef { task: item, index: 0 }, HOLDS | WANTS);
                self.run_for_items(task);
            }
        }
    }

    /// The record of an item that is awaited.
    fn add_item(&mut self, task: TaskIdx, number: u64) -> TaskIdx {
        let id = self.task_id(task).item(number);
        let job = self.job_of(task);
        let lane = self.lanes.find_or_make(job, id.task.job, id.task.lane);
        let options = self.options.intern(&TaskOptions::default());
        let mut flags = Flags::default();
        flags.set(Flags::ITEM);
        let input = ObjRef { task, index: 0 };
        let item = self.enter(Task {
            seq: number,
            order: 0,
            lane,
            function: self.tasks[task].function,
            options,
            args: Args::NONE,
            attempts: 0,
            refs: 0,
            flags,
            // Never by itself: it is not among those that wait for the task's own object.
            state: State::Waiting { missing: 1 },
            inputs: smallvec![input],
            first: Object::pending(),
            others: None,
        });
        self.options.release(options);
        self.tasks[task].refs += 1;
        self.object_mut(input).needed_by += 1;
        self.await_item(task, number, item);
        item
    }

    fn await_item(&mut self, task: TaskIdx, number: u64, item: TaskIdx) {
        let stream = self.streams.get_mut(&task).expect("a stream is known while its items are");
        stream.awaited.insert(number, item);
    }

    /// The task whose stream an item belongs to.
    fn maker(&self, item: TaskIdx) -> TaskIdx {
        self.tasks[item].inputs[0].task
    }

    /// An item that was made is no more, and somebody needs it.
    pub(crate) fn remake_item(&mut self, item: TaskIdx) {
        self.leave_lineage(item);
        let task = self.maker(item);
        self.tasks[item].state = State::Waiting { missing: 1 };
        self.expect_again(item);
        self.object_mut(ObjRef { task, index: 0 }).needed_by += 1;
        let number = self.tasks[item].seq;
        self.await_item(task, number, item);
        self.run_for_items(task);
    }

    /// A task that has ended runs again for the sake of items. If it cannot, they are lost.
    fn run_for_items(&mut self, task: TaskIdx) {
        match self.tasks[task].state {
            State::Done if !self.tasks[task].flags.has(Flags::HOLLOW) => self.restart(task),
            State::Done | State::Failed(_) => self.lose_items(task, 0),
            _ => {}
        }
    }

    /// The awaited items from a number on will never be made.
    fn lose_items(&mut self, task: TaskIdx, from: u64) {
        let Some(stream) = self.streams.get_mut(&task) else { return };
        let lost = stream.awaited.split_off(&from);
        for item in lost.into_values() {
            let object = self.object_id(ObjRef { task: item, index: 0 });
            self.fail(item, FailureKind::LostInput { object });
        }
    }

    /// An item is not awaited any more: it failed, or nobody needs it.
    pub(crate) fn withdraw_item(&mut self, item: TaskIdx) {
        let (task, number) = (self.maker(item), self.tasks[item].seq);
        if let Some(stream) = self.streams.get_mut(&task) {
            stream.awaited.remove(&number);
        }
    }

    /// The items that fail with the task that makes them, the last one first.
    pub(crate) fn items_that_fail(
        &mut self,
        task: TaskIdx,
        failed: &Failed,
    ) -> Vec<(TaskIdx, Failed)> {
        let stream = self.streams.get_mut(&task);
        let awaited = stream.map(|stream| std::mem::take(&mut stream.awaited)).unwrap_or_default();
        awaited.into_values().rev().map(|item| (item, failed.clone())).collect()
    }

    /// Another attempt of a stream's task begins, from the first item.
    pub(crate) fn begin_stream(&mut self, task: TaskIdx) {
        if let Some(stream) = self.streams.get_mut(&task) {
            (stream.made, stream.listens) = (0, false);
        }
    }

    /// A stream's task has ended well: what it has not made it never will. What it had made before
    /// somebody asked for it (again) it makes once more.
    pub(crate) fn on_stream_ended(&mut self, task: TaskIdx) {
        let Some(stream) = self.streams.get(&task) else { return };
        let made = stream.made;
        self.lose_items(task, made);
        if self.streams.get(&task).is_some_and(|stream| !stream.awaited.is_empty()) {
            self.run_for_items(task);
        }
    }

    /// A running task wants to know how much room it has.
    pub(crate) fn on_stream_begun(&mut self, session: SessionIdx, out: &mut Vec<Action>) {
        let Speaker::Task(task) = self.sessions[session].speaker else {
            return self.refuse(session, "only a running task makes a stream".into(), out);
        };
        self.tasks[task].flags.set(Flags::STREAM);
        self.streams.entry(task).or_default().listens = true;
        self.tell_room(task, out);
    }

    fn tell_room(&mut self, task: TaskIdx, out: &mut Vec<Action>) {
        let stream = &self.streams[&task];
        if let Some(session) = self.task_sessions.get(&task).filter(|_| stream.listens) {
            self.say(*session, ToClient::Room { upto: stream.upto }, out);
        }
    }

    /// The running task that a session belongs to, if that makes the stream that an object is an item of.
    pub(crate) fn maker_of(&self, session: SessionIdx, id: ObjectId) -> Option<TaskIdx> {
        let Speaker::Task(task) = self.sessions[session].speaker else { return None };
        let maker = self.task_id(task);
        (maker.job == id.task.job && maker.item_lane() == id.task.lane).then_some(task)
    }

    /// A running task puts an item of its stream.
    pub(crate) fn on_item(
        &mut self,
        session: SessionIdx,
        task: TaskIdx,
        id: ObjectId,
        meta: ObjectMeta,
        place: PutPlace,
        out: &mut Vec<Action>,
    ) {
        let (upto, made) = self.streams.get(&task).map_or((0, 0), |s| (s.upto, s.made));
        let number = id.task.seq;
        let refused = match &place {
            _ if number < made => return,
            _ if number > made || number >= upto || id.index != 0 => Some(format!(
                "{id} cannot be put as item {number}: {made} were made, and there is room for {upto}"
            )),
            PutPlace::Inline(bytes) if bytes.len() > INLINE_LIMIT => {
                Some(format!("{id} has {}: too much for a message", Bytes(bytes.len() as u64)))
            }
            _ => None,
        };
        if let Some(reason) = refused {
            self.free_stored(id, &place);
            return self.refuse(session, reason, out);
        }
        self.streams.get_mut(&task).expect("it has room").made += 1;
        match self.find_object(id) {
            Some(object) if matches!(self.tasks[object.task].state, State::Waiting { .. }) => {
                self.on_item_made(object, meta, place);
            }
            // Made again for the sake of another.
            Some(object) if self.object(object).there().is_some() => {
                if let Some(worker) = self.stored_at(&place) {
                    self.add_copy(object, worker);
                }
            }
            _ => self.free_stored(id, &place),
        }
    }

    fn on_item_made(&mut self, object: ObjRef, meta: ObjectMeta, place: PutPlace) {
        self.withdraw_item(object.task);
        self.tasks[object.task].state = State::Done;
        let codec = meta.codec;
        match place {
            PutPlace::Inline(bytes) => {
                let value = self.cache(&bytes, true);
                self.arrive(object, meta, WorkerIdx::NONE, value);
                self.deliver(object, Some(Value { codec, bytes }));
            }
            PutPlace::Stored(_) => {
                let worker = self.stored_at(&place).unwrap_or(WorkerIdx::NONE);
                self.arrive(object, meta, worker, ValueIdx::NONE);
                self.deliver(object, None);
            }
        }
        self.release_needs(object.task);
    }

    fn stored_at(&self, place: &PutPlace) -> Option<WorkerIdx> {
        let PutPlace::Stored(worker) = place else { return None };
        self.worker_ids.get(worker).copied()
    }

    /// Nobody needs what was put.
    fn free_stored(&mut self, id: ObjectId, place: &PutPlace) {
        if let Some(worker) = self.stored_at(place) {
            self.outbox(worker).free.push(id);
        }
    }

    /// Streams and their items know each other, for the sanity check.
    pub(crate) fn check_streams(&self) {
        let mut awaited = 0;
        for (task, stream) in &self.streams {
            assert!(self.tasks[*task].flags.has(Flags::STREAM), "streams belong to tasks");
            for (number, item) in &stream.awaited {
                let record = &self.tasks[*item];
                assert!(record.flags.has(Flags::ITEM) && record.seq == *number);
                assert_eq!(self.maker(*item), *task, "an item is awaited where it is made");
            }
            awaited += stream.awaited.len();
        }
        let waits = |(_, record): &(TaskIdx, &Task)| {
            record.flags.has(Flags::ITEM) && matches!(record.state, State::Waiting { .. })
        };
        assert_eq!(awaited, self.tasks.iter().filter(waits).count(), "awaited items are known");
        let streams = self.tasks.iter().filter(|(_, record)| record.flags.has(Flags::STREAM));
        assert_eq!(streams.count(), self.streams.len(), "streams are known while their tasks are");
    }
}
