//! Sizes and sources.

use manyhands_proto::link::CHUNK;

use super::support::*;
use crate::bulk::Want;

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
}
