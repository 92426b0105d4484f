//! Tasks go to workers and are taken from them; what workers are told is gathered and sent.

use manyhands_proto::TaskId;
use manyhands_proto::worker::{AssignedInput, Assignment, InputPlace, ToWorker};

use crate::action::Action;
use crate::core::Core;
use crate::holders::WANTS;
use crate::objects::ObjRef;
use crate::place::RESERVED_FROM;
use crate::slab::{BlobIdx, JobIdx, TaskIdx, WorkerIdx};
use crate::tasks::{Flags, State};
use crate::workers::Outbox;

/// Bytes of arguments and values in one message of several tasks.
const MESSAGE_BYTES: usize = 1 << 20;

/// Bytes of values that ride along with one task, if others than the scheduler have them too.
const INLINE_OF_TASK: usize = 8 << 20;

/// Bytes of a task's arguments and inputs that only the scheduler has, at most: they travel in one
/// message.
pub(crate) const TASK_BYTES: usize = 48 << 20;

/// What an assignment adds to its message, about.
fn weight(assignment: &Assignment) -> usize {
    let values = assignment.inputs.iter().map(|input| match &input.place {
        InputPlace::Inline(value) => value.bytes.len(),
        _ => 0,
    });
    assignment.args.len() + values.sum::<usize>()
}

/// Assignments in several messages, none of which is large unless one of its tasks is.
fn split(all: Vec<Assignment>) -> Vec<Vec<Assignment>> {
    let (mut messages, mut bytes) = (vec![Vec::new()], 0);
    for assignment in all {
        let more = weight(&assignment);
        if bytes > 0 && bytes + more > MESSAGE_BYTES {
            messages.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        messages.last_mut().expect("there is one").push(assignment);
    }
    messages
}

impl Core {
    /// Sends a task to a worker at the end of the round.
    pub(crate) fn assign(&mut self, task: TaskIdx, worker: WorkerIdx, in_place_of: Option<TaskId>) {
        let record = &self.tasks[task];
        let function = self.functions.get(record.function);
        let (expected_us, bytes) = (function.expected_us(), function.expected_bytes());
        let slot = record.function;
        if !self.workers[worker].learn(slot) {
            let spec = self.functions.get(slot).spec.clone();
            self.outbox(worker).functions.push((slot.0, spec));
        }
        let assignment = self.assignment(task, worker, in_place_of);
        if self.workers.len() > 1 {
            self.note_fetches(task, worker, &assignment);
        }
        let weight = weight(&assignment);
        let outbox = self.outbox(worker);
        outbox.assign_bytes += weight;
        if outbox.assign.is_empty() {
            // Assignments are large: room for as many as there were the last time, which often is
            // one.
            outbox.assign.reserve_exact(outbox.assigned_last.max(1));
        }
        outbox.assign.push(assignment);
        let record = &mut self.tasks[task];
        let workers = &mut self.workers[worker];
        record.attempts += 1;
        let position = workers.assigned.len() as u32;
        record.state = State::Assigned { worker, position, expected_us };
        workers.assigned.push(task);
        if in_place_of.is_some() {
            record.flags.set(Flags::IN_PLACE);
        } else if bytes >= RESERVED_FROM && self.config.policies.admission {
            record.flags.set(Flags::RESERVED);
            workers.reserved += bytes;
            self.reservations.insert(task, bytes);
        }
        if record.flags.has(Flags::STREAM) {
            self.begin_stream(task);
        }
        self.occupy(task, worker, expected_us, true);
        let job = self.job_of(task);
        let charge = self.slot_time(task, u64::from(expected_us));
        let record = &mut self.jobs[job];
        record.served += record.share(charge);
        self.count(job, |job| job.counts.assigned += 1);
    }

    fn note_fetches(&mut self, task: TaskIdx, worker: WorkerIdx, assignment: &Assignment) {
        for (i, input) in assignment.inputs.iter().enumerate() {
            if let InputPlace::Peers { size, .. } = input.place {
                self.note_fetch(worker, self.tasks[task].inputs[i], size);
            }
        }
    }

    #[inline]
    fn assignment(
        &self,
        task: TaskIdx,
        worker: WorkerIdx,
        in_place_of: Option<TaskId>,
    ) -> Assignment {
        let record = &self.tasks[task];
        let function = self.functions.get(record.function);
        let args = match record.args.blob {
            BlobIdx::NONE => bytes::Bytes::new(),
            blob => {
                let range = record.args.start as usize..record.args.end as usize;
                self.blobs[blob].bytes.slice(range)
            }
        };
        Assignment {
            task: self.task_id(task),
            attempt: record.attempts,
            function: record.function.0,
            outputs: record.outputs() as u16,
            wanted: record.objects().any(|object| object.interests.any(WANTS)),
            order: record.order,
            expected_us: function.known_us(),
            expected_bytes: function.expected_bytes(),
            options: self.options.get(record.options).options.clone(),
            inputs: self.assigned_inputs(task, worker),
            args,
            in_place_of,
        }
    }

    /// What a task needs and where it is. Values ride along, but no more of them than a message may
    /// hold: the others are to be fetched.
    fn assigned_inputs(&self, task: TaskIdx, worker: WorkerIdx) -> Vec<AssignedInput> {
        let mut inline = 0;
        let inputs = self.tasks[task].inputs.iter();
        let assigned = inputs.map(|input| {
            let assigned = self.assigned_input(*input, worker, inline < INLINE_OF_TASK);
            if let InputPlace::Inline(value) = &assigned.place {
                inline += value.bytes.len();
            }
            assigned
        });
        assigned.collect()
    }

    fn assigned_input(&self, input: ObjRef, worker: WorkerIdx, may_ride: bool) -> AssignedInput {
        let object = self.object_id(input);
        let record = self.object(input);
        let there = record.there().expect("a ready task's inputs exist");
        let place = if self.copies_of(there).any(|copy| copy == worker) {
            InputPlace::Here
        } else if let Some(value) = self.cached_value(record.codec, there)
            && (may_ride || there.copy == WorkerIdx::NONE)
        {
            InputPlace::Inline(value)
        } else {
            InputPlace::Peers { workers: self.sources(there, worker), size: there.size }
        };
        AssignedInput { object, place }
    }

    /// Slot time that a task takes up in a given time, in microseconds.
    pub(crate) fn slot_time(&self, task: TaskIdx, us: u64) -> u64 {
        us * u64::from(self.options.get(self.tasks[task].options).millicores) / 1000
    }

    /// A task takes up its worker's slots and other resources, or gives them back.
    pub(crate) fn occupy(
        &mut self,
        task: TaskIdx,
        worker: WorkerIdx,
        expected_us: u32,
        take: bool,
    ) {
        let set = self.options.get(self.tasks[task].options);
        let millicores = u64::from(set.millicores);
        let work_us = u64::from(expected_us) * millicores / 1000;
        let record = &mut self.workers[worker];
        if take {
            record.load += millicores;
            record.work_us += work_us;
        } else {
            record.load -= millicores;
            record.work_us -= work_us;
        }
        let demand = self.options.demand(set.demand);
        if demand.has_more_than_cores() {
            record.occupy(demand, take);
        }
        self.reindex(worker);
    }

    /// Puts a worker where it belongs in the index of loads.
    pub(crate) fn reindex(&mut self, worker: WorkerIdx) {
        if self.load.is_current(&self.workers[worker]) {
            return;
        }
        if let Some(moved) = self.load.remove(&self.workers[worker]) {
            self.workers[moved].position = self.workers[worker].position;
        }
        self.load.add(worker, &mut self.workers[worker]);
    }

    /// Takes a task from its worker; `ran_us` is how long it ran, if it ran. Until the caller
    /// decides it waits for nothing. Returns its job.
    pub(crate) fn unassign(&mut self, task: TaskIdx, ran_us: Option<u32>) -> JobIdx {
        let record = &mut self.tasks[task];
        let State::Assigned { worker, position, expected_us } = record.state else {
            unreachable!("only an assigned task is taken from its worker");
        };
        let flags = record.flags;
        record.state = State::Waiting { missing: 0 };
        record.flags.clear(Flags::RETRACTING | Flags::RESERVED | Flags::BLOCKED);
        let workers = &mut self.workers[worker];
        workers.assigned.swap_remove(position as usize);
        if let Some(moved) = workers.assigned.get(position as usize)
            && let State::Assigned { position: place, .. } = &mut self.tasks[*moved].state
        {
            *place = position;
        }
        let fetches = !workers.fetching.is_empty();
        if flags.has(Flags::RETRACTING) {
            workers.retracting -= 1;
            self.thieves.remove(&task);
        }
        if flags.has(Flags::RESERVED)
            && let Some(bytes) = self.reservations.remove(&task)
        {
            workers.reserved -= bytes;
        }
        if flags.has(Flags::BLOCKED) {
            self.forget_blocked(task, worker);
        } else {
            self.occupy(task, worker, expected_us, false);
        }
        if fetches {
            self.forget_fetches(worker, task);
        }
        let job = self.job_of(task);
        let charged = self.slot_time(task, u64::from(expected_us));
        let due = self.slot_time(task, u64::from(ran_us.unwrap_or(0)));
        let record = &mut self.jobs[job];
        record.served = (record.served + record.share(due)).saturating_sub(record.share(charged));
        self.count(job, |job| job.counts.assigned -= 1);
        self.dirty = true;
        job
    }

    /// What a worker will be told at the end of the round.
    pub(crate) fn outbox(&mut self, worker: WorkerIdx) -> &mut Outbox {
        let outbox = &mut self.workers[worker].outbox;
        if !outbox.listed {
            outbox.listed = true;
            self.to_send.push(worker);
        }
        outbox
    }

    /// Tells the workers what was gathered for them.
    pub(crate) fn send(&mut self, out: &mut Vec<Action>) {
        for index in std::mem::take(&mut self.to_send) {
            let record = &mut self.workers[index];
            let worker = record.id;
            let Outbox {
                functions, assign, assign_bytes, retract, free, send, copy, leave, ..
            } = std::mem::take(&mut record.outbox);
            record.outbox.assigned_last = assign.len();
            let mut tell = |message| out.push(Action::ToWorker { worker, message });
            if !functions.is_empty() {
                tell(ToWorker::Functions { functions });
            }
            if assign_bytes > MESSAGE_BYTES {
                for tasks in split(assign) {
                    tell(ToWorker::Assign { tasks });
                }
            } else if !assign.is_empty() {
                tell(ToWorker::Assign { tasks: assign });
            }
            if !retract.is_empty() {
                tell(ToWorker::Retract { tasks: retract });
            }
            if !send.is_empty() {
                tell(ToWorker::Send { objects: send });
            }
            if !free.is_empty() {
                tell(ToWorker::Free { objects: free });
            }
            for (object, size, workers) in copy {
                tell(ToWorker::Copy { object, size, workers });
            }
            if leave {
                tell(ToWorker::Leave);
            }
        }
    }
}
