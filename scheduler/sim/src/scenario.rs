//! What a seed means: which cluster, which work, which weather.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

use manyhands_proto::client::{FromClient, PutPlace};
use manyhands_proto::graph::TaskRow;
use manyhands_proto::task::Resources;
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::WorkerSpec;
use manyhands_proto::{JobId, Lane, ObjectId, TaskId, Time};
use manyhands_scheduler_core as scheduler;
use manyhands_worker_core as worker;

use uuid::Uuid;

use crate::batch::batch;
use crate::client::{Client, Deed};
use crate::features;
use crate::network::Weather;
use crate::plan::{JobPlan, Plan, PutPlan, TaskNo, encode_value, is_inline};
use crate::rng::{Rng, mix2};
use crate::shapes::{Drawing, SHAPES, Scale, Shape};
use crate::troubles::{self, Troubles};
use crate::world::{Faults, Happening};

/// A run, before it begins.
pub struct Scenario {
    /// In a few words.
    pub title: String,
    /// The work.
    pub plan: Rc<Plan>,
    /// The workers.
    pub workers: Vec<worker::Config>,
    /// The clients, with their scripts.
    pub clients: Vec<Client>,
    /// The weather.
    pub faults: Faults,
    /// The scheduler's settings.
    pub scheduler: scheduler::Config,
    /// Sanity is checked after so many steps.
    pub sanity_every: u32,
    /// Clients that will be lost.
    pub losses: Vec<(Time, Happening)>,
    /// What befalls workers.
    pub troubles: Troubles,
    /// Chance, from now on.
    pub rng: Rng,
}

/// How much there is of everything.
struct Extent {
    workers: usize,
    tasks: usize,
    clients: usize,
    sanity_every: u32,
}

impl Scenario {
    /// What a seed means.
    pub fn from_seed(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed);
        let extent = extent(seed, &mut rng);
        let faults = faults(&extent, &mut rng);
        let mut plan = Plan::default();
        let mut title = format!("{} workers", extent.workers);
        for number in 0..extent.clients {
            let jobs = rng.range(1, 2);
            for _ in 0..jobs {
                let tasks = extent.tasks / (extent.clients * jobs as usize);
                let shape = draw_job(&mut plan, number, tasks.max(10), extent.workers, &mut rng);
                title.push_str(&format!(", {shape:?}"));
            }
        }
        let chosen = features::add(&mut plan, &mut rng);
        title.push_str(&chosen);
        plan.finish();
        let workers = workers(&plan, &extent, &mut rng);
        let plan = Rc::new(plan);
        let clients = (0..extent.clients)
            .map(|number| client(&plan, number, &faults.weather, &mut rng.fork()))
            .collect();
        let scheduler = scheduler::Config { seed, ..scheduler::Config::default() };
        let losses = losses(&plan, &extent, &mut rng);
        let troubles = troubles::draw(&plan, extent.workers, &mut rng);
        title.push_str(&troubles.title);
        let sanity_every = extent.sanity_every;
        Scenario {
            title,
            plan,
            workers,
            clients,
            faults,
            scheduler,
            sanity_every,
            losses,
            troubles,
            rng,
        }
    }
}

/// Most seeds are small, so that many can be run; some are not.
fn extent(seed: u64, rng: &mut Rng) -> Extent {
    let (workers, tasks) = match seed % 250 {
        99 => (10_000, 2_000),
        13 | 113 | 213 => (1_000, 3_000),
        n if n % 50 == 7 => (rng.range(4, 64) as usize, rng.range(2_000, 5_000) as usize),
        n if n % 10 == 3 => (1, rng.range(200, 300) as usize),
        _ => (rng.range(2, 8) as usize, rng.range(200, 400) as usize),
    };
    let clients = if workers > 100 { 1 } else { rng.range(1, 2) as usize };
    // Every step of some small clusters, now and then of the others: it costs more than the step.
    let sanity_every = match seed % 5 {
        0 if tasks <= 400 => 1,
        _ if tasks <= 400 => 20,
        _ => 1_000,
    };
    Extent { workers, tasks, clients, sanity_every }
}

fn faults(extent: &Extent, rng: &mut Rng) -> Faults {
    let foul = rng.below(4);
    let weather = Weather {
        latency_us: rng.range(1, 200),
        jitter_us: rng.pick(&[0, 50, 2_000]) * foul.min(1),
        repeat: 5_000 * foul.min(1) as u32,
        cut: if foul >= 2 { rng.range(100, 2_000) as u32 } else { 0 },
        twice: if foul == 3 { 10_000 } else { 0 },
    };
    let crashes = rng.below(4) == 0;
    let disks = rng.below(4) == 0;
    let _ = extent;
    let drawn = Faults {
        weather,
        executor_death: if crashes { rng.range(200, 3_000) as u32 } else { 0 },
        leaves: 0,
        start_failure: if crashes { 5_000 } else { 0 },
        fetch_failure: if disks { 300 } else { 0 },
        spill_failure: if disks { 5_000 } else { 0 },
        bandwidth: 1 << rng.range(24, 31),
        disk_bandwidth: 1 << rng.range(26, 31),
        turn_us: rng.range(0, 50),
        start_us: rng.range(500, 3_000),
    };
    // In a quarter of the seeds executors leave. Nothing is drawn for it, so that the others are as
    // they have been.
    let leaves = if drawn.start_us.is_multiple_of(4) { drawn.start_us as u32 * 16 } else { 0 };
    Faults { leaves, ..drawn }
}

fn draw_job(plan: &mut Plan, client: usize, n: usize, workers: usize, rng: &mut Rng) -> Shape {
    let job = plan.jobs.len();
    let lane = Lane(client as u64);
    let high = u128::from(mix2(rng.draw(), 7)) << 64;
    let id = JobId(Uuid::from_u128(high | u128::from(rng.draw() >> 32 << 8 | job as u64)));
    let weight = rng.range(1, 4) as u32;
    let mut first_seq = next_seq(plan, client);
    let mut puts = Vec::new();
    for _ in 0..rng.below(6) {
        let size =
            if rng.below(2) == 0 { rng.scaled(8, 60_000) } else { rng.scaled(70_000, 4 << 20) };
        let object = TaskId { job: id, lane, seq: first_seq }.object(0);
        let at = (!is_inline(size)).then(|| rng.below(workers as u64) as usize);
        puts.push(PutPlan { object, job, size, at });
        first_seq += 1;
    }
    let objects: Vec<ObjectId> = puts.iter().map(|put| put.object).collect();
    plan.jobs.push(JobPlan { id, client, weight, puts, tasks: Vec::new() });
    let scale = Scale {
        duration_us: *rng.pick(&[(1, 20), (50, 2_000), (500, 50_000)]),
        size: *rng.pick(&[(8, 100), (8, 60_000), (8, 2 << 20), (100_000, 4 << 20)]),
    };
    let shape = *rng.pick(&SHAPES);
    let mut drawing = Drawing::new(plan, rng.fork(), scale, job, lane, first_seq);
    drawing.draw(shape, n, &objects);
    let tasks = std::mem::take(&mut drawing.tasks);
    plan.jobs[job].tasks = tasks;
    shape
}

/// The next free number of a client's lane.
fn next_seq(plan: &Plan, client: usize) -> u64 {
    let own = plan.jobs.iter().filter(|job| job.client == client);
    own.map(|job| (job.puts.len() + job.tasks.len()) as u64).sum()
}

fn workers(plan: &Plan, extent: &Extent, rng: &mut Rng) -> Vec<worker::Config> {
    let largest = plan.tasks.iter().map(|task| {
        let inputs = task.inputs.iter().map(|input| plan.size(*input).unwrap_or(4 << 20));
        inputs.sum::<u64>() + task.outputs.iter().sum::<u64>()
    });
    let needed = largest.max().unwrap_or(0);
    let tight = rng.below(3) == 0;
    let mut configs = Vec::new();
    for number in 0..extent.workers {
        let slots = rng.range(1, 4) as u32;
        let spec = WorkerSpec {
            name: format!("w{number}"),
            resources: Resources {
                millicores: slots * 1000,
                memory: 8 << 30,
                named: if number == 0 { vec![("gpu".to_owned(), 2000)] } else { Vec::new() },
            },
            labels: features::labels(number),
            // Where there are many nobody is told of anybody.
            addresses: if extent.workers <= 100 { vec![address(number)] } else { Vec::new() },
            store_limit: if tight { (needed * 3).max(8 << 20) } else { 8 << 30 },
            ..WorkerSpec::default()
        };
        configs.push(worker::Config::new(spec));
    }
    configs
}

fn address(worker: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, worker as u8 + 1], 7471))
}

/// A script: jobs opened, values put, graphs submitted in batches, some handles dropped early and
/// some tasks cancelled on the way.
fn client(plan: &Plan, number: usize, weather: &Weather, rng: &mut Rng) -> Client {
    let functions = FromClient::Functions { first_slot: 0, functions: plan.functions() };
    let mut script = vec![(Time(0), Deed::Say(functions))];
    let mut jobs = Vec::new();
    let mut at = Time(rng.below(1_000));
    for job in plan.jobs.iter().filter(|job| job.client == number) {
        jobs.push(job.id);
        let name = format!("job {}", job.id);
        let open = FromClient::OpenJob { job: job.id, name, weight: job.weight };
        script.push((at, Deed::Say(open)));
        script.push((at, Deed::Say(FromClient::Watch { job: job.id })));
        job_script(plan, job, &mut at, &mut script, rng);
    }
    script.sort_by_key(|(at, _)| *at);
    let mut client = Client::new(number, jobs, script, weather.clone());
    client.keeps_us = *rng.pick(&[0, 100, 100_000]);
    client
}

fn job_script(
    plan: &Plan,
    job: &JobPlan,
    at: &mut Time,
    script: &mut Vec<(Time, Deed)>,
    rng: &mut Rng,
) {
    for put in &job.puts {
        script.push((*at, put_deed(plan, put)));
    }
    let flags = Flags::draw(plan, job, rng);
    let size = *rng.pick(&[job.tasks.len(), 50, 17]);
    let chunks: Vec<&[TaskNo]> = job.tasks.chunks(size.max(1)).collect();
    for (i, chunk) in chunks.iter().enumerate() {
        let more = i + 1 < chunks.len();
        let batch = batch(plan, chunk, more, |no| flags.of(no));
        script.push((*at, Deed::Take(flags.objects(plan, chunk))));
        script.push((*at, Deed::Say(FromClient::Submit(batch))));
        for &no in chunk.iter().filter(|&&no| plan.tasks[no].stream.is_some()) {
            script.push((*at, Deed::Consume(plan.tasks[no].id, rng.range(1, 20))));
        }
        let late = flags.wanted_later(plan, chunk);
        if !late.is_empty() {
            script.push((*at + rng.below(50_000), Deed::Want(late)));
        }
        *at = *at + rng.below(3_000);
    }
    if !job.puts.is_empty() {
        // The graph holds what it needs: the session may let go.
        let objects = job.puts.iter().map(|put| put.object).collect();
        script.push((*at, Deed::Say(FromClient::Release { objects })));
    }
    script.extend(features::interventions(plan, job, &flags.held, *at, rng));
}

fn put_deed(plan: &Plan, put: &PutPlan) -> Deed {
    if put.at.is_some() {
        return Deed::Put(put.clone());
    }
    let value = encode_value(plan.value(put.object).unwrap_or(0), put.size);
    let size = value.bytes.len() as u64;
    let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
    let place = PutPlace::Inline(value.bytes);
    Deed::Say(FromClient::Put { object: put.object, meta, place })
}

/// What the session holds and wants.
struct Flags {
    held: BTreeSet<TaskNo>,
    wanted: BTreeSet<TaskNo>,
}

impl Flags {
    /// The ends of the graph are held always, others now and then.
    fn draw(plan: &Plan, job: &JobPlan, rng: &mut Rng) -> Flags {
        let inputs = job.tasks.iter().flat_map(|&no| &plan.tasks[no].inputs);
        let needed: BTreeSet<TaskId> = inputs.map(|input| input.task).collect();
        let (mut held, mut wanted) = (BTreeSet::new(), BTreeSet::new());
        for &no in &job.tasks {
            if !needed.contains(&plan.tasks[no].id) || rng.chance(10_000) {
                held.insert(no);
                if rng.chance(80_000) {
                    wanted.insert(no);
                }
            }
        }
        Flags { held, wanted }
    }

    fn of(&self, no: TaskNo) -> u8 {
        let held = if self.held.contains(&no) { TaskRow::HELD } else { 0 };
        let wanted = if self.wanted.contains(&no) { TaskRow::WANTED } else { 0 };
        held | wanted
    }

    fn objects(&self, plan: &Plan, tasks: &[TaskNo]) -> Vec<ObjectId> {
        let held = tasks.iter().filter(|no| self.held.contains(no));
        held.flat_map(|&no| plan.objects_of(no)).collect()
    }

    fn wanted_later(&self, plan: &Plan, tasks: &[TaskNo]) -> Vec<ObjectId> {
        let late = tasks.iter().filter(|no| self.held.contains(no) && !self.wanted.contains(no));
        late.flat_map(|&no| plan.objects_of(no)).collect()
    }
}

/// Now and then a client goes without a word, and its work with it; but not one whose values may
/// have got no further than the store.
fn losses(plan: &Plan, extent: &Extent, rng: &mut Rng) -> Vec<(Time, Happening)> {
    let mut own = plan.jobs.iter().filter(|job| job.client == 0).flat_map(|job| &job.puts);
    let stored = own.any(|put| put.at.is_some());
    if extent.clients > 1 && !stored && rng.chance(30_000) {
        return vec![(Time(rng.scaled(100, 300_000)), Happening::ClientLost(0))];
    }
    Vec::new()
}
