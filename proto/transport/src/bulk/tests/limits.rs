//! What there is a limit on.

use std::time::Duration;

use manyhands_proto::frame::Role;
use manyhands_proto::link::CHUNK;

use super::support::*;
use crate::bulk::{FetchError, SourceError, Want};

#[test]
fn one_request_at_a_time_serves_everybody_in_the_end() {
    let mut config = config("origin", Role::Worker);
    config.serves = 1;
    let origin = Worker::start_with(0, config);
    let (key, bytes) = (object(1), content(3 * CHUNK as usize + 1));
    origin.shelf.place(key, bytes.clone());
    // They do not know of each other.
    let workers: Vec<_> = (1..=4).map(Worker::start).collect();
    workers.iter().for_each(|worker| worker.bulk.peers(vec![origin.peer()]));
    let want = Want::new(key, bytes.len() as u64, vec![origin.id]);
    let fetches: Vec<_> = workers.iter().map(|worker| worker.fetch(want.clone())).collect();
    for fetch in fetches {
        assert_eq!(fetch.wait(), Ok(meta(bytes.len() as u64)));
        assert!(fetch.basin.bytes() == bytes);
    }
    let finds = origin.shelf.finds.load(std::sync::atomic::Ordering::SeqCst);
    assert!(finds < 16, "what was found was looked for {finds} times");
}

#[test]
fn more_connections_than_allowed_are_refused() {
    let mut config = config("origin", Role::Worker);
    config.connections = 1;
    let origin = Worker::start_with(0, config);
    origin.shelf.place(object(1), content(10));
    let mut want = Want::new(object(1), 10, vec![origin.id]);
    let clients = [client(), client()];
    clients.iter().for_each(|client| client.peers(vec![origin.peer()]));
    clients[0].read_blocking(want.clone()).unwrap();
    want.patience = Duration::from_millis(200);
    let Err(FetchError::Unavailable { sources, .. }) = clients[1].read_blocking(want) else {
        panic!("it was let in")
    };
    assert!(matches!(&sources[..], [(_, SourceError::Unreachable { .. })]), "{sources:?}");
}

#[test]
fn a_connection_that_nobody_uses_is_closed_and_made_again() {
    let origin = Worker::start(1);
    origin.shelf.place(object(1), content(10));
    let mut config = config("asker", Role::Client);
    config.keep_idle = Duration::ZERO;
    let asker = crate::bulk::Bulk::start(config, None).unwrap();
    asker.peers(vec![origin.peer()]);
    let want = Want::new(object(1), 10, vec![origin.id]);
    asker.read_blocking(want.clone()).unwrap();
    let used = asker.node.runtime.block_on(asker.node.links.get(origin.id)).unwrap();
    let connection = (*used).clone();
    drop(used);
    let closed = async { tokio::time::timeout(LIMIT, connection.closed()).await };
    let closed = asker.node.runtime.block_on(closed);
    assert!(closed.is_ok(), "waited for the end of a connection");
    asker.read_blocking(want).unwrap();
}
