//! The objects that lie here, are on their way, or are needed by attempts here; and what they take.

use std::collections::BTreeSet;

use bytes::Bytes;
use manyhands_proto::executor::{Extent, Place};
use manyhands_proto::value::{Codec, Value};
use manyhands_proto::{ObjectId, WorkerId};

use crate::attempts::AttemptIx;
use crate::event::ExecutorId;
use crate::lanes::ByLane;
use crate::small::{Entry, Small};

/// Inline values up to this size (bytes) are not counted, and never spilled.
pub(crate) const UNCOUNTED: u64 = 4 << 10;

/// An object's number in the table. It stays valid while the object is pinned or needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectIx(pub(crate) u32);

/// One object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) id: ObjectId,
    pub(crate) size: u64,
    pub(crate) codec: Codec,
    /// Nobody needs it any more: it goes when its last pin does.
    pub(crate) doomed: bool,
    pub(crate) residence: Residence,
    /// Attempts that an executor has and that read it: it may be neither spilled nor freed.
    pub(crate) pins: u32,
    /// Attempts here, fed or not, that have it among their inputs.
    pub(crate) needed: u32,
    /// The smallest `order` of those.
    soonest: u64,
    last_use: u64,
    /// Its key among those that may be spilled.
    victim: Option<(bool, u64)>,
    /// What it was counted for in `evictable`.
    victim_charge: u64,
    pub(crate) waiters: Vec<Waiter>,
}

/// Where an object's bytes are.
#[derive(Debug)]
pub(crate) enum Residence {
    /// In the daemon's own memory.
    Inline(Bytes),
    /// In a segment; one that lies on disk counts nothing.
    Extent { extent: Extent, on_disk: bool },
    /// On its way to disk, and back at once if `reload` says so (into a file on disk?).
    Spilling { from: Spilled, reload: Option<bool> },
    /// On disk.
    Spilled,
    /// On its way back from disk.
    Loading { on_disk: bool },
    /// With these workers, and not here.
    Remote { workers: Vec<WorkerId> },
    /// On its way from a peer.
    Fetching { on_disk: bool, from: Option<WorkerId> },
    /// Freed or lost, and yet an attempt here needs it.
    Gone,
}

/// What is being spilled: if the disk refuses it is still there.
#[derive(Debug)]
pub(crate) enum Spilled {
    Inline(Bytes),
    Extent(Extent),
}

/// Who is told when an object has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter {
    /// An attempt that waits for its inputs.
    Input(AttemptIx, u32),
    /// A running attempt that asked to read it.
    Read(ExecutorId, AttemptIx, u32),
    /// The scheduler asked for its value.
    Send,
    /// The scheduler wants a copy to be here.
    Copy,
    /// A peer or a client wants to have it.
    Serve(u64),
}

impl Object {
    /// Too small to count.
    fn is_small(&self) -> bool {
        matches!(&self.residence, Residence::Inline(bytes) if bytes.len() as u64 <= UNCOUNTED)
    }

    /// It can be read now.
    pub(crate) fn is_resident(&self) -> bool {
        matches!(self.residence, Residence::Inline(_) | Residence::Extent { .. })
    }

    /// It is on its way, with its room reserved.
    pub(crate) fn is_coming(&self) -> bool {
        matches!(
            self.residence,
            Residence::Loading { .. }
                | Residence::Fetching { .. }
                | Residence::Spilling { reload: Some(_), .. }
        )
    }

    /// Where an executor finds it, if it is here.
    pub(crate) fn place(&self) -> Option<Place> {
        match &self.residence {
            Residence::Inline(bytes) => {
                Some(Place::Inline(Value { codec: self.codec, bytes: bytes.clone() }))
            }
            Residence::Extent { extent, .. } => {
                Some(Place::Extent { extent: *extent, codec: self.codec })
            }
            _ => None,
        }
    }

    /// Bytes of the store that it takes now, those reserved for its coming included.
    pub(crate) fn charge(&self) -> u64 {
        match &self.residence {
            Residence::Inline(bytes) | Residence::Spilling { from: Spilled::Inline(bytes), .. } => {
                inline_charge(bytes.len() as u64)
            }
            Residence::Extent { on_disk: true, .. } => 0,
            Residence::Extent { extent, .. }
            | Residence::Spilling { from: Spilled::Extent(extent), .. } => pages(extent.len),
            Residence::Loading { on_disk: false } | Residence::Fetching { on_disk: false, .. } => {
                pages(self.size)
            }
            _ => 0,
        }
    }

    /// Bytes reserved for its coming back while it is still going to disk.
    fn reload_charge(&self) -> u64 {
        match self.residence {
            Residence::Spilling { reload: Some(false), .. } => pages(self.size),
            _ => 0,
        }
    }
}

/// Whole pages, in bytes.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(4096).saturating_mul(4096)
}

fn inline_charge(bytes: u64) -> u64 {
    if bytes > UNCOUNTED { bytes } else { 0 }
}

/// The table, and the sums over it.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    slots: Vec<Option<Object>>,
    free: Vec<ObjectIx>,
    by_id: ByLane<Entry>,
    /// What may be spilled, the best to spill first: those that nobody here needs, longest unused
    /// first, then those needed latest.
    victims: BTreeSet<(bool, u64, ObjectIx)>,
    clock: u64,
    /// Bytes in memory or reserved there by objects.
    pub(crate) used: u64,
    /// Of these, bytes that spills under way will free.
    pub(crate) spilling: u64,
    /// Of these, bytes that could be spilled.
    pub(crate) evictable: u64,
    /// Bytes on disk.
    pub(crate) spilled: u64,
    /// Spills, loads and fetches under way.
    pub(crate) spills: u32,
    pub(crate) arrivals: u32,
}

impl Objects {
    /// An object's number. One that is nothing but its bytes gets a record by being asked for.
    pub(crate) fn find(&mut self, id: ObjectId) -> Option<ObjectIx> {
        match self.by_id.get(id)? {
            Entry::Known(ix) => Some(*ix),
            Entry::Small(small) => {
                let Value { codec, bytes } = small.value();
                let ix = self.next();
                *self.by_id.get_mut(id)? = Entry::Known(ix);
                self.place(ix, id, codec, bytes.len() as u64, Residence::Inline(bytes));
                Some(ix)
            }
        }
    }

    /// The value of an object that is nothing but its bytes.
    pub(crate) fn small(&self, id: ObjectId) -> Option<Value> {
        match self.by_id.get(id)? {
            Entry::Known(_) => None,
            Entry::Small(small) => Some(small.value()),
        }
    }

    /// An object that has a record.
    pub(crate) fn recorded(&self, id: ObjectId) -> Option<&Object> {
        match self.by_id.get(id)? {
            Entry::Known(ix) => Some(&self[*ix]),
            Entry::Small(_) => None,
        }
    }

    /// A number that is not in use.
    fn next(&mut self) -> ObjectIx {
        self.free.pop().unwrap_or(ObjectIx(self.slots.len() as u32))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes in a new object. Its id must not be in the table.
    pub(crate) fn insert(
        &mut self,
        id: ObjectId,
        codec: Codec,
        size: u64,
        residence: Residence,
    ) -> ObjectIx {
        let ix = self.next();
        self.by_id.insert(id, Entry::Known(ix));
        self.place(ix, id, codec, size, residence);
        ix
    }

    /// Takes in an object that is not in the table. The table's own if it is.
    pub(crate) fn insert_new(
        &mut self,
        id: ObjectId,
        codec: Codec,
        size: u64,
        residence: Residence,
    ) -> Result<(), (ObjectIx, Residence)> {
        if self.by_id.get(id).is_some() {
            return self.find(id).map_or(Ok(()), |known| Err((known, residence)));
        }
        self.insert(id, codec, size, residence);
        Ok(())
    }

    /// Takes in an object of a few bytes that is not in the table. `false`: it is, or has more
    /// bytes than a few.
    pub(crate) fn insert_small(&mut self, id: ObjectId, codec: Codec, bytes: &[u8]) -> bool {
        let Some(small) = Small::new(codec, bytes) else { return false };
        let new = self.by_id.get(id).is_none();
        if new {
            self.by_id.insert(id, Entry::Small(small));
        }
        new
    }

    fn place(&mut self, ix: ObjectIx, id: ObjectId, codec: Codec, size: u64, residence: Residence) {
        self.clock += 1;
        let object = Object {
            id,
            size,
            codec,
            doomed: false,
            residence,
            pins: 0,
            needed: 0,
            soonest: u64::MAX,
            last_use: self.clock,
            victim: None,
            victim_charge: 0,
            waiters: Vec::new(),
        };
        match self.slots.get_mut(ix.0 as usize) {
            Some(slot) => *slot = Some(object),
            None => self.slots.push(Some(object)),
        }
        if !self[ix].is_small() {
            self.count(ix, true);
            self.refresh_victim(ix);
        }
    }

    /// Forgets an object at once if that needs no more than that: most objects are small, and
    /// nobody uses them when they are freed. Else says which it is.
    pub(crate) fn remove_small(&mut self, id: ObjectId) -> Option<ObjectIx> {
        let ix = match self.by_id.remove(id)? {
            Entry::Small(_) => return None,
            Entry::Known(ix) => ix,
        };
        let object = &self[ix];
        let unused = object.pins == 0 && object.needed == 0 && object.waiters.is_empty();
        if !unused || !object.is_small() {
            self.by_id.insert(id, Entry::Known(ix));
            return Some(ix);
        }
        self.slots[ix.0 as usize] = None;
        self.free.push(ix);
        None
    }

    /// Moves an object to another residence, with all that is counted of it.
    pub(crate) fn set(&mut self, ix: ObjectIx, residence: Residence) -> Residence {
        self.count(ix, false);
        let before = std::mem::replace(&mut self[ix].residence, residence);
        self.count(ix, true);
        self.refresh_victim(ix);
        before
    }

    /// Adds an object to the sums, or takes it out of them.
    fn count(&mut self, ix: ObjectIx, add: bool) {
        let object = &self[ix];
        let used = object.charge() + object.reload_charge();
        let (mut spilling, mut spilled, mut spills, mut arrivals) = (0, 0, 0, 0);
        match object.residence {
            Residence::Spilling { .. } => (spilling, spills) = (object.charge(), 1),
            Residence::Spilled => spilled = object.size,
            Residence::Loading { .. } | Residence::Fetching { .. } => arrivals = 1,
            _ => {}
        }
        let sums =
            [(&mut self.used, used), (&mut self.spilling, spilling), (&mut self.spilled, spilled)];
        for (sum, part) in sums {
            *sum = if add { *sum + part } else { *sum - part };
        }
        for (sum, part) in [(&mut self.spills, spills), (&mut self.arrivals, arrivals)] {
            *sum = if add { *sum + part } else { *sum - part };
        }
    }

    /// Puts an object among those that may be spilled, at its right place, or takes it out.
    fn refresh_victim(&mut self, ix: ObjectIx) {
        let object = self.slots[ix.0 as usize].as_mut().expect("the number of a live object");
        let may = object.pins == 0
            && !object.doomed
            && matches!(
                object.residence,
                Residence::Inline(_) | Residence::Extent { on_disk: false, .. }
            )
            && object.charge() > 0;
        let key = match object.needed {
            _ if !may => None,
            0 => Some((false, object.last_use)),
            _ => Some((true, !object.soonest)),
        };
        if key == object.victim {
            return;
        }
        if let Some((needed, rank)) = object.victim.take() {
            self.evictable -= object.victim_charge;
            self.victims.remove(&(needed, rank, ix));
        }
        if let Some((needed, rank)) = key {
            object.victim = key;
            object.victim_charge = object.charge();
            self.evictable += object.victim_charge;
            self.victims.insert((needed, rank, ix));
        }
    }

    pub(crate) fn next_victim(&self) -> Option<ObjectIx> {
        self.victims.first().map(|(_, _, ix)| *ix)
    }

    /// An attempt here has it among its inputs.
    pub(crate) fn need(&mut self, ix: ObjectIx, order: u64) {
        let object = &mut self[ix];
        object.soonest = if object.needed == 0 { order } else { object.soonest.min(order) };
        object.needed += 1;
        self.refresh_victim(ix);
    }

    pub(crate) fn unneed(&mut self, ix: ObjectIx) {
        self[ix].needed -= 1;
        self.refresh_victim(ix);
        self.forget_if_gone(ix);
    }

    pub(crate) fn pin(&mut self, ix: ObjectIx) {
        self[ix].pins += 1;
        if self[ix].pins == 1 {
            self.refresh_victim(ix);
        }
    }

    /// Lets go of a pin. True if the object was freed meanwhile and goes now.
    pub(crate) fn unpin(&mut self, ix: ObjectIx) -> bool {
        self.clock += 1;
        let clock = self.clock;
        let object = &mut self[ix];
        object.pins -= 1;
        object.last_use = clock;
        let goes = object.pins == 0 && object.doomed;
        self.refresh_victim(ix);
        goes
    }

    pub(crate) fn doom(&mut self, ix: ObjectIx) {
        self[ix].doomed = true;
        self.refresh_victim(ix);
    }

    /// Somebody needs it again.
    pub(crate) fn revive(&mut self, ix: ObjectIx) {
        self[ix].doomed = false;
        self.refresh_victim(ix);
    }

    /// A spill under way is to be followed by a load; that has its room from now on.
    pub(crate) fn reload(&mut self, ix: ObjectIx, on_disk: bool) {
        self.count(ix, false);
        if let Residence::Spilling { reload, .. } = &mut self[ix].residence {
            *reload = Some(on_disk);
        }
        self.count(ix, true);
    }

    /// A spill did not work: the object is where it was.
    pub(crate) fn unspill(&mut self, ix: ObjectIx) {
        let Residence::Spilling { from, .. } = &self[ix].residence else { return };
        let back = match from {
            Spilled::Inline(bytes) => Residence::Inline(bytes.clone()),
            Spilled::Extent(extent) => Residence::Extent { extent: *extent, on_disk: false },
        };
        self.set(ix, back);
    }

    /// Whether the number is in use, by an object that is to go.
    pub(crate) fn is_doomed(&self, ix: ObjectIx) -> bool {
        self.slots[ix.0 as usize].as_ref().is_some_and(|o| o.doomed)
    }

    /// Gives the number back once nobody uses it.
    pub(crate) fn forget_if_gone(&mut self, ix: ObjectIx) {
        let object = &self[ix];
        let unused = object.pins == 0 && object.needed == 0 && object.waiters.is_empty();
        if unused && matches!(object.residence, Residence::Gone | Residence::Remote { .. }) {
            let id = object.id;
            self.slots[ix.0 as usize] = None;
            self.free.push(ix);
            self.by_id.remove(id);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ObjectIx, &Object)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(i, slot)| Some((ObjectIx(i as u32), slot.as_ref()?)))
    }

    pub(crate) fn sanity_check(&self) {
        let (mut used, mut spilling, mut spilled, mut live, mut victims) = (0, 0, 0, 0, 0);
        for (ix, object) in self.iter() {
            live += 1;
            let found = self.by_id.get(object.id);
            let found = matches!(found, Some(Entry::Known(known)) if *known == ix);
            assert!(found, "{} is not found by its id", object.id);
            used += object.charge() + object.reload_charge();
            match object.residence {
                Residence::Spilling { .. } => spilling += object.charge(),
                Residence::Spilled => spilled += object.size,
                _ => {}
            }
            if let Some((needed, rank)) = object.victim {
                victims += 1;
                assert!(object.pins == 0, "{} is pinned and may be spilled", object.id);
                assert!(self.victims.contains(&(needed, rank, ix)));
            }
            assert!(!object.doomed || object.pins > 0 || !object.is_resident(), "{}", object.id);
        }
        assert_eq!((used, spilling, spilled), (self.used, self.spilling, self.spilled));
        assert!(live <= self.by_id.len(), "more records than ids");
        assert_eq!(live, self.slots.len() - self.free.len());
        assert_eq!(victims, self.victims.len());
    }
}

impl std::ops::Index<ObjectIx> for Objects {
    type Output = Object;
    fn index(&self, ix: ObjectIx) -> &Object {
        self.slots[ix.0 as usize].as_ref().expect("the number of a live object")
    }
}

impl std::ops::IndexMut<ObjectIx> for Objects {
    fn index_mut(&mut self, ix: ObjectIx) -> &mut Object {
        self.slots[ix.0 as usize].as_mut().expect("the number of a live object")
    }
}
