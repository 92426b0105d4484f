//! The jobs of a session. A closed one is forgotten with the last handle to an object of it.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use manyhands_proto::JobId;
use manyhands_proto::client::JobCounts;

use super::forming::Forming;
use super::table::Table;
use super::waiting::Signal;
use crate::error::Error;

/// Jobs that one session opens in its life at most: each leaves eight bytes.
const LIMIT: usize = 1 << 24;

pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) forming: Forming,
    pub(super) table: Table,
    pub(super) progress: Progress,
    /// It gets no more tasks.
    closed: bool,
}

/// Where a job is, if anybody asked.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) watched: bool,
    pub(super) counts: Option<JobCounts>,
    pub(super) watchers: Vec<Arc<Signal>>,
}

/// All jobs by number. Numbers are never used again: what is left of a forgotten job (a client, a
/// node that was submitted to it) must never reach another.
#[derive(Default)]
pub(super) struct Jobs {
    all: Vec<Option<Box<Job>>>,
    /// Those that are not forgotten.
    live: Vec<(JobId, u32)>,
}

impl Jobs {
    /// Adds a job; its number.
    pub(super) fn add(&mut self, id: JobId) -> Result<u32, Error> {
        if self.all.len() >= LIMIT {
            return Err(Error::TooManyJobs { limit: LIMIT });
        }
        let (forming, table, progress) = Default::default();
        self.all.push(Some(Box::new(Job { id, forming, table, progress, closed: false })));
        let number = self.all.len() as u32 - 1;
        self.live.push((id, number));
        Ok(number)
    }

    /// A job, unless it is forgotten.
    pub(super) fn get(&mut self, number: u32) -> Option<&mut Job> {
        self.all.get_mut(number as usize)?.as_deref_mut()
    }

    /// The number of a job that is not forgotten.
    pub(super) fn number(&self, id: JobId) -> Option<u32> {
        self.live.iter().find(|(own, _)| *own == id).map(|(_, number)| *number)
    }

    /// How many are not forgotten.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// The number of one of those that are not forgotten.
    pub(super) fn live_number(&self, place: usize) -> u32 {
        self.live[place].1
    }

    /// All that are not forgotten.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.live.iter().map(|(_, number)| &self[*number])
    }

    /// Fails if the job gets no more tasks.
    pub(super) fn check_open(&mut self, number: u32) -> Result<(), Error> {
        match self.get(number) {
            Some(job) if !job.closed => Ok(()),
            _ => Err(Error::JobClosed),
        }
    }

    /// The job gets no more tasks; its id if that is news.
    pub(super) fn close(&mut self, number: u32) -> Option<JobId> {
        let job = self.get(number)?;
        (!std::mem::replace(&mut job.closed, true)).then_some(job.id)
    }

    /// Forgets a job that is closed and of which nothing is left. Its last handle, or its last
    /// graph, is gone.
    pub(super) fn forget_if_over(&mut self, number: u32) {
        let Some(job) = self.get(number) else { return };
        if job.closed && job.forming.is_empty() && job.table.is_empty() {
            self.all[number as usize] = None;
            self.live.retain(|(_, live)| *live != number);
        }
    }
}

/// For numbers of jobs that cannot have been forgotten: somebody has a handle, or a graph is open.
impl Index<u32> for Jobs {
    type Output = Job;

    fn index(&self, number: u32) -> &Job {
        self.all[number as usize].as_deref().expect("a job is forgotten after its last handle")
    }
}

impl IndexMut<u32> for Jobs {
    fn index_mut(&mut self, number: u32) -> &mut Job {
        self.all[number as usize].as_deref_mut().expect("a job is forgotten after its last handle")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, client, give, said};
    use manyhands_proto::client::FromClient;

    #[test]
    fn a_closed_job_is_forgotten_with_its_last_handle() {
        let (_, client) = client();
        for _ in 0..70_000 {
            client.job("short", 1).unwrap().close_job();
        }
        assert_eq!(client.session.live_jobs(), 1, "none of these had anything");
        let job = client.job("other", 1).unwrap();
        let handle = add::submit(&job, 1, 2).unwrap();
        let _ = said(&client);
        job.close_job();
        assert_eq!(client.session.live_jobs(), 2, "there is a handle");
        give(&client, handle.id(), 3);
        assert_eq!(client.get(&handle).unwrap(), 3);
        drop(handle);
        assert_eq!(client.session.live_jobs(), 1);
        job.close_job();
        let closed = said(&client).into_iter();
        let closed = closed.filter(|said| matches!(said, FromClient::CloseJob { .. }));
        assert_eq!(closed.count(), 1, "it is closed once");
    }

    #[test]
    fn a_closed_job_refuses_everything() {
        let (_, client) = client();
        let job = client.job("other", 1).unwrap();
        let node = add::lazy(1, 2);
        let handle = job.submit(&node).unwrap();
        job.close_job();
        let refused = |error: Error| assert!(matches!(error, Error::JobClosed), "{error}");
        refused(add::submit(&job, 1, 2).unwrap_err());
        refused(job.compute((add::lazy(1, 2), add::lazy(2, 3))).unwrap_err());
        refused(job.put(&7u64).unwrap_err());
        refused(job.progress().unwrap_err());
        drop(handle);
        refused(job.submit(&node).unwrap_err());
        client.submit(&node).expect("the node is nobody's: it can run elsewhere");
    }
}
