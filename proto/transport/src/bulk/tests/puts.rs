//! Uploads.

use std::time::Duration;

use manyhands_proto::WorkerId;
use manyhands_proto::link::{CHUNK, Key};

use super::support::*;
use crate::bulk::{PutError, Want};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_a_client_puts_can_be_fetched_from_the_worker() {
    let (worker, client) = (Worker::start(1), client());
    client.peers(vec![worker.peer()]);
    for (seq, size) in [0, 1, CHUNK as usize + 3].into_iter().enumerate() {
        let (key, bytes) = (object(seq as u64), content(size));
        client.put_blocking(worker.id, key, meta(size as u64), bytes.clone(), PATIENCE).unwrap();
        assert!(worker.shelf.get(key).unwrap() == bytes);
        let want = Want::new(key, size as u64, vec![worker.id]);
        assert!(client.read_blocking(want).unwrap().1 == bytes);
    }
}

#[test]
fn a_repeated_put_changes_nothing_and_sends_nothing() {
    let (worker, client) = (Worker::start(1), client());
    client.peers(vec![worker.peer()]);
    let (key, bytes) = (Key::Program(5), content(1000));
    client.put_blocking(worker.id, key, meta(1000), bytes.clone(), PATIENCE).unwrap();
    // These could not be taken if they were sent.
    worker.shelf.refuse("the shelf is full");
    client.put_blocking(worker.id, key, meta(1000), bytes, PATIENCE).unwrap();
}

#[test]
fn two_that_put_the_same_at_once_both_succeed() {
    let (worker, clients) = (Worker::start(1), [client(), client()]);
    let bytes = content(3 * CHUNK as usize);
    std::thread::scope(|scope| {
        for client in &clients {
            client.peers(vec![worker.peer()]);
            let (bytes, size) = (bytes.clone(), bytes.len() as u64);
            let id = worker.id;
            scope.spawn(move || {
                client.put_blocking(id, object(1), meta(size), bytes, PATIENCE).unwrap();
            });
        }
    });
    assert!(worker.shelf.get(object(1)).unwrap() == bytes);
}

#[test]
fn a_refused_put_says_why() {
    let (worker, client) = (Worker::start(1), client());
    client.peers(vec![worker.peer()]);
    worker.shelf.refuse("the shelf is full");
    let put = client.put_blocking(worker.id, object(1), meta(10), content(10), PATIENCE);
    let Err(PutError::Refused { message, .. }) = put else { panic!("{put:?}") };
    assert_eq!(message, "the shelf is full");
    let gone = client.put_blocking(WorkerId(9), object(1), meta(10), content(10), PATIENCE);
    assert!(matches!(gone, Err(PutError::Gone { .. })), "{gone:?}");
}

#[test]
fn a_put_whose_connection_is_cut_begins_again() {
    let (worker, client) = (Worker::start(1), client());
    client.peers(vec![worker.peer()]);
    let bytes = content(8 * CHUNK as usize);
    let size = bytes.len() as u64;
    std::thread::scope(|scope| {
        let put = scope.spawn(|| {
            client.put_blocking(worker.id, object(1), meta(size), bytes.clone(), PATIENCE)
        });
        worker.shelf.until_accepted(1);
        let link = client.node.links.get(worker.id);
        let connection = client.node.runtime.block_on(link).unwrap();
        connection.close(0u32.into(), b"cut by the test");
        put.join().unwrap().unwrap();
    });
    assert!(worker.shelf.get(object(1)).unwrap() == bytes);
}

#[test]
fn meta_that_does_not_fit_the_bytes_is_not_sent() {
    let (worker, client) = (Worker::start(1), client());
    client.peers(vec![worker.peer()]);
    let put = client.put_blocking(worker.id, object(1), meta(11), content(10), PATIENCE);
    let Err(PutError::Refused { message, .. }) = put else { panic!("{put:?}") };
    assert!(message.contains("10 of the 11 bytes"), "{message}");
    assert!(worker.shelf.get(object(1)).is_none());
}
