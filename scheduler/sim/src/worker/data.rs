//! What a virtual worker does with data: grants, puts, copies, the disk.

use super::*;

impl Worker {
    pub(super) fn grant(
        &mut self,
        executor: ExecutorId,
        request: u64,
        size: u64,
        on_disk: bool,
        world: &mut World,
    ) {
        if executor == ExecutorId::CLIENT {
            return self.grant_client(request, size, on_disk, world);
        }
        if !self.executors.get(&executor).is_some_and(|found| found.alive) {
            return world.tell(self.number, 0, Event::Granted { executor, request, extent: None });
        }
        let extent = self.store.allocate(size, on_disk);
        self.check_limit(world);
        world.tell(self.number, 0, Event::Granted { executor, request, extent: Some(extent) });
        self.with(executor, world, |it, around| it.granted(request, Ok(extent), around));
    }

    pub(super) fn check_limit(&self, world: &mut World) {
        let (used, limit) = (self.store.used, self.config.spec.store_limit);
        if used > limit {
            world.fail(format!("worker {} has {used} bytes in a store of {limit}", self.number));
        }
    }

    /// A client in this process has a large value to put.
    pub fn put(&mut self, put: PutPlan, world: &mut World) {
        let (executor, request) = (ExecutorId::CLIENT, self.requests);
        self.requests += 1;
        let (task, size) = (put.object.task, put.size);
        self.puts.insert(request, put);
        self.deliver(Event::AllocRequested { executor, request, task, size }, world);
    }

    pub(super) fn grant_client(
        &mut self,
        request: u64,
        size: u64,
        on_disk: bool,
        world: &mut World,
    ) {
        let executor = ExecutorId::CLIENT;
        let Some(put) = self.puts.remove(&request) else {
            return world.fail(format!("put {request} was granted twice"));
        };
        let extent = self.store.allocate(size, on_disk);
        self.check_limit(world);
        world.tell(self.number, 0, Event::Granted { executor, request, extent: Some(extent) });
        let wrote = self.store.write(extent, world.plan.value(put.object).unwrap_or(0));
        world.check("put", wrote.and_then(|()| self.store.publish(put.object, extent)));
        let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
        let event = Event::Stored {
            object: put.object,
            meta: meta.clone(),
            extent: Some(extent),
            executor,
        };
        world.tell(self.number, 0, event);
        let place = PutPlace::Stored(WorkerId(self.number as u32));
        let message = FromClient::Put { object: put.object, meta, place };
        self.placed.push((put, message));
    }

    /// Brings bytes into this worker's memory.
    pub(super) fn lay_down(
        &mut self,
        object: ObjectId,
        hash: u64,
        size: u64,
        on_disk: bool,
        world: &mut World,
    ) -> LocalValue {
        if is_inline(size) {
            return LocalValue::Inline(encode_value(hash, size));
        }
        if self.store.get(object).is_some() {
            world.fail(format!("worker {} brought in {object}, which it has", self.number));
        }
        let extent = self.store.allocate(size, on_disk);
        self.check_limit(world);
        let wrote = self.store.write(extent, hash);
        world.check("copy", wrote.and_then(|()| self.store.publish(object, extent)));
        LocalValue::Extent { extent, codec: Codec::RAW }
    }

    /// The value and size of an object that a peer asks for.
    pub fn serve(&self, object: ObjectId) -> Option<(u64, u64)> {
        if let Some(kept) = self.store.get(object) {
            return Some((kept.hash, kept.size));
        }
        let value = self.core.value(object)?;
        decode_value(&value).map(|hash| (hash, value.bytes.len() as u64))
    }

    pub(super) fn disk_us(&self, object: ObjectId, world: &mut World) -> u64 {
        let size = self.store.get(object).map_or(0, |kept| kept.size);
        50 + world.rng.below(50) + size * 1_000_000 / world.faults.disk_bandwidth
    }

    pub(super) fn spill(&mut self, object: ObjectId, value: Option<Value>, world: &mut World) {
        let us = self.disk_us(object, world);
        world.after(us, Happening::Spilled { worker: self.number, object, value });
    }

    /// The disk has written an object.
    pub fn spilled(&mut self, object: ObjectId, value: Option<Value>, world: &mut World) {
        let ok = !world.rng.chance(world.faults.spill_failure);
        if ok {
            let done = match value {
                Some(value) => {
                    let hash = decode_value(&value).unwrap_or(0);
                    self.store.keep_on_disk(object, hash, value.bytes.len() as u64);
                    Ok(())
                }
                None => self.store.spill(object),
            };
            world.check(&format!("worker {}", self.number), done);
        }
        self.deliver(Event::Spilled { object, ok }, world);
    }

    /// The disk has read an object.
    pub fn loaded(&mut self, object: ObjectId, on_disk: bool, world: &mut World) {
        let result = match self.store.unspill(object) {
            Ok(kept) => Ok(self.lay_down(object, kept.hash, kept.size, on_disk, world)),
            Err(what) => {
                world.fail(format!("worker {}: {what}", self.number));
                Err(what)
            }
        };
        self.deliver(Event::Loaded { object, result }, world);
    }
}
