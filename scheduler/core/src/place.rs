//! Which ready task runs where: once per round, in batches by worker.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use manyhands_proto::task::FailureKind;
use manyhands_proto::value::INLINE_LIMIT;
use manyhands_proto::words::Bytes;
use smallvec::SmallVec;

use crate::assign::TASK_BYTES;
use crate::config::Placement;
use crate::core::Core;
use crate::options::STANDARD;
use crate::slab::{JobIdx, TaskIdx, WorkerIdx};
use crate::tasks::State;
use crate::workers::{AHEAD_US, LoadIndex, TASKS_A_SLOT};

/// Holders of a task's inputs that are considered for it.
const HOLDERS_CONSIDERED: usize = 16;

/// Workers with no free slot that are looked at before placing is given up for the round.
const FULL_TRIED: usize = 8;

/// Tasks that are expected to return fewer bytes than this have no room reserved for them.
pub(crate) const RESERVED_FROM: u64 = 4 << 10;

/// Workers tried by chance before all are looked at.
const RANDOM_TRIES: usize = 16;

/// What it costs to ask another worker for an object, in microseconds, however small it is.
const FETCH_US: u64 = 100;

/// A task as placement sees it.
#[derive(Clone, Copy)]
struct Wish {
    task: TaskIdx,
    root: bool,
    demand: u32,
    millicores: u64,
    expected_us: u64,
    expected_bytes: u64,
}

impl Core {
    /// Places ready tasks until there is no more room or no more tasks. The job that has had the
    /// least for its weight comes first.
    pub(crate) fn place_ready(&mut self) {
        if self.workers.len() == 0 {
            return;
        }
        let with_work = self.jobs.iter().filter(|(_, job)| job.ready_tasks > 0);
        let mut turn: BinaryHeap<Reverse<(u64, JobIdx)>> =
            with_work.map(|(index, job)| Reverse((self.turn_of(job), index))).collect();
        while let Some(Reverse((served, job))) = turn.pop() {
            self.served = self.served.max(served);
            let next = turn.peek().map_or(u64::MAX, |Reverse((served, _))| *served);
            let mut placed = true;
            while placed && self.turn_of(&self.jobs[job]) <= next {
                placed = self.place_one(job);
            }
            if placed {
                turn.push(Reverse((self.turn_of(&self.jobs[job]), job)));
            }
        }
    }

    /// Without fairness jobs are served in the order in which they were opened.
    fn turn_of(&self, job: &crate::jobs::Job) -> u64 {
        if self.config.policies.fairness { job.served } else { 0 }
    }

    /// Places the first task of a job that finds a worker.
    fn place_one(&mut self, job: JobIdx) -> bool {
        while let Some((at, kind, task)) = self.first_ready(job) {
            let wish = self.wish(task);
            let Some(worker) = self.choose(&wish) else {
                // There is no room for the first, so there is none for those of its kind.
                self.jobs[job].ready[at].full[kind] = self.round_number;
                continue;
            };
            let record = &mut self.jobs[job];
            let ready = &mut record.ready[at];
            [&mut ready.inner, &mut ready.roots][kind].pop();
            record.ready_tasks -= 1;
            if let Some(bytes) = self.too_large(task) {
                self.refuse_task(task, bytes);
            } else {
                self.assign(task, worker, None);
            }
            return true;
        }
        false
    }

    /// If a task's arguments and those of its inputs that only the scheduler has do not fit into a
    /// message: their bytes.
    fn too_large(&self, task: TaskIdx) -> Option<usize> {
        let record = &self.tasks[task];
        if record.inputs.len() < TASK_BYTES / INLINE_LIMIT {
            // Larger arguments are refused when they are submitted.
            return None;
        }
        let only_here = record.inputs.iter().filter_map(|input| self.object(*input).there());
        let only_here = only_here.filter(|there| there.copy == WorkerIdx::NONE);
        let bytes = only_here.map(|there| there.size as usize).sum::<usize>()
            + (record.args.end - record.args.start) as usize;
        (bytes > TASK_BYTES).then_some(bytes)
    }

    fn refuse_task(&mut self, task: TaskIdx, bytes: usize) {
        let (bytes, most) = (Bytes(bytes as u64), Bytes(TASK_BYTES as u64));
        let message = format!(
            "its arguments and the small values that were put for it have {bytes} together; {most} \
             are the most: put them together into fewer and larger values"
        );
        self.tasks[task].state = State::Waiting { missing: 0 };
        self.fail(task, FailureKind::Refused { message });
    }

    /// The task of a job that comes first, of those for which there may be room: in which queues of
    /// the job, and of which kind (0 with inputs, 1 without).
    fn first_ready(&mut self, job: JobIdx) -> Option<(usize, usize, TaskIdx)> {
        let mut first: Option<(crate::ready::Entry, usize, usize)> = None;
        for at in 0..self.jobs[job].ready.len() {
            for kind in 0..2 {
                if self.jobs[job].ready[at].full[kind] == self.round_number {
                    continue;
                }
                let Some(entry) = self.peek(job, at, kind) else { continue };
                if first.is_none_or(|(best, ..)| entry < best) {
                    first = Some((entry, at, kind));
                }
            }
        }
        first.map(|(entry, at, kind)| (at, kind, entry.task))
    }

    fn peek(&mut self, job: JobIdx, at: usize, kind: usize) -> Option<crate::ready::Entry> {
        let ready = &mut self.jobs[job].ready[at];
        let demand = ready.demand;
        let queue = [&mut ready.inner, &mut ready.roots];
        if queue[kind].is_clean() {
            return queue[kind].first();
        }
        let mut taken = std::mem::take(&mut *queue[kind]);
        let entry = taken.peek(|entry| self.is_in_queue(entry, job, demand, kind == 1));
        let ready = &mut self.jobs[job].ready[at];
        *[&mut ready.inner, &mut ready.roots][kind] = taken;
        entry
    }

    fn wish(&self, task: TaskIdx) -> Wish {
        let record = &self.tasks[task];
        let set = self.options.get(record.options);
        let function = self.functions.get(record.function);
        Wish {
            task,
            root: record.is_root(),
            demand: set.demand,
            millicores: u64::from(set.millicores),
            expected_us: u64::from(function.expected_us()),
            expected_bytes: function.expected_bytes(),
        }
    }

    fn choose(&mut self, wish: &Wish) -> Option<WorkerIdx> {
        match self.config.policies.placement {
            Placement::Random => self.random_worker(wish),
            Placement::Cost if wish.root => self.least_loaded(wish),
            Placement::Cost => self.cheapest(wish),
        }
    }

    /// Any worker with room, by chance.
    fn random_worker(&mut self, wish: &Wish) -> Option<WorkerIdx> {
        for _ in 0..RANDOM_TRIES {
            let worker = WorkerIdx(self.chance(self.workers.slots()));
            if self.workers.get(worker).is_some() && self.has_room(worker, wish) {
                return Some(worker);
            }
        }
        let all = self.load.ascending();
        let workers: Vec<WorkerIdx> = all.filter(|worker| self.has_room(*worker, wish)).collect();
        (!workers.is_empty()).then(|| workers[self.chance(workers.len()) as usize])
    }

    /// A number below `limit`, from the seed.
    fn chance(&mut self, limit: usize) -> u32 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.random >> 33) as usize % limit) as u32
    }

    fn least_loaded(&self, wish: &Wish) -> Option<WorkerIdx> {
        let mut full = 0;
        for worker in self.load.ascending() {
            if self.has_room(worker, wish) {
                return Some(worker);
            }
            let record = &self.workers[worker];
            full += usize::from(record.level >= LoadIndex::FULL && !self.has_slots(record, wish));
            if full > FULL_TRIED && wish.demand == STANDARD {
                // The others have even more to do.
                return None;
            }
        }
        None
    }

    /// The worker where the task would start first: by the bytes that would have to be moved and by
    /// the work that waits there.
    fn cheapest(&self, wish: &Wish) -> Option<WorkerIdx> {
        let (holders, bytes, objects) = self.holders_of_inputs(wish.task);
        let cost = |worker: WorkerIdx, here: u64, objects_here: u64| {
            let record = &self.workers[worker];
            let slow_us = wish.expected_us * record.pace().saturating_sub(1000) / 1000;
            if objects == objects_here {
                return slow_us + record.wait_us();
            }
            // What is on its way there comes with what comes before it; the rest comes after.
            let (coming, objects_coming) = self.on_their_way(worker, wish.task);
            let moved_us = self.transfer_us(worker, bytes.saturating_sub(here + coming));
            let asked_us = if objects > objects_here + objects_coming { FETCH_US } else { 0 };
            let queue_us = self.transfer_us(worker, record.incoming);
            slow_us + moved_us + asked_us + record.wait_us().max(queue_us)
        };
        let mut best: Option<(u64, WorkerIdx)> = None;
        for (worker, here, objects_here) in holders {
            let cost = cost(worker, here, objects_here);
            if best.is_none_or(|(least, _)| cost < least) && self.has_room(worker, wish) {
                best = Some((cost, worker));
            }
        }
        if best.is_some_and(|(least, _)| least == 0) {
            return best.map(|(_, worker)| worker);
        }
        if best.is_some() && self.has_missed(wish.task) {
            return best.map(|(_, worker)| worker);
        }
        if let Some(worker) = self.least_loaded(wish) {
            let cost = cost(worker, 0, 0);
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, worker));
            }
        }
        best.map(|(_, worker)| worker)
    }

    /// Who has how much of a task's inputs (bytes, objects), and how much they are in all. Values
    /// that the scheduler sends along cost nothing.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn holders_of_inputs(&self, task: TaskIdx) -> (SmallVec<[(WorkerIdx, u64, u64); 4]>, u64, u64) {
        let mut holders: SmallVec<[(WorkerIdx, u64, u64); 4]> = SmallVec::new();
        let (mut bytes, mut objects) = (0, 0);
        for input in &self.tasks[task].inputs {
            let Some(there) = self.object(*input).there() else { continue };
            if self.values.get(there.value).is_some() && there.size < FREE_RIDE {
                continue;
            }
            bytes += there.size;
            objects += 1;
            for worker in self.copies_of(there) {
                if let Some((_, b, o)) = holders.iter_mut().find(|(w, ..)| *w == worker) {
                    (*b, *o) = (*b + there.size, *o + 1);
                } else if holders.len() < HOLDERS_CONSIDERED {
                    holders.push((worker, there.size, 1));
                }
            }
        }
        (holders, bytes, objects)
    }

    /// Whether a worker can take a task now.
    pub(crate) fn has_room_for(&self, task: TaskIdx, worker: WorkerIdx) -> bool {
        self.has_room(worker, &self.wish(task))
    }

    fn has_room(&self, worker: WorkerIdx, wish: &Wish) -> bool {
        let record = &self.workers[worker];
        if record.stuck > 0 || !record.takes_tasks() {
            return false;
        }
        if wish.demand != STANDARD {
            let demand = self.options.demand(wish.demand);
            if demand.misses(&record.spec).is_some() {
                return false;
            }
            if demand.has_more_than_cores() && !record.has_free(demand) {
                return false;
            }
        } else if record.capacity() < 1000 {
            return false;
        }
        if self.config.policies.admission && wish.expected_bytes >= RESERVED_FROM {
            // When all are full one goes on: a worker on which nothing runs takes one. Tasks that
            // only wait there may wait for this one.
            let fits = record.store_filled() + wish.expected_bytes <= record.spec.store_limit;
            if !fits && record.load > 0 {
                return false;
            }
        }
        self.has_slots(record, wish)
    }

    fn has_slots(&self, record: &crate::workers::Worker, wish: &Wish) -> bool {
        let policies = &self.config.policies;
        let capacity = record.capacity();
        if wish.root && !policies.hold_back_roots {
            return true;
        }
        let ahead = if wish.root || record.is_slow() { 1 } else { 2 };
        if record.load + wish.millicores <= ahead * capacity {
            return true;
        }
        policies.batch_small
            && record.assigned.len() as u64 * 1000 < TASKS_A_SLOT * capacity
            && (record.work_us + wish.expected_us) * record.pace() <= AHEAD_US * capacity
    }
}

/// Values up to this many bytes cost nothing to send along with a task.
const FREE_RIDE: u64 = 4 << 10;
