//! Room in the store: who may have some, what goes to disk for it, what comes back.
//!
//! What is used never passes the limit. The way out, where everything would wait for everything
//! else, is a segment in a file on disk.

use manyhands_proto::executor::Extent;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, Value};
use manyhands_proto::worker::InputPlace;
use manyhands_proto::{ObjectId, TaskId, Time};

use crate::action::Action;
use crate::attempts::{AttemptIx, State};
use crate::core::Core;
use crate::event::ExecutorId;
use crate::executors::{GrantedSpace, Phase};
use crate::objects::{ObjectIx, Residence, Spilled, Waiter, pages};

/// Spills under way at one time.
const SPILLS_LIMIT: u32 = 16;
/// Microseconds without another try, after the disk refused an object.
const SPILL_PAUSE_US: u64 = 1_000_000;

/// Whether an attempt's inputs are in memory and pinned for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Yes,
    /// It waits for them, or has ended since one is lost.
    No,
}

/// A running task's wish that waits for room.
#[derive(Debug)]
pub(crate) enum SpaceWait {
    Alloc { executor: ExecutorId, request: u64, task: TaskId, size: u64 },
    Read { executor: ExecutorId, attempt: AttemptIx, stamp: u32, object: ObjectIx },
}

impl Core {
    /// Bytes in memory, granted or reserved.
    pub(crate) fn used(&self) -> u64 {
        self.objects.used + self.granted
    }

    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.config.spec.store_limit
    }

    /// Pins the inputs of an attempt that is next. It must be in no queue. If some are not in
    /// memory it goes to wait for them.
    pub(crate) fn make_ready(&mut self, ix: AttemptIx) -> Ready {
        let attempt = &self.attempts[ix];
        if attempt.objects.is_empty() || attempt.pinned {
            return Ready::Yes;
        }
        if attempt.objects.iter().all(|o| self.objects[*o].is_resident()) {
            self.pin_inputs(ix);
            return Ready::Yes;
        }
        let key = (attempt.assignment.order, attempt.seq, ix);
        self.attempts[ix].state = State::WantsMemory;
        self.wants_memory.insert(key);
        Ready::No
    }

    fn pin_inputs(&mut self, ix: AttemptIx) {
        let attempt = &mut self.attempts[ix];
        attempt.pinned = true;
        for object in &attempt.objects {
            self.objects.pin(*object);
        }
    }

    pub(crate) fn unpin_inputs(&mut self, ix: AttemptIx) {
        if !std::mem::take(&mut self.attempts[ix].pinned) {
            return;
        }
        for at in 0..self.attempts[ix].objects.len() {
            self.unpin(self.attempts[ix].objects[at]);
        }
    }

    pub(crate) fn unpin(&mut self, object: ObjectIx) {
        if self.objects.unpin(object) {
            self.to_free.push(object);
        } else {
            self.objects.forget_if_gone(object);
        }
    }

    /// Gives room to those that wait for it, in turn: running tasks first, then the inputs of the
    /// next; and spills what is cold while more is used than the watermark allows.
    pub(crate) fn serve_memory(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some(wait) = self.space_waits.pop_front() {
            if let Some(wait) = self.serve(now, wait, out) {
                self.space_waits.push_front(wait);
                break;
            }
        }
        while let Some(ix) = self.next_to_admit() {
            if !self.admit(now, ix, out) {
                break;
            }
        }
        self.serve_copies(out);
        let watermark = self.config.spec.store_limit as f64 * self.config.spill_watermark;
        self.spill_down_to(now, watermark as u64, out);
    }

    /// Serves one wish, or hands it back.
    fn serve(&mut self, now: Time, wait: SpaceWait, out: &mut Vec<Action>) -> Option<SpaceWait> {
        match wait {
            SpaceWait::Alloc { executor, request, task, size } => {
                self.may_get_space(executor).then_some(())?;
                let bytes = pages(size);
                let on_disk = !self.fits(bytes);
                if on_disk && bytes <= self.config.spec.store_limit {
                    let hope = self.make_room(now, bytes, out);
                    if hope || self.goes_on() {
                        return Some(wait);
                    }
                }
                self.grant(executor, request, task, size, on_disk, out);
                self.no_longer_waits(executor);
                None
            }
            SpaceWait::Read { executor, attempt, stamp, object } => {
                if !self.attempts.fresh(attempt, stamp) {
                    return None;
                }
                let at = &self.objects[object];
                if !at.is_resident() && !at.is_coming() {
                    let bytes = pages(at.size);
                    let on_disk = !self.fits(bytes);
                    if on_disk && bytes <= self.config.spec.store_limit {
                        let hope = self.make_room(now, bytes, out);
                        if hope || self.goes_on() {
                            return Some(wait);
                        }
                    }
                    self.bring(object, on_disk, out);
                }
                self.no_longer_waits(executor);
                self.answer_read(executor, attempt, object, out);
                None
            }
        }
    }

    fn no_longer_waits(&mut self, executor: ExecutorId) {
        if let Some(executor) = self.executors.get_mut(&executor) {
            executor.waiting_space = executor.waiting_space.saturating_sub(1);
        }
    }

    /// Something will happen that may free memory, or needs none.
    fn goes_on(&self) -> bool {
        let runs = |ix| matches!(self.attempts[ix].state, State::Running { .. });
        let awaited = |p: &crate::executors::Pool| {
            p.starting > 0 && (p.queue.len > 0 || !self.specials.is_empty())
        };
        self.objects.spills > 0
            || self.objects.arrivals > 0
            || self.executors.values().any(|e| e.waiting_space == 0 && e.top().is_some_and(runs))
            || self.pools.iter().any(awaited)
    }

    fn grant(
        &mut self,
        executor: ExecutorId,
        request: u64,
        task: TaskId,
        size: u64,
        on_disk: bool,
        out: &mut Vec<Action>,
    ) {
        let bytes = if on_disk { 0 } else { pages(size) };
        self.granted += bytes;
        let granted = GrantedSpace { request, task, bytes, on_disk, extent: None };
        self.grants_of(executor).expect("the caller looked it up").push(granted);
        out.push(Action::Grant { executor, request, size, on_disk });
    }

    pub(crate) fn on_alloc_requested(
        &mut self,
        now: Time,
        executor: ExecutorId,
        request: u64,
        task: TaskId,
        size: u64,
        out: &mut Vec<Action>,
    ) {
        if !self.may_get_space(executor) {
            return;
        }
        if let Some(e) = self.executors.get_mut(&executor) {
            e.waiting_space += 1;
        }
        let wait = SpaceWait::Alloc { executor, request, task, size };
        self.wait_for_space(now, wait, out);
    }

    /// A client in this process, or an executor that still counts.
    fn may_get_space(&self, id: ExecutorId) -> bool {
        let executor = self.executors.get(&id);
        id == ExecutorId::CLIENT || executor.is_some_and(|e| e.phase == Phase::Live)
    }

    /// What somebody was granted and has not published.
    fn grants_of(&mut self, id: ExecutorId) -> Option<&mut Vec<GrantedSpace>> {
        match id {
            ExecutorId::CLIENT => Some(&mut self.client_grants),
            _ => self.executors.get_mut(&id).map(|e| &mut e.grants),
        }
    }

    /// A task ended: nothing waits for it any more.
    pub(crate) fn drop_waits(&mut self, id: ExecutorId, ended: TaskId, ix: AttemptIx) {
        let Some(executor) = self.executors.get_mut(&id).filter(|e| e.waiting_space > 0) else {
            return;
        };
        self.space_waits.retain(|wait| {
            let of_it = match wait {
                SpaceWait::Alloc { executor, task, .. } => *executor == id && *task == ended,
                SpaceWait::Read { attempt, .. } => *attempt == ix,
            };
            executor.waiting_space -= u32::from(of_it);
            !of_it
        });
    }

    /// Serves a wish at once if nobody came before it.
    pub(crate) fn wait_for_space(&mut self, now: Time, wait: SpaceWait, out: &mut Vec<Action>) {
        if !self.space_waits.is_empty() {
            self.space_waits.push_back(wait);
        } else if let Some(wait) = self.serve(now, wait, out) {
            self.space_waits.push_front(wait);
        }
    }

    pub(crate) fn on_granted(&mut self, id: ExecutorId, request: u64, extent: Option<Extent>) {
        let Some(grants) = self.grants_of(id) else { return };
        let Some(at) = grants.iter().position(|g| g.request == request) else { return };
        match extent {
            Some(extent) => grants[at].extent = Some(extent),
            None => {
                let bytes = grants.swap_remove(at).bytes;
                self.granted -= bytes;
            }
        }
    }

    /// An extent that was granted is an object now. True if it lies on disk.
    pub(crate) fn publish(&mut self, id: ExecutorId, extent: Extent) -> bool {
        let Some(grants) = self.grants_of(id) else { return false };
        let same = |g: &GrantedSpace| {
            g.extent.is_some_and(|e| (e.segment, e.offset) == (extent.segment, extent.offset))
        };
        let Some(at) = grants.iter().position(same) else { return false };
        let granted = grants.swap_remove(at);
        self.granted -= granted.bytes;
        granted.on_disk
    }

    /// What an executor was granted and did not publish comes back: of one task, or all.
    pub(crate) fn drop_grants(&mut self, id: ExecutorId, task: Option<TaskId>) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        let granted = &mut self.granted;
        executor.grants.retain(|g| {
            let goes = task.is_none_or(|t| t == g.task);
            *granted -= if goes { g.bytes } else { 0 };
            !goes
        });
    }

    /// The attempt whose inputs come next. They are pinned from now on, so that room is not made
    /// for one of them at the cost of another.
    fn next_to_admit(&mut self) -> Option<AttemptIx> {
        if self.admitting.is_none() {
            let (_, _, ix) = self.wants_memory.first().copied()?;
            self.pin_inputs(ix);
            self.admitting = Some(ix);
        }
        self.admitting
    }

    /// Inputs that are gone, since they did not come from those who were said to have them then,
    /// are looked for where this attempt was told that they are. An error: one was to be here.
    fn look_again(&mut self, ix: AttemptIx) -> Result<(), ObjectId> {
        let gone = |o: &ObjectIx| matches!(self.objects[*o].residence, Residence::Gone);
        if !self.attempts[ix].objects.iter().any(gone) {
            return Ok(());
        }
        let attempt = &self.attempts[ix];
        let places = attempt.assignment.inputs.iter().map(|input| &input.place);
        let places = places.filter(|place| !matches!(place, InputPlace::Inline(_)));
        for (&object, place) in attempt.objects.iter().zip(places) {
            let found = &self.objects[object];
            match place {
                _ if !matches!(found.residence, Residence::Gone) => {}
                InputPlace::Peers { workers, size } => {
                    let workers = workers.clone();
                    self.objects[object].size = *size;
                    self.objects.revive(object);
                    self.objects.set(object, Residence::Remote { workers });
                }
                InputPlace::Here | InputPlace::Inline(_) => return Err(found.id),
            }
        }
        Ok(())
    }

    /// Reserves room for an attempt's inputs and brings them. False if it has to wait.
    fn admit(&mut self, now: Time, ix: AttemptIx, out: &mut Vec<Action>) -> bool {
        let mut missing: Vec<ObjectIx> = self.attempts[ix].objects.clone();
        missing.sort_unstable();
        missing.dedup();
        if let Err(object) = self.look_again(ix) {
            self.fail_here(ix, FailureKind::LostInput { object });
            return true;
        }
        missing.retain(|o| !self.objects[*o].is_resident());
        let to_bring = missing.iter().filter(|o| !self.objects[**o].is_coming());
        let need: u64 = to_bring.map(|o| pages(self.objects[*o].size)).sum();
        if need > 0 && !self.fits(need) {
            let hope = self.make_room(now, need, out);
            if hope || self.goes_on() {
                return false;
            }
        }
        self.leave(ix);
        self.attempts[ix].state = State::InHand;
        let stamp = self.attempts[ix].stamp;
        for object in &missing {
            if !self.objects[*object].is_coming() {
                let on_disk = !self.fits(pages(self.objects[*object].size));
                self.bring(*object, on_disk, out);
            }
            self.objects[*object].waiters.push(Waiter::Input(ix, stamp));
        }
        self.attempts[ix].state = State::Loading { missing: missing.len() as u32 };
        if missing.is_empty() {
            self.enqueue(ix);
            self.again = true;
        }
        true
    }

    /// Brings an object that is not here; its room counts from now on.
    pub(crate) fn bring(&mut self, object: ObjectIx, on_disk: bool, out: &mut Vec<Action>) {
        let at = &self.objects[object];
        let (id, size) = (at.id, at.size);
        match &at.residence {
            Residence::Spilled => {
                self.objects.set(object, Residence::Loading { on_disk });
                out.push(Action::Load { object: id, on_disk });
            }
            Residence::Spilling { .. } => self.objects.reload(object, on_disk),
            Residence::Remote { workers } => {
                let workers = workers.clone();
                let from = workers.first().copied();
                if let Some(on_disk) = self.strays.remove(&id) {
                    // It is on its way already, for those who needed it before it was made here.
                    self.objects.set(object, Residence::Fetching { on_disk, from });
                    return;
                }
                self.objects.set(object, Residence::Fetching { on_disk, from });
                out.push(Action::Fetch { object: id, workers, size, on_disk });
            }
            _ => {}
        }
    }

    /// Spills as much as `bytes` more need, if that is possible at all. True if there will be room.
    fn make_room(&mut self, now: Time, bytes: u64, out: &mut Vec<Action>) -> bool {
        let limit = self.config.spec.store_limit;
        let after_spills = self.used() - self.objects.spilling;
        let over = after_spills.saturating_add(bytes).saturating_sub(limit);
        let possible = over == 0 || (over <= self.objects.evictable && now >= self.spill_pause);
        if possible {
            self.spill_down_to(now, limit - bytes.min(limit), out);
        }
        possible
    }

    /// Spills the coldest until no more than `target` bytes will be used.
    fn spill_down_to(&mut self, now: Time, target: u64, out: &mut Vec<Action>) {
        if now < self.spill_pause {
            return;
        }
        while self.used() - self.objects.spilling > target && self.objects.spills < SPILLS_LIMIT {
            let Some(victim) = self.objects.next_victim() else { return };
            self.spill(victim, out);
        }
    }

    fn spill(&mut self, ix: ObjectIx, out: &mut Vec<Action>) {
        let object = &self.objects[ix];
        let (id, codec) = (object.id, object.codec);
        let (from, value) = match &object.residence {
            Residence::Inline(bytes) => {
                let value = Value { codec, bytes: bytes.clone() };
                (Spilled::Inline(bytes.clone()), Some(value))
            }
            Residence::Extent { extent, .. } => (Spilled::Extent(*extent), None),
            _ => return,
        };
        self.objects.set(ix, Residence::Spilling { from, reload: None });
        out.push(Action::Spill { object: id, value });
    }

    pub(crate) fn on_spilled(&mut self, now: Time, id: ObjectId, ok: bool, out: &mut Vec<Action>) {
        let Some(ix) = self.objects.find(id) else { return };
        let Residence::Spilling { reload, .. } = self.objects[ix].residence else { return };
        if !ok {
            self.spill_pause = now + SPILL_PAUSE_US;
            self.objects.unspill(ix);
            self.wake(ix, out);
        } else if let Some(on_disk) = reload {
            self.objects.set(ix, Residence::Loading { on_disk });
            out.push(Action::Load { object: id, on_disk });
        } else {
            self.objects.set(ix, Residence::Spilled);
        }
        self.free_if_doomed(ix, out);
    }

    /// Takes a new object in. A repeated one changes nothing.
    pub(crate) fn add_object(
        &mut self,
        id: ObjectId,
        codec: Codec,
        size: u64,
        residence: Residence,
    ) {
        let Err((ix, residence)) = self.objects.insert_new(id, codec, size, residence) else {
            return;
        };
        let object = &mut self.objects[ix];
        let fetching = match object.residence {
            Residence::Gone | Residence::Remote { .. } => None,
            Residence::Fetching { on_disk, .. } => Some(on_disk),
            _ => return,
        };
        (object.codec, object.doomed) = (codec, false);
        // Its room was counted by the old size.
        self.objects.set(ix, Residence::Gone);
        self.objects[ix].size = size;
        self.objects.set(ix, residence);
        if let Some(on_disk) = fetching {
            self.strays.insert(id, on_disk);
            if self.is_copy_wanted(ix) {
                // Not said to be a copy: the scheduler is about to hear that it was made here.
                self.copy_failed(id, "it was made here meanwhile".to_owned());
            }
            let mut out = std::mem::take(&mut self.later);
            self.wake(ix, &mut out);
            self.later = out;
        }
    }
}
