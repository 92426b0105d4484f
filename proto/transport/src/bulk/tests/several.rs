//! Sizes, sources, and sources that end.

use std::sync::mpsc;

use manyhands_proto::WorkerId;
use manyhands_proto::link::CHUNK;

use super::support::*;
use crate::bulk::{FetchError, SourceError, Want};

const MIB: u64 = 1 << 20;

#[test]
fn any_size_comes_as_it_was() {
    let workers = [Worker::start(1), Worker::start(2)];
    introduce(&workers);
    let chunk = CHUNK as usize;
    for (seq, size) in
        [0, 1, 1000, chunk - 1, chunk, chunk + 1, 3 * chunk + 17].into_iter().enumerate()
    {
        let (key, bytes) = (object(seq as u64), content(size));
        workers[0].shelf.place(key, bytes.clone());
        let fetch = workers[1].fetch(Want::new(key, size as u64, vec![workers[0].id]));
        assert_eq!(fetch.wait(), Ok(meta(size as u64)), "{size} bytes");
        assert!(fetch.basin.bytes() == bytes, "{size} bytes");
    }
    assert_eq!(workers[0].bulk.stats().given, workers[1].bulk.stats().taken);
}

#[test]
fn a_client_reads_from_several_workers_at_once() {
    let workers = [Worker::slow(1, 40 * MIB), Worker::slow(2, 40 * MIB)];
    let (key, bytes) = (object(1), content(6 * CHUNK as usize));
    workers.iter().for_each(|worker| worker.shelf.place(key, bytes.clone()));
    let client = client();
    client.peers(workers.iter().map(Worker::peer).collect());
    let want = Want::new(key, bytes.len() as u64, vec![workers[0].id, workers[1].id]);
    let (meta, read) = client.read_blocking(want).unwrap();
    assert_eq!(meta.size, bytes.len() as u64);
    assert!(read == bytes);
    for worker in &workers {
        assert!(worker.bulk.stats().given >= CHUNK, "{:?} gave nothing", worker.id);
    }
    assert!(client.bandwidth() > 0);
}

#[test]
fn a_source_that_dies_midway_costs_what_was_under_way() {
    let mut dies = Worker::slow(1, 20 * MIB);
    let lives = Worker::slow(2, 20 * MIB);
    let asker = Worker::start(3);
    let (key, bytes) = (object(1), content(8 * CHUNK as usize));
    [&dies, &lives].iter().for_each(|worker| worker.shelf.place(key, bytes.clone()));
    asker.bulk.peers(vec![dies.peer(), lives.peer()]);
    let fetch = asker.fetch(Want::new(key, bytes.len() as u64, vec![dies.id, lives.id]));
    fetch.until(CHUNK);
    dies.bulk = client();
    assert_eq!(fetch.wait(), Ok(meta(bytes.len() as u64)));
    assert!(fetch.basin.bytes() == bytes);
    let written = fetch.basin.written();
    assert!(written <= bytes.len() as u64 + 4 * CHUNK, "{written} bytes were written");
}

#[test]
fn when_all_sources_end_the_error_says_why_of_each() {
    let (gone, empty) = (Worker::slow(1, 4 * MIB), Worker::start(2));
    let asker = Worker::start(3);
    let (key, bytes) = (object(1), content(4 * CHUNK as usize));
    gone.shelf.place(key, bytes.clone());
    asker.bulk.peers(vec![gone.peer(), empty.peer()]);
    let fetch = asker.fetch(Want::new(key, bytes.len() as u64, vec![gone.id, empty.id]));
    fetch.until(1);
    asker.bulk.peers_gone(&[gone.id]);
    let Err(FetchError::Unavailable { sources, .. }) = fetch.wait() else { panic!("it came") };
    let reason = |id: WorkerId| &sources.iter().find(|(worker, _)| *worker == id).unwrap().1;
    assert_eq!(*reason(gone.id), SourceError::Gone);
    assert!(matches!(reason(empty.id), SourceError::Refused(_)), "{sources:?}");
    assert!(fetch.basin.was_aborted());
}

#[test]
fn nobody_reachable_ends_with_the_callers_patience() {
    let asker = Worker::start(1);
    let silent = std::net::UdpSocket::bind(loopback()).unwrap();
    let mut peer = asker.peer();
    (peer.worker, peer.addresses) = (WorkerId(7), vec![silent.local_addr().unwrap()]);
    asker.bulk.peers(vec![peer]);
    let mut want = Want::new(object(1), 10, vec![WorkerId(7), WorkerId(8)]);
    want.patience = std::time::Duration::from_millis(200);
    let Err(error @ FetchError::Unavailable { .. }) = asker.fetch(want).wait() else {
        panic!("it came from nobody")
    };
    let words = error.to_string();
    assert!(words.contains("worker-7: ") && words.contains("worker-8: "), "{words}");
}

#[test]
fn a_worker_that_is_named_before_its_address_is_known_is_asked_when_it_is() {
    let (source, asker) = (Worker::start(1), Worker::start(2));
    source.shelf.place(object(1), content(100));
    let fetch = asker.fetch(Want::new(object(1), 100, vec![source.id]));
    asker.bulk.peers(vec![source.peer()]);
    assert_eq!(fetch.wait(), Ok(meta(100)));
}

#[test]
fn a_connection_that_is_cut_costs_no_finished_chunk() {
    let (source, asker) = (Worker::slow(1, 40 * MIB), Worker::start(2));
    let (key, bytes) = (object(1), content(10 * CHUNK as usize));
    source.shelf.place(key, bytes.clone());
    asker.bulk.peers(vec![source.peer()]);
    let fetch = asker.fetch(Want::new(key, bytes.len() as u64, vec![source.id]));
    let mut cuts = 0;
    for chunk in [2, 5, 8] {
        fetch.until(chunk * CHUNK);
        let link = asker.bulk.node.links.get(source.id);
        let connection = asker.bulk.node.runtime.block_on(link).unwrap();
        connection.close(0u32.into(), b"cut by the test");
        cuts += 1;
    }
    assert_eq!(fetch.wait(), Ok(meta(bytes.len() as u64)));
    assert!(fetch.basin.bytes() == bytes);
    // At most four chunks are under way when a connection is cut.
    let written = fetch.basin.written();
    assert!(written < bytes.len() as u64 + cuts * 4 * CHUNK, "{written} bytes were written");
    assert!(fetch.basin.finished_once(), "a chunk that had come was fetched again");
}

#[test]
fn a_restarted_worker_goes_on_giving() {
    let mut source = Worker::slow(1, 20 * MIB);
    let asker = Worker::start(2);
    let (key, bytes) = (object(1), content(6 * CHUNK as usize));
    source.shelf.place(key, bytes.clone());
    asker.bulk.peers(vec![source.peer()]);
    let fetch = asker.fetch(Want::new(key, bytes.len() as u64, vec![source.id]));
    fetch.until(CHUNK);
    let again = Worker::start(1);
    again.shelf.place(key, bytes.clone());
    source.bulk = client();
    asker.bulk.peers(vec![again.peer()]);
    assert_eq!(fetch.wait(), Ok(meta(bytes.len() as u64)));
    assert!(fetch.basin.bytes() == bytes);
}

#[test]
fn programs_come_without_a_size_and_not_above_the_limit() {
    let source = Worker::start(1);
    let mut config = config("asker", manyhands_proto::frame::Role::Client);
    config.unknown_size_limit = 2 * CHUNK;
    let asker = crate::bulk::Bulk::start(config, None).unwrap();
    asker.peers(vec![source.peer()]);
    let program = |hash| manyhands_proto::link::Key::Program(hash);
    let small = content(CHUNK as usize + 5);
    source.shelf.place(program(1), small.clone());
    source.shelf.place(program(2), content(2 * CHUNK as usize + 1));
    let read = asker.read_blocking(Want::new(program(1), None, vec![source.id]));
    assert!(read.unwrap().1 == small);
    let refused = asker.read_blocking(Want::new(program(2), None, vec![source.id]));
    assert!(matches!(refused, Err(FetchError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn fetches_wait_their_turn_and_can_be_cancelled_before_and_during_it() {
    let source = Worker::slow(1, MIB);
    let mut config = config("asker", manyhands_proto::frame::Role::Worker);
    (config.fetches, config.waiting) = (1, 2);
    let asker = Worker::start_with(2, config);
    asker.bulk.peers(vec![source.peer()]);
    let want = |seq| Want::new(object(seq), 2 * CHUNK, vec![source.id]);
    source.shelf.place(object(1), content(2 * CHUNK as usize));
    let running = asker.fetch(want(1));
    running.until(1);
    let waiting = [asker.fetch(want(2)), asker.fetch(want(3))];
    let stats = asker.bulk.stats();
    assert_eq!((stats.running, stats.waiting), (1, 2));
    let beyond = asker.fetch(want(4));
    assert!(matches!(beyond.wait(), Err(FetchError::TooMany { limit: 2, .. })));
    for fetch in [&waiting[0], &running] {
        asker.bulk.cancel(fetch.id);
        assert!(matches!(fetch.wait(), Err(FetchError::Cancelled { .. })));
        assert!(fetch.basin.was_aborted());
    }
    // The one behind them runs now, and is refused.
    assert!(matches!(waiting[1].wait(), Err(FetchError::Unavailable { .. })));
}

#[test]
fn one_that_can_reach_nobody_does_not_keep_others_from_their_turn() {
    let source = Worker::start(1);
    source.shelf.place(object(2), content(10));
    let mut config = config("asker", manyhands_proto::frame::Role::Worker);
    config.fetches = 1;
    let asker = Worker::start_with(2, config);
    asker.bulk.peers(vec![source.peer()]);
    let stuck = asker.fetch(Want::new(object(1), 10, vec![WorkerId(77)]));
    assert_eq!(asker.fetch(Want::new(object(2), 10, vec![source.id])).wait(), Ok(meta(10)));
    asker.bulk.cancel(stuck.id);
    assert!(matches!(stuck.wait(), Err(FetchError::Cancelled { .. })));
}

#[test]
fn a_node_that_ends_cancels_what_it_fetches() {
    let (source, asker) = (Worker::slow(1, MIB), client());
    source.shelf.place(object(1), content(2 * CHUNK as usize));
    asker.peers(vec![source.peer()]);
    let fetch = Fetching::start(&asker, Want::new(object(1), 2 * CHUNK, vec![source.id]), None);
    fetch.until(1);
    drop(asker);
    assert!(matches!(fetch.wait(), Err(FetchError::Cancelled { .. })));
}

#[test]
fn a_sink_that_fails_ends_the_fetch() {
    let workers = [Worker::start(1), Worker::start(2)];
    introduce(&workers);
    workers[0].shelf.place(object(1), content(3 * CHUNK as usize));
    let want = Want::new(object(1), 3 * CHUNK, vec![workers[0].id]);
    let basin = Basin::new(want.key, 3 * CHUNK, None);
    basin.break_it();
    let (told, ended) = mpsc::channel();
    workers[1].bulk.fetch(want, basin.clone(), move |result| told.send(result).unwrap_or(()));
    let result = ended.recv_timeout(LIMIT).expect("waited for the end of a fetch");
    let Err(FetchError::Sink { message, .. }) = result else { panic!("{result:?}") };
    assert!(message.contains("leaks"), "{message}");
    assert!(basin.was_aborted());
}
