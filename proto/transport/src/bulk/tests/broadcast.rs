//! Many that fetch one object at the same time.

use manyhands_proto::link::CHUNK;

use super::support::*;
use crate::bulk::Want;

#[test]
fn a_broadcast_spreads_through_those_who_fetch() {
    const ASKERS: u32 = 8;
    let rate = 32 << 20;
    let mut workers: Vec<_> = (0..=ASKERS).map(|id| Worker::slow(id, rate)).collect();
    introduce(&workers);
    let (key, bytes) = (object(1), content(8 * CHUNK as usize));
    let size = bytes.len() as u64;
    workers[0].shelf.place(key, bytes.clone());
    let origin = workers.remove(0);
    let fetches: Vec<_> =
        workers.iter().map(|w| w.fetch(Want::new(key, size, vec![origin.id]))).collect();
    for fetch in &fetches {
        assert_eq!(fetch.wait(), Ok(meta(size)));
        assert!(fetch.basin.bytes() == bytes);
    }
    let given = origin.bulk.stats().given;
    assert!(given >= size, "somebody invented bytes");
    assert!(given < 4 * size, "the origin gave {given} bytes for {ASKERS} copies of {size}");
    let passed_on: u64 = workers.iter().map(|worker| worker.bulk.stats().given).sum();
    assert!(passed_on + given >= u64::from(ASKERS) * size);
}

#[test]
fn an_origin_that_dies_in_a_broadcast_ends_it_or_completes_it_but_never_hangs() {
    let mut workers: Vec<_> = (0..4).map(|id| Worker::slow(id, 16 << 20)).collect();
    introduce(&workers);
    let (key, bytes) = (object(1), content(6 * CHUNK as usize));
    workers[0].shelf.place(key, bytes.clone());
    let origin = workers.remove(0);
    let want = Want::new(key, bytes.len() as u64, vec![origin.id]);
    let fetches: Vec<_> = workers.iter().map(|worker| worker.fetch(want.clone())).collect();
    fetches[0].until(2 * CHUNK);
    let id = origin.id;
    drop(origin);
    workers.iter().for_each(|worker| worker.bulk.peers_gone(&[id]));
    for fetch in fetches {
        match fetch.wait() {
            Ok(_) => assert!(fetch.basin.bytes() == bytes),
            Err(error) => assert!(error.to_string().contains("it is gone"), "{error}"),
        }
    }
}
