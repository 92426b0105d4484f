//! What each policy is worth: fixed shapes with all policies, with random placement, and with each
//! policy switched off.

use std::fmt::Write;
use std::rc::Rc;

use manyhands_proto::client::{FromClient, Runtime};
use manyhands_proto::graph::TaskRow;
use manyhands_proto::task::Resources;
use manyhands_proto::worker::WorkerSpec;
use manyhands_proto::{JobId, Lane, ObjectId, Time};
use manyhands_scheduler_core as scheduler;
use manyhands_scheduler_core::{Placement, Policies};
use manyhands_worker_core as worker;
use uuid::Uuid;

use crate::batch::batch;
use crate::client::{Client, Deed};
use crate::cluster;
use crate::network::Weather;
use crate::plan::{JobPlan, Plan, TaskNo};
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::shapes::{Drawing, Scale, Shape};
use crate::troubles::{Trouble, Troubles};
use crate::world::Faults;

const WORKERS: usize = 8;
const SLOTS: u32 = 4;
const SEEDS: std::ops::Range<u64> = 1..4;

/// A fixed piece of work.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    name: &'static str,
    shape: Shape,
    tasks: usize,
    scale: Scale,
    store_limit: u64,
    cluster: Cluster,
}

/// How the workers of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    /// All alike, from the beginning.
    Alike,
    /// One of them takes five times as long as the others.
    OneSlow,
    /// A quarter of them is there at the beginning; the others come one after the other.
    Joining,
}

const MIB: u64 = 1 << 20;

const fn case(
    name: &'static str,
    shape: Shape,
    tasks: usize,
    duration_us: (u64, u64),
    size: (u64, u64),
    store_limit: u64,
) -> Case {
    let scale = Scale { duration_us, size };
    Case { name, shape, tasks, scale, store_limit, cluster: Cluster::Alike }
}

const fn on(cluster: Cluster, case: Case) -> Case {
    Case { cluster, ..case }
}

/// The pieces of work of the table.
pub const CASES: [Case; 13] = [
    case("tree", Shape::Tree, 2_000, (10_000, 40_000), (MIB, 4 * MIB), 8 << 30),
    case("shuffle", Shape::Shuffle, 128, (20_000, 80_000), (100_000, 200_000), 8 << 30),
    case("stencil", Shape::Stencil, 1_024, (10_000, 40_000), (MIB, 4 * MIB), 8 << 30),
    case("skewed", Shape::Skewed, 3_000, (500, 2_000), (8, 100), 8 << 30),
    case("root-heavy", Shape::RootHeavy, 1_800, (10_000, 40_000), (8 * MIB, 16 * MIB), 512 * MIB),
    case("tiny", Shape::Skewed, 20_000, (10, 40), (8, 100), 8 << 30),
    case("surprises", Shape::Surprises, 300, (4_000, 6_000), (8, 100), 8 << 30),
    case("bulge", Shape::Bulge, 600, (2_000, 8_000), (8 * MIB, 16 * MIB), 512 * MIB),
    case("crowded", Shape::Crowded, 1_200, (2_000, 20_000), (32 * MIB, 64 * MIB), 8 << 30),
    case("broadcast", Shape::Broadcast, 640, (10_000, 40_000), (256 * MIB, 256 * MIB), 8 << 30),
    on(
        Cluster::OneSlow,
        case("one slow: even", Shape::Broadcast, 800, (10_000, 40_000), (8, 100), 8 << 30),
    ),
    on(
        Cluster::OneSlow,
        case("one slow: stencil", Shape::Stencil, 1_024, (10_000, 40_000), (MIB, 4 * MIB), 8 << 30),
    ),
    on(
        Cluster::Joining,
        case("joining: tree", Shape::Tree, 2_000, (10_000, 40_000), (MIB, 4 * MIB), 8 << 30),
    ),
];

/// A row of the table: its name and its policies.
fn rows() -> Vec<(&'static str, Policies)> {
    let all = Policies::default();
    vec![
        ("all policies", all),
        ("random placement", Policies { placement: Placement::Random, ..all }),
        ("no rank order", Policies { rank_order: false, ..all }),
        ("roots not held back", Policies { hold_back_roots: false, ..all }),
        ("small tasks not batched", Policies { batch_small: false, ..all }),
        ("no stealing", Policies { steal: false, ..all }),
        ("no fairness", Policies { fairness: false, ..all }),
        ("no admission", Policies { admission: false, ..all }),
        ("pace not measured", Policies { pace: false, ..all }),
    ]
}

/// The table, as Markdown: makespan over what it must take at least, and the most bytes of objects
/// that there were at one time.
pub fn table() -> Result<String, String> {
    let mut text = String::from("| policies |");
    for case in CASES {
        let _ = write!(text, " {} |", case.name);
    }
    text.push_str(" two jobs 10 : 1 |\n| --- |");
    text.push_str(&" --- |".repeat(CASES.len() + 1));
    text.push('\n');
    for (name, policies) in rows() {
        let _ = write!(text, "| {name} |");
        for case in CASES {
            let (ratio, peak, spilled) = measure(case, policies)?;
            let _ = write!(text, " {ratio:.2}, {peak} MiB");
            if spilled > 0 {
                let _ = write!(text, " ({spilled} spilled)");
            }
            text.push_str(" |");
        }
        let _ = writeln!(text, " {:.0} % |", crate::fairness::measure(policies)? * 100.0);
    }
    Ok(text)
}

/// Mean ratio, mean peak in MiB, mean number of objects spilled.
fn measure(case: Case, policies: Policies) -> Result<(f64, u64, u64), String> {
    let (mut ratio, mut peak, mut spills) = (0.0, 0, 0);
    for seed in SEEDS {
        let scenario = scenario(case, policies, seed);
        let slots = u64::from(SLOTS) * WORKERS as u64;
        let least = scenario.plan.critical_path_us().max(scenario.plan.work_us() / slots);
        let outline = cluster::Cluster::new(scenario, false)
            .run()
            .map_err(|failure| format!("{} with {policies:?}: {failure}", case.name))?;
        ratio += outline.makespan_us as f64 / least as f64;
        peak += outline.peak_bytes;
        spills += outline.spills;
    }
    let runs = SEEDS.end - SEEDS.start;
    Ok((ratio / runs as f64, peak / runs / MIB, spills / runs))
}

fn scenario(case: Case, policies: Policies, seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut plan = Plan::default();
    let id = JobId(Uuid::from_u128(u128::from(seed)));
    plan.jobs.push(JobPlan { id, client: 0, weight: 1, puts: Vec::new(), tasks: Vec::new() });
    let mut drawing = Drawing::new(&mut plan, rng.fork(), case.scale, 0, Lane(0), 0);
    drawing.draw(case.shape, case.tasks, &[]);
    plan.jobs[0].tasks = std::mem::take(&mut drawing.tasks);
    plan.finish();
    let mut scenario = fair_weather(plan, policies, case.store_limit, seed, rng);
    match case.cluster {
        Cluster::Alike => {}
        Cluster::OneSlow => {
            let slow = Trouble::Slow { worker: 0, times: 5, us: 1 << 40 };
            scenario.troubles.list.push((Time(0), slow));
        }
        Cluster::Joining => {
            let late = scenario.workers.split_off(WORKERS / 4);
            for number in 0..late.len() as u64 {
                scenario.troubles.list.push((Time(300_000 + number * 50_000), Trouble::Join(0)));
            }
        }
    }
    scenario
}

/// A cluster in which nothing goes wrong, for jobs of one client that are submitted at once.
pub(crate) fn fair_weather(
    plan: Plan,
    policies: Policies,
    store_limit: u64,
    seed: u64,
    rng: Rng,
) -> Scenario {
    let plan = Rc::new(plan);
    let faults = Faults::default();
    let weather = faults.weather.clone();
    let workers = (0..WORKERS).map(|number| config(number, store_limit)).collect();
    let client = client(&plan, weather);
    let scheduler = scheduler::Config {
        seed,
        policies,
        bandwidth: faults.bandwidth,
        ..scheduler::Config::default()
    };
    Scenario {
        title: format!("{policies:?}"),
        plan,
        workers,
        clients: vec![client],
        faults,
        scheduler,
        sanity_every: u32::MAX,
        losses: Vec::new(),
        troubles: Troubles::default(),
        rng,
    }
}

fn config(number: usize, store_limit: u64) -> worker::Config {
    let spec = WorkerSpec {
        name: format!("w{number}"),
        resources: Resources { millicores: SLOTS * 1000, ..Resources::default() },
        labels: Vec::new(),
        store_limit,
        ..WorkerSpec::default()
    };
    let prestart = vec![Runtime::Rust { program: 0 }];
    worker::Config { prestart, ..worker::Config::new(spec) }
}

fn client(plan: &Plan, weather: Weather) -> Client {
    // The executors are there before the work is.
    let at = Time(10_000);
    let mut script =
        vec![(at, Deed::Say(FromClient::Functions { first_slot: 0, functions: plan.functions() }))];
    for job in &plan.jobs {
        let name = format!("job {}", job.id);
        let open = FromClient::OpenJob { job: job.id, name, weight: job.weight };
        script.push((at, Deed::Say(open)));
        let ends = ends(plan, job);
        for chunk in job.tasks.chunks(4_096) {
            let more = chunk.last() != job.tasks.last();
            let flags = |no| match ends.binary_search(&no) {
                Ok(_) => TaskRow::HELD | TaskRow::WANTED,
                Err(_) => 0,
            };
            let held = chunk.iter().filter(|no| ends.binary_search(no).is_ok());
            let held: Vec<ObjectId> = held.flat_map(|&no| plan.objects_of(no)).collect();
            script.push((at, Deed::Take(held)));
            script.push((at, Deed::Say(FromClient::Submit(batch(plan, chunk, more, flags)))));
        }
    }
    let jobs = plan.jobs.iter().map(|job| job.id).collect();
    Client::new(0, jobs, script, weather)
}

/// The tasks that nobody needs.
fn ends(plan: &Plan, job: &JobPlan) -> Vec<TaskNo> {
    let inputs = job.tasks.iter().flat_map(|&no| &plan.tasks[no].inputs);
    let mut needed: Vec<TaskNo> =
        inputs.filter_map(|input| plan.by_id.get(&input.task).copied()).collect();
    needed.sort_unstable();
    job.tasks.iter().copied().filter(|no| needed.binary_search(no).is_err()).collect()
}
