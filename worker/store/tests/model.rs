//! Everything that can be done with a store, at random, beside a model of what must be true.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

use manyhands_proto::executor::Extent;
use manyhands_proto::value::{Codec, Value};
use manyhands_proto::{JobId, Lane, ObjectId, TaskId};
use manyhands_store::{Loaded, Store, StoreConfig, Where, Writer};
use proptest::prelude::*;

const LIMIT: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Step {
    Alloc { writer: u32, size: u64, on_disk: bool },
    Publish { which: usize, part: u64 },
    Put { size: u64 },
    SpillValue { size: u64 },
    Pin { which: usize },
    LetGo { which: usize },
    Spill { which: usize },
    Load { which: usize, in_place: bool },
    Free { which: usize },
    WriterDied { writer: u32 },
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![3 => 0..20_000u64, 3 => 0..200_000u64, 1 => 0..600_000u64];
    let which = 0..1000usize;
    prop_oneof![
        3 => (0..3u32, size.clone(), prop::bool::weighted(0.2))
            .prop_map(|(writer, size, on_disk)| Step::Alloc { writer, size, on_disk }),
        3 => (which.clone(), 0..=4u64).prop_map(|(which, part)| Step::Publish { which, part }),
        3 => size.clone().prop_map(|size| Step::Put { size }),
        1 => size.prop_map(|size| Step::SpillValue { size }),
        3 => which.clone().prop_map(|which| Step::Pin { which }),
        2 => which.clone().prop_map(|which| Step::LetGo { which }),
        2 => which.clone().prop_map(|which| Step::Spill { which }),
        2 => (which.clone(), prop::bool::weighted(0.2))
            .prop_map(|(which, in_place)| Step::Load { which, in_place }),
        3 => which.prop_map(|which| Step::Free { which }),
        1 => (0..3u32).prop_map(|writer| Step::WriterDied { writer }),
        1 => Just(Step::Trim),
    ]
}

/// What must be true.
struct Model {
    store: Arc<Store>,
    next: u64,
    /// Granted extents, with who has them.
    grants: Vec<(Writer, Extent)>,
    /// The bytes of every object.
    objects: BTreeMap<ObjectId, Vec<u8>>,
    /// Values that somebody reads, with what they must say, freed and spilled objects' too.
    pins: Vec<(Value, Vec<u8>)>,
}

impl Model {
    fn new(store: Arc<Store>) -> Model {
        let (grants, pins) = (Vec::new(), Vec::new());
        Model { store, next: 0, grants, objects: BTreeMap::new(), pins }
    }

    /// A new object, with bytes that no other has.
    fn make(&mut self, size: u64) -> (ObjectId, Vec<u8>) {
        self.next += 1;
        let job = JobId(uuid::Uuid::from_u128(1));
        let id = TaskId { job, lane: Lane(1), seq: self.next }.object(0);
        let bytes = (0..size).map(|at| (at * 7 + self.next * 131 + at / 251) as u8).collect();
        (id, bytes)
    }

    fn pick(&self, which: usize) -> Option<ObjectId> {
        self.objects.keys().nth(which % self.objects.len().max(1)).copied()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Alloc { writer, size, on_disk } => self.alloc(Writer(writer), size, on_disk),
            Step::Publish { which, part } => self.publish(which, part),
            Step::Put { size } => {
                let (id, bytes) = self.make(size);
                self.store.put(id, Codec::RAW, &bytes).expect("there is always room on disk");
                self.objects.insert(id, bytes);
            }
            Step::SpillValue { size } => {
                let (id, bytes) = self.make(size);
                let value = Value { codec: Codec::POD, bytes: bytes.clone().into() };
                assert_eq!(self.store.spill_value(id, &value).unwrap(), size);
                self.objects.insert(id, bytes);
            }
            Step::Pin { which } => {
                if let Some(id) = self.pick(which) {
                    let value = self.store.get(id).unwrap().expect("an object that was not freed");
                    self.pins.push((value, self.objects[&id].clone()));
                }
            }
            Step::LetGo { which } if !self.pins.is_empty() => {
                self.pins.swap_remove(which % self.pins.len());
            }
            Step::LetGo { .. } => {}
            Step::Spill { which } => {
                if let Some(id) = self.pick(which) {
                    let size = self.store.spill(id).unwrap();
                    assert_eq!(size, self.objects[&id].len() as u64);
                    assert!(matches!(self.store.place(id), Some(Where::Disk { .. })));
                }
            }
            Step::Load { which, in_place } => self.load(which, in_place),
            Step::Free { which } => {
                if let Some(id) = self.pick(which) {
                    assert!(self.store.free(id));
                    assert_eq!(self.store.get(id).unwrap(), None);
                    self.objects.remove(&id);
                }
            }
            Step::WriterDied { writer } => {
                self.store.release_writer(Writer(writer));
                self.grants.retain(|(owner, _)| *owner != Writer(writer));
            }
            Step::Trim => {
                self.store.trim();
            }
        }
    }

    fn alloc(&mut self, writer: Writer, size: u64, on_disk: bool) {
        let extent = self.store.alloc(writer, size, on_disk).expect("there is always room on disk");
        assert!(extent.len >= size && extent.offset.is_multiple_of(4096));
        self.grants.push((writer, extent));
    }

    /// Writes through the descriptor, as another process would, and publishes some quarters of it.
    fn publish(&mut self, which: usize, quarters: u64) {
        if self.grants.is_empty() {
            return;
        }
        let (writer, granted) = self.grants.swap_remove(which % self.grants.len());
        let (id, bytes) = self.make(granted.len * quarters / 4);
        let file = File::from(self.store.segment_fd(granted.segment, true).unwrap());
        file.write_all_at(&bytes, granted.offset).unwrap();
        let extent = Extent { len: bytes.len() as u64, ..granted };
        let stranger = Writer(99);
        assert!(self.store.publish(stranger, id, Codec::RAW, extent).is_err());
        self.store.publish(writer, id, Codec::RAW, extent).unwrap();
        assert!(self.store.publish(writer, id, Codec::RAW, extent).is_err(), "published twice");
        self.objects.insert(id, bytes);
    }

    fn load(&mut self, which: usize, in_place: bool) {
        let Some(id) = self.pick(which) else { return };
        let loaded = match in_place {
            true => self.store.load_in_place(id),
            false => self.store.load(id),
        };
        match loaded {
            Ok(Loaded::Inline(value)) => {
                assert_eq!(value.bytes, self.objects.remove(&id).unwrap());
                assert_eq!(self.store.place(id), None);
            }
            // Where it lies now does not matter to whoever maps it.
            Ok(Loaded::Extent { extent, .. }) => {
                let file = File::from(self.store.segment_fd(extent.segment, false).unwrap());
                let mut bytes = vec![0; extent.len as usize];
                file.read_exact_at(&mut bytes, extent.offset).unwrap();
                assert!(bytes == self.objects[&id]);
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check(&self) {
        for (value, bytes) in &self.pins {
            assert!(value.bytes == *bytes, "bytes changed under a reader");
        }
        self.check_no_overlap();
        let stats = self.store.stats();
        assert_eq!(stats.objects, self.objects.len());
        assert!(stats.used + stats.free_kept <= LIMIT, "over the limit: {stats:?}");
        let files = (0..self.next as u32 + 64).filter_map(|n| self.store.segment_fd(n, false).ok());
        let real = files.map(|fd| File::from(fd).metadata().unwrap());
        let memory: u64 = real
            .filter(|file| file.nlink() == 0 && is_memfd(file.dev()))
            .map(|file| file.blocks() * 512)
            .sum();
        assert!(memory <= LIMIT, "{memory} bytes of real memory are over the limit");
    }

    fn check_no_overlap(&self) {
        let places = self.objects.keys().filter_map(|id| match self.store.place(*id) {
            Some(Where::Memory { extent, .. }) => Some(extent),
            _ => None,
        });
        let mut all: Vec<Extent> = places.chain(self.grants.iter().map(|(_, e)| *e)).collect();
        all.sort_by_key(|extent| (extent.segment, extent.offset));
        for pair in all.windows(2) {
            let apart = pair[0].segment != pair[1].segment
                || pair[0].offset + pair[0].len <= pair[1].offset;
            assert!(apart, "{:?} and {:?} overlap", pair[0], pair[1]);
        }
    }
}

/// Whether a device number is that of memfds, learnt from a store without a spill directory.
fn is_memfd(device: u64) -> bool {
    use std::sync::OnceLock;
    static DEVICE: OnceLock<u64> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let store = Store::new(StoreConfig::default()).unwrap();
        let extent = store.alloc(Writer::DAEMON, 1, false).unwrap();
        let fd = store.segment_fd(extent.segment, false).unwrap();
        File::from(fd).metadata().unwrap().dev()
    }) == device
}

fn spill_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("model")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_says(steps in prop::collection::vec(step(), 1..150)) {
        let store = Store::new(StoreConfig {
            memory_limit: LIMIT,
            spill_dir: Some(spill_dir()),
            segment_size: 256 << 10,
            spill_file_size: 512 << 10,
            ..StoreConfig::default()
        }).unwrap();
        let mut model = Model::new(store);
        for step in steps {
            model.run(step);
            model.check();
        }
        for (id, bytes) in std::mem::take(&mut model.objects) {
            let value = model.store.get(id).unwrap().unwrap();
            prop_assert!(value.bytes == bytes, "{} is not what it was", id);
            model.store.free(id);
        }
        for (writer, extent) in std::mem::take(&mut model.grants) {
            model.store.release(writer, extent).unwrap();
        }
        model.pins.clear();
        for _ in 0..3 {
            model.store.trim();
        }
        let stats = model.store.stats();
        prop_assert_eq!((stats.used, stats.free_kept, stats.segments, stats.mapped), (0, 0, 0, 0));
        prop_assert_eq!((stats.spilled, stats.spill_kept, stats.spill_files), (0, 0, 0));
    }
}
