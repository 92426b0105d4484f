//! Sessions of the links are joined to the scheduler's door.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::link::Join;
use manyhands_proto::worker::{FromWorker, ToWorker, WorkerSpec};
use manyhands_proto::{Lane, SessionId, WorkerId};
use manyhands_transport::link::{Begun, Ends, Host, Outbox, Welcome};
use manyhands_transport::{Receive, Sender};

use crate::door::{Door, Input};

/// Lets in whoever has proved its role.
pub(super) struct Reception {
    door: Door,
    worker_grace: Duration,
    client_grace: Duration,
    workers: Mutex<HashMap<SessionId, WorkerId>>,
}

impl Reception {
    pub(super) fn new(door: Door, worker_grace: Duration, client_grace: Duration) -> Reception {
        Reception { door, worker_grace, client_grace, workers: Mutex::default() }
    }

    fn client(&self, session: SessionId) -> Result<Welcome, String> {
        let lane = Lane(session.0);
        let outbox = Outbox::<ToClient>::new();
        let ear = GuestEar { inbox: self.door.inbox.clone(), session };
        let ends = Ends::new::<ToClient, FromClient>(outbox.clone(), Arc::new(ear));
        outbox.bind(ends.bell().clone());
        self.tell(Input::GuestJoined { session, lane, receiver: outbox })?;
        let begun = Begun::Client { lane };
        Ok(Welcome { session, begun, ends, grace: self.client_grace })
    }

    fn worker(&self, session: SessionId, spec: WorkerSpec) -> Result<(WorkerId, Welcome), String> {
        let worker = self.door.next_worker();
        let outbox = Outbox::<ToWorker>::new();
        let ear = WorkerEar { inbox: self.door.inbox.clone(), worker };
        let ends = Ends::new::<ToWorker, FromWorker>(outbox.clone(), Arc::new(ear));
        outbox.bind(ends.bell().clone());
        self.tell(Input::WorkerJoined { worker, spec, receiver: outbox })?;
        self.workers().insert(session, worker);
        let begun = Begun::Worker { worker };
        Ok((worker, Welcome { session, begun, ends, grace: self.worker_grace }))
    }

    fn tell(&self, input: Input) -> Result<(), String> {
        self.door.inbox.send(input).map_err(|_| "the scheduler is about to stop".to_owned())
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, WorkerId>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Reception {
    fn begin(&self, join: Join, from: SocketAddr) -> Result<Welcome, String> {
        let session = self.door.next_session();
        match join {
            Join::Client { name } => {
                log::info!("client {name:?} at {from} joins as {session:?}");
                self.client(session)
            }
            Join::Worker(spec) => {
                let name = spec.name.clone();
                let (worker, welcome) = self.worker(session, spec)?;
                log::info!("worker {name:?} at {from} joins as {worker}");
                Ok(welcome)
            }
        }
    }

    fn away(&self, session: SessionId, why: &str) {
        match self.workers().get(&session) {
            Some(&worker) => {
                log::info!("{worker} is away: {why}");
                let _ = self.tell(Input::WorkerAway { worker });
            }
            None => {
                log::info!("{session:?} is away: {why}");
                let _ = self.tell(Input::ClientAway { session });
            }
        }
    }

    fn back(&self, session: SessionId) {
        let _ = match self.workers().get(&session) {
            Some(&worker) => {
                log::info!("{worker} is back");
                self.tell(Input::WorkerBack { worker })
            }
            None => {
                log::info!("{session:?} is back");
                self.tell(Input::ClientBack { session })
            }
        };
    }

    fn lost(&self, session: SessionId, why: &str) {
        let worker = self.workers().remove(&session);
        let _ = match worker {
            Some(worker) => {
                log::info!("{worker} is gone: {why}");
                self.tell(Input::WorkerLost { worker })
            }
            None => {
                log::info!("{session:?} is over: {why}");
                self.tell(Input::ClientLost { session })
            }
        };
    }
}

/// Where a client's messages come in. The end of its session is told by [`Host::lost`].
struct GuestEar {
    inbox: Sender<Input>,
    session: SessionId,
}

impl Receive<FromClient> for GuestEar {
    fn receive(&self, messages: Vec<FromClient>) {
        // A scheduler that is gone ends the session by closing its outbox.
        let _ = self.inbox.send(Input::FromGuest { session: self.session, messages });
    }

    fn closed(&self, _reason: &str) {}
}

/// Where a worker's messages come in. The end of its session is told by [`Host::lost`].
struct WorkerEar {
    inbox: Sender<Input>,
    worker: WorkerId,
}

impl Receive<FromWorker> for WorkerEar {
    fn receive(&self, messages: Vec<FromWorker>) {
        for message in messages {
            let _ = self.inbox.send(Input::FromWorker { worker: self.worker, message });
        }
    }

    fn closed(&self, _reason: &str) {}
}
