//! A virtual client: says what its script says, holds handles, and knows what must come of each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use manyhands_proto::client::{Explanation, FromClient, JobCounts, Outcome, ToClient};
use manyhands_proto::{JobId, Lane, ObjectId, SessionId, TaskId, Time, WorkerId};

use crate::network::{Link, Weather};
use crate::oracle;
use crate::plan::PutPlan;
use crate::world::{Happening, World};

/// Something that a client does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Says something.
    Say(FromClient),
    /// Takes handles of these, which it has just submitted.
    Take(Vec<ObjectId>),
    /// Wants to be told of these, which it holds.
    Want(Vec<ObjectId>),
    /// Lets go of these before they have ended.
    Drop(Vec<ObjectId>),
    /// Gives a task room for the first items of its stream.
    Consume(TaskId, u64),
    /// Puts a large value into the store of a worker in its own process.
    Put(PutPlan),
    /// Cancels tasks.
    Cancel(Vec<TaskId>),
}

/// A handle that the client holds.
#[derive(Debug, Default)]
struct Handle {
    wanted: bool,
    outcome: Option<Outcome>,
}

/// A client.
pub struct Client {
    number: usize,
    /// Its session.
    pub session: SessionId,
    /// Its lane.
    pub lane: Lane,
    /// Its link to the scheduler.
    pub link: Link<ToClient, FromClient>,
    script: VecDeque<(Time, Deed)>,
    jobs: Vec<JobId>,
    held: BTreeMap<ObjectId, Handle>,
    /// How much room each stream that it consumes has, by the items' lane.
    streams: BTreeMap<(JobId, Lane), (TaskId, u64)>,
    /// Told before, and released since.
    told: BTreeSet<ObjectId>,
    /// Large puts whose place is not yet known: nothing is submitted before.
    placing: usize,
    /// How long it keeps a result, microseconds at most.
    pub keeps_us: u64,
    /// Messages may reach it twice.
    pub lenient: bool,
    /// It has let go of everything.
    done: bool,
    /// It is gone.
    pub lost: bool,
    /// It has asked that a worker be drained.
    pub asked_to_drain: bool,
    /// The workers that it was told of and not told to be gone.
    pub peers: BTreeSet<WorkerId>,
    /// Results that it has looked at.
    pub checked: u64,
    /// Answers to its questions.
    pub explanations: Vec<(u64, Explanation)>,
    /// The last counts of each job that it watches.
    pub counts: BTreeMap<JobId, JobCounts>,
}

impl Client {
    /// A client that will do what the script says at the times it says.
    pub fn new(
        number: usize,
        jobs: Vec<JobId>,
        script: Vec<(Time, Deed)>,
        weather: Weather,
    ) -> Client {
        Client {
            number,
            session: SessionId(number as u64),
            lane: Lane(number as u64),
            lenient: weather.twice > 0,
            link: Link::new(weather),
            script: script.into(),
            jobs,
            held: BTreeMap::new(),
            streams: BTreeMap::new(),
            told: BTreeSet::new(),
            placing: 0,
            keeps_us: 0,
            done: false,
            lost: false,
            asked_to_drain: false,
            peers: BTreeSet::new(),
            checked: 0,
            explanations: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Says something to the scheduler.
    pub fn say(&mut self, message: FromClient, world: &mut World) {
        if world.trace {
            println!("{:>9} client {} says {message:?}", world.now.0, self.number);
        }
        let mut flights = Vec::new();
        self.link.send_up(message, &mut world.rng, &mut flights);
        world.depart_client(self.number, flights);
    }

    /// Does what is due. Hands out what a worker's shell shall put.
    pub fn step(&mut self, world: &mut World) -> Vec<PutPlan> {
        let mut puts = Vec::new();
        while self.placing == 0 && !self.lost {
            let Some((at, _)) = self.script.front() else { break };
            if *at > world.now {
                world.agenda.at(*at, Happening::ClientStep(self.number));
                break;
            }
            let Some((_, deed)) = self.script.pop_front() else { break };
            self.act(deed, &mut puts, world);
        }
        self.release_some(world);
        self.done |= self.script.is_empty() && self.held.is_empty() && self.placing == 0;
        puts
    }

    fn act(&mut self, deed: Deed, puts: &mut Vec<PutPlan>, world: &mut World) {
        match deed {
            Deed::Say(message) => self.say(message, world),
            Deed::Take(objects) => {
                for object in objects {
                    self.held.entry(object).or_default().wanted = true;
                }
            }
            Deed::Want(mut objects) => {
                objects.retain(|object| self.held.contains_key(object));
                self.say(FromClient::Want { objects }, world);
            }
            Deed::Drop(objects) => self.let_go(objects, world),
            Deed::Consume(task, room) => {
                self.streams.insert((task.job, task.item_lane()), (task, 0));
                self.give_room(task, room, world);
            }
            Deed::Put(put) => {
                self.placing += 1;
                puts.push(put);
            }
            Deed::Cancel(tasks) => {
                let known = tasks.iter().filter_map(|task| world.plan.by_id.get(task));
                world.cancelled.extend(known);
                let reason = "changed its mind".to_owned();
                self.say(FromClient::Cancel { tasks, reason }, world);
            }
        }
    }

    /// A large put has its place: the scheduler may know.
    pub fn placed(&mut self, message: FromClient, world: &mut World) {
        self.placing -= 1;
        self.say(message, world);
        world.after(0, Happening::ClientStep(self.number));
    }

    /// An object that it was told of could not be read: it asks again soon.
    pub fn ask_again(&mut self, object: ObjectId, world: &mut World) {
        if let Some(handle) = self.held.get_mut(&object) {
            handle.outcome = None;
            let us = world.rng.range(1_000, 500_000);
            world.after(us, Happening::AskAgain(self.number, object));
        }
    }

    /// Wants to be told of an object, if it still holds it.
    pub fn want(&mut self, object: ObjectId, world: &mut World) {
        if self.held.contains_key(&object) && !self.lost {
            self.say(FromClient::Want { objects: vec![object] }, world);
        }
    }

    /// Room for some more items, of which it takes handles.
    fn give_room(&mut self, task: TaskId, more: u64, world: &mut World) {
        let Some((_, given)) = self.streams.get_mut(&(task.job, task.item_lane())) else { return };
        let (from, upto) = (*given, *given + more);
        *given = upto;
        for number in from..upto {
            self.held.entry(task.item(number)).or_default().wanted = true;
        }
        self.say(FromClient::Room { task, from, upto }, world);
    }

    /// For each item that it has taken there is room for another one. Of a stream that is over
    /// there are no more.
    fn make_room(&mut self, objects: &[ObjectId], world: &mut World) {
        for object in objects {
            let stream = self.streams.get(&(object.task.job, object.task.lane)).copied();
            let outcome = self.held.get(object).and_then(|handle| handle.outcome.as_ref());
            let good = outcome.is_some_and(|outcome| !matches!(outcome, Outcome::Failed(_)));
            if let Some((task, _)) = stream.filter(|_| good) {
                self.give_room(task, 1, world);
            }
        }
    }

    fn let_go(&mut self, objects: Vec<ObjectId>, world: &mut World) {
        self.make_room(&objects, world);
        for object in &objects {
            self.held.remove(object);
            self.told.insert(*object);
        }
        self.say(FromClient::Release { objects }, world);
    }

    /// Lets go of some of what has ended.
    fn release_some(&mut self, world: &mut World) {
        let over = self.script.is_empty() && self.keeps_us == 0;
        let ended = self.held.iter().filter(|(_, handle)| handle.outcome.is_some());
        let ended: Vec<ObjectId> = ended.map(|(object, _)| *object).collect();
        let rng = &mut world.rng;
        let some: Vec<_> = ended.into_iter().filter(|_| over || rng.chance(40_000)).collect();
        if !some.is_empty() {
            self.let_go(some, world);
        }
        if self.held.values().any(|handle| handle.outcome.is_some()) {
            let us = world.rng.below(self.keeps_us + 1);
            world.after(us.max(1), Happening::ClientStep(self.number));
        }
    }

    /// Its jobs get no more tasks.
    pub fn close_jobs(&mut self, world: &mut World) {
        if self.lost {
            return;
        }
        for job in self.jobs.clone() {
            self.say(FromClient::CloseJob { job }, world);
        }
    }

    /// The scheduler says something. Hands out the objects that it says lie in stores, which must
    /// be there since the client holds them.
    pub fn told(&mut self, message: ToClient, world: &mut World) -> Vec<(ObjectId, Outcome)> {
        world.record.progress = world.now;
        let mut to_find = Vec::new();
        match message {
            ToClient::Ended { ends } => {
                for (object, outcome) in ends {
                    self.ended(object, outcome, &mut to_find, world);
                }
                world.after(0, Happening::ClientStep(self.number));
            }
            ToClient::Explained { query, explanation } => {
                self.explanations.push((query, explanation));
            }
            ToClient::Progress { job, counts } => self.progress(job, counts, world),
            // The worker was gone when the wish came.
            ToClient::Refused { .. } if self.asked_to_drain => {}
            ToClient::Refused { message } => {
                world.fail(format!("client {} was refused: {message}", self.number));
            }
            ToClient::SendProgram { program, worker } => {
                let us = world.rng.scaled(1_000, 2_000_000);
                let (client, worker) = (self.number, worker.0 as usize);
                world.after(us, Happening::Uploaded { client, worker, program });
            }
            ToClient::Workers { peers, gone } => {
                self.peers.extend(peers.iter().map(|peer| peer.worker));
                self.peers.retain(|worker| !gone.contains(worker));
            }
            ToClient::Room { .. } => world.fail("a client makes no stream".to_owned()),
            ToClient::Output { .. } | ToClient::Answer { .. } => {}
        }
        to_find
    }

    fn ended(
        &mut self,
        object: ObjectId,
        outcome: Outcome,
        to_find: &mut Vec<(ObjectId, Outcome)>,
        world: &mut World,
    ) {
        let Some(handle) = self.held.get_mut(&object) else {
            if !self.told.contains(&object) {
                world.fail(format!("client {} was told of {object} unasked", self.number));
            }
            return;
        };
        if let Some(before) = &handle.outcome {
            if !self.lenient {
                world.fail(format!("client {} was told of {object} twice", self.number));
            } else if !oracle::agree(before, &outcome) {
                world.fail(format!("{object} ended once as {before:?}, then as {outcome:?}"));
            }
            return;
        }
        self.checked += 1;
        let judged = oracle::judge(object, &outcome, world);
        world.check(&object.to_string(), judged);
        if matches!(outcome, Outcome::Stored { .. }) {
            to_find.push((object, outcome.clone()));
        }
        let good = !matches!(outcome, Outcome::Failed(_));
        handle.outcome = Some(outcome);
        if good {
            self.take_contained(object, world);
        }
    }

    /// A value that contains a handle makes the client a holder of that too.
    fn take_contained(&mut self, object: ObjectId, world: &mut World) {
        let plan = std::rc::Rc::clone(&world.plan);
        let Some(&no) = plan.by_id.get(&object.task) else { return };
        if object.index != 0 {
            return;
        }
        let inner = crate::nested::handed_over(&plan, no);
        let fresh = inner.into_iter().filter(|object| !self.held.contains_key(object));
        let fresh: Vec<ObjectId> = fresh.filter(|object| !self.told.contains(object)).collect();
        if fresh.is_empty() {
            return;
        }
        self.say(FromClient::Hold { objects: fresh.clone() }, world);
        self.say(FromClient::Want { objects: fresh.clone() }, world);
        for object in fresh {
            self.held.entry(object).or_default().wanted = true;
        }
    }

    fn progress(&mut self, job: JobId, counts: JobCounts, world: &mut World) {
        let before = self.counts.insert(job, counts).unwrap_or_default();
        let back = counts.done < before.done || counts.failed < before.failed;
        if back && !world.is_lossy() {
            world.fail(format!("{job} went back from {before:?} to {counts:?}"));
        }
        if counts.done + counts.failed > counts.submitted {
            world.fail(format!("more of {job} ended than was submitted: {counts:?}"));
        }
    }

    /// Handles whose end has not come.
    pub fn waits_for(&self) -> impl Iterator<Item = ObjectId> {
        self.held.iter().filter(|(_, handle)| handle.outcome.is_none()).map(|(object, _)| *object)
    }

    /// Whether it still holds that object.
    pub fn holds(&self, object: ObjectId) -> bool {
        self.held.contains_key(&object)
    }

    /// Whether all that it was to do is done.
    pub fn is_done(&self) -> bool {
        self.done || self.lost
    }
}
