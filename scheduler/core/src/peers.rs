//! Who can be reached: workers are told of each other, clients are told of workers, and a worker
//! whose link is broken gets nothing new until it is back.

use std::net::SocketAddr;

use manyhands_proto::client::ToClient;
use manyhands_proto::worker::{Peer, ToWorker};
use manyhands_proto::{SessionId, Time, WorkerId};
use smallvec::SmallVec;

use crate::action::Action;
use crate::core::Core;
use crate::objects::There;
use crate::slab::WorkerIdx;
use crate::workers::Worker;

/// Holders of one object that somebody who needs it is told of.
const SOURCES_TOLD: usize = 8;

/// Holders of one object that are considered for that.
const SOURCES_CONSIDERED: usize = 64;

impl Core {
    /// A worker has joined: it is told of all others, and all others and the clients of it. One
    /// that nobody can reach, as in local mode, is not spoken of.
    pub(crate) fn introduce(&mut self, joined: WorkerIdx, out: &mut Vec<Action>) {
        let others = self.workers.iter().filter(|(index, _)| *index != joined);
        let peers: Vec<Peer> = others.filter_map(|(_, worker)| worker.peer()).collect();
        if !peers.is_empty() {
            let worker = self.workers[joined].id;
            out.push(Action::ToWorker { worker, message: ToWorker::Peers { peers } });
        }
        self.spread_addresses(joined, out);
    }

    fn spread_addresses(&self, of: WorkerIdx, out: &mut Vec<Action>) {
        if let Some(peer) = self.workers[of].peer() {
            let peers = vec![peer];
            self.tell_other_workers(of, &ToWorker::Peers { peers: peers.clone() }, out);
            self.tell_clients(ToClient::Workers { peers, gone: Vec::new() }, out);
        }
    }

    /// A worker's machine has another address: all that may look for it are told.
    pub(crate) fn on_worker_moved(
        &mut self,
        worker: WorkerIdx,
        addresses: Vec<SocketAddr>,
        out: &mut Vec<Action>,
    ) {
        // One that was not spoken of so far is now; nobody is told of one that cannot be reached.
        if addresses.is_empty() || addresses == self.workers[worker].spec.addresses {
            return;
        }
        self.workers[worker].spec.addresses = addresses;
        self.spread_addresses(worker, out);
    }

    /// A client has joined: it is told of the workers.
    pub(crate) fn introduce_workers(&self, session: SessionId, out: &mut Vec<Action>) {
        let peers: Vec<Peer> =
            self.workers.iter().filter_map(|(_, worker)| worker.peer()).collect();
        if !peers.is_empty() {
            let message = ToClient::Workers { peers, gone: Vec::new() };
            out.push(Action::ToClient { session, message });
        }
    }

    /// A worker is about to be forgotten: nobody shall look for it any more.
    pub(crate) fn take_leave(&mut self, lost: WorkerIdx, out: &mut Vec<Action>) {
        if self.workers[lost].peer().is_some() {
            let gone = vec![self.workers[lost].id];
            self.tell_other_workers(lost, &ToWorker::PeersGone { workers: gone.clone() }, out);
            self.tell_clients(ToClient::Workers { peers: Vec::new(), gone }, out);
        }
    }

    fn tell_other_workers(&self, but: WorkerIdx, message: &ToWorker, out: &mut Vec<Action>) {
        let others = self.workers.iter().filter(|(index, _)| *index != but);
        out.extend(
            others.map(|(_, worker)| Action::ToWorker {
                worker: worker.id,
                message: message.clone(),
            }),
        );
    }

    /// Tasks that speak as clients are not told: their worker is.
    fn tell_clients(&self, message: ToClient, out: &mut Vec<Action>) {
        let clients = self.sessions.iter().filter_map(|(_, session)| session.client());
        out.extend(clients.map(|session| Action::ToClient { session, message: message.clone() }));
    }

    /// A worker's link is broken. What it has and runs stays with it, but nothing new goes there.
    pub(crate) fn on_worker_away(&mut self, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.worker_ids.get(&id).copied() else { return };
        if self.workers[worker].away.is_some() {
            return;
        }
        self.workers[worker].away = Some(self.now);
        self.reindex(worker);
        self.answer_for(worker, out);
        self.dirty = true;
    }

    /// It goes on where it was.
    pub(crate) fn on_worker_back(&mut self, id: WorkerId) {
        let Some(worker) = self.worker_ids.get(&id).copied() else { return };
        self.workers[worker].away = None;
        self.reindex(worker);
        self.dirty = true;
    }

    /// The worker that is asked for an object: one that is likely to answer, if one has it.
    pub(crate) fn best_copy(&self, there: &There) -> WorkerIdx {
        let first = there.copy;
        if self.workers.get(first).is_some_and(Worker::takes_tasks) {
            return first;
        }
        self.copies_of(there).min_by_key(|copy| self.workers[*copy].reluctance()).unwrap_or(first)
    }

    /// Those that a reader is to try for an object, the best first: on its own machine, then any,
    /// then those that are about to leave, then those that have not been heard from. No reader
    /// stands for a client.
    pub(crate) fn sources(&self, there: &There, reader: WorkerIdx) -> Vec<WorkerId> {
        let mut all: SmallVec<[WorkerIdx; 8]> = self.copies_of(there).collect();
        if all.len() > SOURCES_CONSIDERED {
            // Not all readers shall ask the same few.
            let turn = reader.0 as usize % all.len();
            all.rotate_left(turn);
            all.truncate(SOURCES_CONSIDERED);
        }
        if all.len() > 1 {
            let host = self.workers.get(reader).map_or("", |reader| &reader.spec.host);
            all.sort_by_key(|copy| {
                let worker = &self.workers[*copy];
                let elsewhere = host.is_empty() || worker.spec.host != host;
                (worker.reluctance(), elsewhere)
            });
        }
        all.iter().take(SOURCES_TOLD).map(|copy| self.workers[*copy].id).collect()
    }

    /// Where a task is that is with a worker, in words.
    pub(crate) fn with_worker(&self, worker: WorkerIdx) -> String {
        let record = &self.workers[worker];
        match (record.away_words(self.now), self.drain_words(worker)) {
            (Some(away), _) => format!("with {}, which {away}", record.id),
            (None, Some(words)) => format!("with {}, which drains: {words}", record.id),
            (None, None) => format!("with {}", record.id),
        }
    }
}

impl Worker {
    /// How it is reached, if it can be.
    fn peer(&self) -> Option<Peer> {
        let (worker, addresses) = (self.id, self.spec.addresses.clone());
        let peer = Peer { worker, addresses, host: self.spec.host.clone() };
        (!peer.addresses.is_empty()).then_some(peer)
    }

    /// How little one wants to ask it for an object.
    fn reluctance(&self) -> u8 {
        match (self.away.is_some(), self.drain.is_some()) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        }
    }

    /// If it is away: since when, in words.
    pub(crate) fn away_words(&self, now: Time) -> Option<String> {
        let since = self.away?;
        let ms = now.since(since) / 1000;
        Some(format!(
            "has not been heard from for {}.{} s (if it does not come back in time, what it has is \
             lost and made again elsewhere)",
            ms / 1000,
            ms % 1000 / 100
        ))
    }
}
