//! Objects that are freed, asked for, and that come or fail to come from disk and from peers.

use manyhands_proto::client::{Outcome, ToClient};
use manyhands_proto::executor::{Extent, ToExecutor};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, INLINE_LIMIT, ObjectMeta, Value};
use manyhands_proto::{ObjectId, TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State};
use crate::core::Core;
use crate::event::{ExecutorId, LocalValue};
use crate::executors::Phase;
use crate::memory::SpaceWait;
use crate::objects::{ObjectIx, Residence, Spilled, Waiter};

/// Objects that a task was told of as a client and may read, at most.
const ELSEWHERE_LIMIT: usize = 4096;

/// Why an object does not come.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// It was here, and the disk does not give it back.
    Lost,
    /// Nobody who was said to have it gave it.
    NotFetched,
}

impl Core {
    pub(crate) fn on_free(&mut self, objects: Vec<ObjectId>, out: &mut Vec<Action>) {
        for id in objects {
            if let Some(ix) = self.objects.remove_small(id) {
                self.objects.doom(ix);
                self.free_if_doomed(ix, out);
            }
        }
    }

    /// Frees what lost its last pin after it was freed.
    pub(crate) fn free_doomed(&mut self, out: &mut Vec<Action>) {
        while let Some(ix) = self.to_free.pop() {
            if self.objects.is_doomed(ix) {
                self.free_if_doomed(ix, out);
            }
        }
    }

    /// Frees a doomed object unless it is pinned or on its way, in which case that happens later.
    pub(crate) fn free_if_doomed(&mut self, ix: ObjectIx, out: &mut Vec<Action>) {
        let object = &self.objects[ix];
        if !object.doomed || object.pins > 0 {
            return;
        }
        let id = object.id;
        match object.residence {
            Residence::Spilling { .. } | Residence::Loading { .. } | Residence::Fetching { .. } => {
                return;
            }
            Residence::Extent { .. } | Residence::Spilled => out.push(Action::Free { object: id }),
            Residence::Inline(_) | Residence::Remote { .. } | Residence::Gone => {}
        }
        self.objects.set(ix, Residence::Gone);
        if self.is_copy_wanted(ix) {
            // Asked for before it was made here: nobody would take it out of the table.
            return self.drop_copy(ix);
        }
        self.objects.forget_if_gone(ix);
    }

    pub(crate) fn on_stored(
        &mut self,
        object: ObjectId,
        meta: ObjectMeta,
        extent: Option<Extent>,
        executor: ExecutorId,
    ) {
        let residence = match extent {
            None => Residence::Spilled,
            Some(extent) => {
                let on_disk = self.publish(executor, extent);
                Residence::Extent { extent, on_disk }
            }
        };
        self.add_object(object, meta.codec, meta.size, residence);
    }

    pub(crate) fn on_loaded(
        &mut self,
        id: ObjectId,
        result: Result<LocalValue, String>,
        out: &mut Vec<Action>,
    ) {
        let Some(ix) = self.objects.find(id) else { return };
        let Residence::Loading { on_disk } = self.objects[ix].residence else { return };
        match result {
            Ok(value) => self.arrive(ix, value, on_disk, out),
            Err(message) => {
                self.lost.push(id);
                self.give_up(ix, Absence::Lost, &message, out);
            }
        }
    }

    pub(crate) fn on_fetched(
        &mut self,
        id: ObjectId,
        result: Result<(ObjectMeta, LocalValue), String>,
        out: &mut Vec<Action>,
    ) {
        if self.strays.remove(&id).is_some() {
            return self.on_stray(id, result.is_ok_and(|(_, value)| value.is_stored()), out);
        }
        let Some(ix) = self.objects.find(id) else { return };
        let Residence::Fetching { on_disk, .. } = self.objects[ix].residence else { return };
        match result {
            Ok((meta, value)) => {
                self.objects[ix].codec = meta.codec;
                self.copied.push(id);
                self.arrive(ix, value, on_disk, out);
            }
            Err(message) => {
                self.give_up(ix, Absence::NotFetched, &message, out);
            }
        }
    }

    /// A copy came of what was made here meanwhile. The store keeps one of the two; it goes if what
    /// was made here is gone again.
    fn on_stray(&mut self, id: ObjectId, stored: bool, out: &mut Vec<Action>) {
        if stored && !self.is_here(id) {
            out.push(Action::Free { object: id });
        }
    }

    fn arrive(&mut self, ix: ObjectIx, value: LocalValue, on_disk: bool, out: &mut Vec<Action>) {
        let residence = match value {
            LocalValue::Inline(value) => Residence::Inline(value.bytes),
            LocalValue::Extent { extent, .. } => Residence::Extent { extent, on_disk },
        };
        self.objects.set(ix, residence);
        self.wake(ix, out);
        self.free_if_doomed(ix, out);
    }

    /// Tells all that waited for an object that it is here.
    pub(crate) fn wake(&mut self, ix: ObjectIx, out: &mut Vec<Action>) {
        for waiter in std::mem::take(&mut self.objects[ix].waiters) {
            match waiter {
                Waiter::Input(attempt, stamp) => self.one_input_less(attempt, stamp),
                Waiter::Read(executor, attempt, stamp) => {
                    if self.attempts.fresh(attempt, stamp) {
                        self.answer_read(executor, attempt, ix, out);
                    }
                }
                Waiter::Send => self.send_value(self.objects[ix].id),
                // That there is another copy is said by whoever fetched it.
                Waiter::Copy => {}
                Waiter::Serve(ticket) => {
                    let value = self.value(self.objects[ix].id);
                    out.push(Action::Serve { ticket, value });
                }
            }
        }
    }

    fn one_input_less(&mut self, ix: AttemptIx, stamp: u32) {
        if !self.attempts.fresh(ix, stamp) {
            return;
        }
        if let State::Loading { missing } = &mut self.attempts[ix].state {
            *missing -= 1;
            if *missing == 0 {
                self.enqueue(ix);
            }
        }
    }

    /// An object will not come: all that waited for it learn it.
    fn give_up(&mut self, ix: ObjectIx, absence: Absence, message: &str, out: &mut Vec<Action>) {
        self.objects.set(ix, Residence::Gone);
        let id = self.objects[ix].id;
        for waiter in std::mem::take(&mut self.objects[ix].waiters) {
            match waiter {
                Waiter::Input(attempt, stamp) => {
                    if self.attempts.fresh(attempt, stamp) {
                        match absence {
                            Absence::Lost => {
                                self.fail_here(attempt, FailureKind::LostInput { object: id });
                            }
                            Absence::NotFetched => self.hand_back(attempt, id, message, out),
                        }
                    }
                }
                Waiter::Read(executor, attempt, stamp) => {
                    if self.attempts.fresh(attempt, stamp) {
                        let place = Err(message.to_owned());
                        out.push(Action::Readable { executor, object: id, place });
                    }
                }
                Waiter::Send => self.values.push((id, None)),
                Waiter::Copy => self.copy_failed(id, message.to_owned()),
                Waiter::Serve(ticket) => out.push(Action::Serve { ticket, value: None }),
            }
        }
        // A waiter's end may have let go of the last use, and the number with it.
        if self.objects.find(id) == Some(ix) {
            self.objects.forget_if_gone(ix);
        }
    }

    pub(crate) fn on_send(&mut self, objects: Vec<ObjectId>) {
        for id in objects {
            self.send_value(id);
        }
    }

    /// Answers with an object's value, now or when it is back from disk.
    fn send_value(&mut self, id: ObjectId) {
        if let Some(small) = self.objects.small(id) {
            return self.values.push((id, Some(small)));
        }
        let Some(ix) = self.objects.find(id) else { return self.values.push((id, None)) };
        let object = &mut self.objects[ix];
        let codec = object.codec;
        match &object.residence {
            Residence::Inline(bytes) | Residence::Spilling { from: Spilled::Inline(bytes), .. } => {
                let value = Value { codec, bytes: bytes.clone() };
                self.values.push((id, Some(value)));
            }
            Residence::Loading { .. } if object.size <= INLINE_LIMIT as u64 => {
                object.waiters.push(Waiter::Send);
            }
            Residence::Spilled if object.size <= INLINE_LIMIT as u64 => {
                object.waiters.push(Waiter::Send);
                let on_disk = !self.fits(crate::objects::pages(self.objects[ix].size));
                let mut out = std::mem::take(&mut self.later);
                self.bring(ix, on_disk, &mut out);
                self.later = out;
            }
            _ => self.values.push((id, None)),
        }
    }

    /// A running task wants to read an object. It stays pinned until that task ends.
    pub(crate) fn on_read_requested(
        &mut self,
        now: Time,
        executor: ExecutorId,
        task: TaskId,
        id: ObjectId,
        out: &mut Vec<Action>,
    ) {
        let Some(e) = self.executors.get(&executor).filter(|e| e.phase == Phase::Live) else {
            return;
        };
        let asks = |ix: &&AttemptIx| self.attempts[**ix].assignment.task == task;
        let Some(attempt) = e.stack.iter().rev().find(asks).copied() else { return };
        let Some(object) = self.find_for(attempt, id) else {
            let place = Err(format!("{id} does not lie with {}", self.worker));
            return out.push(Action::Readable { executor, object: id, place });
        };
        if !self.attempts[attempt].rare().reads.contains(&object) {
            self.attempts[attempt].rare().reads.push(object);
            self.objects.pin(object);
        }
        if self.objects[object].is_resident() || self.objects[object].is_coming() {
            return self.answer_read(executor, attempt, object, out);
        }
        let stamp = self.attempts[attempt].stamp;
        self.executors.get_mut(&executor).expect("looked up above").waiting_space += 1;
        let wait = SpaceWait::Read { executor, attempt, stamp, object };
        self.wait_for_space(now, wait, out);
    }

    /// An object of the table, or one that the task was told lies elsewhere.
    fn find_for(&mut self, attempt: AttemptIx, id: ObjectId) -> Option<ObjectIx> {
        let known = self.objects.find(id);
        let gone = |ix: &ObjectIx| matches!(self.objects[*ix].residence, Residence::Gone);
        if let Some(ix) = known.filter(|ix| !gone(ix)) {
            return Some(ix);
        }
        let elsewhere = &self.attempts[attempt].rare.as_ref()?.elsewhere;
        let (_, workers, size) = elsewhere.iter().find(|(object, ..)| *object == id)?;
        let (workers, size) = (workers.clone(), *size);
        self.add_object(id, Codec::RAW, size, Residence::Remote { workers });
        self.objects.find(id)
    }

    /// Answers a read now, or when the object has come.
    pub(crate) fn answer_read(
        &mut self,
        executor: ExecutorId,
        attempt: AttemptIx,
        object: ObjectIx,
        out: &mut Vec<Action>,
    ) {
        let at = &mut self.objects[object];
        match at.place() {
            Some(place) => {
                out.push(Action::Readable { executor, object: at.id, place: Ok(place) });
            }
            None => {
                let stamp = self.attempts[attempt].stamp;
                at.waiters.push(Waiter::Read(executor, attempt, stamp));
            }
        }
    }

    /// For a task that speaks as a client. What it is told of the places of objects is remembered,
    /// in case it wants to read them.
    pub(crate) fn on_to_task(&mut self, ix: AttemptIx, message: ToClient, out: &mut Vec<Action>) {
        let Some(executor) = self.attempts[ix].executor().filter(|_| self.attempts[ix].has_begun())
        else {
            return;
        };
        if let ToClient::Ended { ends } = &message {
            for (object, outcome) in ends {
                self.remember_place(ix, *object, outcome);
            }
            self.count_told(ix, ends);
        }
        let task = self.attempts[ix].assignment.task;
        let message = ToExecutor::Client { task, message };
        out.push(Action::ToExecutor { executor, message });
    }

    fn remember_place(&mut self, ix: AttemptIx, object: ObjectId, outcome: &Outcome) {
        let Outcome::Stored { size, workers, .. } = outcome else { return };
        if workers.contains(&self.worker) {
            return;
        }
        let elsewhere = &mut self.attempts[ix].rare().elsewhere;
        elsewhere.retain(|(known, ..)| *known != object);
        if elsewhere.len() < ELSEWHERE_LIMIT {
            elsewhere.push((object, workers.clone(), *size));
        }
    }
}
