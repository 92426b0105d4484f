//! The virtual object store of one worker: what lies where, and how much memory that takes.
//!
//! It knows more than a real one, so that it can find out what a core must never order: an object
//! freed or spilled while somebody reads it, an extent used after its end, memory over the limit.

use manyhands_proto::ObjectId;
use manyhands_proto::executor::Extent;
use rustc_hash::FxHashMap;

/// Where the bytes of an extent are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    Memory,
    Disk,
}

#[derive(Debug)]
struct Room {
    len: u64,
    medium: Medium,
    /// What was written into it.
    hash: Option<u64>,
    object: Option<ObjectId>,
    readers: u32,
}

/// An object in the store, or on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its value.
    pub hash: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Where it lies, unless it was spilled.
    pub extent: Option<Extent>,
}

/// The store.
#[derive(Debug, Default)]
pub struct Store {
    rooms: FxHashMap<u32, Room>,
    objects: FxHashMap<ObjectId, Kept>,
    segments: u32,
    /// Bytes of extents in memory.
    pub used: u64,
    /// The most that `used` ever was.
    pub peak: u64,
    /// Bytes spilled, now.
    pub spilled: u64,
    /// Objects ever spilled.
    pub spills: u64,
}

impl Store {
    /// A fresh extent. Its number is never used again, so that a late reader is found out.
    pub fn allocate(&mut self, len: u64, on_disk: bool) -> Extent {
        let segment = self.segments;
        self.segments += 1;
        let medium = if on_disk { Medium::Disk } else { Medium::Memory };
        let room = Room { len, medium, hash: None, object: None, readers: 0 };
        self.rooms.insert(segment, room);
        if !on_disk {
            self.used += len;
            self.peak = self.peak.max(self.used);
        }
        Extent { segment, offset: 0, len }
    }

    /// Someone writes a value into an extent that it was granted.
    pub fn write(&mut self, extent: Extent, hash: u64) -> Result<(), String> {
        let room = self.rooms.get_mut(&extent.segment).ok_or("wrote to an extent that is gone")?;
        if extent.len > room.len {
            return Err(format!("wrote {} bytes to an extent of {}", extent.len, room.len));
        }
        if room.object.is_some() {
            return Err(format!("wrote over {:?}", room.object));
        }
        room.hash = Some(hash);
        Ok(())
    }

    /// A written extent becomes an object. What it does not need of the extent is given back.
    pub fn publish(&mut self, object: ObjectId, extent: Extent) -> Result<(), String> {
        if self.objects.contains_key(&object) {
            return self.drop_extent(extent);
        }
        let room = self.rooms.get_mut(&extent.segment).ok_or("published a lost extent")?;
        let hash = room.hash.ok_or("published an extent that nobody wrote")?;
        let surplus = room.len - extent.len;
        (room.len, room.object) = (extent.len, Some(object));
        if room.medium == Medium::Memory {
            self.used -= surplus;
        }
        let kept = Kept { hash, size: extent.len, extent: Some(extent) };
        self.objects.insert(object, kept);
        Ok(())
    }

    /// An extent that nobody published is given back.
    pub fn drop_extent(&mut self, extent: Extent) -> Result<(), String> {
        let Some(room) = self.rooms.remove(&extent.segment) else {
            return Err(format!("gave back extent {} twice", extent.segment));
        };
        if room.readers > 0 {
            return Err(format!("freed {:?}, which {} tasks read", room.object, room.readers));
        }
        if room.medium == Medium::Memory {
            self.used -= room.len;
        }
        Ok(())
    }

    /// A small object goes to disk: it was in the core's own memory.
    pub fn keep_on_disk(&mut self, object: ObjectId, hash: u64, size: u64) {
        self.spilled += size;
        self.spills += 1;
        self.objects.insert(object, Kept { hash, size, extent: None });
    }

    /// An object's bytes go to disk and its memory is free.
    pub fn spill(&mut self, object: ObjectId) -> Result<(), String> {
        let kept =
            *self.objects.get(&object).ok_or_else(|| format!("spilled {object}: not here"))?;
        let extent = kept.extent.ok_or_else(|| format!("spilled {object} twice"))?;
        self.drop_extent(extent)?;
        self.keep_on_disk(object, kept.hash, kept.size);
        Ok(())
    }

    /// An object leaves the disk.
    pub fn unspill(&mut self, object: ObjectId) -> Result<Kept, String> {
        match self.objects.get(&object) {
            Some(kept) if kept.extent.is_none() => {
                let kept = *kept;
                self.spilled -= kept.size;
                self.objects.remove(&object);
                Ok(kept)
            }
            _ => Err(format!("loaded {object}, which is not on disk")),
        }
    }

    /// Forgets an object.
    pub fn free(&mut self, object: ObjectId) -> Result<(), String> {
        let Some(kept) = self.objects.remove(&object) else {
            return Err(format!("freed {object}, which is not here"));
        };
        match kept.extent {
            Some(extent) => self.drop_extent(extent),
            None => {
                self.spilled -= kept.size;
                Ok(())
            }
        }
    }

    /// An object, if it is here.
    pub fn get(&self, object: ObjectId) -> Option<Kept> {
        self.objects.get(&object).copied()
    }

    /// What a reader finds in an extent.
    pub fn read(&self, extent: Extent) -> Result<u64, String> {
        let room = self.rooms.get(&extent.segment).ok_or("read an extent that is gone")?;
        room.hash.ok_or_else(|| "read an extent that nobody wrote".to_owned())
    }

    /// Somebody maps an extent.
    pub fn pin(&mut self, extent: Extent) {
        if let Some(room) = self.rooms.get_mut(&extent.segment) {
            room.readers += 1;
        }
    }

    /// Somebody lets go of an extent.
    pub fn unpin(&mut self, extent: Extent) {
        if let Some(room) = self.rooms.get_mut(&extent.segment) {
            room.readers -= 1;
        }
    }

    /// What is left, for the search for leaks: objects and bare extents, in words.
    pub fn remains(&self) -> Vec<String> {
        let mut remains: Vec<String> =
            self.objects.keys().map(|object| object.to_string()).collect();
        let bare = self.rooms.iter().filter(|(_, room)| room.object.is_none());
        remains.extend(bare.map(|(segment, room)| format!("extent {segment} of {}", room.len)));
        remains.sort();
        remains
    }
}
