//! Workers join, leave, die, and are away for a while.

use manyhands_proto::worker::FromWorker;

use super::*;
use crate::troubles::Trouble;
use crate::worker::transfers::Heard;

/// How a worker stands with the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// It has a session.
    In,
    /// It was given up, or has left: the scheduler learns of it in its next turn.
    Ending,
    /// It has no session any more: the scheduler says nothing to it.
    Over,
}

/// What the scheduler has heard of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// Since when its link is broken.
    away: Option<Time>,
    /// Since when it drains.
    pub(super) drains: Option<Time>,
}

impl Cluster {
    /// A worker joins, the next by number. It is configured as worker `like`.
    pub(super) fn join(&mut self, like: usize, config: worker::Config) {
        let number = self.workers.len();
        let worker = WorkerId(number as u32);
        let event = scheduler::Event::WorkerJoined { worker, spec: config.spec.clone() };
        let weather = self.world.faults.weather.clone();
        self.workers.push(Worker::new(number, config, weather));
        self.world.machines.push(Machine::new(like));
        self.members.push(Member::In);
        self.standing.push(Standing::default());
        self.world.after(0, Happening::WorkerTurn(number));
        self.reach_scheduler(event, false);
    }

    fn join_like(&mut self, other: usize) {
        let like = self.world.machines[other].like;
        let config = self.workers[like].config.clone();
        self.join(like, config);
    }

    /// What the plan has in store for workers.
    pub(super) fn befall(&mut self, trouble: Trouble) {
        if self.world.trace {
            println!("{:>9} trouble: {trouble:?}", self.world.now.0);
        }
        match trouble {
            Trouble::Join(like) => self.join_like(like),
            Trouble::Die { worker, noticed_us, lost_us } if self.is_there(worker) => {
                self.crash(worker);
                self.cut(worker, noticed_us, None);
                self.world.after(lost_us, Happening::GraceOver(worker));
            }
            Trouble::Slow { worker, times, us } if self.is_there(worker) => {
                self.world.machines[worker].slowness = times;
                self.world.after(us, Happening::Quick(worker));
            }
            Trouble::Away { worker, noticed_us, grace_us, us, cut_off } if self.is_up(worker) => {
                self.world.machines[worker].cut_off = cut_off;
                if us < grace_us {
                    self.cut(worker, noticed_us, Some(us));
                    self.world.after(us, Happening::Reached(worker));
                } else {
                    self.cut(worker, noticed_us, None);
                    self.world.after(grace_us, Happening::GraceOver(worker));
                    self.world.after(us, Happening::Outcast(worker));
                }
            }
            Trouble::Drain(worker) if self.is_there(worker) => self.drain(worker),
            Trouble::Terminate(worker) if self.is_there(worker) => self.terminate(worker),
            Trouble::Muster => self.muster(),
            _ => {}
        }
    }

    pub(super) fn is_there(&self, worker: usize) -> bool {
        self.world.machines[worker].runs && self.members[worker] == Member::In
    }

    /// It is there, and its link is not broken for long.
    fn is_up(&self, worker: usize) -> bool {
        self.is_there(worker) && self.workers[worker].link.is_connected()
    }

    /// All that a worker ran and held is gone. Clients put elsewhere what they had not yet put.
    fn crash(&mut self, worker: usize) {
        for put in self.workers[worker].lose(&mut self.world) {
            self.world.after(1_000, Happening::Put(put));
        }
    }

    fn cut(&mut self, worker: usize, noticed_us: u64, us: Option<u64>) {
        let mut out = Vec::new();
        self.workers[worker].link.cut(noticed_us, us, &mut out);
        self.world.depart_worker(worker, out);
    }

    /// Somebody who can run everything must be there, or what is left would wait for ever.
    fn muster(&mut self) {
        let able = |worker: usize| {
            self.is_there(worker)
                && self.world.machines[worker].like == 0
                && !self.world.machines[worker].leaving
        };
        if !(0..self.workers.len()).any(able) {
            self.join_like(0);
        }
    }

    /// A worker that has not come back, whatever the reason, is given up.
    pub(super) fn grace_over(&mut self, number: usize) {
        if self.members[number] == Member::In {
            self.world.losses += 1;
            self.world.machines[number].given_up = true;
            self.world.record.give_up(number);
            self.end_session(number);
        }
    }

    fn end_session(&mut self, number: usize) {
        self.members[number] = Member::Ending;
        let worker = WorkerId(number as u32);
        self.reach_scheduler(scheduler::Event::WorkerLost { worker }, false);
    }

    /// After its turn the scheduler knows which sessions are over.
    pub(super) fn end_sessions(&mut self) {
        for member in &mut self.members {
            if *member == Member::Ending {
                *member = Member::Over;
            }
        }
    }

    fn drain(&mut self, number: usize) {
        let Some(client) = self.clients.iter_mut().find(|client| !client.lost) else { return };
        self.world.machines[number].leaving = true;
        client.asked_to_drain = true;
        client.say(FromClient::Drain { worker: WorkerId(number as u32) }, &mut self.world);
    }

    fn terminate(&mut self, number: usize) {
        self.world.machines[number].leaving = true;
        self.workers[number].deliver(worker::Event::Drain, &mut self.world);
    }

    /// A worker that was told to leave has said everything: its session ends. What it says last may
    /// take a while.
    pub(super) fn goodbye(&mut self, number: usize) {
        if self.members[number] != Member::In {
            return;
        }
        if self.workers[number].link.has_heard_all() {
            return self.end_session(number);
        }
        self.world.after(1_000, Happening::Goodbye(number));
    }

    /// The scheduler hears something.
    pub(super) fn note_standing(&mut self, event: &scheduler::Event) {
        match event {
            scheduler::Event::WorkerAway { worker } => {
                self.standing[worker.0 as usize].away = Some(self.world.now);
            }
            scheduler::Event::WorkerBack { worker } => {
                self.standing[worker.0 as usize].away = None;
            }
            scheduler::Event::FromWorker { worker, message: FromWorker::Draining } => {
                let drains = &mut self.standing[worker.0 as usize].drains;
                drains.get_or_insert(self.world.now);
            }
            _ => {}
        }
    }

    /// A worker that is away gets no tasks, and one that drains only what it must run in place.
    /// What was placed before, in the turn in which the scheduler learnt it, is on its way.
    pub(super) fn judge_assignment(&mut self, number: usize, message: &ToWorker) {
        let ToWorker::Assign { tasks } = message else { return };
        let before = |since: Option<Time>| since.is_some_and(|since| since < self.world.now);
        let (away, drains) =
            (before(self.standing[number].away), before(self.standing[number].drains));
        let task = tasks.iter().find(|task| away || (drains && task.in_place_of.is_none()));
        if let Some(task) = task {
            let what = if away { "is away" } else { "drains" };
            self.world.fail(format!("{} was sent to worker {number}, which {what}", task.task));
        }
    }

    /// A worker whose grace time has passed hears so: it drops all that it has and joins anew.
    pub(super) fn outcast(&mut self, number: usize) {
        if self.world.machines[number].runs {
            self.crash(number);
            self.join_like(number);
        }
    }

    /// The scheduler hears how attempts have ended.
    pub(super) fn note_ends(&mut self, worker: usize, message: &FromWorker) {
        let FromWorker::Ended { ends } = message else { return };
        for end in ends {
            if let Some(&no) = self.world.plan.by_id.get(&end.task) {
                self.world.record.told(no, end.attempt, worker);
                for object in self.world.plan.objects_of(no) {
                    self.freed.remove(&object);
                }
            }
        }
    }

    /// A task that ended well may run again only if something of what it made was lost.
    pub(super) fn judge_reruns(&mut self) {
        for (no, before) in std::mem::take(&mut self.world.reruns) {
            let lost = |object| self.freed.contains(&object) || !self.lies_anywhere(object);
            let plan = std::rc::Rc::clone(&self.world.plan);
            let excused = self.world.machines[before].given_up
                || self.world.is_lossy() && plan.objects_of(no).any(lost);
            if !excused {
                let task = plan.tasks[no].id;
                self.world.fail(format!("{task} ran again, and nothing that it made was lost"));
            }
        }
    }

    fn lies_anywhere(&self, object: ObjectId) -> bool {
        (0..self.workers.len()).any(|number| {
            self.members[number] == Member::In && self.workers[number].serve(object).is_some()
        })
    }

    /// A source has sent all that a worker wanted of it, or would have.
    pub(super) fn arrive(&mut self, worker: usize, object: ObjectId, number: u64) {
        let Some(from) = self.workers[worker].source_of(object, number) else { return };
        let heard = match self.world.reach(worker, from) {
            true => self.workers[from].wanted(worker, object, number, &mut self.world),
            false => Some(Heard::Silence),
        };
        if let Some(heard) = heard {
            self.workers[worker].heard(object, number, heard, &mut self.world);
        }
    }
}
