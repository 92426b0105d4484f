//! Two jobs of very different sizes, submitted together: how they share the slots.

use manyhands_proto::{JobId, Lane, Time};
use manyhands_scheduler_core::Policies;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::plan::{JobPlan, Plan};
use crate::policies::fair_weather;
use crate::record::{Attempt, Record};
use crate::rng::Rng;
use crate::shapes::{Drawing, Scale};

/// The part of the slots that the smaller of two jobs of 10 : 1 tasks gets while both have work, of
/// what its weight entitles it to: 1 is fair, 0.2 means that it waits behind the other.
pub fn measure(policies: Policies) -> Result<f64, String> {
    share(policies, [1, 1], 1)
}

/// Jobs of 10 : 1 tasks share the slots by their weights, within a tenth, while both have work.
pub fn check() -> Result<(), String> {
    for (weights, seed) in [([1, 1], 1), ([1, 1], 2), ([1, 2], 3), ([3, 1], 4)] {
        let share = share(Policies::default(), weights, seed)?;
        if !(0.9..=1.1).contains(&share) {
            return Err(format!("jobs of weights {weights:?}: one gets {share:.2} of its due"));
        }
    }
    Ok(())
}

/// As [`measure`], with these weights.
pub fn share(policies: Policies, weights: [u32; 2], seed: u64) -> Result<f64, String> {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::default();
    let mut next_seq = 0;
    for (job, tasks) in [5_000, 500].into_iter().enumerate() {
        let id = JobId(Uuid::from_u128(job as u128 + 1));
        let weight = weights[job];
        plan.jobs.push(JobPlan { id, client: 0, weight, puts: Vec::new(), tasks: Vec::new() });
        let scale = Scale { duration_us: (800, 1_200), size: (8, 100) };
        let mut drawing = Drawing::new(&mut plan, rng.fork(), scale, job, Lane(0), next_seq);
        for _ in 0..tasks {
            drawing.task(Vec::new());
        }
        next_seq += tasks;
        plan.jobs[job].tasks = std::mem::take(&mut drawing.tasks);
    }
    plan.finish();
    let plan_copy = plan.clone();
    let scenario = fair_weather(plan, policies, 8 << 30, seed, rng);
    let (_, record) = Cluster::new(scenario, false).run_for_record()?;
    Ok(part(&plan_copy, &record, weights))
}

/// What the second job got while both had tasks that had not begun.
fn part(plan: &Plan, record: &Record, weights: [u32; 2]) -> f64 {
    let attempts = |job: usize| {
        let tasks = plan.jobs[job].tasks.iter();
        tasks.flat_map(|&no| record.attempts(no)).copied().collect::<Vec<Attempt>>()
    };
    let jobs = [attempts(0), attempts(1)];
    let last_begin = |job: &[Attempt]| job.iter().map(|it| it.began).max().unwrap_or(Time(0));
    let until = last_begin(&jobs[0]).min(last_begin(&jobs[1]));
    let busy = |job: &[Attempt]| {
        let times = job.iter().map(|it| it.ended.min(until).since(it.began.min(until)));
        times.sum::<u64>() as f64
    };
    let got = busy(&jobs[1]) / (busy(&jobs[0]) + busy(&jobs[1]));
    let due = f64::from(weights[1]) / f64::from(weights[0] + weights[1]);
    got / due
}
