//! Where one fetch is: which chunks it has, what it has asked of whom, and what to ask next. No
//! clock, no I/O.

use std::time::{Duration, Instant};

use manyhands_proto::WorkerId;
use manyhands_proto::link::Wanted;
use manyhands_proto::value::ObjectMeta;

use super::chunks::{self, Chunks, Given};
use super::error::SourceError;
use super::source::{Asked, Source};

/// Requests under way to one source.
pub(super) const ASKS_PER_SOURCE: usize = 4;
/// Requests under way to one that fetches too, and may have nothing to give.
const ASKS_PER_PARTIAL: usize = 2;
/// Requests under way to all of those.
const ASKS_TO_PARTIAL: usize = 16;
/// Requests under way for one fetch.
pub(super) const ASKS_PER_FETCH: usize = 24;
/// Sources that other sources named, and that are asked at one time.
const LEARNED_LIMIT: usize = 8;
/// An unanswered request of this age does not keep others from being asked for the same chunk.
const HEDGE: Duration = Duration::from_millis(300);
/// How long a fetch waits for progress when all that are left are others that fetch too.
const ORPHANED: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Missing,
    Coming,
    Here,
}

/// One request under way.
#[derive(Debug)]
struct Ask {
    id: u64,
    worker: WorkerId,
    since: Instant,
    chunk: Option<u32>,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// All has come.
    Complete,
    /// It will not come.
    Failed(Vec<(WorkerId, SourceError)>),
    /// Ask these (by number of the request), and look again at that time.
    Ask {
        /// Whom to ask.
        asks: Vec<(u64, WorkerId)>,
        /// When to look again, if nothing happens before.
        again_at: Instant,
        /// Nobody can be reached: others may have this fetch's turn.
        stuck: bool,
    },
}

/// The state of one fetch.
#[derive(Debug)]
pub(super) struct State {
    chunks: Option<Chunks>,
    meta: Option<ObjectMeta>,
    progress: Vec<Chunk>,
    missing: u32,
    coming: u32,
    given: Given,
    sources: Vec<Source>,
    asks: Vec<Ask>,
    next_ask: u64,
    patience: Duration,
    /// When something last came, or somebody promised it.
    alive_at: Instant,
    me: Option<WorkerId>,
    /// Differs between nodes and fetches: where in the object this one begins.
    seed: u64,
}

impl State {
    pub(super) fn new(
        size: Option<Chunks>,
        patience: Duration,
        me: Option<WorkerId>,
        seed: u64,
        now: Instant,
    ) -> State {
        let mut state = State {
            chunks: None,
            meta: None,
            progress: vec![Chunk::Missing],
            missing: 1,
            coming: 0,
            given: Given::default(),
            sources: Vec::new(),
            asks: Vec::new(),
            next_ask: 0,
            patience,
            alive_at: now,
            me,
            seed,
        };
        if let Some(chunks) = size {
            state.set_size(chunks);
        }
        state
    }

    fn set_size(&mut self, chunks: Chunks) {
        self.chunks = Some(chunks);
        self.missing += chunks.count() - 1;
        self.progress.resize(chunks.count() as usize, Chunk::Missing);
    }

    /// Adds a source; one that is known already stays as it is.
    pub(super) fn add_source(&mut self, worker: WorkerId, named: bool, near: bool, now: Instant) {
        let known = self.sources.iter().any(|source| source.worker == worker);
        if known || self.me == Some(worker) {
            return;
        }
        let learned = self.sources.iter().filter(|s| !s.named && s.ended.is_none()).count();
        if !named && learned >= LEARNED_LIMIT {
            return;
        }
        self.sources.push(Source::new(worker, named, near, now));
    }

    /// The order in which sources are asked: near ones first, the others differently by each node.
    pub(super) fn arrange(&mut self) {
        let seed = self.seed;
        let turn = |worker: WorkerId| scatter(seed ^ u64::from(worker.0));
        self.sources.sort_by_key(|source| (!source.near, !source.named, turn(source.worker)));
    }

    /// What to do now. The requests that it names count as under way.
    pub(super) fn plan(&mut self, now: Instant) -> Plan {
        if self.missing == 0 && self.coming == 0 && self.meta.is_some() {
            return Plan::Complete;
        }
        let live = self.sources.iter().any(|source| source.ended.is_none());
        let deadline = self.alive_at + self.allowance();
        if self.coming == 0 && (!live || now >= deadline) {
            return Plan::Failed(self.reasons(now));
        }
        let asks = self.next_asks(now);
        let soonest = self.sources.iter().filter(|s| s.ended.is_none() && s.retry_at > now);
        let mut again_at = soonest.map(|s| s.retry_at).min().unwrap_or(deadline).min(deadline);
        if self.asks.iter().any(|ask| ask.chunk.is_none()) {
            again_at = again_at.min(now + HEDGE);
        }
        let stuck = self.coming == 0 && !self.sources.iter().any(Source::is_well);
        // A deadline that has passed while chunks are coming is looked at when they have come.
        Plan::Ask { asks, again_at: again_at.max(now + Duration::from_millis(1)), stuck }
    }

    fn allowance(&self) -> Duration {
        match self.sources.iter().any(|source| source.named && source.ended.is_none()) {
            true => self.patience,
            false => self.patience.min(ORPHANED),
        }
    }

    fn next_asks(&mut self, now: Instant) -> Vec<(u64, WorkerId)> {
        let mut asks = Vec::new();
        let near = self.sources.iter().any(|s| s.near && s.named && s.is_well());
        for round in 0..ASKS_PER_SOURCE {
            for index in 0..self.sources.len() {
                let far = near && !self.sources[index].near;
                if !far && self.sources[index].asks == round && self.may_ask(index, now) {
                    asks.push(self.ask(index, now));
                }
            }
        }
        asks
    }

    /// Whether one more request to a source makes sense: there is a chunk for it that nobody else
    /// has been asked for just now.
    fn may_ask(&self, index: usize, now: Instant) -> bool {
        let source = &self.sources[index];
        if source.ended.is_some() || source.retry_at > now || self.asks.len() >= ASKS_PER_FETCH {
            return false;
        }
        let open = self.asks.iter().filter(|ask| ask.chunk.is_none());
        if open.clone().filter(|ask| ask.worker == source.worker).count() >= self.missing as usize {
            return false;
        }
        // Those that fetch too may not have what is missing: they do not count for others.
        if source.whole != Some(true) {
            let partial = self.asks.iter().filter(|ask| !self.is_whole(ask.worker)).count();
            return source.asks < ASKS_PER_PARTIAL && partial < ASKS_TO_PARTIAL;
        }
        let fresh = open.filter(|ask| now < ask.since + HEDGE && self.is_whole(ask.worker));
        fresh.count() < self.missing as usize
    }

    fn is_whole(&self, worker: WorkerId) -> bool {
        self.sources.iter().any(|s| s.worker == worker && s.whole == Some(true))
    }

    fn ask(&mut self, index: usize, now: Instant) -> (u64, WorkerId) {
        let (id, worker) = (self.next_ask, self.sources[index].worker);
        self.next_ask += 1;
        self.sources[index].asks += 1;
        self.asks.push(Ask { id, worker, since: now, chunk: None });
        (id, worker)
    }

    /// What to ask for: all that is missing; and whether codec and handles are not known yet.
    pub(super) fn wanted(&self) -> (Wanted, bool) {
        let count = self.progress.len() as u32;
        let lacks = |chunk: u32| self.progress[chunk as usize] == Chunk::Missing;
        let alone = self.sources.iter().filter(|source| source.ended.is_none()).count() < 2;
        // Several sources that know nothing of each other should choose different chunks.
        let turn = scatter(self.seed ^ self.next_ask) % u64::from(count);
        let prefer = if alone { 0 } else { turn as u32 };
        (chunks::wanted(count, prefer, lacks), self.meta.is_none())
    }

    /// A source answers a request with a chunk: its length in bytes, or `None` if it is coming from
    /// elsewhere or the request is no longer of interest.
    pub(super) fn offered(
        &mut self,
        id: u64,
        chunk: u32,
        size: u64,
        meta: Option<ObjectMeta>,
    ) -> Result<Option<(Chunks, u64)>, String> {
        if self.chunks.is_none() {
            let chunks = Chunks::of(size);
            self.set_size(chunks.ok_or_else(|| format!("it claims to have {size} bytes"))?);
        }
        let chunks = self.chunks.expect("it has just been set");
        if chunks.size != size || meta.as_ref().is_some_and(|meta| meta.size != size) {
            return Err(format!("{size} bytes where {} were announced", chunks.size));
        }
        let state = self.progress.get_mut(chunk as usize).ok_or("a chunk beyond the end")?;
        if self.meta.is_none() {
            self.meta = Some(meta.ok_or("no codec")?);
        }
        let Some(ask) = self.asks.iter_mut().find(|ask| ask.id == id) else { return Ok(None) };
        if *state != Chunk::Missing {
            return Ok(None);
        }
        *state = Chunk::Coming;
        ask.chunk = Some(chunk);
        (self.missing, self.coming) = (self.missing - 1, self.coming + 1);
        Ok(Some((chunks, chunks.length(chunk))))
    }

    /// A request has ended; says whether a chunk has come by it.
    pub(super) fn ended(&mut self, id: u64, how: Asked, now: Instant) -> bool {
        let Some(at) = self.asks.iter().position(|ask| ask.id == id) else { return false };
        let ask = self.asks.swap_remove(at);
        let got = how == Asked::Got && ask.chunk.is_some();
        if let Some(chunk) = ask.chunk {
            self.coming -= 1;
            self.progress[chunk as usize] = if got { Chunk::Here } else { Chunk::Missing };
            self.missing += u32::from(!got);
        }
        if let Some(source) = self.sources.iter_mut().find(|source| source.worker == ask.worker) {
            source.asks -= 1;
            if source.note(how, now) {
                self.alive_at = now;
            }
        }
        got
    }

    /// A worker is gone for good. The requests to it end by themselves, with their connection.
    pub(super) fn gone(&mut self, worker: WorkerId) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.worker == worker) {
            source.ended.get_or_insert(SourceError::Gone);
        }
    }

    /// A worker has an address, or a new one: it can be asked at once.
    pub(super) fn found(&mut self, worker: WorkerId, near: bool, now: Instant) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.worker == worker) {
            (source.retry_at, source.near) = (now, near);
        }
        self.arrange();
    }

    /// A chunk for somebody who fetches the same, as far as it has come.
    pub(super) fn give(&mut self, wanted: &Wanted) -> Option<(Chunks, u32)> {
        let chunks = self.chunks.filter(|_| self.meta.is_some())?;
        let progress = &self.progress;
        let chunk =
            self.given.pick(chunks, wanted, |chunk| progress[chunk as usize] == Chunk::Here)?;
        Some((chunks, chunk))
    }

    /// A chunk that was to be given was not taken.
    pub(super) fn returned(&mut self, chunk: u32) {
        self.given.returned(chunk);
    }

    pub(super) fn meta(&self) -> Option<&ObjectMeta> {
        self.meta.as_ref()
    }

    fn reasons(&self, now: Instant) -> Vec<(WorkerId, SourceError)> {
        let silent = now.saturating_duration_since(self.alive_at);
        let named = self.sources.iter().filter(|source| source.named);
        named.map(|source| (source.worker, source.reason(now, silent))).collect()
    }
}

/// SplitMix64's finaliser.
fn scatter(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests;
