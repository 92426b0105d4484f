//! Lists of tasks and objects.

use manyhands_proto::ObjectId;
use manyhands_proto::client::TaskState;
use manyhands_proto::inspect::{Answer, GraphNode, ObjectInfo, TaskInfo};

use crate::core::Core;
use crate::holders::{GRAPH, HOLDS, WANTS};
use crate::inspect::shown;
use crate::objects::ObjRef;
use crate::sessions::Speaker;
use crate::slab::{JobIdx, TaskIdx, WorkerIdx};
use crate::tasks::{Flags, State, Task};

/// Inputs in one answer about a graph at most.
const INPUTS_LIMIT: usize = 500_000;

/// Holders of an object that are named; the others are counted.
const HOLDERS_NAMED: usize = 3;

/// Workers with an object that are named.
const COPIES_NAMED: usize = 64;

impl Core {
    /// Tasks, the newest first: by the job that was opened last, and within it by number.
    pub(super) fn task_infos(
        &self,
        job: Option<JobIdx>,
        state: Option<TaskState>,
        limit: usize,
    ) -> Answer {
        let wanted = |record: &Task| state.is_none_or(|state| self.state_of(record) == state);
        let found = self.tasks_of(job).filter(|(_, record)| wanted(record));
        let keyed = found.map(|(task, record)| {
            let opened = self.jobs[self.job_of(task)].number;
            (std::cmp::Reverse((opened, record.seq, record.lane)), task)
        });
        let (first, total) = smallest(keyed.collect(), limit);
        let tasks = first.into_iter().map(|(_, task)| self.task_info(task)).collect();
        Answer::Tasks { tasks, total }
    }

    /// The tasks of a job, those of clients first, lane by lane, as they were submitted.
    pub(super) fn graph_nodes(&self, job: Option<JobIdx>, limit: usize) -> Answer {
        let keyed = self.tasks_of(job).map(|(task, record)| {
            let nested = self.lanes.table(record.lane).lane.is_nested();
            ((nested, record.lane, record.seq), task)
        });
        let (first, total) = smallest(keyed.collect(), limit);
        let (mut tasks, mut inputs) = (Vec::new(), 0);
        for (_, task) in first {
            inputs += self.tasks[task].inputs.len();
            if inputs > INPUTS_LIMIT {
                break;
            }
            let of_task = self.tasks[task].inputs.iter().map(|input| self.object_id(*input));
            let of_task: Vec<ObjectId> = of_task.collect();
            tasks.push(GraphNode { task: self.task_info(task), inputs: of_task });
        }
        Answer::Graph { tasks, total }
    }

    /// All tasks, or those of one job. Values that were put are none.
    fn tasks_of(&self, job: Option<JobIdx>) -> impl Iterator<Item = (TaskIdx, &Task)> {
        self.tasks.iter().filter(move |(task, record)| {
            !record.flags.has(Flags::PUT | Flags::ITEM)
                && job.is_none_or(|job| self.job_of(*task) == job)
        })
    }

    fn task_info(&self, task: TaskIdx) -> TaskInfo {
        let record = &self.tasks[task];
        TaskInfo {
            task: self.task_id(task),
            name: shown(self.functions.name(record.function)),
            state: self.state_of(record),
            worker: record.worker().map(|worker| self.workers[worker].id),
            attempt: record.attempts.saturating_sub(1),
        }
    }

    /// Which of a worker's tasks run only the worker knows. Those of which it has said something
    /// that only a running task does are known to.
    fn state_of(&self, record: &Task) -> TaskState {
        const RUNS: u16 = Flags::BLOCKED | Flags::HAS_WAITED | Flags::SPEAKS | Flags::KEPT;
        match record.state {
            State::Waiting { .. } => TaskState::Waiting,
            State::Ready => TaskState::Ready,
            State::Assigned { .. } if record.flags.has(RUNS) => TaskState::Running,
            State::Assigned { .. } => TaskState::Assigned,
            State::Done => TaskState::Done,
            State::Failed(_) => TaskState::Failed,
        }
    }

    /// Objects that exist, the largest first.
    pub(super) fn object_infos(&self, job: Option<JobIdx>, limit: usize) -> Answer {
        let mut keyed = Vec::new();
        for (task, record) in self.tasks.iter() {
            if job.is_some_and(|job| self.job_of(task) != job) {
                continue;
            }
            for (index, object) in (0..).zip(record.objects()) {
                if let Some(there) = object.there() {
                    keyed.push((std::cmp::Reverse(there.size), ObjRef { task, index }));
                }
            }
        }
        let (first, total) = smallest(keyed, limit);
        let objects = first.into_iter().filter_map(|(_, object)| self.object_info(object));
        Answer::Objects { objects: objects.collect(), total }
    }

    fn object_info(&self, object: ObjRef) -> Option<ObjectInfo> {
        let there = self.object(object).there()?;
        let copies: Vec<WorkerIdx> = self.copies_of(there).take(COPIES_NAMED).collect();
        let mut reason = self.why_kept(object);
        if let [only] = &copies[..]
            && !self.workers[*only].takes_tasks()
        {
            reason += &format!("; it lies only {}", self.with_worker(*only));
        }
        Some(ObjectInfo {
            object: self.object_id(object),
            size: there.size,
            workers: copies.into_iter().map(|copy| self.workers[copy].id).collect(),
            reason,
        })
    }

    /// Why an object is alive, in words: who holds it and who needs it.
    fn why_kept(&self, object: ObjRef) -> String {
        let record = self.object(object);
        let mut reasons = Vec::new();
        for (bit, verb) in
            [(HOLDS, "held by"), (WANTS, "wanted by"), (GRAPH, "in a graph that is coming in from")]
        {
            let with_bit = record.interests.iter().filter(|(_, bits)| bits & bit != 0);
            let holders: Vec<_> = with_bit.map(|(session, _)| session).collect();
            let named = holders.iter().take(HOLDERS_NAMED).map(|session| {
                match self.sessions[*session].speaker {
                    Speaker::Client(session) => format!("the client {session:?}"),
                    Speaker::Task(task) => format!("the task {}", self.task_id(task)),
                }
            });
            let named: Vec<String> = named.collect();
            match holders.len() {
                0 => {}
                n if n > named.len() => {
                    let more = n - named.len();
                    reasons.push(format!("{verb} {} and {more} more", named.join(", ")));
                }
                _ => reasons.push(format!("{verb} {}", named.join(", "))),
            }
        }
        match record.needed_by {
            0 => {}
            1 => reasons.push("needed by a task that has not ended".into()),
            n => reasons.push(format!("needed {n} times by tasks that have not ended")),
        }
        match record.contained_by {
            0 => {}
            1 => reasons.push("inside another object".into()),
            n => reasons.push(format!("inside {n} other objects")),
        }
        reasons.join("; ")
    }
}

/// The `limit` smallest entries in order, and how many there were.
fn smallest<K: Ord, V: Ord>(mut all: Vec<(K, V)>, limit: usize) -> (Vec<(K, V)>, u64) {
    let total = all.len() as u64;
    if limit == 0 {
        all.clear();
    } else if limit < all.len() {
        all.select_nth_unstable(limit - 1);
        all.truncate(limit);
    }
    all.sort_unstable();
    (all, total)
}
