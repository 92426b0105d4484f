//! Sessions come and go, open and close jobs, describe functions, hold and want.

use manyhands_proto::client::{
    CODE_LIMIT, Environment, FunctionSpec, Outcome, Runtime, Stream, ToClient,
};
use manyhands_proto::task::{Failed, FailureKind, TaskFailure};
use manyhands_proto::words::Bytes;
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{JobId, Lane, ObjectId, SessionId, TaskId};
use std::sync::Arc;

use crate::action::Action;
use crate::core::Core;
use crate::functions::weight;
use crate::holders::{GRAPH, HOLDS, WANTS};
use crate::inspect::shown;
use crate::jobs::Job;
use crate::objects::{ObjRef, ObjectState};
use crate::sessions::{ENVIRONMENT_BYTES, FUNCTION_BYTES, FUNCTION_LIMIT, Session, Speaker};
use crate::slab::{JobIdx, SessionIdx, TaskIdx, WorkerIdx};
use crate::tasks::{Flags, State};

/// Bytes of values in one message of ends.
const ENDED_BYTES: usize = 1 << 20;

impl Core {
    pub(crate) fn on_client_joined(&mut self, id: SessionId, lane: Lane, out: &mut Vec<Action>) {
        if self.session_ids.contains_key(&id) {
            return;
        }
        let session = self.sessions.insert(Session::new(Speaker::Client(id), lane, 0));
        self.session_ids.insert(id, session);
        self.introduce_workers(id, out);
    }

    pub(crate) fn on_client_lost(&mut self, id: SessionId, out: &mut Vec<Action>) {
        let Some(session) = self.session_ids.remove(&id) else { return };
        self.forget_sender(session, out);
        self.end_session(session, out);
    }

    /// The session of a running task; it begins with the first thing that the task says. `None` for
    /// an attempt that is no longer current.
    pub(crate) fn session_of_task(
        &mut self,
        worker: WorkerIdx,
        id: TaskId,
        attempt: u32,
    ) -> Option<SessionIdx> {
        let task = self.current_attempt(worker, id, attempt)?;
        if let Some(session) = self.task_sessions.get(&task) {
            return Some(*session);
        }
        let depth = self.tasks[task].depth().saturating_add(1);
        let session = Session::new(Speaker::Task(task), id.child_lane(), depth);
        let session = self.sessions.insert(session);
        self.task_sessions.insert(task, session);
        self.tasks[task].flags.set(Flags::SPEAKS);
        Some(session)
    }

    /// A task's attempt is over, and with it its session.
    pub(crate) fn end_task_session(&mut self, task: TaskIdx) {
        if self.tasks[task].flags.has(Flags::SPEAKS)
            && let Some(session) = self.task_sessions.remove(&task)
        {
            self.let_go_of_all(session, None);
            self.forget_session(session);
        }
    }

    fn end_session(&mut self, session: SessionIdx, out: &mut Vec<Action>) {
        self.let_go_of_all(session, None);
        self.forget_session(session);
        self.stop_unwanted(out);
    }

    fn forget_session(&mut self, session: SessionIdx) {
        self.forget_queries(session);
        self.release_functions(session);
        let jobs = match self.sessions[session].speaker {
            Speaker::Client(_) => self.jobs.keys(),
            // A task works within its own job.
            Speaker::Task(task) => vec![self.job_of(task)],
        };
        for job in jobs {
            self.jobs[job].open_by.retain(|s| *s != session);
            self.jobs[job].watchers.retain(|s| *s != session);
            self.drop_job_if_over(job);
        }
        if self.sessions[session].listed {
            self.to_tell.retain(|s| *s != session);
        }
        self.sessions.remove(session);
    }

    /// The session releases what it holds, of one job or of all.
    fn let_go_of_all(&mut self, session: SessionIdx, job: Option<JobIdx>) {
        let of_job = |core: &Core, task: TaskIdx| job.is_none_or(|job| core.job_of(task) == job);
        for object in std::mem::take(&mut self.sessions[session].holds) {
            if !self.holds(session, object) {
                continue;
            }
            if of_job(self, object.task) {
                self.unbind(session, object, HOLDS | WANTS);
            } else {
                self.sessions[session].holds.push(object);
            }
        }
        for task in std::mem::take(&mut self.sessions[session].graph) {
            let Some(record) = self.tasks.get(task) else { continue };
            if record.first.interests.of(session) & GRAPH == 0 {
                continue;
            }
            if of_job(self, task) {
                self.leave_graph(session, task);
            } else {
                self.sessions[session].graph.push(task);
            }
        }
    }

    fn holds(&self, session: SessionIdx, object: ObjRef) -> bool {
        let record = self.tasks.get(object.task).and_then(|task| task.object(object.index));
        record.is_some_and(|o| o.interests.of(session) & (HOLDS | WANTS) != 0)
    }

    /// The graph of a task is complete: it lives on only for those who hold or need it.
    pub(crate) fn leave_graph(&mut self, session: SessionIdx, task: TaskIdx) {
        for index in 0..self.tasks[task].outputs() as u32 {
            self.unbind(session, ObjRef { task, index }, GRAPH);
        }
    }

    /// Running tasks that nobody needs any more are stopped: their client has gone.
    fn stop_unwanted(&mut self, out: &mut Vec<Action>) {
        // What depended on them goes first, and with it what kept them.
        self.collect();
        let kind = FailureKind::Cancelled { reason: "nobody waits for it any more".into() };
        let assigned = self.workers.iter().flat_map(|(_, worker)| worker.assigned.iter().copied());
        let unwanted: Vec<_> = assigned.filter(|task| !self.tasks[*task].is_alive()).collect();
        for task in unwanted {
            self.stop_task(task, kind.clone(), out);
        }
    }

    pub(crate) fn on_job_opened(
        &mut self,
        session: SessionIdx,
        id: JobId,
        name: &str,
        weight: u32,
        out: &mut Vec<Action>,
    ) {
        if let Speaker::Task(_) = self.sessions[session].speaker {
            return self.refuse(session, "a task works within its own job".into(), out);
        }
        let job = match self.job_ids.get(&id) {
            Some(job) => *job,
            None => {
                let number = self.jobs_opened;
                self.jobs_opened += 1;
                let job = Job::new(id, shown(name), weight, number, self.now);
                let job = self.jobs.insert(job);
                self.job_ids.insert(id, job);
                job
            }
        };
        let open_by = &mut self.jobs[job].open_by;
        if !open_by.contains(&session) {
            open_by.push(session);
        }
    }

    pub(crate) fn on_job_closed(&mut self, session: SessionIdx, id: JobId, out: &mut Vec<Action>) {
        let Some(job) = self.job_ids.get(&id).copied() else { return };
        self.let_go_of_all(session, Some(job));
        self.jobs[job].open_by.retain(|s| *s != session);
        self.jobs[job].watchers.retain(|s| *s != session);
        self.drop_job_if_over(job);
        self.stop_unwanted(out);
    }

    /// A job that nobody has open and that has no tasks is forgotten.
    pub(crate) fn drop_job_if_over(&mut self, job: JobIdx) {
        let record = &self.jobs[job];
        if record.open_by.is_empty() && record.records == 0 {
            let id = record.id;
            self.ended_before += record.counts.done + record.counts.failed;
            self.job_ids.remove(&id);
            self.jobs.remove(job);
        }
    }

    pub(crate) fn on_functions(
        &mut self,
        session: SessionIdx,
        first_slot: u32,
        functions: Vec<FunctionSpec>,
        out: &mut Vec<Action>,
    ) {
        if let Err(reason) = self.check_functions(session, first_slot, &functions) {
            return self.refuse(session, reason, out);
        }
        let first = first_slot as usize;
        let slots = &mut self.sessions[session].functions;
        // What was refused before these has a slot all the same.
        slots.resize(slots.len().max(first + functions.len()), None);
        for (i, spec) in functions.into_iter().enumerate() {
            self.sessions[session].function_bytes += weight(&spec);
            let function = self.functions.intern(spec);
            let before = self.sessions[session].functions[first + i].replace(function);
            if let Some(before) = before {
                let bytes = weight(&self.functions.get(before).spec);
                self.sessions[session].function_bytes -= bytes;
                self.functions.release(before);
            }
        }
        self.sweep_functions();
        self.replace_senders(out);
    }

    fn check_functions(
        &self,
        session: SessionIdx,
        first_slot: u32,
        functions: &[FunctionSpec],
    ) -> Result<(), String> {
        if functions.len() > FUNCTION_LIMIT.saturating_sub(first_slot as usize) {
            return Err(format!(
                "a session may describe {FUNCTION_LIMIT} functions: put what they differ in as \
                 arguments, and call one function with them"
            ));
        }
        functions.iter().try_for_each(check_function)?;
        let bytes: u64 = functions.iter().map(weight).sum();
        if self.sessions[session].function_bytes + bytes > FUNCTION_BYTES {
            return Err(format!(
                "the functions that this session has described have more than {}: give them as \
                 arguments what they close over",
                Bytes(FUNCTION_BYTES)
            ));
        }
        Ok(())
    }

    /// A session names no functions any more.
    pub(crate) fn release_functions(&mut self, session: SessionIdx) {
        for function in std::mem::take(&mut self.sessions[session].functions).into_iter().flatten()
        {
            self.functions.release(function);
        }
        self.sweep_functions();
    }

    /// Forgets functions that nobody needs, if there are many that may be such. Looks at all tasks.
    fn sweep_functions(&mut self) {
        if !self.functions.is_crowded() {
            return;
        }
        let needed = self.tasks.iter().map(|(_, task)| task.function).collect();
        let gone = self.functions.sweep(&needed);
        for worker in self.workers.keys() {
            gone.iter().for_each(|function| self.workers[worker].unlearn(*function));
        }
    }

    /// A client's link is broken, or is there again.
    pub(crate) fn on_client_away(&mut self, id: SessionId, away: bool, out: &mut Vec<Action>) {
        if let Some(session) = self.session_ids.get(&id).copied() {
            self.sessions[session].away = away;
            self.replace_senders(out);
        }
    }

    pub(crate) fn on_hold(&mut self, session: SessionIdx, objects: &[ObjectId]) {
        for id in objects {
            if let Some(object) = self.find_object(*id) {
                self.bind(session, object, HOLDS);
            }
        }
    }

    pub(crate) fn on_release(&mut self, session: SessionIdx, objects: &[ObjectId]) {
        for id in objects {
            if let Some(object) = self.find_object(*id) {
                self.unbind(session, object, HOLDS | WANTS);
            }
        }
    }

    pub(crate) fn on_want(&mut self, session: SessionIdx, objects: &[ObjectId]) {
        for id in objects {
            match self.find_object(*id) {
                Some(object) => self.want(session, object),
                None => {
                    let failed = unknown_object(*id);
                    self.queue_end(session, *id, Outcome::Failed(failed));
                }
            }
        }
    }

    /// Tells the session of an object, now or when it is there.
    pub(crate) fn want(&mut self, session: SessionIdx, object: ObjRef) {
        match self.outcome(object) {
            Some(outcome) => {
                let id = self.object_id(object);
                self.queue_end(session, id, outcome);
            }
            None => {
                self.bind(session, object, WANTS);
                match self.object(object).state {
                    ObjectState::Pending(_) => {}
                    ObjectState::There(_) => self.ask_for_value(object),
                    ObjectState::Gone => self.remake(object),
                }
            }
        }
    }

    /// What can be said of an object now: `None` while it is not there, or its value is not here.
    pub(crate) fn outcome(&self, object: ObjRef) -> Option<Outcome> {
        if let State::Failed(failed) = &self.tasks[object.task].state {
            return Some(Outcome::Failed((**failed).clone()));
        }
        let record = self.object(object);
        let there = record.there()?;
        if let Some(value) = self.cached_value(record.codec, there) {
            return Some(Outcome::Value(value));
        }
        let large = there.size > manyhands_proto::value::INLINE_LIMIT as u64;
        large.then(|| Outcome::Stored {
            codec: record.codec,
            size: there.size,
            workers: self.sources(there, WorkerIdx::NONE),
        })
    }

    /// Notes what a session will be told at the end of the round.
    pub(crate) fn queue_end(&mut self, session: SessionIdx, id: ObjectId, outcome: Outcome) {
        let record = &mut self.sessions[session];
        record.end_bytes += value_bytes(&outcome);
        record.ends.push((id, outcome));
        if !record.listed {
            record.listed = true;
            self.to_tell.push(session);
        }
    }

    /// Tells the sessions what was noted for them.
    pub(crate) fn tell(&mut self, out: &mut Vec<Action>) {
        for session in std::mem::take(&mut self.to_tell) {
            self.sessions[session].listed = false;
            let mut ends = std::mem::take(&mut self.sessions[session].ends);
            if std::mem::take(&mut self.sessions[session].end_bytes) > ENDED_BYTES {
                while let Some(rest) = cut(&mut ends) {
                    self.say(session, ToClient::Ended { ends }, out);
                    ends = rest;
                }
            }
            self.say(session, ToClient::Ended { ends }, out);
        }
    }

    /// Says something to a session, wherever it is.
    pub(crate) fn say(&self, session: SessionIdx, message: ToClient, out: &mut Vec<Action>) {
        out.push(match self.sessions[session].speaker {
            Speaker::Client(session) => Action::ToClient { session, message },
            Speaker::Task(task) => {
                let record = &self.tasks[task];
                let worker = record.worker().expect("a task speaks while it is assigned");
                let worker = self.workers[worker].id;
                let attempt = record.attempts - 1;
                let task = self.task_id(task);
                let message = ToWorker::ToTask { task, attempt, message };
                Action::ToWorker { worker, message }
            }
        });
    }

    pub(crate) fn refuse(&self, session: SessionIdx, message: String, out: &mut Vec<Action>) {
        self.say(session, ToClient::Refused { message }, out);
    }

    /// What a task printed goes to the client that has its job open, and is kept for a while.
    pub(crate) fn on_output(
        &mut self,
        task: TaskId,
        stream: Stream,
        bytes: bytes::Bytes,
        out: &mut Vec<Action>,
    ) {
        self.logs.push(task, stream, &bytes, self.config.logs_limit);
        let Some(job) = self.job_ids.get(&task.job) else { return };
        let Some(session) = self.jobs[*job].open_by.first().copied() else { return };
        let record = self.lanes.task(task);
        let function = record.map(|task| self.tasks[task].function);
        let name = function.map_or("", |function| self.functions.name(function)).to_owned();
        self.say(session, ToClient::Output { task, name, stream, bytes }, out);
    }

    pub(crate) fn on_watch(&mut self, session: SessionIdx, id: JobId, out: &mut Vec<Action>) {
        let Some(job) = self.job_ids.get(&id).copied() else { return };
        if !self.jobs[job].watchers.contains(&session) {
            self.jobs[job].watchers.push(session);
        }
        let counts = self.jobs[job].counts;
        self.say(session, ToClient::Progress { job: id, counts }, out);
    }

    /// Tells those that watch a job how far it is, if they have not heard for long enough.
    pub(crate) fn tell_progress(&mut self, out: &mut Vec<Action>) {
        for job in self.jobs.keys() {
            let now = self.now;
            let record = &mut self.jobs[job];
            if record.progress_due().is_none_or(|due| due > now) {
                continue;
            }
            record.changed = false;
            record.told_at = Some(now);
            let (id, counts, watchers) = (record.id, record.counts, record.watchers.clone());
            for session in watchers {
                self.say(session, ToClient::Progress { job: id, counts }, out);
            }
        }
    }
}

/// Whether a function can be taken in.
fn check_function(spec: &FunctionSpec) -> Result<(), String> {
    let (name, bytes) = (shown(&spec.name), spec.code.len());
    if bytes > CODE_LIMIT {
        return Err(format!(
            "the code of function {name} has {bytes} bytes; {} are the most: put what it closes \
             over as an object, and give it that as an argument",
            Bytes(CODE_LIMIT as u64)
        ));
    }
    let Runtime::Python(environment) = &spec.runtime else { return Ok(()) };
    let Environment { preload, variables, directory, path, requirements, .. } = &**environment;
    let words = preload.iter().chain(path).chain(requirements).chain(directory);
    let words = words.chain(variables.iter().flat_map(|(name, value)| [name, value]));
    let bytes: usize = words.map(String::len).sum();
    if bytes > ENVIRONMENT_BYTES {
        return Err(format!(
            "the environment of function {name} has {bytes} bytes; {} are the most: variables, \
             modules to import and paths are meant to be few",
            Bytes(ENVIRONMENT_BYTES as u64)
        ));
    }
    Ok(())
}

fn value_bytes(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Value(value) => value.bytes.len(),
        _ => 0,
    }
}

/// Cuts off what would make a message of ends too large.
fn cut(ends: &mut Vec<(ObjectId, Outcome)>) -> Option<Vec<(ObjectId, Outcome)>> {
    let mut bytes = 0;
    let at = ends.iter().position(|(_, outcome)| {
        bytes += value_bytes(outcome);
        bytes > ENDED_BYTES
    })?;
    // A single value is never too large.
    let rest = ends.split_off(at.max(1));
    (!rest.is_empty()).then_some(rest)
}

/// Why an object that the scheduler has never heard of, or has forgotten, cannot be had.
pub(crate) fn unknown_object(object: ObjectId) -> Failed {
    let failure = TaskFailure {
        task: object.task,
        name: String::new(),
        args: Vec::new(),
        kind: FailureKind::LostInput { object },
        attempts: Vec::new(),
    };
    Failed { failure: Arc::new(failure), chain: Vec::new() }
}
