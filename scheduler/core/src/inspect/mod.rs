//! What people ask about the cluster, and the answers.
//!
//! A question may cost a walk over all records: nothing is counted for its sake meanwhile. What is
//! answered is bounded in number, and names in length.

mod lists;

use manyhands_proto::client::ToClient;
use manyhands_proto::inspect::{
    Answer, ClusterInfo, JobInfo, LIST_LIMIT, Question, WorkerInfo, WorkerState,
};
use manyhands_proto::task::FailureKind;
use manyhands_proto::{JobId, TaskId};

use crate::action::Action;
use crate::core::Core;
use crate::sessions::Speaker;
use crate::slab::{JobIdx, SessionIdx, TaskIdx, WorkerIdx};
use crate::tasks::State;

/// Characters of a name that are shown.
const NAME_LIMIT: usize = 200;

impl Core {
    pub(crate) fn on_question(
        &mut self,
        session: SessionIdx,
        query: u64,
        question: Question,
        out: &mut Vec<Action>,
    ) {
        let answer = match question {
            Question::Cluster => Answer::Cluster(self.cluster_info()),
            Question::Workers => Answer::Workers(self.worker_infos()),
            Question::Jobs => Answer::Jobs(self.job_infos()),
            Question::Tasks { job, state, limit } => {
                self.of_job(job, |core, job| core.task_infos(job, state, bounded(limit)))
            }
            Question::Objects { job, limit } => {
                self.of_job(job, |core, job| core.object_infos(job, bounded(limit)))
            }
            Question::Graph { job, limit } => {
                self.of_job(Some(job), |core, job| core.graph_nodes(job, bounded(limit)))
            }
            Question::Logs { task } => self.logs_of(task),
        };
        self.say(session, ToClient::Answer { query, answer }, out);
    }

    /// Answers about a job, if it is known.
    fn of_job(
        &self,
        job: Option<JobId>,
        answer: impl FnOnce(&Core, Option<JobIdx>) -> Answer,
    ) -> Answer {
        let known = job.map(|job| self.job_ids.get(&job).copied().ok_or(job));
        match known.transpose() {
            Ok(job) => answer(self, job),
            Err(job) => {
                let message = format!(
                    "{job} is not known: it has ended and nobody holds its results, or it never \
                     was (see the jobs)"
                );
                Answer::Unknown { message }
            }
        }
    }

    fn cluster_info(&self) -> ClusterInfo {
        let sum = |of: fn(&crate::workers::Worker) -> u64| {
            self.workers.iter().map(|(_, worker)| of(worker)).sum::<u64>()
        };
        let count = |of: fn(&crate::workers::Worker) -> bool| {
            self.workers.iter().filter(|(_, worker)| of(worker)).count() as u32
        };
        let clients = self.sessions.iter().filter(|(_, session)| session.client().is_some());
        let waiting = self.tasks.iter().filter(|(_, t)| matches!(t.state, State::Waiting { .. }));
        let ended = self.jobs.iter().map(|(_, job)| job.counts.done + job.counts.failed);
        ClusterInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_us: self.now.0,
            workers: self.workers.len() as u32,
            draining: count(|worker| worker.drain.is_some()),
            away: count(|worker| worker.away.is_some()),
            clients: clients.count() as u32,
            jobs: self.jobs.iter().filter(|(_, job)| !job.open_by.is_empty()).count() as u32,
            millicores: sum(|worker| worker.capacity()),
            millicores_used: sum(|worker| worker.load),
            ready: self.jobs.iter().map(|(_, job)| job.ready_tasks as u64).sum(),
            assigned: sum(|worker| worker.assigned.len() as u64),
            waiting: waiting.count() as u64,
            ended: ended.sum::<u64>() + self.ended_before,
            rerun: self.rerun,
            store_used: sum(|worker| worker.status.store_used),
            store_limit: sum(|worker| worker.spec.store_limit),
            spilled: sum(|worker| worker.status.spilled),
            records: self.tasks.len() as u64,
        }
    }

    fn worker_infos(&self) -> Vec<WorkerInfo> {
        let mut infos: Vec<_> =
            self.workers.iter().map(|(index, _)| self.worker_info(index)).collect();
        infos.sort_by_key(|info| info.worker);
        infos
    }

    fn worker_info(&self, index: WorkerIdx) -> WorkerInfo {
        let worker = &self.workers[index];
        let away = worker.away_words(self.now);
        let state = match (worker.drain.is_some(), away.is_some()) {
            (true, _) => WorkerState::Draining,
            (false, true) => WorkerState::Away,
            (false, false) => WorkerState::Active,
        };
        let notes: Vec<String> = [away, self.drain_words(index)].into_iter().flatten().collect();
        WorkerInfo {
            worker: worker.id,
            spec: worker.spec.clone(),
            status: worker.status,
            state,
            note: notes.join("; "),
            assigned: worker.assigned.len() as u32,
            millicores_used: worker.load,
            slowness: worker.slowness,
            bandwidth: self.bandwidth_to(index),
        }
    }

    /// Jobs that are over for those who opened them, but of which something is kept, are among
    /// them.
    fn job_infos(&self) -> Vec<JobInfo> {
        let mut jobs: Vec<_> = self.jobs.iter().map(|(_, job)| job).collect();
        jobs.sort_by_key(|job| job.number);
        let infos = jobs.into_iter().take(LIST_LIMIT as usize).map(|job| JobInfo {
            job: job.id,
            name: job.name.clone(),
            weight: job.weight,
            sessions: job.open_by.iter().filter_map(|s| self.sessions[*s].client()).collect(),
            counts: job.counts,
            age_us: self.now.since(job.opened),
        });
        infos.collect()
    }

    fn logs_of(&mut self, id: TaskId) -> Answer {
        if let Some((pieces, dropped)) = self.logs.of(id) {
            return Answer::Logs { pieces, dropped };
        }
        match self.lanes.task(id) {
            Some(_) => Answer::Logs { pieces: Vec::new(), dropped: 0 },
            None => {
                let message = format!(
                    "nothing is known of {id}: it has printed nothing that is still kept, and it \
                     is not, or no longer, on record"
                );
                Answer::Unknown { message }
            }
        }
    }

    /// All tasks of a job are stopped, whoever submitted them.
    pub(crate) fn on_cancel_job(
        &mut self,
        session: SessionIdx,
        id: JobId,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        let Some(job) = self.job_ids.get(&id).copied() else {
            return self.refuse(session, format!("{id} is not known: nothing is cancelled"), out);
        };
        if let Speaker::Task(task) = self.sessions[session].speaker
            && self.job_of(task) != job
        {
            return self.refuse(session, "a task works within its own job".into(), out);
        }
        let of_job = self
            .tasks
            .iter()
            .filter(|(task, record)| !record.has_ended() && self.job_of(*task) == job);
        let tasks: Vec<TaskIdx> = of_job.map(|(task, _)| task).collect();
        for task in tasks {
            let kind = FailureKind::Cancelled { reason: reason.to_owned() };
            self.stop_task(task, kind, out);
        }
    }
}

fn bounded(limit: u32) -> usize {
    limit.min(LIST_LIMIT) as usize
}

/// A name that a user gave, as much of it as is shown.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(NAME_LIMIT).collect()
}
