//! Graphs of the shapes that people submit.

use manyhands_proto::task::TaskOptions;
use manyhands_proto::{JobId, Lane, ObjectId, TaskId};

use crate::plan::{Ending, FUNCTIONS, Plan, TaskNo, TaskPlan};
use crate::rng::Rng;

/// The shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Leaves, reduced a few at a time.
    Tree,
    /// Every mapper has a part for every reducer.
    Shuffle,
    /// A row of cells, each of which needs its neighbours of the step before.
    Stencil,
    /// Chains side by side.
    Chains,
    /// Many out of one and one out of many, again and again.
    ForkJoin,
    /// Anything needs anything earlier, now and then the same thing twice.
    Random,
    /// Far more and larger roots than can be held at one time, each used soon.
    RootHeavy,
    /// No edges but into one end; a few tasks take a hundred times as long as most.
    Skewed,
    /// Tasks of one function that need a small value; some take forty times as long as the others.
    Surprises,
    /// One small root, many large values made of it, all needed by a few ends.
    Bulge,
    /// A few large values, each needed by many tasks: the work crowds where the values are.
    Crowded,
    /// One value that all others need.
    Broadcast,
}

/// All shapes.
pub const SHAPES: [Shape; 12] = [
    Shape::Tree,
    Shape::Shuffle,
    Shape::Stencil,
    Shape::Chains,
    Shape::ForkJoin,
    Shape::Random,
    Shape::RootHeavy,
    Shape::Skewed,
    Shape::Surprises,
    Shape::Bulge,
    Shape::Crowded,
    Shape::Broadcast,
];

/// How long tasks take and how much they return: lower and upper bounds.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Microseconds.
    pub duration_us: (u64, u64),
    /// Bytes.
    pub size: (u64, u64),
}

/// Draws the tasks of one job in one lane.
pub struct Drawing<'a> {
    plan: &'a mut Plan,
    rng: Rng,
    scale: Scale,
    job: usize,
    job_id: JobId,
    lane: Lane,
    next_seq: u64,
    /// What was drawn.
    pub tasks: Vec<TaskNo>,
}

impl<'a> Drawing<'a> {
    /// Begins with that number of the lane.
    pub fn new(
        plan: &'a mut Plan,
        rng: Rng,
        scale: Scale,
        job: usize,
        lane: Lane,
        next_seq: u64,
    ) -> Self {
        let job_id = plan.jobs[job].id;
        Drawing { plan, rng, scale, job, job_id, lane, next_seq, tasks: Vec::new() }
    }

    /// About `n` tasks of that shape; `puts` are used as inputs here and there.
    pub fn draw(&mut self, shape: Shape, n: usize, puts: &[ObjectId]) {
        match shape {
            Shape::Tree => self.tree(n, puts),
            Shape::Shuffle => self.shuffle(n),
            Shape::Stencil => self.stencil(n),
            Shape::Chains => self.chains(n, puts),
            Shape::ForkJoin => self.fork_join(n),
            Shape::Random => self.random(n, puts),
            Shape::RootHeavy => self.root_heavy(n),
            Shape::Skewed => self.skewed(n),
            Shape::Surprises => self.surprises(n),
            Shape::Bulge => self.bulge(n),
            Shape::Crowded => self.crowded(n),
            Shape::Broadcast => self.broadcast(n),
        }
        let ranks = ranks(self.plan, &self.tasks);
        for (&no, rank) in self.tasks.iter().zip(ranks) {
            self.plan.tasks[no].rank = rank;
        }
    }

    /// One task with these inputs.
    pub fn task(&mut self, inputs: Vec<ObjectId>) -> ObjectId {
        let id = TaskId { job: self.job_id, lane: self.lane, seq: self.next_seq };
        self.next_seq += 1;
        let (shortest, longest) = self.scale.duration_us;
        let (smallest, largest) = self.scale.size;
        let no = self.plan.tasks.len();
        self.tasks.push(no);
        self.plan.tasks.push(TaskPlan {
            id,
            job: self.job,
            function: self.rng.below(u64::from(FUNCTIONS)) as u32,
            inputs,
            outputs: vec![self.rng.scaled(smallest, largest)],
            duration_us: self.rng.range(shortest, longest),
            ending: Ending::Well,
            stream: None,
            children: Vec::new(),
            puts: None,
            hands_over: false,
            heeds: true,
            options: TaskOptions::default(),
            rank: 0,
            parent: None,
        });
        id.object(0)
    }

    /// The last task drawn, to be changed.
    pub fn last(&mut self) -> &mut TaskPlan {
        self.plan.tasks.last_mut().expect("a task was drawn")
    }

    fn tree(&mut self, n: usize, puts: &[ObjectId]) {
        let arity = self.rng.range(2, 8) as usize;
        let leaves = (n * (arity - 1) / arity).max(2);
        let mut level = Vec::new();
        for leaf in 0..leaves {
            let inputs = puts.get(leaf % (puts.len() + 1)).copied();
            level.push(self.task(inputs.into_iter().collect()));
        }
        while level.len() > 1 {
            let groups: Vec<Vec<ObjectId>> = level.chunks(arity).map(<[_]>::to_vec).collect();
            level = groups.into_iter().map(|group| self.task(group)).collect();
        }
    }

    fn shuffle(&mut self, n: usize) {
        let half = (n / 2).clamp(1, 64);
        for _ in 0..(n / (2 * half)).max(1) {
            let mut mapped = Vec::new();
            for _ in 0..half {
                mapped.push(self.task(Vec::new()).task);
                let size = self.last().outputs[0];
                self.last().outputs = vec![size; half];
            }
            for part in 0..half as u32 {
                self.task(mapped.iter().map(|task| task.object(part)).collect());
            }
        }
    }

    fn stencil(&mut self, n: usize) {
        let width = (n as f64).sqrt() as usize;
        let mut row: Vec<ObjectId> = (0..width).map(|_| self.task(Vec::new())).collect();
        for _ in 1..(n / width.max(1)) {
            let before = row;
            row = (0..width)
                .map(|x| self.task(before[x.saturating_sub(1)..(x + 2).min(width)].to_vec()))
                .collect();
        }
    }

    fn chains(&mut self, n: usize, puts: &[ObjectId]) {
        let count = self.rng.range(1, 20) as usize;
        for chain in 0..count {
            let mut inputs: Vec<ObjectId> = puts.get(chain).copied().into_iter().collect();
            for _ in 0..n / count {
                inputs = vec![self.task(inputs)];
            }
        }
    }

    fn fork_join(&mut self, n: usize) {
        let mut from = self.task(Vec::new());
        let mut drawn = 1;
        while drawn < n {
            let wide = self.rng.range(2, 30) as usize;
            let forked = (0..wide).map(|_| self.task(vec![from])).collect();
            from = self.task(forked);
            drawn += wide + 1;
        }
    }

    fn random(&mut self, n: usize, puts: &[ObjectId]) {
        let mut known = puts.to_vec();
        for _ in 0..n {
            let reach = self.rng.range(5, 100).min(known.len() as u64);
            let count = if reach == 0 { 0 } else { self.rng.below(5) };
            let from = known.len() as u64 - reach;
            let pick = |rng: &mut Rng| known[(from + rng.below(reach)) as usize];
            let inputs = (0..count).map(|_| pick(&mut self.rng)).collect();
            let made = self.task(inputs);
            let outputs = self.rng.range(1, 3) as usize;
            let size = self.last().outputs[0];
            self.last().outputs = vec![size; outputs];
            known.extend((0..outputs as u32).map(|index| made.task.object(index)));
        }
    }

    fn root_heavy(&mut self, n: usize) {
        let mut sum: Option<ObjectId> = None;
        for _ in 0..n / 3 {
            let pair = vec![self.task(Vec::new()), self.task(Vec::new())];
            let inputs = pair.into_iter().chain(sum.filter(|_| self.rng.chance(20_000))).collect();
            let made = self.task(inputs);
            // What comes of them is small.
            self.last().outputs = vec![100];
            sum = Some(made);
        }
    }

    fn surprises(&mut self, n: usize) {
        let root = self.task(Vec::new());
        self.last().outputs = vec![100];
        for _ in 0..n {
            self.task(vec![root]);
            self.last().function = 0;
            if self.rng.chance(30_000) {
                self.last().duration_us *= 40;
            }
        }
    }

    fn bulge(&mut self, n: usize) {
        let root = self.task(Vec::new());
        self.last().outputs = vec![100];
        let made: Vec<ObjectId> = (0..n).map(|_| self.task(vec![root])).collect();
        for group in made.chunks(4) {
            self.task(group.to_vec());
            self.last().outputs = vec![100];
        }
    }

    fn crowded(&mut self, n: usize) {
        let values: Vec<ObjectId> = (0..3).map(|_| self.task(Vec::new())).collect();
        for number in 0..n {
            self.task(vec![values[number % 3]]);
            self.last().outputs = vec![100];
        }
    }

    fn broadcast(&mut self, n: usize) {
        let value = self.task(Vec::new());
        for _ in 1..n {
            self.task(vec![value]);
            self.last().outputs = vec![100];
        }
    }

    fn skewed(&mut self, n: usize) {
        let mut all = Vec::new();
        for _ in 0..n.max(2) - 1 {
            all.push(self.task(Vec::new()));
            if self.rng.chance(5_000) {
                self.last().duration_us *= 100;
                self.last().function = FUNCTIONS - 1;
            }
        }
        self.task(all);
    }
}

/// An order for these tasks (which stand in an order of their own, inputs first) in which few
/// results are held at one time: depth first from the ends, the longest way first.
pub fn ranks(plan: &Plan, tasks: &[TaskNo]) -> Vec<u32> {
    let first = tasks.first().copied().unwrap_or(0);
    let local = |object: &ObjectId| {
        let found = tasks.binary_search_by_key(&object.task.seq, |&no| plan.tasks[no].id.seq).ok();
        found.filter(|&i| plan.tasks[first + i].id == object.task)
    };
    let inputs: Vec<Vec<usize>> =
        tasks.iter().map(|&no| plan.tasks[no].inputs.iter().filter_map(local).collect()).collect();
    let mut paths = vec![0; tasks.len()];
    let mut needed = vec![false; tasks.len()];
    for (i, &no) in tasks.iter().enumerate() {
        let longest = inputs[i].iter().map(|&input| paths[input]).max().unwrap_or(0);
        paths[i] = longest + plan.tasks[no].duration_us;
        inputs[i].iter().for_each(|&input| needed[input] = true);
    }
    let mut ranks = vec![u32::MAX; tasks.len()];
    let mut next = 0;
    for end in (0..tasks.len()).filter(|&i| !needed[i]) {
        let mut stack = vec![(end, false)];
        while let Some((i, entered)) = stack.pop() {
            if ranks[i] != u32::MAX {
                continue;
            }
            if entered {
                ranks[i] = next;
                next += 1;
                continue;
            }
            stack.push((i, true));
            let mut below = inputs[i].clone();
            below.sort_by_key(|&input| (paths[input], input));
            stack.extend(below.into_iter().map(|input| (input, false)));
        }
    }
    ranks
}
