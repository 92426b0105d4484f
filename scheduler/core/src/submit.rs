//! Tasks and values come in.

use manyhands_proto::client::PutPlace;
use manyhands_proto::graph::{GraphBatch, Input, TaskRow};
use manyhands_proto::task::{Failed, FailureKind, TaskOptions};
use manyhands_proto::value::{INLINE_LIMIT, ObjectMeta};
use manyhands_proto::words::Bytes;
use manyhands_proto::{ObjectId, Time};
use smallvec::SmallVec;
use std::cmp::Reverse;

use crate::action::Action;
use crate::assign::TASK_BYTES;
use crate::clients::unknown_object;
use crate::core::{Blob, Core};
use crate::holders::{GRAPH, HOLDS, WANTS};
use crate::objects::{ObjRef, Object, ObjectState};
use crate::sessions::Speaker;
use crate::slab::{BlobIdx, FnIdx, LaneIdx, OptIdx, SessionIdx, TaskIdx, ValueIdx, WorkerIdx};
use crate::tasks::{Args, Flags, State, Task, order};

/// What the rows of a batch refer to by number, looked up once.
struct Resolved {
    lane: LaneIdx,
    sources: Vec<Option<LaneIdx>>,
    options: Vec<OptIdx>,
    /// Why no worker can ever run tasks with these options, where that is known.
    infeasible: Vec<Option<String>>,
    blob: BlobIdx,
}

impl Core {
    /// Known tasks are skipped, but what the batch says of holding and wanting them holds. A task
    /// with an input that was never submitted fails with `LostInput`.
    pub(crate) fn on_submit(
        &mut self,
        session: SessionIdx,
        batch: GraphBatch,
        out: &mut Vec<Action>,
    ) {
        if let Err(reason) = self.check_batch(session, &batch) {
            return self.refuse(session, reason, out);
        }
        if batch.rows.is_empty() {
            return self.end_graph(session, batch.more);
        }
        let resolved = self.resolve(&batch);
        let rows = batch.rows_with_parts();
        for (id, row, inputs, args) in rows {
            let task = match self.lanes.get(resolved.lane, id.seq) {
                Some(task) => task,
                None => self.add_task(session, &batch, &resolved, id.seq, row, inputs, args),
            };
            self.apply_interests(session, task, row.flags, batch.more);
        }
        for options in &resolved.options {
            self.options.release(*options);
        }
        self.release_blob(resolved.blob);
        self.lanes.drop_if_empty(resolved.lane);
        self.end_graph(session, batch.more);
    }

    fn check_batch(&mut self, session: SessionIdx, batch: &GraphBatch) -> Result<(), String> {
        batch.validate().map_err(|error| error.to_string())?;
        self.check_name(session, batch.job, batch.lane)?;
        if batch.args.len() > TASK_BYTES
            && let Some((id, .., args)) =
                batch.rows_with_parts().find(|(.., args)| args.len() > TASK_BYTES)
        {
            let (n, most) = (Bytes(args.len() as u64), Bytes(TASK_BYTES as u64));
            return Err(format!(
                "the arguments of {id} have {n}; {most} are the most: put large values, and give \
                 the task what that returns"
            ));
        }
        let owner = &self.sessions[session];
        if let Some(row) = batch.rows.iter().find(|row| owner.function(row.function).is_none()) {
            return Err(format!("the session has not described its function {}", row.function));
        }
        let last = batch.first_seq.checked_add(batch.rows.len() as u64);
        let last = last.ok_or("sequence numbers end at 2^64")?;
        if let Some(lane) = self.lanes.find(batch.job, batch.lane)
            && !(self.lanes.can_hold(lane, batch.first_seq) && self.lanes.can_hold(lane, last))
        {
            return Err(format!("task {last} is too far from the others of its lane"));
        }
        self.check_repeats(session, batch)
    }

    /// A task that runs again names its children as its first attempt did. They must be the same
    /// calls: another call under an old name would get the old call's result.
    fn check_repeats(&mut self, session: SessionIdx, batch: &GraphBatch) -> Result<(), String> {
        let known = self.lanes.find(batch.job, batch.lane).filter(|_| batch.lane.is_nested());
        let Some(lane) = known else { return Ok(()) };
        for (id, row, _, args) in batch.rows_with_parts() {
            let Some(task) = self.lanes.get(lane, id.seq) else { continue };
            let record = &self.tasks[task];
            let function = self.sessions[session].function(row.function);
            let args = &batch.args[args.start as usize..args.end as usize];
            // What a task that nobody can need again was made of is forgotten.
            let forgotten = record.flags.has(Flags::HOLLOW);
            if Some(record.function) != function || !forgotten && self.args_of(record) != args {
                let name = self.functions.name(record.function);
                return Err(format!(
                    "the task that submits was tried again, and what it submitted as {id} the first \
                     time, a call of {name}, is now another call: tasks that submit must submit the \
                     same calls in the same order whenever they run (does the order come from a \
                     hash map, a clock or a random number?)"
                ));
            }
        }
        Ok(())
    }

    fn args_of(&self, record: &Task) -> &[u8] {
        match record.args.blob {
            BlobIdx::NONE => &[],
            blob => &self.blobs[blob].bytes[record.args.start as usize..record.args.end as usize],
        }
    }

    /// Whether the session may name something in this lane of this job.
    fn check_name(
        &self,
        session: SessionIdx,
        job: manyhands_proto::JobId,
        lane: manyhands_proto::Lane,
    ) -> Result<(), String> {
        let record = &self.sessions[session];
        let own = match record.speaker {
            Speaker::Client(_) => self.job_ids.contains_key(&job),
            Speaker::Task(task) => self.lanes.table(self.tasks[task].lane).job_id == job,
        };
        if !own {
            return Err(format!("{job} is not open"));
        }
        if lane != record.lane {
            return Err(format!("{lane:?} is not the session's own"));
        }
        Ok(())
    }

    fn resolve(&mut self, batch: &GraphBatch) -> Resolved {
        let job = self.job_ids[&batch.job];
        let lane = self.lanes.find_or_make(job, batch.job, batch.lane);
        let sources = batch.sources.iter().map(|(job, lane)| self.lanes.find(*job, *lane));
        let sources = sources.collect();
        let options: Vec<OptIdx> =
            batch.options.iter().map(|options| self.options.intern(options)).collect();
        let infeasible = options.iter().map(|options| self.never_feasible(*options)).collect();
        let blob = self.blobs.insert(Blob { bytes: batch.args.clone(), refs: 1 });
        Resolved { lane, sources, options, infeasible, blob }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a row, taken apart once")]
    fn add_task(
        &mut self,
        session: SessionIdx,
        batch: &GraphBatch,
        resolved: &Resolved,
        seq: u64,
        row: &TaskRow,
        inputs: &[Input],
        args: std::ops::Range<u32>,
    ) -> TaskIdx {
        let options = resolved.options[row.options as usize];
        let named = &batch.options[row.options as usize];
        let owner = &self.sessions[session];
        let task = Task {
            seq,
            order: order(named.priority, owner.depth, self.rank(row.rank)),
            lane: resolved.lane,
            function: owner.function(row.function).expect("the batch was checked"),
            options,
            args: Args { blob: resolved.blob, start: args.start, end: args.end },
            attempts: 0,
            refs: 0,
            flags: Flags::default(),
            state: State::Waiting { missing: 0 },
            inputs: SmallVec::new(),
            first: Object::pending(),
            others: further_outputs(row.outputs),
        };
        let task = self.enter(task);
        if args.is_empty() {
            self.tasks[task].args = Args::NONE;
        } else {
            self.blobs[resolved.blob].refs += 1;
        }
        let job = self.job_of(task);
        self.count(job, |job| job.counts.submitted += 1);
        self.note_deadline(task, named);
        match self.link(task, batch, resolved, inputs) {
            Ok(()) => match &resolved.infeasible[row.options as usize] {
                None => self.count_missing(task),
                Some(message) => {
                    self.fail(task, FailureKind::Infeasible { message: message.clone() });
                }
            },
            Err(failed) => self.fail_with(task, failed),
        }
        task
    }

    fn rank(&self, rank: u32) -> u32 {
        if self.config.policies.rank_order { rank } else { 0 }
    }

    pub(crate) fn enter(&mut self, record: Task) -> TaskIdx {
        let (lane, seq) = (record.lane, record.seq);
        self.options.retain(record.options);
        let task = self.tasks.insert(record);
        self.lanes.set(lane, seq, task);
        let job = self.job_of(task);
        self.jobs[job].records += 1;
        task
    }

    fn note_deadline(&mut self, task: TaskIdx, options: &TaskOptions) {
        if let Some(unix) = options.deadline_unix_us {
            let time = Time(unix.saturating_sub(self.config.unix_offset_us));
            let mark = self.mark(task);
            self.deadlines.push(Reverse((time, mark)));
        }
    }

    /// Links a new task to what it needs; or says why it can never run, in which case it is linked
    /// to nothing.
    fn link(
        &mut self,
        task: TaskIdx,
        batch: &GraphBatch,
        resolved: &Resolved,
        inputs: &[Input],
    ) -> Result<(), Failed> {
        let mut links: SmallVec<[ObjRef; 2]> = SmallVec::with_capacity(inputs.len());
        for input in inputs {
            let lane = match resolved.sources[input.source as usize] {
                // The batch's own lane may have come into being with it.
                None => {
                    self.lanes.find(batch.object(input).task.job, batch.object(input).task.lane)
                }
                known => known,
            };
            let producer = lane.and_then(|lane| self.lanes.get(lane, input.seq));
            let index = input.index;
            let object = producer.map(|task| ObjRef { task, index });
            let known = object.filter(|o| self.tasks[o.task].object(index).is_some());
            let Some(object) = known else { return Err(unknown_object(batch.object(input))) };
            if let State::Failed(failed) = &self.tasks[object.task].state {
                return Err((**failed).clone());
            }
            links.push(object);
        }
        for object in &links {
            self.tasks[object.task].refs += 1;
            self.object_mut(*object).needed_by += 1;
        }
        self.tasks[task].inputs = links;
        Ok(())
    }

    /// What a batch says of who holds and wants a task's objects.
    fn apply_interests(&mut self, session: SessionIdx, task: TaskIdx, flags: u8, more: bool) {
        let mut bits = 0;
        if flags & TaskRow::HELD != 0 {
            bits |= HOLDS;
        }
        if more {
            bits |= GRAPH;
        }
        if bits != 0 || flags & TaskRow::WANTED != 0 {
            let new_in_graph = more && self.tasks[task].first.interests.of(session) & GRAPH == 0;
            if new_in_graph {
                self.sessions[session].graph.push(task);
            }
            for index in 0..self.tasks[task].outputs() as u32 {
                self.apply_interest(session, ObjRef { task, index }, bits, flags);
            }
        }
        if !self.tasks[task].is_alive() {
            self.loose.push(task);
        }
    }

    fn apply_interest(&mut self, session: SessionIdx, object: ObjRef, bits: u32, flags: u8) {
        if flags & TaskRow::WANTED == 0 {
            self.bind(session, object, bits);
        } else if matches!(self.object(object).state, ObjectState::Pending(_)) {
            self.bind(session, object, bits | WANTS);
        } else {
            if bits != 0 {
                self.bind(session, object, bits);
            }
            self.want(session, object);
        }
    }

    /// A batch that no others follow ends the session's graph.
    fn end_graph(&mut self, session: SessionIdx, more: bool) {
        if !more {
            for task in std::mem::take(&mut self.sessions[session].graph) {
                self.leave_graph(session, task);
            }
        }
    }

    pub(crate) fn on_put(
        &mut self,
        session: SessionIdx,
        id: ObjectId,
        meta: ObjectMeta,
        place: PutPlace,
        out: &mut Vec<Action>,
    ) {
        if let Some(task) = self.maker_of(session, id) {
            return self.on_item(session, task, id, meta, place, out);
        }
        if let Err(reason) = self.check_put(session, id, &place) {
            return self.refuse(session, reason, out);
        }
        let object = match self.lanes.task(id.task) {
            Some(task) => ObjRef { task, index: 0 },
            None => self.add_put(id, meta, place),
        };
        self.bind(session, object, HOLDS);
    }

    fn check_put(
        &mut self,
        session: SessionIdx,
        id: ObjectId,
        place: &PutPlace,
    ) -> Result<(), String> {
        self.check_name(session, id.task.job, id.task.lane)?;
        if id.index != 0 {
            return Err(format!("{id} was put, and has index 0"));
        }
        if let PutPlace::Inline(bytes) = place
            && bytes.len() > INLINE_LIMIT
        {
            return Err(format!("{id} has {}: too much for a message", Bytes(bytes.len() as u64)));
        }
        let lane = self.lanes.find(id.task.job, id.task.lane);
        if lane.is_some_and(|lane| !self.lanes.can_hold(lane, id.task.seq)) {
            return Err(format!("{id} is too far from the others of its lane"));
        }
        Ok(())
    }

    fn add_put(&mut self, id: ObjectId, meta: ObjectMeta, place: PutPlace) -> ObjRef {
        let job = self.job_ids[&id.task.job];
        let lane = self.lanes.find_or_make(job, id.task.job, id.task.lane);
        let options = self.options.intern(&TaskOptions::default());
        let mut flags = Flags::default();
        flags.set(Flags::PUT);
        let task = self.enter(Task {
            seq: id.task.seq,
            order: 0,
            lane,
            function: FnIdx::NONE,
            options,
            args: Args::NONE,
            attempts: 0,
            refs: 0,
            flags,
            state: State::Done,
            inputs: SmallVec::new(),
            first: Object::pending(),
            others: None,
        });
        self.options.release(options);
        let object = ObjRef { task, index: 0 };
        match place {
            PutPlace::Inline(bytes) => {
                let value = self.cache(&bytes, true);
                self.arrive(object, meta, WorkerIdx::NONE, value);
            }
            PutPlace::Stored(worker) => match self.worker_ids.get(&worker).copied() {
                Some(worker) => self.arrive(object, meta, worker, ValueIdx::NONE),
                // Its worker is lost by now, and the value with it.
                None => self.object_mut(object).state = ObjectState::Gone,
            },
        }
        object
    }
}

fn further_outputs(outputs: u16) -> Option<Box<SmallVec<[Object; 1]>>> {
    (outputs > 1).then(|| Box::new((1..outputs).map(|_| Object::pending()).collect()))
}
