//! Why a task is where it is, in words.

use manyhands_proto::client::{Explanation, TaskState, ToClient};
use manyhands_proto::words::Bytes;
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{TaskId, WorkerId};
use smallvec::SmallVec;

use crate::action::Action;
use crate::core::Core;
use crate::objects::ObjRef;
use crate::place::RESERVED_FROM;
use crate::sessions::Speaker;
use crate::slab::{OptIdx, SessionIdx, TaskIdx, WorkerIdx};
use crate::tasks::{Flags, State};

/// Inputs that are named in a reason; the others are counted.
const NAMED: usize = 3;

/// Workers with copies of a result that are named.
const NAMED_COPIES: usize = 8;

/// How far a reason follows what a task waits for.
const DEPTH: usize = 4;

/// Questions passed on to workers at one time.
const QUERIES: usize = 1024;

impl Core {
    pub(crate) fn on_explain(
        &mut self,
        session: SessionIdx,
        query: u64,
        id: TaskId,
        out: &mut Vec<Action>,
    ) {
        let Some(task) = self.lanes.task(id) else {
            let reason = "it was never submitted, or nobody holds its results any more".to_owned();
            let explanation = Explanation { state: TaskState::Unknown, reason };
            return self.say(session, ToClient::Explained { query, explanation }, out);
        };
        if let State::Assigned { worker, .. } = self.tasks[task].state
            && self.workers[worker].away.is_none()
            && self.queries.len() < QUERIES
        {
            let number = self.next_query;
            self.next_query += 1;
            self.queries.insert(number, (session, query, worker));
            let worker = self.workers[worker].id;
            let message = ToWorker::Explain { query: number, task: id };
            return out.push(Action::ToWorker { worker, message });
        }
        let explanation = self.explain(task);
        self.say(session, ToClient::Explained { query, explanation }, out);
    }

    /// A worker has answered a question that was passed on to it.
    pub(crate) fn on_explained(
        &mut self,
        worker: WorkerIdx,
        number: u64,
        explanation: Explanation,
        out: &mut Vec<Action>,
    ) {
        if self.queries.get(&number).is_some_and(|(.., asked)| *asked == worker)
            && let Some((session, query, _)) = self.queries.remove(&number)
            && self.sessions.get(session).is_some()
        {
            self.say(session, ToClient::Explained { query, explanation }, out);
        }
    }

    /// What was asked of a worker that is lost, or away, is answered in its place.
    pub(crate) fn answer_for(&mut self, worker: WorkerIdx, out: &mut Vec<Action>) {
        let mut numbers: Vec<u64> =
            self.queries.iter().filter(|(_, (.., w))| *w == worker).map(|(n, _)| *n).collect();
        numbers.sort_unstable();
        for number in numbers {
            let reason = match self.workers[worker].away {
                Some(_) => format!("it is {}", self.with_worker(worker)),
                None => format!("{} was lost while it was asked", self.workers[worker].id),
            };
            let explanation = Explanation { state: TaskState::Assigned, reason };
            self.on_explained(worker, number, explanation, out);
        }
    }

    fn explain(&mut self, task: TaskIdx) -> Explanation {
        let (state, reason) = match &self.tasks[task].state {
            State::Waiting { missing } => {
                let missing = *missing;
                (TaskState::Waiting, self.why_waiting(task, missing, DEPTH))
            }
            State::Ready => (TaskState::Ready, self.why_ready(task)),
            State::Assigned { worker, .. } => {
                (TaskState::Assigned, format!("it is {}", self.with_worker(*worker)))
            }
            State::Done => (TaskState::Done, self.where_done(task)),
            State::Failed(failed) => {
                let (name, cause) = (&failed.failure.name, failed.failure.task);
                let what = failed.failure.kind.summary();
                (TaskState::Failed, format!("{name} ({cause}) failed: {what}"))
            }
        };
        Explanation { state, reason }
    }

    fn why_waiting(&self, task: TaskIdx, missing: u32, depth: usize) -> String {
        let record = &self.tasks[task];
        if missing == 1 && record.flags.has(Flags::RESTS) {
            return "an input could not be fetched from those that have it: it is tried again soon, \
                    or made again if they are lost"
                .into();
        }
        let inputs = &record.inputs;
        let waits = |input: &&ObjRef| self.object(**input).there().is_none();
        let named = inputs.iter().filter(waits).take(NAMED);
        let named: Vec<String> = named.map(|input| self.why_missing(input.task, depth)).collect();
        let more = match (missing as usize).saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let all = inputs.len();
        format!("{missing} of its {all} inputs do not exist yet: {}{more}", named.join("; "))
    }

    fn why_missing(&self, task: TaskIdx, depth: usize) -> String {
        let record = &self.tasks[task];
        let who = format!("{} ({})", self.functions.name(record.function), self.task_id(task));
        match &record.state {
            State::Waiting { .. } if depth == 0 => format!("{who} waits in its turn"),
            State::Waiting { missing } => {
                format!("{who} waits: {}", self.why_waiting(task, *missing, depth - 1))
            }
            State::Ready => format!("{who} has no place yet"),
            State::Assigned { worker, .. } if record.flags.has(Flags::BLOCKED) => {
                format!("{who} on {} waits for results itself", self.workers[*worker].id)
            }
            State::Assigned { worker, .. } => format!("{who} is {}", self.with_worker(*worker)),
            State::Done | State::Failed(_) => format!("{who} is about to run again"),
        }
    }

    fn why_ready(&mut self, task: TaskIdx) -> String {
        if self.workers.len() == 0 {
            return "there is no worker".into();
        }
        if let Some(reason) = self.why_infeasible(task) {
            return reason;
        }
        let record = &self.tasks[task];
        let (order, root) = (record.order, record.is_root());
        let set = self.options.get(record.options);
        let demand = self.options.demand(set.demand);
        let expected = self.functions.get(record.function).expected_bytes();
        let able: Vec<_> =
            self.workers.iter().filter(|(_, w)| demand.misses(&w.spec).is_none()).collect();
        if able.iter().all(|(_, worker)| !worker.takes_tasks()) {
            let (away, n) = (able.iter().filter(|(_, w)| w.away.is_some()).count(), able.len());
            return format!(
                "none of the {n} workers that could run it gets tasks now: {away} have not been \
                 heard from, {} drain",
                n - away
            );
        }
        let able: Vec<_> = able.into_iter().filter(|(_, w)| w.takes_tasks()).collect();
        let full = able.iter().filter(|(_, worker)| {
            let room = worker.spec.store_limit;
            self.config.policies.admission && worker.store_filled() + expected > room
        });
        if expected >= RESERVED_FROM && full.count() == able.len() {
            return format!(
                "it is expected to return {}, and no worker's store has room for that now",
                Bytes(expected)
            );
        }
        if demand.has_more_than_cores() && able.iter().all(|(_, w)| !w.has_free(demand)) {
            let n = able.len();
            return format!(
                "others use the memory or named resources that it asks for, on all {n} workers that have them"
            );
        }
        let demand = set.demand;
        let job = self.job_of(task);
        let before = self.jobs[job].ready_for(demand).ahead_of(order, root);
        let kind = if root { "held back until a slot is free" } else { "all slots have work" };
        format!("{kind}; about {before} tasks of its job come before it")
    }

    fn why_infeasible(&self, task: TaskIdx) -> Option<String> {
        let (worker, missing) = self.lacking(self.tasks[task].options)?;
        Some(format!(
            "no worker can run it, it waits for one that can: for example {worker} lacks {missing}"
        ))
    }

    /// Why no worker will ever run tasks with these options, if no other worker can join.
    pub(crate) fn never_feasible(&self, options: OptIdx) -> Option<String> {
        if self.config.workers_may_join {
            return None;
        }
        let (worker, missing) = self.lacking(options)?;
        Some(format!("{worker} lacks {missing}, and no other worker can join"))
    }

    /// If no worker has what tasks with these options ask for: one of them, and what it lacks.
    fn lacking(&self, options: OptIdx) -> Option<(WorkerId, String)> {
        let demand = self.options.demand(self.options.get(options).demand);
        let mut lacking = None;
        for (_, worker) in self.workers.iter() {
            let missing = demand.misses(&worker.spec)?;
            lacking.get_or_insert((worker.id, missing));
        }
        lacking
    }

    fn where_done(&self, task: TaskIdx) -> String {
        let Some(there) = self.tasks[task].first.there() else {
            return "it has ended; its result was freed, since nobody needed it".into();
        };
        let copies: SmallVec<[WorkerIdx; 4]> = self.copies_of(there).take(NAMED_COPIES).collect();
        let named = match &copies[..] {
            [] => "with the scheduler".to_owned(),
            [only] => self.with_worker(*only),
            several => {
                let ids = several.iter().map(|w| self.workers[*w].id.to_string());
                format!("with {}", ids.collect::<Vec<_>>().join(", "))
            }
        };
        format!("its result ({}) is {named}", Bytes(there.size))
    }

    /// A session that is no more gets no answers.
    pub(crate) fn forget_queries(&mut self, session: SessionIdx) {
        if matches!(self.sessions[session].speaker, Speaker::Client(_)) || !self.queries.is_empty()
        {
            self.queries.retain(|_, (asker, ..)| *asker != session);
        }
    }
}
