//! What the store promises beyond the model: many objects, several threads, a disk that fails.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use manyhands_proto::value::{Codec, INLINE_LIMIT};
use manyhands_proto::{JobId, Lane, ObjectId, TaskId};
use manyhands_store::{Loaded, Store, StoreConfig, StoreError, Where, Writer};

fn object(seq: u64) -> ObjectId {
    let job = JobId(uuid::Uuid::from_u128(1));
    TaskId { job, lane: Lane(1), seq }.object(0)
}

fn spill_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn config(memory_limit: u64, dir: &str) -> StoreConfig {
    let spill_dir = Some(spill_dir(dir));
    StoreConfig { memory_limit, spill_dir, ..StoreConfig::default() }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_million_objects_need_few_descriptors() {
    const MILLION: u64 = 1_000_000;
    let store = Store::new(StoreConfig::default()).unwrap();
    let before = descriptors();
    for seq in 0..MILLION {
        let mut extent = store.alloc(Writer(1), 100, false).unwrap();
        extent.len = 100;
        store.publish(Writer(1), object(seq), Codec::RAW, extent).unwrap();
    }
    assert_eq!(store.stats().objects as u64, MILLION);
    let opened = descriptors() - before;
    assert!(opened < 100, "{opened} descriptors");
    (0..MILLION).for_each(|seq| assert!(store.free(object(seq))));
    assert_eq!(store.stats().used, 0);
}

#[test]
fn a_recycled_extent_goes_to_the_writer_that_filled_it() {
    let store = Store::new(StoreConfig::default()).unwrap();
    let grant = |writer| store.alloc(Writer(writer), 1 << 20, false).unwrap();
    let (first, second) = (grant(1), grant(2));
    store.release(Writer(1), first).unwrap();
    store.release(Writer(2), second).unwrap();
    assert_eq!(grant(2), second);
    assert_eq!(grant(2), first, "another's is still better than one that nobody has filled");
}

#[test]
fn a_put_over_the_limit_goes_to_disk_and_nothing_is_seen_there() {
    let dir = "over-the-limit";
    let store = Store::new(config(1 << 20, dir)).unwrap();
    let bytes = vec![5; 700 << 10];
    assert!(matches!(store.put(object(1), Codec::RAW, &bytes), Ok(Where::Memory { .. })));
    assert!(matches!(store.put(object(2), Codec::RAW, &bytes), Ok(Where::Disk { .. })));
    assert_eq!(store.get(object(2)).unwrap().unwrap().bytes, bytes);
    assert_eq!(std::fs::read_dir(spill_dir(dir)).unwrap().count(), 0, "spill files have no names");

    assert!(matches!(store.load(object(2)), Ok(Loaded::Extent { .. })));
    assert!(matches!(store.place(object(2)), Some(Where::Disk { .. })), "it can be read there");
    assert_eq!(store.spill(object(1)).unwrap(), 700 << 10);
    assert!(matches!(store.load(object(2)), Ok(Loaded::Extent { .. })));
    assert!(matches!(store.place(object(2)), Some(Where::Memory { .. })));
    assert_eq!(store.get(object(2)).unwrap().unwrap().bytes, bytes);
}

#[test]
fn a_small_value_comes_back_from_disk_into_its_owners_hands() {
    let store = Store::new(config(1 << 20, "small")).unwrap();
    let value = manyhands_proto::value::Value { codec: Codec::MSGPACK, bytes: "hello".into() };
    store.spill_value(object(1), &value).unwrap();
    assert_eq!(store.load(object(1)).unwrap(), Loaded::Inline(value));
    let stats = store.stats();
    assert_eq!((stats.spilled, stats.spilled_total), (0, 5));
}

#[test]
fn without_a_spill_directory_everything_but_spilling_works() {
    let store =
        Store::new(StoreConfig { memory_limit: 1 << 20, ..StoreConfig::default() }).unwrap();
    assert!(matches!(store.alloc(Writer(1), 2 << 20, false), Err(StoreError::Full { .. })));
    store.put(object(1), Codec::RAW, &[1; 100]).unwrap();
    assert!(matches!(store.spill(object(1)), Err(StoreError::NoSpillDir)));
    assert!(matches!(store.alloc(Writer(1), 1, true), Err(StoreError::NoSpillDir)));
    assert_eq!(store.get(object(1)).unwrap().unwrap().bytes, [1; 100][..]);
    assert!(matches!(store.spill(object(2)), Err(StoreError::UnknownObject(_))));
}

#[test]
fn a_second_attempts_object_changes_nothing() {
    let store = Store::new(StoreConfig::default()).unwrap();
    let first = store.put(object(1), Codec::RAW, &[1; 100]).unwrap();
    assert_eq!(store.put(object(1), Codec::RAW, &[2; 100]).unwrap(), first);
    assert_eq!(store.get(object(1)).unwrap().unwrap().bytes, [1; 100][..]);
    assert_eq!(store.stats().used, 4096);
}

#[test]
fn a_reader_survives_the_store() {
    let store = Store::new(StoreConfig::default()).unwrap();
    store.put(object(1), Codec::RAW, &[9; 100_000]).unwrap();
    let value = store.get(object(1)).unwrap().unwrap();
    drop(store);
    assert!(value.bytes.iter().all(|byte| *byte == 9));
}

#[test]
fn threads_do_everything_at_once() {
    let store = Store::new(config(8 << 20, "threads")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = store.clone();
            scope.spawn(move || churn(&store, thread));
        }
    });
    let stats = store.stats();
    assert_eq!((stats.objects, stats.used, stats.spilled), (0, 0, 0));
    assert!(stats.peak <= 8 << 20);
}

/// Puts, spills, loads, reads and frees objects of its own, and tries the same on the others'.
fn churn(store: &Arc<Store>, thread: u64) {
    let mut random = thread + 1;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    for round in 0..500 {
        let id = object(thread * 1_000_000 + round);
        let size = INLINE_LIMIT as u64 + next(500_000);
        store.put(id, Codec::RAW, &vec![id.task.seq as u8; size as usize]).unwrap();
        let other = object(next(4) * 1_000_000 + round);
        let (_, _) = (store.spill(other), store.load(other));
        if let Some(value) = store.get(other).unwrap() {
            assert!(value.bytes.iter().all(|byte| *byte == other.task.seq as u8));
        }
        if next(2) == 0 {
            store.spill(id).unwrap();
        }
        let value = store.get(id).unwrap().expect("nobody else frees it");
        assert!(store.free(id));
        store.trim();
        assert_eq!(value.bytes.len() as u64, size);
        assert!(value.bytes.iter().all(|byte| *byte == id.task.seq as u8));
    }
}

#[test]
fn a_closed_store_gives_back_all_that_nobody_holds() {
    const SIZE: u64 = 1 << 20;
    let store = Store::new(StoreConfig::default()).unwrap();
    let bytes = vec![5; SIZE as usize];
    for seq in 0..4 {
        store.put(object(seq), Codec::RAW, &bytes).unwrap();
    }
    let view = store.get(object(1)).unwrap().unwrap();
    store.free(object(0));
    store.close(|held| held == object(2));
    let stats = store.stats();
    assert_eq!((stats.objects, stats.used, stats.free_kept), (1, 2 * SIZE, 0));
    assert_eq!(view.bytes, bytes);
    assert_eq!(store.get(object(2)).unwrap().unwrap().bytes, bytes);

    drop(view);
    store.free(object(2));
    let stats = store.stats();
    assert_eq!((stats.used, stats.free_kept), (0, 0), "what is let go of later, too");
}

const FULL_DISK: &str = "MANYHANDS_TEST_FULL_DISK";

/// The disk is full after 8 MiB: the test runs itself again in a shell that limits the size of
/// files.
#[test]
fn a_full_disk_names_the_object_and_loses_nothing() {
    if std::env::var_os(FULL_DISK).is_some() {
        return on_the_full_disk();
    }
    let own = std::env::current_exe().unwrap();
    let name = "a_full_disk_names_the_object_and_loses_nothing";
    // Ignored signals stay ignored through exec; this one would kill whoever writes too much.
    let script = r#"trap "" XFSZ; ulimit -f 8192; exec "$0" --exact "$1" --nocapture"#;
    let output = Command::new("bash")
        .args(["-c", script, own.to_str().unwrap(), name])
        .env(FULL_DISK, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn on_the_full_disk() {
    let mut config = config(16 << 20, "full-disk");
    config.segment_size = 2 << 20;
    let store = Store::new(config).unwrap();
    let bytes = |seq: u64| vec![seq as u8; 2 << 20];
    for seq in 0..8 {
        store.put(object(seq), Codec::RAW, &bytes(seq)).unwrap();
    }
    let refused: Vec<u64> = (0..8).filter(|seq| store.spill(object(*seq)).is_err()).collect();
    assert_eq!(refused, [4, 5, 6, 7]);
    let error = store.spill(object(7)).unwrap_err();
    assert!(matches!(error, StoreError::Write { object: which, .. } if which == object(7)));
    assert!(matches!(
        store.put(object(9), Codec::RAW, &vec![0; 9 << 20]),
        Err(StoreError::Write { .. })
    ));
    assert!(matches!(store.alloc(Writer(1), 1 << 20, true), Err(StoreError::DiskAlloc { .. })));
    for seq in 0..8 {
        assert_eq!(store.get(object(seq)).unwrap().unwrap().bytes, bytes(seq), "object {seq}");
    }
    store.free(object(0));
    store.spill(object(7)).expect("there is room again");
}

#[test]
fn an_extent_is_filled_in_any_order_and_read_meanwhile() {
    let store = Store::new(config(1 << 20, "filled")).unwrap();
    let size = 3 * 4096 + 5;
    for (seq, on_disk) in [(1, false), (2, true)] {
        let extent = store.alloc(Writer::DAEMON, size, on_disk).unwrap();
        let filling = store.fill(extent, size).unwrap();
        assert!(store.fill(extent, size).is_err(), "it has an owner");
        filling.write_at(8192, &[3; 4101]).unwrap();
        let early = filling.read_at(8192, 4096).unwrap();
        assert_eq!(early, vec![3; 4096]);
        assert!(filling.write_at(8192, &[9; 10]).is_err(), "somebody reads it");
        assert!(filling.write_at(size - 1, &[9; 2]).is_err(), "beyond the end");
        std::thread::scope(|scope| {
            scope.spawn(|| filling.write_at(0, &[1; 4096]).unwrap());
            scope.spawn(|| filling.write_at(4096, &[2; 4096]).unwrap());
        });
        store.finish(object(seq), Codec::RAW, &filling).unwrap();
        assert!(filling.write_at(0, &[9; 1]).is_err(), "it is an object");
        drop(filling);
        let whole = [vec![1; 4096], vec![2; 4096], vec![3; 4101]].concat();
        assert_eq!(store.map(object(seq)).unwrap().unwrap().bytes, whole);
        assert_eq!(store.get(object(seq)).unwrap().unwrap().bytes, whole);
        store.free(object(seq));
        assert_eq!(early, vec![3; 4096], "a reader keeps it");
    }
    assert_eq!((store.stats().used, store.stats().spilled), (0, 0));
}

#[test]
fn an_extent_that_is_not_finished_comes_back() {
    let store = Store::new(StoreConfig::default()).unwrap();
    let extent = store.alloc(Writer::DAEMON, 100_000, false).unwrap();
    let filling = store.fill(extent, 100_000).unwrap();
    filling.write_at(0, &[1; 10]).unwrap();
    drop(filling);
    assert_eq!(store.stats().used, 0);
}
