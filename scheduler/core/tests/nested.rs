//! Tasks that submit tasks and wait for them, on workers with a limit on their processes: deep
//! recursion ends, and runs depth first.

mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::worker::{FromWorker, ToWorker};
use manyhands_proto::{ObjectId, TaskId, WorkerId};
use manyhands_scheduler_core::{Action, Config};
use support::*;

/// A process of a worker: the tasks that it runs, each on top of the one below, which waits.
type Process = Vec<TaskId>;

struct Worker {
    slots: usize,
    limit: usize,
    queue: VecDeque<TaskId>,
    processes: Vec<Process>,
}

/// `fib`, every call a task.
struct Fib {
    bench: Bench,
    workers: Vec<Worker>,
    /// The argument of each call.
    n: BTreeMap<TaskId, u32>,
    attempts: BTreeMap<TaskId, u32>,
    waits: BTreeMap<TaskId, BTreeSet<ObjectId>>,
    ended: usize,
    most_records: usize,
}

impl Fib {
    fn new(n: u32, slots: &[u32], limit: usize) -> Fib {
        let mut bench = Bench::with(Config::default(), slots);
        bench.submit(1, batch(1, 0).task(HELD | WANTED, &[]));
        let workers = slots.iter().map(|slots| Worker {
            slots: *slots as usize,
            limit: limit * *slots as usize,
            queue: VecDeque::new(),
            processes: Vec::new(),
        });
        Fib {
            bench,
            workers: workers.collect(),
            n: [(task(1, 0), n)].into(),
            attempts: BTreeMap::new(),
            waits: BTreeMap::new(),
            ended: 0,
            most_records: 0,
        }
    }

    fn run(&mut self) -> bool {
        loop {
            let actions = self.bench.round();
            self.most_records = self.most_records.max(self.bench.core.records());
            if !outcomes(&actions).is_empty() {
                return true;
            }
            let heard = !actions.is_empty();
            for action in actions {
                if let Action::ToWorker { worker: WorkerId(worker), message } = action {
                    self.hear(worker as usize, message);
                }
            }
            let mut moved = false;
            for worker in 0..self.workers.len() {
                moved |= self.start_queued(worker);
                moved |= self.end_one(worker);
            }
            if !heard && !moved {
                return false;
            }
        }
    }

    fn hear(&mut self, worker: usize, message: ToWorker) {
        match message {
            ToWorker::Assign { tasks } => {
                for assignment in tasks {
                    self.attempts.insert(assignment.task, assignment.attempt);
                    match assignment.in_place_of {
                        None => self.workers[worker].queue.push_back(assignment.task),
                        Some(below) => {
                            let mut all = self.workers[worker].processes.iter_mut();
                            let process = all.find(|process| process.last() == Some(&below));
                            process.expect("its top waits").push(assignment.task);
                            self.begin(worker, assignment.task);
                        }
                    }
                }
            }
            ToWorker::Retract { tasks } => {
                let (mut given, mut kept) = (Vec::new(), Vec::new());
                for (task, attempt) in tasks {
                    let queue = &mut self.workers[worker].queue;
                    match queue.iter().position(|t| *t == task) {
                        Some(at) => {
                            queue.remove(at);
                            given.push((task, attempt));
                        }
                        None => kept.push((task, attempt)),
                    }
                }
                self.bench.worker(worker as u32, FromWorker::Retracted { given, kept });
            }
            ToWorker::ToTask { task, message: ToClient::Ended { ends }, .. } => {
                let waits = self.waits.get_mut(&task).expect("it waits");
                waits.retain(|object| ends.iter().all(|(ended, _)| ended != object));
                if waits.is_empty() {
                    self.waits.remove(&task);
                    let attempt = self.attempts[&task];
                    self.bench.worker(worker as u32, FromWorker::Unblocked { task, attempt });
                }
            }
            _ => {}
        }
    }

    /// Starts what is queued where there is a slot and a process; at the limit, what a blocked task
    /// waits for on top of it.
    fn start_queued(&mut self, at: usize) -> bool {
        let mut moved = false;
        loop {
            let worker = &mut self.workers[at];
            let busy =
                worker.processes.iter().filter(|p| !self.waits.contains_key(p.last().unwrap()));
            if busy.count() < worker.slots
                && worker.processes.len() < worker.limit
                && let Some(task) = worker.queue.pop_front()
            {
                worker.processes.push(vec![task]);
                self.begin(at, task);
                moved = true;
                continue;
            }
            let found = worker.processes.iter().enumerate().find_map(|(p, process)| {
                let waits = self.waits.get(process.last()?)?;
                let queued = worker.queue.iter().position(|t| waits.contains(&t.object(0)))?;
                Some((p, queued))
            });
            let full = worker.processes.len() == worker.limit;
            let Some((process, queued)) = found.filter(|_| full) else { return moved };
            let task = worker.queue.remove(queued).unwrap();
            worker.processes[process].push(task);
            self.begin(at, task);
            moved = true;
        }
    }

    /// A call begins: it submits two and waits for them, or is a leaf.
    fn begin(&mut self, worker: usize, task: TaskId) {
        let (n, attempt) = (self.n[&task], self.attempts[&task]);
        if n < 2 {
            return;
        }
        let child = |seq| TaskId { job: task.job, lane: task.child_lane(), seq };
        let waits_for = vec![child(0).object(0), child(1).object(0)];
        self.n.extend([(child(0), n - 1), (child(1), n - 2)]);
        let describe = FromClient::Functions { first_slot: 0, functions: functions() };
        let submit = FromClient::Submit(batch_in(child(0)).tasks(2, HELD | WANTED).0);
        for message in [describe, submit] {
            let message = FromWorker::FromTask { task, attempt, message };
            self.bench.worker(worker as u32, message);
        }
        self.waits.insert(task, waits_for.iter().copied().collect());
        let record = &self.workers[worker];
        let at_limit = record.processes.len() == record.limit;
        let blocked = FromWorker::Blocked { task, attempt, waits_for, at_limit };
        self.bench.worker(worker as u32, blocked);
    }

    /// The top task of a process that waits for nothing ends.
    fn end_one(&mut self, at: usize) -> bool {
        let processes = &mut self.workers[at].processes;
        let ready = processes.iter().position(|p| !self.waits.contains_key(p.last().unwrap()));
        let Some(process) = ready else { return false };
        let task = processes[process].pop().unwrap();
        if processes[process].is_empty() {
            processes.remove(process);
        }
        self.bench.end(at as u32, task, self.attempts[&task], 8);
        self.ended += 1;
        true
    }
}

#[test]
fn deep_recursion_ends_within_the_limit_of_processes() {
    for (n, slots) in [(10, &[1][..]), (10, &[2]), (9, &[1, 1]), (10, &[1, 2, 1])] {
        let mut fib = Fib::new(n, slots, 4);
        assert!(fib.run(), "fib({n}) on {slots:?} came to a halt after {} calls", fib.ended);
        assert!(fib.most_records < 200, "depth first keeps few: {}", fib.most_records);
    }
}
