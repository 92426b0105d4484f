//! The cluster as people see it: questions, and orders to jobs and workers that are not one's own.

use std::sync::Arc;

use manyhands_proto::client::{Explanation, FromClient, TaskState};
use manyhands_proto::inspect::{
    Answer, ClusterInfo, GraphNode, JobInfo, LIST_LIMIT, ObjectInfo, Question, TaskInfo, WorkerInfo,
};
use manyhands_proto::{JobId, TaskId, WorkerId};

use crate::client::Client;
use crate::error::Error;
use crate::session::Session;

pub use manyhands_proto::inspect;

/// A part of a list, and how long the whole of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The part.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

/// What a task has printed: the last of it if it was much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// Pieces, in the order in which they came.
    pub pieces: Vec<(crate::Stream, bytes::Bytes)>,
    /// Bytes before these that are no longer kept.
    pub dropped: u64,
}

/// A cluster, to be asked about and told things. Has no job of its own: [`Client::cluster`] is that
/// of a client, and `Cluster::connect` comes without one.
///
/// Every method waits for the scheduler's answer, and fails with [`Error::Closed`] if there will be
/// none.
#[derive(Clone)]
pub struct Cluster {
    session: Arc<Session>,
}

impl Client {
    /// The cluster that this is a client of.
    pub fn cluster(&self) -> Cluster {
        Cluster { session: self.session.clone() }
    }
}

impl Cluster {
    /// The cluster of a session.
    #[cfg(feature = "cluster")]
    pub(crate) fn of(session: Arc<Session>) -> Cluster {
        Cluster { session }
    }

    /// Asks a question as it is.
    pub fn ask(&self, question: Question) -> Result<Answer, Error> {
        self.session.ask(question)
    }

    /// The whole of it in numbers.
    pub fn info(&self) -> Result<ClusterInfo, Error> {
        match self.ask(Question::Cluster)? {
            Answer::Cluster(info) => Ok(info),
            other => Err(unexpected(other)),
        }
    }

    /// Its workers, by id.
    pub fn workers(&self) -> Result<Vec<WorkerInfo>, Error> {
        match self.ask(Question::Workers)? {
            Answer::Workers(workers) => Ok(workers),
            other => Err(unexpected(other)),
        }
    }

    /// Its open jobs, in the order in which they were opened.
    pub fn jobs(&self) -> Result<Vec<JobInfo>, Error> {
        match self.ask(Question::Jobs)? {
            Answer::Jobs(jobs) => Ok(jobs),
            other => Err(unexpected(other)),
        }
    }

    /// Tasks, newest first: of one job or of all, in one state or in any, so many at most.
    pub fn tasks(
        &self,
        job: Option<JobId>,
        state: Option<TaskState>,
        limit: u32,
    ) -> Result<Listed<TaskInfo>, Error> {
        match self.ask(Question::Tasks { job, state, limit: limit.min(LIST_LIMIT) })? {
            Answer::Tasks { tasks, total } => Ok(Listed { items: tasks, total }),
            other => Err(unexpected(other)),
        }
    }

    /// Objects, largest first: of one job or of all, so many at most.
    pub fn objects(&self, job: Option<JobId>, limit: u32) -> Result<Listed<ObjectInfo>, Error> {
        match self.ask(Question::Objects { job, limit: limit.min(LIST_LIMIT) })? {
            Answer::Objects { objects, total } => Ok(Listed { items: objects, total }),
            other => Err(unexpected(other)),
        }
    }

    /// The tasks of a job with what they need, in the order of their submission, so many at most.
    pub fn graph(&self, job: JobId, limit: u32) -> Result<Listed<GraphNode>, Error> {
        match self.ask(Question::Graph { job, limit: limit.min(LIST_LIMIT) })? {
            Answer::Graph { tasks, total } => Ok(Listed { items: tasks, total }),
            other => Err(unexpected(other)),
        }
    }

    /// What a task has printed.
    pub fn logs(&self, task: TaskId) -> Result<Logs, Error> {
        match self.ask(Question::Logs { task })? {
            Answer::Logs { pieces, dropped } => Ok(Logs { pieces, dropped }),
            other => Err(unexpected(other)),
        }
    }

    /// Why a task is where it is.
    pub fn explain(&self, task: TaskId) -> Result<Explanation, Error> {
        self.session.explain(task)
    }

    /// Stops tasks, whoever submitted them: those that wait never run, running ones are interrupted
    /// and then killed. Returns when the scheduler has heard it.
    pub fn cancel(&self, tasks: Vec<TaskId>, reason: &str) -> Result<(), Error> {
        self.session.order(FromClient::Cancel { tasks, reason: reason.to_owned() })
    }

    /// Stops all tasks of a job, whoever submitted them. Returns when the scheduler has heard it.
    pub fn cancel_job(&self, job: JobId, reason: &str) -> Result<(), Error> {
        self.session.order(FromClient::CancelJob { job, reason: reason.to_owned() })
    }

    /// Asks a worker to drain: it takes no more tasks, hands its objects on and leaves. Returns
    /// when the scheduler has heard it.
    pub fn drain(&self, worker: WorkerId) -> Result<(), Error> {
        self.session.order(FromClient::Drain { worker })
    }

    /// Ends the session.
    pub fn shutdown(&self) {
        self.session.shut_down();
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Unknown { message } => Error::Unknown { message },
        _ => Error::Answer,
    }
}
