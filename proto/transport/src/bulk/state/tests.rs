//! What is asked next, without a network.

use manyhands_proto::link::CHUNK;
use manyhands_proto::value::Codec;

use super::*;

const A: WorkerId = WorkerId(1);
const B: WorkerId = WorkerId(2);
const C: WorkerId = WorkerId(3);
const PATIENCE: Duration = Duration::from_secs(30);

struct Script {
    state: State,
    start: Instant,
    now: u64,
}

impl Script {
    fn new(chunks: u64, sources: &[WorkerId]) -> Script {
        let start = Instant::now();
        let size = Chunks::of(chunks * CHUNK);
        let mut state = State::new(size, PATIENCE, Some(WorkerId(9)), 7, start);
        sources.iter().for_each(|worker| state.add_source(*worker, true, false, start));
        state.arrange();
        Script { state, start, now: 0 }
    }

    fn time(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn after(&mut self, ms: u64) -> &mut Script {
        self.now += ms;
        self
    }

    fn plan(&mut self) -> Plan {
        let now = self.time();
        let plan = self.state.plan(now);
        let states = &self.state.progress;
        let count = |what| states.iter().filter(|state| **state == what).count() as u32;
        assert_eq!(self.state.missing, count(Chunk::Missing));
        assert_eq!(self.state.coming, count(Chunk::Coming));
        for source in &self.state.sources {
            let asks = self.state.asks.iter().filter(|ask| ask.worker == source.worker).count();
            assert_eq!(asks, source.asks);
        }
        assert!(self.state.asks.len() <= ASKS_PER_FETCH);
        plan
    }

    /// The requests of the next plan.
    fn asks(&mut self) -> Vec<(u64, WorkerId)> {
        match self.plan() {
            Plan::Ask { asks, .. } => asks,
            other => panic!("{other:?}"),
        }
    }

    fn offer(&mut self, id: u64, chunk: u32) -> Option<u64> {
        let size = self.state.chunks.unwrap().size;
        let meta = ObjectMeta { codec: Codec::POD, size, contains: Vec::new() };
        self.state.offered(id, chunk, size, Some(meta)).unwrap().map(|(_, length)| length)
    }

    fn ended(&mut self, id: u64, how: Asked) {
        let now = self.time();
        self.state.ended(id, how, now);
    }

    fn learn(&mut self, worker: WorkerId) {
        let now = self.time();
        self.state.add_source(worker, false, false, now);
    }
}

fn workers(asks: &[(u64, WorkerId)]) -> Vec<WorkerId> {
    let mut workers: Vec<_> = asks.iter().map(|(_, worker)| *worker).collect();
    workers.sort();
    workers
}

#[test]
fn one_chunk_is_asked_of_one_source_and_of_another_when_that_takes_long() {
    let mut script = Script::new(1, &[A, B]);
    let first = script.asks();
    assert_eq!(first.len(), 1);
    assert_eq!(script.asks(), []);
    let second = script.after(300).asks();
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].1, second[0].1);
    assert_eq!(script.offer(second[0].0, 0), Some(CHUNK));
    assert_eq!(script.offer(first[0].0, 0), None, "it is coming already");
    script.ended(first[0].0, Asked::Declined);
    assert_eq!(script.asks(), [], "nothing is missing");
    script.ended(second[0].0, Asked::Got);
    assert_eq!(script.plan(), Plan::Complete);
}

#[test]
fn many_chunks_are_asked_of_all_sources() {
    let mut script = Script::new(100, &[A, B]);
    assert_eq!(workers(&script.asks()), [A, A, A, A, B, B, B, B]);
}

#[test]
fn those_on_the_same_machine_are_asked_alone_while_they_answer() {
    let mut script = Script::new(100, &[A]);
    script.state.add_source(B, true, true, script.time());
    script.state.arrange();
    let asks = script.asks();
    assert_eq!(workers(&asks), [B; 4]);
    script.ended(asks[0].0, Asked::Unreachable("silent".to_owned()));
    assert_eq!(workers(&script.asks()), [A; 4]);
}

#[test]
fn a_chunk_that_breaks_off_is_asked_for_again_and_the_others_are_kept() {
    let mut script = Script::new(2, &[A]);
    let asks = script.asks();
    assert_eq!(asks.len(), 2);
    script.offer(asks[0].0, 0);
    script.offer(asks[1].0, 1);
    script.ended(asks[0].0, Asked::Got);
    script.ended(asks[1].0, Asked::Unreachable("cut".to_owned()));
    assert_eq!(script.asks(), [], "the source is left alone for a moment");
    let again = script.after(50).asks();
    assert_eq!(again.len(), 1);
    assert!(
        !chunks::lacks(&script.state.wanted().0, 0) && chunks::lacks(&script.state.wanted().0, 1)
    );
    script.offer(again[0].0, 1);
    script.ended(again[0].0, Asked::Got);
    assert_eq!(script.plan(), Plan::Complete);
}

#[test]
fn it_fails_when_all_sources_have_ended_and_says_why_of_each() {
    let mut script = Script::new(1, &[A, B, C]);
    script.state.gone(A);
    let mut asked = Vec::new();
    while asked.len() < 2 {
        let asks = script.asks();
        for (id, worker) in asks {
            asked.push(worker);
            let how = match worker == B {
                true => Asked::Refused("no such object".to_owned()),
                false => Asked::Corrupt("too much".to_owned()),
            };
            script.ended(id, how);
        }
    }
    let Plan::Failed(mut reasons) = script.plan() else { panic!("it goes on") };
    reasons.sort_by_key(|(worker, _)| *worker);
    let refused = SourceError::Refused("no such object".to_owned());
    let corrupt = SourceError::Corrupt("too much".to_owned());
    assert_eq!(reasons, [(A, SourceError::Gone), (B, refused), (C, corrupt)]);
}

#[test]
fn an_unreachable_source_is_tried_until_patience_ends_and_lets_others_have_the_turn() {
    let mut script = Script::new(1, &[A]);
    let mut tries = 0;
    let reasons = loop {
        match script.plan() {
            Plan::Ask { asks, again_at, .. } => {
                for (id, _) in asks {
                    tries += 1;
                    script.ended(id, Asked::Unreachable("no answer".to_owned()));
                    let Plan::Ask { stuck, .. } = script.plan() else { break };
                    assert!(stuck);
                }
                script.now = (again_at - script.start).as_millis() as u64 + 1;
            }
            Plan::Failed(reasons) => break reasons,
            Plan::Complete => panic!("nothing has come"),
        }
    };
    assert!((20..60).contains(&tries), "{tries} tries in {} ms", script.now);
    assert!(script.now >= PATIENCE.as_millis() as u64);
    assert!(matches!(&reasons[..], [(A, SourceError::Unreachable { .. })]), "{reasons:?}");
}

#[test]
fn a_busy_source_gives_hope_for_ever() {
    let mut script = Script::new(1, &[A]);
    for _ in 0..1000 {
        for (id, _) in script.asks() {
            script.ended(id, Asked::Later { whole: true });
        }
        script.after(200);
    }
    assert!(script.now > 3 * PATIENCE.as_millis() as u64);
}

#[test]
fn those_who_fetch_too_cannot_keep_each_other_hoping() {
    let mut script = Script::new(1, &[A]);
    script.learn(B);
    for (id, worker) in script.asks() {
        script.ended(
            id,
            if worker == A { Asked::Refused("gone".to_owned()) } else { Asked::Declined },
        );
    }
    while let Plan::Ask { asks, .. } = script.plan() {
        for (id, _) in asks {
            script.ended(id, Asked::Later { whole: false });
        }
        script.after(100);
        assert!(script.now < PATIENCE.as_millis() as u64, "it waits for nothing");
    }
}

#[test]
fn those_who_fetch_too_never_crowd_out_the_origin() {
    let mut script = Script::new(100, &[A]);
    (10..40).for_each(|worker| script.learn(WorkerId(worker)));
    let asks = script.asks();
    assert_eq!(asks.iter().filter(|(_, worker)| *worker == A).count(), ASKS_PER_SOURCE);
    assert!(asks.len() > ASKS_PER_SOURCE);
    for (id, worker) in asks {
        if worker == A {
            script.ended(id, Asked::Declined);
        }
    }
    assert_eq!(workers(&script.asks()), [A; ASKS_PER_SOURCE]);
}

#[test]
fn other_sizes_and_chunks_beyond_the_end_are_refused() {
    let mut script = Script::new(2, &[A]);
    let (id, _) = script.asks()[0];
    let meta = |size| Some(ObjectMeta { codec: Codec::POD, size, contains: Vec::new() });
    let size = 2 * CHUNK;
    assert!(script.state.offered(id, 0, size, None).is_err(), "nobody knows the codec");
    assert!(script.state.offered(id, 0, size + 1, meta(size + 1)).is_err());
    assert!(script.state.offered(id, 0, size, meta(size - 1)).is_err());
    assert!(script.state.offered(id, 2, size, meta(size)).is_err());
    assert_eq!(script.offer(id, 1), Some(CHUNK));
}

#[test]
fn an_unknown_size_is_learnt_from_the_first_answer() {
    let start = Instant::now();
    let mut state = State::new(None, PATIENCE, None, 0, start);
    state.add_source(A, true, false, start);
    let Plan::Ask { asks, .. } = state.plan(start) else { panic!("it is asked") };
    assert_eq!(asks.len(), 1);
    let size = 3 * CHUNK + 1;
    let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
    assert_eq!(state.offered(asks[0].0, 0, size, Some(meta)).unwrap().unwrap().1, CHUNK);
    assert!(state.ended(asks[0].0, Asked::Got, start));
    let Plan::Ask { asks, .. } = state.plan(start) else { panic!("the rest is asked for") };
    assert_eq!(asks.len(), 3);
    let Plan::Ask { asks, .. } = state.plan(start) else { panic!("it goes on") };
    assert_eq!(asks, []);
}
