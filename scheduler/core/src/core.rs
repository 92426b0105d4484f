//! The state machine's entry points, and everything that it knows.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;
use manyhands_proto::client::FromClient;
use manyhands_proto::task::{AttemptFailure, FailureKind};
use manyhands_proto::worker::FromWorker;
use manyhands_proto::{JobId, ObjectId, SessionId, TaskId, Time, WorkerId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::blocked::Blocked;
use crate::functions::Functions;
use crate::jobs::Job;
use crate::lanes::Lanes;
use crate::logs::Logs;
use crate::objects::{ObjRef, Object};
use crate::options::OptionTable;
use crate::programs::Program;
use crate::sessions::Session;
use crate::slab::{
    BlobIdx, ContainsIdx, CopiesIdx, JobIdx, SessionIdx, Slab, TaskIdx, ValueIdx, WorkerIdx,
};
use crate::streams::Stream;
use crate::tasks::{Mark, Task};
use crate::values::{Cached, Packer};
use crate::workers::{LoadIndex, Worker};
use crate::{Action, Config, Event};

/// Encoded arguments that the tasks of a batch share.
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) refs: u32,
}

/// The attempts of a task that failed.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) errors: u32,
    pub(crate) crashes: u32,
    /// How often in a row it was handed back since an input could not be fetched.
    pub(crate) misses: u32,
    pub(crate) attempts: Vec<AttemptFailure>,
}

/// The scheduler, without clock, sockets or chance.
///
/// Hash maps are only ever asked for one key at a time: their order influences nothing.
pub struct Core {
    pub(crate) config: Config,
    pub(crate) now: Time,
    pub(crate) tasks: Slab<TaskIdx, Task>,
    pub(crate) lanes: Lanes,
    pub(crate) blobs: Slab<BlobIdx, Blob>,
    pub(crate) options: OptionTable,
    pub(crate) functions: Functions,
    /// By hash.
    pub(crate) programs: FxHashMap<u128, Program>,
    pub(crate) values: Slab<ValueIdx, Cached>,
    pub(crate) packer: Packer,
    /// Bytes in `values` that are not pinned.
    pub(crate) cached_bytes: u64,
    pub(crate) contains: Slab<ContainsIdx, Box<[ObjRef]>>,
    pub(crate) copies: Slab<CopiesIdx, SmallVec<[WorkerIdx; 4]>>,
    pub(crate) sessions: Slab<SessionIdx, Session>,
    pub(crate) session_ids: FxHashMap<SessionId, SessionIdx>,
    pub(crate) task_sessions: FxHashMap<TaskIdx, SessionIdx>,
    pub(crate) jobs: Slab<JobIdx, Job>,
    pub(crate) job_ids: FxHashMap<JobId, JobIdx>,
    pub(crate) jobs_opened: u64,
    /// Tasks of forgotten jobs that ended.
    pub(crate) ended_before: u64,
    /// Attempts that ran again what had run, as far as is known.
    pub(crate) rerun: u64,
    pub(crate) logs: Logs,
    pub(crate) workers: Slab<WorkerIdx, Worker>,
    pub(crate) worker_ids: FxHashMap<WorkerId, WorkerIdx>,
    pub(crate) load: LoadIndex,
    /// Workers that are about to leave, in the order in which they said so.
    pub(crate) draining: Vec<WorkerIdx>,
    pub(crate) history: FxHashMap<TaskIdx, History>,
    /// Why attempts were told to stop.
    pub(crate) stops: FxHashMap<TaskIdx, FailureKind>,
    pub(crate) reservations: FxHashMap<TaskIdx, u64>,
    /// For whom tasks were asked back.
    pub(crate) thieves: FxHashMap<TaskIdx, WorkerIdx>,
    pub(crate) streams: FxHashMap<TaskIdx, Stream>,
    pub(crate) blocked: FxHashMap<TaskIdx, Blocked>,
    /// Blocked tasks that only a task in place can help, in the order in which they said so.
    pub(crate) stuck: Vec<TaskIdx>,
    pub(crate) deadlines: BinaryHeap<Reverse<(Time, Mark)>>,
    /// Tasks that wait for a time.
    pub(crate) resting: BinaryHeap<Reverse<(Time, Mark)>>,
    /// Questions passed on to workers: by our number, who asked and under which.
    pub(crate) queries: FxHashMap<u64, (SessionIdx, u64, WorkerIdx)>,
    pub(crate) next_query: u64,
    /// Records kept as lineage only, the oldest first.
    pub(crate) lineage: VecDeque<Mark>,
    pub(crate) lineage_bytes: u64,
    /// Tasks to look at: something that kept them may be gone.
    pub(crate) loose: Vec<TaskIdx>,
    /// Objects among whose many waiters are tasks that do not wait any more.
    pub(crate) crowds: Vec<ObjRef>,
    /// Tasks that are to run again and are not yet linked to what they need.
    pub(crate) remaking: Vec<TaskIdx>,
    /// Sessions and workers that have something to be told, in the order in which it came up.
    pub(crate) to_tell: Vec<SessionIdx>,
    pub(crate) to_send: Vec<WorkerIdx>,
    /// Something has changed that may let a task be placed.
    pub(crate) dirty: bool,
    pub(crate) round_number: u64,
    /// Start-time fair queueing: what the job that was served last had been served.
    pub(crate) served: u64,
    pub(crate) random: u64,
}

impl Core {
    /// A core with no jobs, clients or workers.
    pub fn new(config: Config) -> Core {
        Core {
            random: config.seed,
            config,
            now: Time::default(),
            tasks: Slab::default(),
            lanes: Lanes::default(),
            blobs: Slab::default(),
            options: OptionTable::default(),
            functions: Functions::default(),
            programs: FxHashMap::default(),
            values: Slab::default(),
            packer: Packer::default(),
            cached_bytes: 0,
            contains: Slab::default(),
            copies: Slab::default(),
            sessions: Slab::default(),
            session_ids: FxHashMap::default(),
            task_sessions: FxHashMap::default(),
            jobs: Slab::default(),
            job_ids: FxHashMap::default(),
            jobs_opened: 0,
            ended_before: 0,
            rerun: 0,
            logs: Logs::default(),
            workers: Slab::default(),
            worker_ids: FxHashMap::default(),
            load: LoadIndex::default(),
            draining: Vec::new(),
            history: FxHashMap::default(),
            stops: FxHashMap::default(),
            reservations: FxHashMap::default(),
            thieves: FxHashMap::default(),
            streams: FxHashMap::default(),
            blocked: FxHashMap::default(),
            stuck: Vec::new(),
            deadlines: BinaryHeap::new(),
            resting: BinaryHeap::new(),
            queries: FxHashMap::default(),
            next_query: 0,
            lineage: VecDeque::new(),
            lineage_bytes: 0,
            loose: Vec::new(),
            crowds: Vec::new(),
            remaking: Vec::new(),
            to_tell: Vec::new(),
            to_send: Vec::new(),
            dirty: false,
            round_number: 0,
            served: 0,
        }
    }

    /// Takes in an event: changes the state and answers. Placement follows in [`Core::round`].
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        match event {
            Event::ClientJoined { session, lane } => self.on_client_joined(session, lane, out),
            Event::ClientLost { session } => self.on_client_lost(session, out),
            Event::ClientAway { session } => self.on_client_away(session, true, out),
            Event::ClientBack { session } => self.on_client_away(session, false, out),
            Event::WorkerJoined { worker, spec } => self.on_worker_joined(worker, spec, out),
            Event::WorkerLost { worker } => self.on_worker_lost(worker, out),
            Event::WorkerAway { worker } => self.on_worker_away(worker, out),
            Event::WorkerBack { worker } => self.on_worker_back(worker),
            Event::FromClient { session, message } => {
                if let Some(session) = self.session_ids.get(&session).copied() {
                    self.on_client_message(session, message, out);
                }
            }
            Event::FromWorker { worker, message } => {
                if let Some(worker) = self.worker_ids.get(&worker).copied() {
                    self.on_worker_message(worker, message, out);
                }
            }
            Event::Tick => self.on_tick(out),
        }
        self.link_remade();
        self.collect();
    }

    pub(crate) fn on_client_message(
        &mut self,
        session: SessionIdx,
        message: FromClient,
        out: &mut Vec<Action>,
    ) {
        match message {
            FromClient::OpenJob { job, name, weight } => {
                self.on_job_opened(session, job, &name, weight, out)
            }
            FromClient::Functions { first_slot, functions } => {
                self.on_functions(session, first_slot, functions, out)
            }
            FromClient::Submit(batch) => self.on_submit(session, batch, out),
            FromClient::Put { object, meta, place } => {
                self.on_put(session, object, meta, place, out)
            }
            FromClient::Hold { objects } => self.on_hold(session, &objects),
            FromClient::Release { objects } => self.on_release(session, &objects),
            FromClient::Want { objects } => self.on_want(session, &objects),
            FromClient::Cancel { tasks, reason } => self.on_cancel(&tasks, &reason, out),
            FromClient::Explain { query, task } => self.on_explain(session, query, task, out),
            FromClient::Watch { job } => self.on_watch(session, job, out),
            FromClient::CloseJob { job } => self.on_job_closed(session, job, out),
            FromClient::Room { task, from, upto } => self.on_room(session, task, from, upto, out),
            FromClient::Stream => self.on_stream_begun(session, out),
            FromClient::Drain { worker } => self.on_drain(session, worker, out),
            FromClient::Ask { query, question } => self.on_question(session, query, question, out),
            FromClient::CancelJob { job, reason } => self.on_cancel_job(session, job, &reason, out),
            FromClient::ProgramFailed { program, message } => {
                self.on_program_failed(session, program, &message, out)
            }
        }
    }

    fn on_worker_message(&mut self, worker: WorkerIdx, message: FromWorker, out: &mut Vec<Action>) {
        match message {
            FromWorker::Ended { ends } => {
                for end in ends {
                    self.on_attempt_ended(worker, end);
                }
            }
            FromWorker::Retracted { given, kept } => self.on_retracted(worker, &given, &kept),
            FromWorker::Blocked { task, attempt, waits_for, at_limit } => {
                self.on_blocked(worker, task, attempt, waits_for, at_limit)
            }
            FromWorker::Unblocked { task, attempt } => self.on_unblocked(worker, task, attempt),
            FromWorker::FromTask { task, attempt, message } => {
                if let Some(session) = self.session_of_task(worker, task, attempt) {
                    self.on_client_message(session, message, out);
                }
            }
            FromWorker::Values { values } => self.on_values(worker, values),
            FromWorker::Copied { objects } => self.on_copied(worker, &objects),
            FromWorker::Lost { objects } => self.on_objects_lost(worker, &objects),
            FromWorker::Output { task, stream, bytes } => self.on_output(task, stream, bytes, out),
            FromWorker::Explained { query, explanation } => {
                self.on_explained(worker, query, explanation, out)
            }
            FromWorker::Moved { addresses } => self.on_worker_moved(worker, addresses, out),
            FromWorker::Draining => self.on_draining(worker),
            FromWorker::CopyFailed { object, message } => {
                self.on_copy_failed(worker, object, &message)
            }
            FromWorker::Missing { task, attempt, object, message } => {
                self.on_missing(worker, task, attempt, object, message)
            }
            FromWorker::NeedProgram { program } => self.on_program_needed(worker, program, out),
            FromWorker::HasProgram { program } => self.on_program_there(worker, program, out),
            FromWorker::Status(status) => {
                self.workers[worker].status = status;
                self.workers[worker].stored_since = 0;
                self.dirty = true;
            }
        }
    }

    /// Places what is ready, in batches by worker, and sends what was gathered meanwhile. The shell
    /// calls it once per turn, after the events; it costs nothing when nothing has changed.
    pub fn round(&mut self, now: Time, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.dirty {
            self.dirty = false;
            self.round_number += 1;
            self.help_stuck();
            self.place_ready();
            // Tasks that cannot be sent have failed.
            self.collect();
            self.steal();
            if !self.draining.is_empty() {
                self.advance_drains();
            }
        }
        self.tell(out);
        self.send(out);
    }

    /// How many records of tasks and values there are, those kept as lineage included.
    pub fn records(&self) -> usize {
        self.tasks.len()
    }

    /// When the shell shall deliver [`Event::Tick`] next.
    pub fn next_tick(&self) -> Option<Time> {
        let deadline = self.deadlines.peek().map(|Reverse((time, _))| *time);
        // Few jobs are watched, and there are few jobs.
        let progress = self.jobs.iter().filter_map(|(_, job)| job.progress_due()).min();
        [deadline, progress, self.rested_at(), self.drain_due()].into_iter().flatten().min()
    }

    /// How many tasks and values the core has records of: none, when nobody holds or needs any.
    pub fn tasks_known(&self) -> usize {
        self.tasks.len()
    }

    /// The object that an id names, if its task is known and returns that many.
    pub(crate) fn find_object(&mut self, id: ObjectId) -> Option<ObjRef> {
        let task = self.lanes.task(id.task)?;
        let index = id.index;
        self.tasks[task].object(index).map(|_| ObjRef { task, index })
    }

    #[inline]
    pub(crate) fn task_id(&self, task: TaskIdx) -> TaskId {
        let record = &self.tasks[task];
        let lane = self.lanes.table(record.lane);
        TaskId { job: lane.job_id, lane: lane.lane, seq: record.seq }
    }

    #[inline]
    pub(crate) fn object_id(&self, object: ObjRef) -> ObjectId {
        self.task_id(object.task).object(object.index)
    }

    #[inline]
    pub(crate) fn job_of(&self, task: TaskIdx) -> JobIdx {
        self.lanes.table(self.tasks[task].lane).job
    }

    #[inline]
    pub(crate) fn mark(&self, task: TaskIdx) -> Mark {
        let record = &self.tasks[task];
        Mark { task, lane: record.lane, seq: record.seq }
    }

    /// The task that was marked, if its record is still there.
    pub(crate) fn marked(&self, mark: Mark) -> Option<TaskIdx> {
        let record = self.tasks.get(mark.task)?;
        (record.lane == mark.lane && record.seq == mark.seq).then_some(mark.task)
    }

    #[inline]
    pub(crate) fn object(&self, object: ObjRef) -> &Object {
        self.tasks[object.task].object(object.index).expect("references name objects that are")
    }

    #[inline]
    pub(crate) fn object_mut(&mut self, object: ObjRef) -> &mut Object {
        self.tasks[object.task].object_mut(object.index).expect("references name objects that are")
    }

    /// A job's counts changed.
    #[inline]
    pub(crate) fn count(&mut self, job: JobIdx, change: impl FnOnce(&mut Job)) {
        let job = &mut self.jobs[job];
        change(job);
        job.changed = true;
    }
}
