//! What clients do and read.

use manyhands_proto::client::Outcome;

use super::*;
use crate::plan::PutPlan;

impl Cluster {
    pub(super) fn client_step(&mut self, number: usize) {
        let puts = self.clients[number].step(&mut self.world);
        for put in puts {
            self.put(put);
        }
    }

    /// A large value goes to the worker that was planned, or to another if that is not there.
    pub(super) fn put(&mut self, put: PutPlan) {
        let planned = put.at.unwrap_or(0);
        let there: Vec<usize> =
            (0..self.workers.len()).filter(|worker| self.takes_puts(*worker)).collect();
        match there.first() {
            None => self.world.after(100_000, Happening::Put(put)),
            Some(_) if there.contains(&planned) => {
                self.workers[planned].put(put, &mut self.world);
            }
            Some(_) => {
                let worker = *self.world.rng.pick(&there);
                self.workers[worker].put(put, &mut self.world);
            }
        }
    }

    fn takes_puts(&self, worker: usize) -> bool {
        let machine = &self.world.machines[worker];
        self.is_there(worker) && machine.serves() && !machine.leaving
    }

    pub(super) fn lose_client(&mut self, number: usize) {
        let client = &mut self.clients[number];
        if !client.is_done() {
            client.lost = true;
            let session = client.session;
            self.reach_scheduler(scheduler::Event::ClientLost { session }, false);
        }
    }

    /// A worker has got a program from another one, unless that is gone.
    pub(super) fn program_arrives(
        &mut self,
        worker: usize,
        from: usize,
        program: u128,
        others: Vec<WorkerId>,
    ) {
        if self.world.machines[worker].runs {
            let good = self.world.reach(worker, from)
                && self.workers[from].programs.contains(&program)
                && !self.world.rng.chance(self.world.faults.fetch_failure);
            self.workers[worker].program_arrived(program, good, others, &mut self.world);
        }
    }

    /// A client was to send a program to a worker.
    pub(super) fn uploaded(&mut self, client: usize, worker: usize, program: u128) {
        if self.clients[client].lost || self.members[worker] == Member::Over {
            return;
        }
        if self.world.machines[worker].serves() {
            return self.workers[worker].keep_program(program, &mut self.world);
        }
        // It tries again until it is told that the worker is gone.
        self.world.after(500_000, Happening::Uploaded { client, worker, program });
    }

    /// What a client holds lies where the scheduler says, unless it has just been lost: then the
    /// client asks again.
    pub(super) fn read(&mut self, client: usize, to_read: Vec<(ObjectId, Outcome)>) {
        for (object, outcome) in to_read {
            let Outcome::Stored { workers, .. } = &outcome else { continue };
            let found = workers.iter().find_map(|worker| {
                let number = worker.0 as usize;
                let serves = self.world.machines[number].serves();
                serves.then(|| self.workers[number].serve(object)).flatten()
            });
            let right = found.map(|(hash, _)| Some(hash) == self.world.plan.value(object));
            let unlucky =
                workers.iter().any(|worker| !self.world.machines[worker.0 as usize].serves());
            match right {
                Some(true) => {}
                Some(false) => self.world.fail(format!("{object} has a wrong value in its store")),
                None if !self.clients[client].holds(object) => {}
                None if unlucky => self.clients[client].ask_again(object, &mut self.world),
                None => {
                    self.world.fail(format!("{object} is held, but lies with none of {workers:?}"));
                }
            }
        }
    }
}
