//! Jobs, tasks and workers as people write them: as they are displayed, or in part.

use manyhands::inspect::WorkerInfo;
use manyhands::{Cluster, JobId, Lane, TaskId, WorkerId};
use uuid::Uuid;

use crate::failure::Failure;

/// What `cancel` stops.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Task(TaskId),
    Job(JobId),
}

/// The open job that a text stands for: `job-0123abcd`, `0123abcd`, the end of these digits, or the
/// whole id.
pub(crate) fn job(cluster: &Cluster, name: &str) -> Result<JobId, Failure> {
    let jobs: Vec<JobId> = cluster.jobs()?.into_iter().map(|job| job.job).collect();
    find_job(&jobs, name)
}

/// The task that a text stands for: `job-0123abcd/lane.number`.
pub(crate) fn task(cluster: &Cluster, name: &str) -> Result<TaskId, Failure> {
    let (job_name, lane, seq) = split_task(name)?;
    Ok(TaskId { job: job(cluster, job_name)?, lane, seq })
}

/// A task if there is a `/` in it, else a job.
pub(crate) fn target(cluster: &Cluster, name: &str) -> Result<Target, Failure> {
    match name.contains('/') {
        true => task(cluster, name).map(Target::Task),
        false => job(cluster, name).map(Target::Job),
    }
}

/// The worker that a text stands for: `worker-3`, `3`, or its name.
pub(crate) fn worker(cluster: &Cluster, name: &str) -> Result<WorkerId, Failure> {
    find_worker(&cluster.workers()?, name)
}

fn find_job(jobs: &[JobId], name: &str) -> Result<JobId, Failure> {
    let digits = name.strip_prefix("job-").unwrap_or(name);
    if let Ok(whole) = Uuid::try_parse(digits) {
        return Ok(JobId(whole));
    }
    let digits = digits.to_ascii_lowercase();
    let hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
    let fits = |job: &&JobId| job.0.simple().to_string().ends_with(&digits);
    let fitting: Vec<JobId> = jobs.iter().filter(|job| hex && fits(job)).copied().collect();
    match fitting[..] {
        [job] => Ok(job),
        [] => Err(Failure::Unknown {
            what: "open job",
            name: name.to_owned(),
            hint: "`manyhands jobs` lists them; a job that is over is forgotten".to_owned(),
        }),
        _ => Err(Failure::Ambiguous {
            what: "jobs",
            name: name.to_owned(),
            all: fitting.iter().map(|job| job.0.to_string()).collect(),
        }),
    }
}

/// The job's name, the lane and the number of a task.
fn split_task(name: &str) -> Result<(&str, Lane, u64), Failure> {
    let unknown = || Failure::Unknown {
        what: "task",
        name: name.to_owned(),
        hint: "a task is written as `manyhands tasks` shows it: job-0123abcd/1.42".to_owned(),
    };
    let (job, place) = name.split_once('/').ok_or_else(unknown)?;
    // An object of the task will do: job-0123abcd/1.42[0].
    let place = place.split_once('[').map_or(place, |(place, _)| place);
    let (lane, seq) = place.split_once('.').ok_or_else(unknown)?;
    let lane = u64::from_str_radix(lane, 16).map_err(|_| unknown())?;
    let seq = seq.parse().map_err(|_| unknown())?;
    Ok((job, Lane(lane), seq))
}

fn find_worker(workers: &[WorkerInfo], name: &str) -> Result<WorkerId, Failure> {
    let number = name.strip_prefix("worker-").unwrap_or(name).parse().map(WorkerId);
    if let Ok(id) = number
        && workers.iter().any(|worker| worker.worker == id)
    {
        return Ok(id);
    }
    let named: Vec<WorkerId> = workers
        .iter()
        .filter(|worker| worker.spec.name == name)
        .map(|worker| worker.worker)
        .collect();
    match named[..] {
        [worker] => Ok(worker),
        [] => Err(Failure::Unknown {
            what: "worker",
            name: name.to_owned(),
            hint: "`manyhands workers` lists them".to_owned(),
        }),
        _ => Err(Failure::Ambiguous {
            what: "workers",
            name: name.to_owned(),
            all: named.iter().map(WorkerId::to_string).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands::inspect::WorkerState;
    use manyhands_proto::worker::{WorkerSpec, WorkerStatus};

    fn job_id(n: u128) -> JobId {
        JobId(Uuid::from_u128(n))
    }

    #[test]
    fn jobs_are_found_by_their_last_digits() {
        let jobs = [job_id(0x1_0000_00ab), job_id(0x1_1234_5678), job_id(0x2_1234_5678)];
        assert_eq!(find_job(&jobs, "job-000000ab").unwrap(), jobs[0]);
        assert_eq!(find_job(&jobs, "AB").unwrap(), jobs[0]);
        assert_eq!(find_job(&jobs, &jobs[1].0.to_string()).unwrap(), jobs[1]);
        let error = find_job(&jobs, &jobs[1].to_string()).unwrap_err();
        let Failure::Ambiguous { all, .. } = &error else { panic!("{error}") };
        assert_eq!(all.len(), 2);
        for name in ["", "job-", "job-77", "zz"] {
            assert!(matches!(find_job(&jobs, name), Err(Failure::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn tasks_are_written_as_they_are_displayed() {
        let task = TaskId { job: job_id(0xab), lane: Lane(0xf1), seq: 42 };
        for name in [task.to_string(), task.object(3).to_string()] {
            let (job, lane, seq) = split_task(&name).unwrap();
            assert_eq!((job, lane, seq), ("job-000000ab", task.lane, task.seq));
        }
        for name in ["job-000000ab", "job-000000ab/1", "job-000000ab/x.1", "a/1.-1"] {
            assert!(split_task(name).is_err(), "{name}");
        }
    }

    #[test]
    fn workers_are_found_by_number_or_name() {
        let worker = |id, name: &str| WorkerInfo {
            worker: WorkerId(id),
            spec: WorkerSpec { name: name.to_owned(), ..WorkerSpec::default() },
            status: WorkerStatus::default(),
            state: WorkerState::Active,
            note: String::new(),
            assigned: 0,
            millicores_used: 0,
            slowness: 1000,
            bandwidth: 0,
        };
        let workers = [worker(1, "a"), worker(3, "b"), worker(4, "b"), worker(5, "1")];
        for (name, id) in [("worker-3", 3), ("3", 3), ("a", 1), ("1", 1)] {
            assert_eq!(find_worker(&workers, name).unwrap(), WorkerId(id), "{name}");
        }
        assert!(matches!(find_worker(&workers, "b"), Err(Failure::Ambiguous { .. })));
        assert!(matches!(find_worker(&workers, "9"), Err(Failure::Unknown { .. })));
    }
}
