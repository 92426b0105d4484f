//! One turn of the daemon: take what came, let the core act, send what it wants sent.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{SessionId, Time, WorkerId};
use manyhands_scheduler_core::action::Action;
use manyhands_scheduler_core::event::Event;
use manyhands_scheduler_core::{Config, Core};
use manyhands_transport::{Clock, Mailbox, Receive, Source, Waker};

use crate::door::{Door, Input};

/// The scheduler. It owns no thread: whoever owns one calls [`Scheduler::turn`] when
/// [`Scheduler::has_work`] or the time of [`Scheduler::next_tick`] has come, and sleeps on the
/// waker between.
pub struct Scheduler {
    core: Core,
    clock: Clock,
    inbox: Mailbox<Input>,
    /// Emptied by every turn; kept for their capacity.
    inputs: Vec<Input>,
    heard: Vec<FromClient>,
    actions: Vec<Action>,
    sources: HashMap<SessionId, Arc<dyn Source<FromClient>>>,
    clients: Post<SessionId, ToClient>,
    workers: Post<WorkerId, ToWorker>,
}

/// Who is told what: messages of one turn wait here, so that each peer gets them as one batch.
struct Post<K, M> {
    peers: HashMap<K, Peer<M>>,
    /// Peers that have something to get, in the order in which they got the first of it.
    filled: Vec<K>,
}

struct Peer<M> {
    receiver: Arc<dyn Receive<M>>,
    batch: Vec<M>,
}

impl<K: Copy + Eq + Hash, M> Post<K, M> {
    fn join(&mut self, key: K, receiver: Arc<dyn Receive<M>>) {
        self.peers.insert(key, Peer { receiver, batch: Vec::new() });
    }

    fn leave(&mut self, key: K) {
        if let Some(peer) = self.peers.remove(&key) {
            peer.receiver.closed("the session is over");
        }
    }

    fn put(&mut self, key: K, message: M) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.batch.is_empty() {
            self.filled.push(key);
        }
        peer.batch.push(message);
    }

    fn deliver(&mut self) {
        for key in self.filled.drain(..) {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.receiver.receive(std::mem::take(&mut peer.batch));
            }
        }
    }
}

impl<K, M> Default for Post<K, M> {
    fn default() -> Self {
        Post { peers: HashMap::new(), filled: Vec::new() }
    }
}

impl Scheduler {
    /// A scheduler whose loop `waker` wakes, and the door to it.
    pub fn new(config: Config, clock: Clock, waker: &Arc<Waker>) -> (Scheduler, Door) {
        let (sender, inbox) = Mailbox::new(waker);
        let config = Config { unix_offset_us: clock.unix_offset_us(), ..config };
        let scheduler = Scheduler {
            core: Core::new(config),
            clock,
            inbox,
            inputs: Vec::new(),
            heard: Vec::new(),
            actions: Vec::new(),
            sources: HashMap::new(),
            clients: Post::default(),
            workers: Post::default(),
        };
        (scheduler, Door::new(sender))
    }

    /// Something has come that no turn has seen.
    pub fn has_work(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// When a turn is due even if nothing comes.
    pub fn next_tick(&self) -> Option<Time> {
        self.core.next_tick()
    }

    /// Takes all that has come and acts on it.
    pub fn turn(&mut self) {
        let now = self.clock.now();
        let mut inputs = self.inbox.take(std::mem::take(&mut self.inputs));
        for input in inputs.drain(..) {
            self.on_input(now, input);
        }
        self.inputs = inputs;
        if self.core.next_tick().is_some_and(|due| due <= now) {
            self.core.handle(now, Event::Tick, &mut self.actions);
        }
        self.core.round(now, &mut self.actions);
        self.act();
    }

    fn on_input(&mut self, now: Time, input: Input) {
        let event = match input {
            Input::FromWorker { worker, message } => Event::FromWorker { worker, message },
            Input::ClientReady { session } => return self.hear(now, session),
            Input::ClientJoined { session, lane, client } => {
                self.clients.join(session, client.receiver);
                self.sources.insert(session, client.source);
                Event::ClientJoined { session, lane }
            }
            #[cfg(feature = "server")]
            Input::GuestJoined { session, lane, receiver } => {
                self.clients.join(session, receiver);
                Event::ClientJoined { session, lane }
            }
            #[cfg(feature = "server")]
            Input::FromGuest { session, messages } => {
                for message in messages {
                    let event = Event::FromClient { session, message };
                    self.core.handle(now, event, &mut self.actions);
                }
                return;
            }
            Input::WorkerJoined { worker, spec, receiver } => {
                self.workers.join(worker, receiver);
                Event::WorkerJoined { worker, spec }
            }
            Input::ClientLost { session } => {
                self.hear(now, session);
                self.sources.remove(&session);
                self.clients.leave(session);
                Event::ClientLost { session }
            }
            Input::WorkerLost { worker } => {
                self.workers.leave(worker);
                Event::WorkerLost { worker }
            }
            #[cfg(feature = "server")]
            Input::ClientAway { session } => Event::ClientAway { session },
            #[cfg(feature = "server")]
            Input::ClientBack { session } => Event::ClientBack { session },
            #[cfg(feature = "server")]
            Input::WorkerAway { worker } => Event::WorkerAway { worker },
            #[cfg(feature = "server")]
            Input::WorkerBack { worker } => Event::WorkerBack { worker },
        };
        self.core.handle(now, event, &mut self.actions);
    }

    /// Takes all that a client has to say.
    fn hear(&mut self, now: Time, session: SessionId) {
        let Some(source) = self.sources.get(&session) else { return };
        source.drain(&mut self.heard);
        for message in self.heard.drain(..) {
            let event = Event::FromClient { session, message };
            self.core.handle(now, event, &mut self.actions);
        }
    }

    fn act(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                Action::ToClient { session, message } => self.clients.put(session, message),
                Action::ToWorker { worker, message } => self.workers.put(worker, message),
            }
        }
        self.workers.deliver();
        self.clients.deliver();
    }
}

#[cfg(feature = "server")]
impl manyhands_transport::turn::Turn for Scheduler {
    fn turn(&mut self) {
        Scheduler::turn(self);
    }

    fn has_work(&self) -> bool {
        Scheduler::has_work(self)
    }

    fn next_tick(&self) -> Option<Time> {
        Scheduler::next_tick(self)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        for peer in self.clients.peers.values() {
            peer.receiver.closed("the scheduler has stopped");
        }
        for peer in self.workers.peers.values() {
            peer.receiver.closed("the scheduler has stopped");
        }
    }
}
