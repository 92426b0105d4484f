//! A fetch from its first request to its end: [`State`] says what to do, this does it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use manyhands_proto::WorkerId;
use manyhands_proto::link::Wanted;
use manyhands_proto::value::ObjectMeta;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::FetchId;
use super::ask;
use super::chunks::Chunks;
use super::config::Want;
use super::error::FetchError;
use super::node::Node;
use super::shelves::Sink;
use super::source::Asked;
use super::state::{Plan, State};

/// What is called in the end.
pub(super) type Done = Box<dyn FnOnce(Result<ObjectMeta, FetchError>) + Send>;

/// One fetch.
pub(super) struct Fetch {
    pub(super) id: FetchId,
    pub(super) want: Want,
    pub(super) sink: Arc<dyn Sink>,
    inner: Mutex<Inner>,
    /// Told whenever something has changed: for whoever drives the fetch, and for those who wait
    /// for chunks of it.
    changed: watch::Sender<()>,
}

struct Inner {
    state: State,
    /// Why it must end, if it must.
    verdict: Option<FetchError>,
    done: Option<Done>,
    over: bool,
}

/// What somebody else who fetches the same can have.
pub(super) enum Given {
    /// This chunk, now.
    Chunk(Chunks, u32, ObjectMeta),
    /// Nothing yet.
    NotYet,
    /// The fetch has ended.
    Over,
}

impl Fetch {
    pub(super) fn new(
        id: FetchId,
        want: Want,
        sink: Arc<dyn Sink>,
        me: Option<WorkerId>,
        done: Done,
    ) -> Fetch {
        let seed = id.0 ^ me.map_or(0, |me| u64::from(me.0) << 32) ^ u64::from(std::process::id());
        let chunks = want.size.and_then(Chunks::of);
        let state = State::new(chunks, want.patience, me, seed, Instant::now());
        // A size that no object can have.
        let too_large = want.size.filter(|_| chunks.is_none());
        let verdict = too_large.map(|size| FetchError::TooLarge { key: want.key, size });
        let inner = Inner { state, verdict, done: Some(done), over: false };
        Fetch { id, want, sink, inner: Mutex::new(inner), changed: watch::Sender::new(()) }
    }

    /// Asks until all has come or cannot come.
    pub(super) async fn run(self: Arc<Fetch>, node: Arc<Node>) {
        let mut asks = JoinSet::new();
        let result = self.drive(&node, &mut asks).await;
        // Nobody may write to the sink from here on.
        asks.shutdown().await;
        let result = match result {
            Ok(meta) => {
                let key = self.want.key;
                let finished = self.sink.finish(&meta).await;
                finished.map(|()| meta).map_err(|message| FetchError::Sink { key, message })
            }
            error => error,
        };
        if result.is_err() {
            self.sink.abort();
        }
        node.fetches.leave(&self);
        self.lock().over = true;
        self.changed.send_replace(());
        self.finish(result);
    }

    async fn drive(
        self: &Arc<Fetch>,
        node: &Arc<Node>,
        asks: &mut JoinSet<()>,
    ) -> Result<ObjectMeta, FetchError> {
        let mut changed = self.changed.subscribe();
        self.add_sources(node);
        let mut turn = Turn { node, aside: false };
        loop {
            let plan = self.plan()?;
            let (next, again_at) = match plan {
                Plan::Complete => {
                    return Ok(self.meta().expect("a complete fetch knows its codec"));
                }
                Plan::Failed(sources) => {
                    return Err(FetchError::Unavailable { key: self.want.key, sources });
                }
                Plan::Ask { asks, again_at, stuck } => {
                    turn.set(stuck);
                    (asks, again_at)
                }
            };
            for (id, worker) in next {
                asks.spawn(ask::ask(node.clone(), self.clone(), worker, id));
            }
            tokio::select! {
                Some(_) = asks.join_next() => {}
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(again_at.into()) => {}
            }
        }
    }

    fn plan(&self) -> Result<Plan, FetchError> {
        let mut inner = self.lock();
        match inner.verdict.clone() {
            Some(error) => Err(error),
            None => Ok(inner.state.plan(Instant::now())),
        }
    }

    fn add_sources(&self, node: &Node) {
        let (now, mut inner) = (Instant::now(), self.lock());
        for worker in &self.want.from {
            inner.state.add_source(*worker, true, node.is_near(*worker), now);
        }
        inner.state.arrange();
    }

    /// Others that a source named: they are asked too.
    pub(super) fn learn(&self, others: Vec<WorkerId>, node: &Node) {
        let others: Vec<_> = others.into_iter().filter(|w| node.links.host(*w).is_some()).collect();
        let (now, mut inner) = (Instant::now(), self.lock());
        for worker in others {
            inner.state.add_source(worker, false, node.is_near(worker), now);
        }
    }

    pub(super) fn wanted(&self) -> (Wanted, bool) {
        self.lock().state.wanted()
    }

    pub(super) fn offered(
        &self,
        id: u64,
        chunk: u32,
        size: u64,
        meta: Option<ObjectMeta>,
        limit: u64,
    ) -> Result<Option<(Chunks, u64)>, String> {
        if self.want.size.is_none() && size > limit {
            self.break_off(FetchError::TooLarge { key: self.want.key, size });
            return Ok(None);
        }
        self.lock().state.offered(id, chunk, size, meta)
    }

    /// A request has ended.
    pub(super) fn ended(&self, id: u64, how: Asked) {
        if self.lock().state.ended(id, how, Instant::now()) {
            self.changed.send_replace(());
        }
    }

    /// It must end with this error, unless it has ended.
    pub(super) fn break_off(&self, error: FetchError) {
        self.lock().verdict.get_or_insert(error);
        self.changed.send_replace(());
    }

    pub(super) fn gone(&self, worker: WorkerId) {
        self.lock().state.gone(worker);
        self.changed.send_replace(());
    }

    pub(super) fn found(&self, worker: WorkerId, near: bool) {
        self.lock().state.found(worker, near, Instant::now());
        self.changed.send_replace(());
    }

    /// A chunk for somebody who fetches the same.
    pub(super) fn give(&self, wanted: &Wanted) -> Given {
        let mut inner = self.lock();
        if inner.over {
            return Given::Over;
        }
        match inner.state.give(wanted) {
            Some((chunks, chunk)) => {
                let meta = inner.state.meta().expect("only what is known is given").clone();
                Given::Chunk(chunks, chunk, meta)
            }
            None => Given::NotYet,
        }
    }

    pub(super) fn returned(&self, chunk: u32) {
        self.lock().state.returned(chunk);
    }

    /// Told when there may be more to give.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells the caller, once.
    pub(super) fn finish(&self, result: Result<ObjectMeta, FetchError>) {
        let done = self.lock().done.take();
        if let Some(done) = done {
            done(result);
        }
    }

    fn meta(&self) -> Option<ObjectMeta> {
        self.lock().state.meta().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch's turn among those of its node; given back in the end, and while it is stuck.
struct Turn<'a> {
    node: &'a Arc<Node>,
    aside: bool,
}

impl Turn<'_> {
    fn set(&mut self, aside: bool) {
        match (self.aside, aside) {
            (false, true) => self.node.fetches.step_aside(),
            (true, false) => self.node.fetches.step_back(),
            _ => return,
        }
        self.aside = aside;
        super::start_next(self.node);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.set(true);
    }
}
