//! Which executor gets which task, and when: heads for the idle, more behind what runs, and back
//! again when that runs long.

use manyhands_proto::Time;
use manyhands_proto::executor::{Place, Run};
use manyhands_proto::task::Resources;
use manyhands_proto::worker::InputPlace;

use crate::action::Action;
use crate::attempts::{AttemptIx, State, Taking};
use crate::core::Core;
use crate::event::ExecutorId;
use crate::executors::{Occupied, Phase};
use crate::memory::Ready;

/// Tasks that an executor is fed behind the running one, at most.
const AHEAD_LIMIT: usize = 256;
/// Bytes of arguments fed behind the running task, beyond the first.
const AHEAD_BYTES: u64 = 256 << 10;
/// Tasks of unknown duration fed behind the running one.
const AHEAD_UNKNOWN: usize = 2;
/// Tasks with needs of their own that one round looks at.
const LOOK_LIMIT: usize = 64;

/// What is free of a worker's resources. Cores may be overdrawn: a task that was blocked goes on at
/// once.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) millicores: i64,
    memory: i64,
    named: Vec<(String, i64)>,
}

impl Room {
    pub(crate) fn of(resources: &Resources, slots: u32) -> Room {
        let millicores = i64::from(resources.millicores).max(i64::from(slots) * 1000);
        let named = resources.named.iter();
        Room {
            millicores,
            memory: resources.memory.min(i64::MAX as u64) as i64,
            named: named
                .map(|(name, n)| (name.clone(), (*n).min(i64::MAX as u64) as i64))
                .collect(),
        }
    }

    pub(crate) fn has_core(&self) -> bool {
        self.millicores >= 1000
    }

    pub(crate) fn fits(&self, wish: &Resources) -> bool {
        i64::from(wish.millicores) <= self.millicores && self.fits_beside_cores(wish)
    }

    /// Whether nothing but cores is lacking.
    fn fits_beside_cores(&self, wish: &Resources) -> bool {
        let named = |(name, n): &(String, u64)| {
            *n == 0
                || self
                    .named
                    .iter()
                    .any(|(own, free)| own == name && *free >= 0 && *n <= *free as u64)
        };
        (wish.memory == 0 || wish.memory <= self.memory.max(0) as u64)
            && wish.named.iter().all(named)
    }

    pub(crate) fn take(&mut self, wish: &Resources) {
        self.change(wish, -1);
    }

    pub(crate) fn give(&mut self, wish: &Resources) {
        self.change(wish, 1);
    }

    fn change(&mut self, wish: &Resources, sign: i64) {
        let clamp = |n: u64| n.min(1 << 60) as i64;
        self.millicores += sign * i64::from(wish.millicores);
        self.memory = self.memory.saturating_add(sign * clamp(wish.memory));
        for (name, n) in &wish.named {
            if let Some((_, free)) = self.named.iter_mut().find(|(own, _)| own == name) {
                *free = free.saturating_add(sign * clamp(*n));
            }
        }
    }
}

impl Core {
    /// Gives every executor what it should have.
    pub(crate) fn feed(&mut self, now: Time, out: &mut Vec<Action>) {
        self.place_in_place(now, out);
        self.help_in_place(now, out);
        for pool in &mut self.pools {
            pool.demand = 0;
        }
        let mut room = self.room.clone();
        let cores_awaited = self.place_heads(now, &mut room, out);
        let over = self.room.millicores < 0;
        if over {
            self.take_back_surplus(out);
        }
        for pool in 0..self.pools.len() as u32 {
            while self.pools[pool as usize].starting < self.pools[pool as usize].demand
                && self.start_executor(now, pool, out)
            {}
            if !cores_awaited && !over {
                self.feed_ahead(now, pool, out);
            }
            if self.pools[pool as usize].queue.len == 0 && room.has_core() {
                self.take_back_from_the_long(now, pool, out);
            }
        }
        self.relieve(now, out);
    }

    /// Gives tasks to idle executors while there is room, in order over all queues. What does not
    /// fit is passed over, but what it needs is put aside, so that it is not starved by the small.
    /// True if something waits for several cores to come free.
    fn place_heads(&mut self, now: Time, room: &mut Room, out: &mut Vec<Action>) -> bool {
        let mut cores_awaited = false;
        let mut last = (0, 0, AttemptIx(0));
        let mut looked = 0;
        loop {
            let special = match looked < LOOK_LIMIT {
                true => self.specials.range(last..).find(|s| looked == 0 || **s > last).copied(),
                false => None,
            };
            let plain = if room.has_core() { self.best_pool() } else { None };
            match (special, plain) {
                (Some(at), plain) if plain.is_none_or(|p| (at.0, at.1) < (p.0, p.1)) => {
                    (last, looked) = (at, looked + 1);
                    cores_awaited |= !self.place_special(now, at.2, room, out);
                }
                (_, Some((_, _, pool))) => self.place_plain(now, pool, room, out),
                _ => return cores_awaited,
            }
        }
    }

    /// The pool with the most urgent plain attempt, among those not found to lack executors.
    fn best_pool(&mut self) -> Option<(u64, u64, u32)> {
        let mut best = None;
        for pool in 0..self.pools.len() as u32 {
            let p = &self.pools[pool as usize];
            if p.demand > 0 || !p.has_program {
                continue;
            }
            if let Some((order, seq, ..)) = self.first_queued(pool) {
                let key = (order, seq, pool);
                best = Some(best.map_or(key, |b| key.min(b)));
            }
        }
        best
    }

    fn place_plain(&mut self, now: Time, pool: u32, room: &mut Room, out: &mut Vec<Action>) {
        let p = &mut self.pools[pool as usize];
        let Some(executor) = p.idle.last().copied() else {
            p.demand = (p.queue.len as u32).min((room.millicores / 1000) as u32);
            room.millicores -= i64::from(p.demand) * 1000;
            return;
        };
        let Some((_, _, ix, _)) = self.first_queued(pool) else { return };
        self.pop_queued(pool);
        if self.make_ready(ix) == Ready::Yes {
            self.pools[pool as usize].idle.pop();
            room.millicores -= 1000;
            self.start_on(now, executor, ix, out);
        }
    }

    /// False if it lacks cores.
    fn place_special(
        &mut self,
        now: Time,
        ix: AttemptIx,
        room: &mut Room,
        out: &mut Vec<Action>,
    ) -> bool {
        let options = self.attempts[ix].assignment.options.clone();
        let wish = &options.resources;
        let pool = self.attempts[ix].pool as usize;
        if !self.pools[pool].has_program {
            // It takes no room from others while its program is on its way.
            return true;
        }
        let fits = room.fits(wish);
        let only_cores = !fits && room.fits_beside_cores(wish);
        if !fits {
            room.take(wish);
            return !only_cores;
        }
        let key = (self.attempts[ix].assignment.order, self.attempts[ix].seq, ix);
        self.specials.remove(&key);
        if self.make_ready(ix) != Ready::Yes {
            return true;
        }
        room.take(wish);
        match self.pools[pool].idle.pop() {
            Some(executor) => self.start_on(now, executor, ix, out),
            None => {
                self.specials.insert(key);
                self.pools[pool].demand += 1;
            }
        }
        true
    }

    /// Gives an idle executor, already out of its pool's list, a task: it begins at once.
    fn start_on(&mut self, now: Time, id: ExecutorId, ix: AttemptIx, out: &mut Vec<Action>) {
        self.introduce(id, ix, out);
        let run = self.run_of(ix);
        out.push(Action::Feed { executor: id, run });
        self.begin(now, id, ix);
    }

    /// The attempt is uppermost on an executor's stack from now on.
    pub(crate) fn begin(&mut self, now: Time, id: ExecutorId, ix: AttemptIx) {
        self.attempts.restamp(ix);
        let attempt = &mut self.attempts[ix];
        attempt.state = State::Running { executor: id, since: now };
        let plain = attempt.plain;
        self.executors.get_mut(&id).expect("the caller looked it up").stack.push(ix);
        self.settle(id);
        if !plain {
            self.arm(ix);
        }
    }

    /// What an executor is told of a task. Its objects must be here.
    pub(crate) fn run_of(&self, ix: AttemptIx) -> Run {
        let attempt = &self.attempts[ix];
        let assignment = &attempt.assignment;
        let mut objects = attempt.objects.iter();
        let place = |input: &manyhands_proto::worker::AssignedInput| match &input.place {
            InputPlace::Inline(value) => Place::Inline(value.clone()),
            InputPlace::Here | InputPlace::Peers { .. } => {
                let object = objects.next().expect("an entry for each input that is an object");
                self.objects[*object].place().expect("the inputs of a fed task are here")
            }
        };
        let function = self.functions[assignment.function as usize].as_ref();
        let function = function.expect("it was known when the task was taken in");
        Run {
            task: assignment.task,
            attempt: assignment.attempt,
            function: function.id,
            outputs: assignment.outputs,
            args: assignment.args.clone(),
            inputs: assignment.inputs.iter().map(place).collect(),
        }
    }

    /// Feeds the executors of a pool behind what they run: enough that none waits, and no more than
    /// its share.
    fn feed_ahead(&mut self, now: Time, pool: u32, out: &mut Vec<Action>) {
        let queued = self.pools[pool as usize].queue.len;
        if queued == 0 {
            return;
        }
        let mut takers = std::mem::take(&mut self.scratch);
        takers.clear();
        let may = |id: &ExecutorId| self.may_be_fed_ahead(now, pool, *id);
        takers.extend(self.executors.keys().copied().filter(may));
        let eaters = takers.len() + self.pools[pool as usize].starting as usize;
        let share = queued.div_ceil(eaters.max(1));
        let rival = self.rival_of(pool);
        for id in &takers {
            self.top_up(*id, pool, share, rival, out);
        }
        self.scratch = takers;
    }

    /// The most urgent plain attempt that waits for an executor of another pool. What comes after it
    /// is not fed ahead: executors that are never idle would keep it waiting for ever.
    fn rival_of(&mut self, pool: u32) -> Option<(u64, u64)> {
        let mut rival = None;
        for other in (0..self.pools.len() as u32).filter(|other| *other != pool) {
            let p = &self.pools[other as usize];
            if p.queue.len > 0 && p.has_program {
                let first = self.first_queued(other).map(|(order, seq, ..)| (order, seq));
                rival = rival.into_iter().chain(first).min();
            }
        }
        rival
    }

    /// Only behind one plain task that runs, and not for long yet.
    fn may_be_fed_ahead(&self, now: Time, pool: u32, id: ExecutorId) -> bool {
        let executor = &self.executors[&id];
        let takes = executor.phase == Phase::Live && !executor.worn;
        if executor.pool != pool || !takes || executor.stack.len() != 1 {
            return false;
        }
        let head = &self.attempts[executor.stack[0]];
        let State::Running { since, .. } = head.state else { return false };
        head.plain
            && head.rare.as_ref().is_none_or(|r| r.stop.is_none())
            && now.since(since) < self.config.long_run_us
    }

    fn top_up(
        &mut self,
        id: ExecutorId,
        pool: u32,
        share: usize,
        rival: Option<(u64, u64)>,
        out: &mut Vec<Action>,
    ) {
        for _ in 0..share {
            // What waits for memory comes first; to bring more at one time would only get in its way.
            if !self.wants_memory.is_empty() {
                return;
            }
            let Some((order, seq, ix, _)) = self.first_queued(pool) else { return };
            if rival.is_some_and(|rival| rival < (order, seq)) {
                return;
            }
            let cost = self.expected_us(ix);
            let executor = &self.executors[&id];
            let behind = executor.fed.len();
            let enough = match cost {
                None => behind >= AHEAD_UNKNOWN,
                Some(_) => behind >= 1 && executor.fed_us >= self.config.feed_ahead_us,
            };
            if enough || behind >= AHEAD_LIMIT || executor.fed_bytes >= AHEAD_BYTES {
                return;
            }
            self.pop_queued(pool);
            if self.make_ready(ix) == Ready::Yes {
                self.feed_behind(id, ix, cost.unwrap_or(self.config.feed_ahead_us as u32), out);
            }
        }
    }

    fn feed_behind(&mut self, id: ExecutorId, ix: AttemptIx, cost: u32, out: &mut Vec<Action>) {
        self.introduce(id, ix, out);
        let run = self.run_of(ix);
        let attempt = &mut self.attempts[ix];
        attempt.state = State::Fed { executor: id };
        attempt.cost_us = cost;
        let executor = self.executors.get_mut(&id).expect("the caller looked it up");
        executor.fed.push_back(ix);
        executor.fed_us += u64::from(cost);
        executor.fed_bytes += run.args.len() as u64;
        out.push(Action::Feed { executor: id, run });
    }

    /// How long an attempt may take: measured here, or else by the scheduler, or unknown.
    fn expected_us(&self, ix: AttemptIx) -> Option<u32> {
        let assignment = &self.attempts[ix].assignment;
        let function = self.functions[assignment.function as usize].as_ref();
        match function.and_then(|f| f.mean_us) {
            Some(mean) => Some((mean as u32).max(1)),
            None => Some(assignment.expected_us).filter(|us| *us > 0),
        }
    }

    /// Tasks went on again in slots that they had lent: as many executors as there are slots too few
    /// shall not begin another task.
    fn take_back_surplus(&mut self, out: &mut Vec<Action>) {
        let mut over = (999 - self.room.millicores) / 1000;
        let mut fed = std::mem::take(&mut self.scratch);
        fed.clear();
        for (id, executor) in &self.executors {
            let stays = |ix: &AttemptIx| self.attempts[*ix].taking.is_none();
            if executor.fed.iter().any(stays) {
                fed.push(*id);
            } else if !matches!(executor.occupies, Occupied::Nothing) {
                over -= 1;
            }
        }
        for id in fed.iter().take(over.max(0) as usize) {
            self.take_all_back(*id, out);
        }
        self.scratch = fed;
    }

    /// There is room and nothing queued: takes back what waits behind tasks that run long.
    fn take_back_from_the_long(&mut self, now: Time, pool: u32, out: &mut Vec<Action>) {
        let long = self.config.long_run_us;
        let mut slow = std::mem::take(&mut self.scratch);
        slow.clear();
        slow.extend(self.executors.iter().filter_map(|(id, e)| {
            let head = (e.pool == pool && !e.fed.is_empty()).then(|| e.stack.first()).flatten()?;
            let State::Running { since, .. } = self.attempts[*head].state else { return None };
            (now.since(since) >= long).then_some(*id)
        }));
        for id in &slow {
            self.take_all_back(*id, out);
        }
        self.scratch = slow;
    }

    /// When the round must look again at what waits behind running tasks.
    pub(crate) fn next_long_run(&self) -> Option<Time> {
        if !self.room.has_core() {
            return None;
        }
        let heads = self.executors.values().filter_map(|e| {
            let waiting = e.fed.back().is_some_and(|ix| self.attempts[*ix].taking.is_none());
            let head = e.stack.first().filter(|_| waiting)?;
            let State::Running { since, .. } = self.attempts[*head].state else { return None };
            (self.pools[e.pool as usize].queue.len == 0).then(|| since + self.config.long_run_us)
        });
        heads.min()
    }

    /// Asks for all back that lies in an executor's ring.
    pub(crate) fn take_all_back(&mut self, id: ExecutorId, out: &mut Vec<Action>) {
        for at in 0..self.executors[&id].fed.len() {
            let ix = self.executors[&id].fed[at];
            self.take_back(ix, Taking::Requeue, out);
        }
    }

    /// Asks for a fed attempt back, once.
    pub(crate) fn take_back(&mut self, ix: AttemptIx, why: Taking, out: &mut Vec<Action>) {
        let attempt = &mut self.attempts[ix];
        let Some(executor) = attempt.executor() else { return };
        let (task, number) = attempt.key();
        let asked = attempt.taking.is_some();
        if why == Taking::Retract || !asked {
            attempt.taking = Some(why);
        }
        if !asked {
            out.push(Action::TakeBack { executor, task, attempt: number });
        }
    }

    pub(crate) fn on_took_back(
        &mut self,
        now: Time,
        id: ExecutorId,
        ix: AttemptIx,
        ok: bool,
        out: &mut Vec<Action>,
    ) {
        if self.attempts[ix].executor() != Some(id) {
            return;
        }
        let Some(why) = self.attempts[ix].taking else { return };
        if ok {
            let was_head = self.executors[&id].stack.first() == Some(&ix);
            self.remove_from(id, ix);
            self.give_back(ix);
            if was_head {
                self.go_on(now, id);
            }
            return;
        }
        self.attempts[ix].taking = None;
        if why == Taking::Retract {
            let key = self.attempts[ix].key();
            self.retracted.kept.push(key);
        }
        // One that is to be stopped and could not be taken back runs.
        self.interrupt_if_running(now, ix, out);
    }

    /// An attempt that an executor had in its ring is the worker's again: it goes where it was
    /// wanted.
    pub(crate) fn give_back(&mut self, ix: AttemptIx) {
        let attempt = &mut self.attempts[ix];
        let why = attempt.taking.take();
        attempt.state = State::InHand;
        if let Some(stop) = attempt.stop() {
            let failure = stop.failure.clone();
            if why == Some(Taking::Retract) {
                let key = self.attempts[ix].key();
                self.retracted.kept.push(key);
            }
            return self.end_attempt(ix, 0, 0, Err(Box::new(failure)));
        }
        if why == Some(Taking::Retract) {
            return self.hand_over(ix);
        }
        self.unpin_inputs(ix);
        self.enqueue(ix);
    }
}
