//! The object store of a worker: where the bytes of large objects lie.
//!
//! It promises that
//! - an extent has one owner: no two objects overlap, and the bytes of an object never change while
//!   anybody can read them;
//! - a reader is never cut off: an extent is used again only when the last [`Value`] over it is
//!   gone;
//! - memory in use, and memory kept for reuse, stay together under the limit;
//! - a million objects need some dozens of descriptors: segments are shared, in memory and on disk;
//! - nothing is left behind, however the process ends: segments and spill files have no names;
//! - when the disk fails, the object is named in the error and is still where it was.
//!
//! It decides nothing: what to spill and when is for the worker's core. All methods can be called
//! by several threads at once.
//!
//! # Layout
//! - [`Store`], here: the index of objects, and what can be done with them.
//! - `space`: room of one kind (memory, disk): segments and leases; limits; giving back.
//! - `free`: which parts of the segments are free, and which of them to use first.
//! - `segment`: files and their mappings; the only module with `unsafe`.
//! - `filling`: an extent that is filled piece by piece, by several threads.
//! - `copy`: copying large values.
//! - `config`, `place`, `error`: limits and fill; who writes and where things are; what can go
//!   wrong.

mod config;
mod copy;
mod error;
mod filling;
mod free;
mod place;
mod segment;
mod space;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use manyhands_proto::ObjectId;
use manyhands_proto::executor::Extent;
use manyhands_proto::value::{Codec, INLINE_LIMIT, Value};
use rustc_hash::FxBuildHasher;

pub use crate::config::{StoreConfig, StoreStats};
use crate::copy::copy;
pub use crate::error::StoreError;
pub use crate::filling::Filling;
pub use crate::place::{Loaded, Where, Writer};
use crate::space::{Kind, Lease, NoRoom, Space};

/// The object store.
#[derive(Debug)]
pub struct Store {
    index: DashMap<ObjectId, Object, FxBuildHasher>,
    memory: Arc<Space>,
    disk: Option<Arc<Space>>,
    spilled_total: AtomicU64,
    /// Granted and not yet published, by segment and offset. A mutex may be locked under this one
    /// (a space's), never the other way round.
    granted: Mutex<HashMap<(u32, u64), Grant, FxBuildHasher>>,
}

#[derive(Clone, Debug)]
struct Object {
    codec: Codec,
    size: u64,
    on_disk: bool,
    lease: Arc<Lease>,
}

#[derive(Debug)]
struct Grant {
    writer: Writer,
    on_disk: bool,
    lease: Lease,
}

/// A published extent that somebody reads.
#[derive(Debug)]
struct Reader {
    lease: Arc<Lease>,
    size: usize,
}

impl AsRef<[u8]> for Reader {
    fn as_ref(&self) -> &[u8] {
        let bytes = self.lease.bytes().expect("it was mapped before the reader was made");
        &bytes[..self.size]
    }
}

impl Store {
    /// An empty store. Fails if the spill directory cannot be made or written to.
    pub fn new(config: StoreConfig) -> io::Result<Arc<Store>> {
        let numbers = Arc::new(AtomicU32::new(0));
        let limit = config.memory_limit;
        let memory = Space::new(Kind::Memory, limit, config.segment_size, numbers.clone());
        let disk = match config.spill_dir {
            Some(dir) => {
                std::fs::create_dir_all(&dir)?;
                segment::Segment::on_disk(u32::MAX, 0, &dir)?;
                let (limit, size) = (config.disk_limit, config.spill_file_size);
                Some(Space::new(Kind::Disk(dir), limit, size, numbers))
            }
            None => None,
        };
        let (index, granted) = (DashMap::default(), Mutex::default());
        let spilled_total = AtomicU64::new(0);
        Ok(Arc::new(Store { index, memory, disk, spilled_total, granted }))
    }

    /// Grants an extent of at least `size` bytes (whole pages) to a writer, to be filled by it and
    /// then published. Its bytes are what was there before. It lies in memory; in a spill file when
    /// `on_disk`, and when memory is at its limit after all: pages and readers of freed objects
    /// take more than whoever asks can know.
    ///
    /// [`StoreError::Full`] when memory is at its limit and there is no spill directory.
    pub fn alloc(&self, writer: Writer, size: u64, on_disk: bool) -> Result<Extent, StoreError> {
        let (on_disk, lease) = match on_disk {
            true => (true, self.disk_lease(size)?),
            false => match self.lease(writer, size) {
                Err(StoreError::Full { .. }) if self.disk.is_some() => {
                    (true, self.disk_lease(size)?)
                }
                other => (false, other?),
            },
        };
        let extent = lease.extent(lease.len);
        let grant = Grant { writer, on_disk, lease };
        self.lock_granted().insert((extent.segment, extent.offset), grant);
        Ok(extent)
    }

    /// Makes what `writer` has written into the first `extent.len` bytes of a granted extent
    /// readable as `object`, from now on unchangeable; the rest of the grant is free again. An
    /// object that is there already stays as it is (a second attempt made it again), and the extent
    /// is free again.
    pub fn publish(
        &self,
        writer: Writer,
        object: ObjectId,
        codec: Codec,
        extent: Extent,
    ) -> Result<Where, StoreError> {
        let Grant { on_disk, mut lease, .. } = self.take_grant(writer, extent)?;
        lease.shrink(extent.len);
        if on_disk {
            self.spilled_total.fetch_add(extent.len, Ordering::Relaxed);
        }
        Ok(self.insert(object, codec, extent.len, on_disk, lease))
    }

    /// Copies `bytes` to the start of an extent that was granted to [`Writer::DAEMON`], by this
    /// process: in memory, or to its file.
    pub fn write(&self, extent: Extent, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_pieces(extent, &[bytes])
    }

    /// As [`Store::write`], of bytes that lie in several places: one piece behind the other.
    pub fn write_pieces(&self, extent: Extent, pieces: &[&[u8]]) -> Result<(), StoreError> {
        // The grant is out of the table while it is written, so that others are not kept waiting.
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut grant = self.take_grant(Writer::DAEMON, Extent { len, ..extent })?;
        let written = match grant.on_disk {
            true => grant.lease.range_mut().write_pieces(pieces),
            false => grant.lease.range_mut().fill().map(|mut room| {
                for piece in pieces {
                    let (here, behind) = room.split_at_mut(piece.len());
                    copy(here, piece);
                    room = behind;
                }
            }),
        };
        self.lock_granted().insert((extent.segment, extent.offset), grant);
        written.map_err(StoreError::Segment)
    }

    /// Takes over an extent that was granted to [`Writer::DAEMON`], to fill its first `size` bytes
    /// piece by piece. It is readable as an object after [`Store::finish`].
    pub fn fill(&self, extent: Extent, size: u64) -> Result<Filling, StoreError> {
        let whole = Extent { len: size, ..extent };
        let Grant { on_disk, lease, .. } = self.take_grant(Writer::DAEMON, whole)?;
        Ok(Filling::new(lease, on_disk, size))
    }

    /// Makes what was filled readable as `object`, from now on unchangeable: later writes are
    /// refused. An object that is there already stays as it is. Fails while somebody still writes.
    pub fn finish(
        &self,
        object: ObjectId,
        codec: Codec,
        filling: &Filling,
    ) -> Result<Where, StoreError> {
        filling.close()?;
        let (size, on_disk) = (filling.size, filling.on_disk);
        if on_disk {
            self.spilled_total.fetch_add(size, Ordering::Relaxed);
        }
        let new = Object { codec, size, on_disk, lease: filling.lease.clone() };
        Ok(self.index.entry(object).or_insert(new).place())
    }

    /// Gives a granted extent back, unpublished.
    pub fn release(&self, writer: Writer, extent: Extent) -> Result<(), StoreError> {
        self.take_grant(writer, extent).map(drop)
    }

    /// A writer is dead: what was granted to it and not published is free again. It must not be
    /// able to write any more.
    pub fn release_writer(&self, writer: Writer) {
        self.lock_granted().retain(|_, grant| grant.writer != writer);
    }

    /// Stores a copy of `bytes`, in memory, or on disk when memory is at its limit.
    pub fn put(&self, object: ObjectId, codec: Codec, bytes: &[u8]) -> Result<Where, StoreError> {
        match self.put_with(object, codec, bytes.len() as u64, |room| copy(room, bytes)) {
            Err(StoreError::Full { .. }) if self.disk.is_some() => {
                self.put_on_disk(object, codec, bytes)
            }
            other => other,
        }
    }

    /// Stores what `fill` writes into a slice of `size` bytes, in memory. The slice's content
    /// before is arbitrary.
    pub fn put_with(
        &self,
        object: ObjectId,
        codec: Codec,
        size: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Where, StoreError> {
        let mut lease = self.lease(Writer::DAEMON, size)?;
        fill(&mut lease.range_mut().fill()?[..size as usize]);
        Ok(self.insert(object, codec, size, false, lease))
    }

    /// The value of an object, `None` if the store has no such object. In memory it is read where
    /// it lies, and cannot be used again until all clones of the value's bytes are gone. A spilled
    /// object is read into the heap, and stays spilled.
    pub fn get(&self, object: ObjectId) -> Result<Option<Value>, StoreError> {
        // The entry is cloned, so that no lock of the index is held while a file is read.
        let Some(found) = self.index.get(&object).map(|entry| entry.clone()) else {
            return Ok(None);
        };
        let bytes = match found.on_disk {
            true => Bytes::from(read_back(object, &found)?),
            false => view(found.lease, found.size)?,
        };
        Ok(Some(Value { codec: found.codec, bytes }))
    }

    /// As [`Store::get`], but a spilled object is mapped too: it takes no memory but the system's
    /// cache of the file. A disk that fails under a reader kills it (SIGBUS).
    pub fn map(&self, object: ObjectId) -> Result<Option<Value>, StoreError> {
        let Some(found) = self.index.get(&object).map(|entry| entry.clone()) else {
            return Ok(None);
        };
        let bytes = view(found.lease, found.size)?;
        Ok(Some(Value { codec: found.codec, bytes }))
    }

    /// Where an object is; `None` if the store has no such object.
    pub fn place(&self, object: ObjectId) -> Option<Where> {
        self.index.get(&object).map(|entry| entry.place())
    }

    /// Writes an object to disk and lets go of its memory, which is free when its last reader has
    /// let go too. Returns its size in bytes. An object that is on disk already stays there.
    pub fn spill(&self, object: ObjectId) -> Result<u64, StoreError> {
        let found = self.object(object)?;
        if !found.on_disk {
            let bytes = found.lease.bytes()?;
            let lease = self.write_out(object, &bytes[..found.size as usize])?;
            self.replace(object, &found, true, lease);
        }
        Ok(found.size)
    }

    /// Writes a value that the caller has to disk, as `object`. An object that is there already
    /// stays as it is. Returns its size in bytes.
    pub fn spill_value(&self, object: ObjectId, value: &Value) -> Result<u64, StoreError> {
        self.put_on_disk(object, value.codec, &value.bytes)?;
        Ok(value.bytes.len() as u64)
    }

    /// Brings an object back from disk: into memory, or, up to
    /// [`INLINE_LIMIT`], out of the store into the caller's hands. One that is in memory stays
    /// there. When memory is at its limit it stays on disk, as in [`Store::load_in_place`].
    pub fn load(&self, object: ObjectId) -> Result<Loaded, StoreError> {
        let found = self.object(object)?;
        if found.on_disk && found.size <= INLINE_LIMIT as u64 {
            let bytes = Bytes::from(read_back(object, &found)?);
            self.index.remove(&object);
            return Ok(Loaded::Inline(Value { codec: found.codec, bytes }));
        }
        if found.on_disk {
            let mut lease = match self.lease(Writer::DAEMON, found.size) {
                Err(StoreError::Full { .. }) => return self.load_in_place(object),
                other => other?,
            };
            let room = &mut lease.range_mut().fill()?[..found.size as usize];
            found.lease.read(room).map_err(|source| unreadable(object, &found, source))?;
            self.replace(object, &found, false, lease);
        }
        match self.place(object) {
            Some(Where::Memory { extent, codec }) => Ok(Loaded::Extent { extent, codec }),
            // Somebody freed it, or spilled it again, in the meantime.
            _ => Err(StoreError::UnknownObject(object)),
        }
    }

    /// As [`Store::load`], but a large object stays on disk, where it can be mapped like any other.
    pub fn load_in_place(&self, object: ObjectId) -> Result<Loaded, StoreError> {
        let found = self.object(object)?;
        if found.on_disk && found.size <= INLINE_LIMIT as u64 {
            return self.load(object);
        }
        Ok(Loaded::Extent { extent: found.lease.extent(found.size), codec: found.codec })
    }

    /// Forgets an object. Its room is free when its last reader has let go. Says whether it was
    /// there.
    pub fn free(&self, object: ObjectId) -> bool {
        self.index.remove(&object).is_some()
    }

    /// A descriptor of a segment for another process. One that is not `writable` cannot be mapped
    /// for writing.
    pub fn segment_fd(&self, segment: u32, writable: bool) -> Result<OwnedFd, StoreError> {
        Ok(self.segment(segment)?.descriptor(writable)?)
    }

    /// Size of a segment in bytes.
    pub fn segment_size(&self, segment: u32) -> Result<u64, StoreError> {
        Ok(self.segment(segment)?.size)
    }

    /// How full the store is.
    pub fn stats(&self) -> StoreStats {
        let memory = self.memory.fill();
        let disk = self.disk.as_ref().map(|disk| disk.fill()).unwrap_or_default();
        StoreStats {
            objects: self.index.len(),
            used: memory.used,
            free_kept: memory.kept,
            peak: memory.peak,
            mapped: memory.mapped,
            segments: memory.segments,
            spilled: disk.used,
            spilled_total: self.spilled_total.load(Ordering::Relaxed),
            spill_kept: disk.kept,
            spill_files: disk.segments,
        }
    }

    /// Gives back to the system what has been free since before the last call: call it every some
    /// seconds. Returns the segments that are no more, which processes that map them should unmap.
    pub fn trim(&self) -> Vec<u32> {
        let mut dropped = self.memory.trim();
        dropped.extend(self.disk.iter().flat_map(|disk| disk.trim()));
        dropped
    }

    /// Nothing will be stored any more: forgets the objects that are not `held`, gives what is free
    /// back to the system, and from now on whatever becomes free.
    pub fn close(&self, held: impl Fn(ObjectId) -> bool) {
        self.index.retain(|object, _| held(*object));
        self.memory.close();
        self.disk.iter().for_each(|disk| disk.close());
    }

    fn lease(&self, writer: Writer, size: u64) -> Result<Lease, StoreError> {
        self.memory.lease(writer.0, size).map_err(|no_room| match no_room {
            NoRoom::Full { needed, used, limit } => StoreError::Full { needed, used, limit },
            NoRoom::Io(source) => StoreError::Segment(source),
        })
    }

    /// Room on disk. Disk blocks are nobody's in particular, so all of them are the daemon's.
    fn disk_lease(&self, size: u64) -> Result<Lease, StoreError> {
        let disk = self.disk.as_ref().ok_or(StoreError::NoSpillDir)?;
        disk.lease(Writer::DAEMON.0, size).map_err(|no_room| match no_room {
            NoRoom::Full { needed, used, limit } => StoreError::DiskFull { needed, used, limit },
            NoRoom::Io(source) => StoreError::DiskAlloc { size, source },
        })
    }

    fn write_out(&self, object: ObjectId, bytes: &[u8]) -> Result<Lease, StoreError> {
        let size = bytes.len() as u64;
        let unwritable = |source| StoreError::Write { object, size, source };
        let mut lease = self.disk_lease(size).map_err(|error| match error {
            StoreError::DiskAlloc { source, .. } => unwritable(source),
            other => other,
        })?;
        lease.range_mut().write(bytes).map_err(unwritable)?;
        self.spilled_total.fetch_add(size, Ordering::Relaxed);
        Ok(lease)
    }

    fn put_on_disk(
        &self,
        object: ObjectId,
        codec: Codec,
        bytes: &[u8],
    ) -> Result<Where, StoreError> {
        let lease = self.write_out(object, bytes)?;
        Ok(self.insert(object, codec, bytes.len() as u64, true, lease))
    }

    fn insert(
        &self,
        object: ObjectId,
        codec: Codec,
        size: u64,
        on_disk: bool,
        lease: Lease,
    ) -> Where {
        let new = Object { codec, size, on_disk, lease: Arc::new(lease) };
        self.index.entry(object).or_insert(new).place()
    }

    /// Moves an object to another lease, unless somebody else has moved or freed it meanwhile.
    fn replace(&self, object: ObjectId, old: &Object, on_disk: bool, lease: Lease) {
        if let Entry::Occupied(mut entry) = self.index.entry(object)
            && Arc::ptr_eq(&entry.get().lease, &old.lease)
        {
            entry.insert(Object { on_disk, lease: Arc::new(lease), ..*old });
        }
    }

    fn object(&self, object: ObjectId) -> Result<Object, StoreError> {
        let found = self.index.get(&object).map(|entry| entry.clone());
        found.ok_or(StoreError::UnknownObject(object))
    }

    fn segment(&self, number: u32) -> Result<Arc<segment::Segment>, StoreError> {
        let in_memory = self.memory.segment(number);
        let found = in_memory.or_else(|| self.disk.as_ref().and_then(|disk| disk.segment(number)));
        found.ok_or(StoreError::UnknownSegment(number))
    }

    /// Takes a grant away, if it is this writer's and not larger than it was.
    fn take_grant(&self, writer: Writer, extent: Extent) -> Result<Grant, StoreError> {
        let mut granted = self.lock_granted();
        let place = (extent.segment, extent.offset);
        match granted.get(&place) {
            Some(grant) if grant.writer == writer && extent.len <= grant.lease.len => {
                Ok(granted.remove(&place).expect("it was there a line ago"))
            }
            _ => Err(StoreError::NotGranted { writer, extent }),
        }
    }

    fn lock_granted(&self) -> MutexGuard<'_, HashMap<(u32, u64), Grant, FxBuildHasher>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object {
    fn place(&self) -> Where {
        let codec = self.codec;
        match self.on_disk {
            true => Where::Disk { size: self.size, codec },
            false => Where::Memory { extent: self.lease.extent(self.size), codec },
        }
    }
}

/// The bytes of an extent in memory, where they lie.
fn view(lease: Arc<Lease>, size: u64) -> Result<Bytes, StoreError> {
    lease.bytes()?;
    Ok(Bytes::from_owner(Reader { lease, size: size as usize }))
}

fn read_back(object: ObjectId, found: &Object) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; found.size as usize];
    found.lease.read(&mut bytes).map_err(|source| unreadable(object, found, source))?;
    Ok(bytes)
}

fn unreadable(object: ObjectId, found: &Object, source: io::Error) -> StoreError {
    StoreError::Read { object, size: found.size, source }
}

#[cfg(test)]
mod tests {
    use manyhands_proto::{JobId, Lane, TaskId};

    use super::*;

    #[test]
    fn pieces_lie_behind_each_other_in_memory_and_on_disk() {
        let spill_dir = Some(std::env::temp_dir());
        let store = Store::new(StoreConfig { spill_dir, ..Default::default() }).unwrap();
        let job = JobId(uuid::Uuid::from_u128(1));
        for on_disk in [false, true] {
            let object = TaskId { job, lane: Lane(1), seq: u64::from(on_disk) }.object(0);
            let extent = store.alloc(Writer::DAEMON, 5, on_disk).unwrap();
            store.write_pieces(extent, &[&[1, 2], &[], &[3, 4, 5]]).unwrap();
            let extent = Extent { len: 5, ..extent };
            store.publish(Writer::DAEMON, object, Codec::RAW, extent).unwrap();
            assert_eq!(store.get(object).unwrap().unwrap().bytes, [1, 2, 3, 4, 5][..]);
        }
    }

    #[test]
    fn an_object_that_was_freed_while_it_moved_stays_freed() {
        let store = Store::new(StoreConfig::default()).unwrap();
        let job = JobId(uuid::Uuid::from_u128(1));
        let object = TaskId { job, lane: Lane(1), seq: 0 }.object(0);
        store.put(object, Codec::RAW, &[1; 100]).unwrap();
        let found = store.object(object).unwrap();
        store.free(object);
        store.replace(object, &found, false, store.lease(Writer(1), 100).unwrap());
        assert_eq!(store.get(object).unwrap(), None);

        store.put(object, Codec::RAW, &[2; 100]).unwrap();
        store.replace(object, &found, false, store.lease(Writer(1), 100).unwrap());
        assert_eq!(store.get(object).unwrap().unwrap().bytes, [2; 100][..], "another's bytes");
        drop(found);
        assert_eq!(store.stats().used, 4096);
    }
}
