//! The invariants.

use rustc_hash::FxHashMap;

use crate::core::Core;
use crate::holders::{GRAPH, HOLDS, WANTS};
use crate::objects::{ObjRef, ObjectState};
use crate::slab::{BlobIdx, ContainsIdx, CopiesIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Flags, State};

/// What records say of others, added up.
#[derive(Default)]
struct Sums {
    refs: FxHashMap<TaskIdx, u32>,
    needed_by: FxHashMap<ObjRef, u32>,
    contained_by: FxHashMap<ObjRef, u32>,
    waiters: FxHashMap<ObjRef, u32>,
    blobs: FxHashMap<BlobIdx, u32>,
    cached: u64,
    values: usize,
    contains: usize,
    copies: usize,
}

impl Core {
    /// Panics on a broken invariant. Takes time in proportion to everything there is: for tests and
    /// the simulator. Call it between events.
    pub fn sanity_check(&self) {
        assert!(
            self.loose.is_empty() && self.remaking.is_empty() && self.crowds.is_empty(),
            "events leave nothing half done"
        );
        let sums = self.add_up();
        for (task, record) in self.tasks.iter() {
            self.check_task(task, &sums);
            for (index, _) in (0..).zip(record.objects()) {
                self.check_object(ObjRef { task, index }, &sums);
            }
        }
        assert_eq!(sums.values, self.values.len(), "values belong to objects");
        assert_eq!(sums.cached, self.cached_bytes, "cached bytes are counted");
        assert!(self.cached_bytes <= self.config.cache_limit, "the cache keeps its limit");
        assert_eq!(sums.contains, self.contains.len(), "lists of handles belong to objects");
        assert_eq!(sums.copies, self.copies.len(), "lists of copies belong to objects");
        assert_eq!(sums.blobs.len(), self.blobs.len(), "blobs are needed");
        assert_eq!(self.options.references(), self.tasks.len(), "each record has its options");
        self.check_workers();
        self.check_programs();
        self.check_streams();
        let mut named = FxHashMap::default();
        for (_, session) in self.sessions.iter() {
            session.functions.iter().flatten().for_each(|f| *named.entry(*f).or_default() += 1);
        }
        self.functions.check(&named);
        self.check_jobs();
        self.check_sessions();
        let lineage = self.tasks.iter().filter(|(_, t)| t.flags.has(Flags::LINEAGE));
        let bytes: u64 = lineage.map(|(task, _)| self.bytes_of_lineage(task)).sum();
        assert_eq!(bytes, self.lineage_bytes, "bytes of lineage are counted");
    }

    fn add_up(&self) -> Sums {
        let mut sums = Sums::default();
        for (task, record) in self.tasks.iter() {
            let missing = matches!(record.state, State::Waiting { .. });
            let missing = missing && !record.flags.has(Flags::ITEM);
            for input in &record.inputs {
                *sums.refs.entry(input.task).or_default() += 1;
                if !record.has_ended() {
                    *sums.needed_by.entry(*input).or_default() += 1;
                }
                if missing && self.object(*input).there().is_none() {
                    *sums.waiters.entry(*input).or_default() += 1;
                }
            }
            if record.args.blob != BlobIdx::NONE {
                *sums.blobs.entry(record.args.blob).or_default() += 1;
            }
            for there in record.objects().filter_map(|object| object.there()) {
                if there.value != ValueIdx::NONE {
                    sums.values += 1;
                    let value = &self.values[there.value];
                    sums.cached += if value.pinned { 0 } else { value.bytes.len() as u64 };
                }
                sums.copies += usize::from(there.more != CopiesIdx::NONE);
                if there.contains != ContainsIdx::NONE {
                    sums.contains += 1;
                    for inner in &self.contains[there.contains] {
                        assert!(self.tasks.get(inner.task).is_some(), "handles of {task:?} dangle");
                        *sums.contained_by.entry(*inner).or_default() += 1;
                    }
                }
            }
        }
        sums
    }

    fn check_task(&self, task: TaskIdx, sums: &Sums) {
        let record = &self.tasks[task];
        let id = self.task_id(task);
        assert_eq!(self.lanes.get(record.lane, record.seq), Some(task), "{id} is found by its id");
        let refs = sums.refs.get(&task).copied().unwrap_or(0);
        assert_eq!(record.refs, refs, "{id} is referred to as often as it counts");
        assert!(
            record.is_alive() || record.worker().is_some() || record.has_ended() && refs > 0,
            "{id} is kept by somebody"
        );
        match &record.state {
            State::Waiting { missing: 1 } if record.flags.has(Flags::ITEM) => {}
            State::Waiting { missing } => {
                assert!(*missing > 0, "{id} waits for something");
                let gone = record.inputs.iter().filter(|i| self.object(**i).there().is_none());
                let rests = usize::from(record.flags.has(Flags::RESTS));
                assert_eq!(
                    gone.count() + rests,
                    *missing as usize,
                    "{id} counts what it waits for"
                );
            }
            State::Ready => {
                let there = |i: &ObjRef| self.object(*i).there().is_some();
                assert!(record.inputs.iter().all(there), "{id} is ready: its inputs exist");
            }
            State::Assigned { worker, position, .. } => {
                let listed = self.workers[*worker].assigned.get(*position as usize);
                assert_eq!(listed, Some(&task), "{id} stands in its worker's list");
                assert!(record.attempts > 0);
            }
            State::Done => {}
            State::Failed(_) => assert!(record.inputs.is_empty(), "{id} failed: it needs nothing"),
        }
        let waits = matches!(record.state, State::Waiting { .. });
        assert!(waits || !record.flags.has(Flags::RESTS), "{id} rests while it waits");
        let speaks = self.task_sessions.contains_key(&task);
        assert_eq!(record.flags.has(Flags::SPEAKS), speaks, "{id} has a session if it speaks");
        let blocked = self.blocked.contains_key(&task);
        assert_eq!(record.flags.has(Flags::BLOCKED), blocked, "{id} is known as blocked if it is");
        assert!(!blocked || record.worker().is_some(), "{id} is blocked where it runs");
        let asked = record.flags.has(Flags::RETRACTING);
        assert!(asked || !self.thieves.contains_key(&task), "{id} is asked back for somebody");
        assert_eq!(record.flags.has(Flags::RESERVED), self.reservations.contains_key(&task));
    }

    fn check_object(&self, object: ObjRef, sums: &Sums) {
        let id = self.object_id(object);
        let record = self.object(object);
        let sum = |map: &FxHashMap<ObjRef, u32>| map.get(&object).copied().unwrap_or(0);
        assert_eq!(record.needed_by, sum(&sums.needed_by), "{id} counts who needs it");
        assert_eq!(record.contained_by, sum(&sums.contained_by), "{id} counts what contains it");
        let task = &self.tasks[object.task];
        match &record.state {
            ObjectState::Pending(waiters) => {
                assert!(!task.has_ended(), "{id} will be made");
                assert_eq!(waiters.len() as u32, sum(&sums.waiters), "{id} knows who waits for it");
            }
            ObjectState::There(there) => {
                let kept = self.is_kept_put(object.task);
                assert!(record.is_alive() || kept, "{id} exists for somebody");
                let somewhere = there.copy != WorkerIdx::NONE || there.value != ValueIdx::NONE;
                assert!(somewhere, "{id} is somewhere");
                for worker in self.copies_of(there) {
                    assert!(
                        self.workers.get(worker).is_some(),
                        "{id} is at a worker that is there"
                    );
                }
            }
            ObjectState::Gone => {
                assert_eq!(sum(&sums.waiters), 0, "nobody waits in vain for {id}");
            }
        }
        for (session, bits) in record.interests.iter() {
            assert!(
                self.sessions.get(session).is_some(),
                "{id} is held by a session that is there"
            );
            assert!(
                bits & WANTS == 0 || !task.has_ended() || record.asked,
                "{id} has ended, and who wants it is told"
            );
        }
    }

    fn check_workers(&self) {
        for (index, worker) in self.workers.iter() {
            let id = worker.id;
            assert_eq!(self.load.at(worker), Some(index), "{id} stands in the index of loads");
            assert!(self.load.is_current(worker), "{id} stands where it should");
            assert_eq!(worker.incoming, self.incoming(index), "{id} counts what comes");
            let mut sums = (0, 0, 0, 0, 0);
            for task in &worker.assigned {
                let record = &self.tasks[*task];
                let State::Assigned { worker: at, expected_us, .. } = record.state else {
                    panic!("{id} has tasks that are assigned");
                };
                assert_eq!(at, index, "{id} has its own tasks");
                let millicores = u64::from(self.options.get(record.options).millicores);
                if !record.flags.has(Flags::BLOCKED) {
                    sums.0 += millicores;
                    sums.1 += u64::from(expected_us) * millicores / 1000;
                }
                sums.2 += self.reservations.get(task).copied().unwrap_or(0);
                sums.3 += u32::from(record.flags.has(Flags::RETRACTING));
                sums.4 += u32::from(self.blocked.get(task).is_some_and(|b| b.at_limit));
            }
            let counted =
                (worker.load, worker.work_us, worker.reserved, worker.retracting, worker.stuck);
            assert_eq!(sums, counted, "{id} counts its load, work, reserve, retracts and stuck");
        }
        for worker in &self.draining {
            assert!(self.workers[*worker].drain.is_some(), "those that drain are known");
        }
        let draining = self.workers.iter().filter(|(_, worker)| worker.drain.is_some());
        assert_eq!(draining.count(), self.draining.len(), "all that drain are known");
        let stuck: u32 = self.workers.iter().map(|(_, worker)| worker.stuck).sum();
        assert_eq!(stuck as usize, self.stuck.len(), "all stuck tasks are known");
    }

    fn check_jobs(&self) {
        for (index, job) in self.jobs.iter() {
            let of_job = self.tasks.iter().filter(|(task, _)| self.job_of(*task) == index);
            let (mut records, mut ready, mut assigned) = (0, 0, 0);
            for (_, task) in of_job {
                records += 1;
                ready += usize::from(matches!(task.state, State::Ready));
                assigned += u64::from(task.worker().is_some());
            }
            assert_eq!(job.records, records, "{} counts its records", job.id);
            assert_eq!(job.ready_tasks, ready, "{} counts its ready tasks", job.id);
            assert_eq!(job.counts.assigned, assigned, "{} counts its assigned tasks", job.id);
            let queued: usize = job.ready.iter().map(|r| r.inner.len() + r.roots.len()).sum();
            assert_eq!(queued, ready, "{}: ready tasks are in queues", job.id);
            assert!(records > 0 || !job.open_by.is_empty(), "{} is kept by somebody", job.id);
        }
    }

    fn check_sessions(&self) {
        let mut held: FxHashMap<_, usize> = FxHashMap::default();
        for (task, record) in self.tasks.iter() {
            for (index, object) in (0..).zip(record.objects()) {
                for (session, bits) in object.interests.iter() {
                    if bits & (HOLDS | WANTS) != 0 {
                        *held.entry(session).or_default() += 1;
                        let listed = &self.sessions[session].holds;
                        assert!(listed.len() > 64 || listed.contains(&ObjRef { task, index }));
                    }
                    if bits & GRAPH != 0 {
                        let listed = &self.sessions[session].graph;
                        assert!(listed.len() > 64 || listed.contains(&task));
                    }
                }
            }
        }
        for (index, session) in self.sessions.iter() {
            let held = held.get(&index).copied().unwrap_or(0);
            assert_eq!(session.held, held, "{:?} counts what it holds", session.speaker);
        }
    }
}
