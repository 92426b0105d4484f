//! How a virtual worker fetches objects: from one source after the other, until one has given it
//! all.

use super::*;

/// An object on its way to a worker.
#[derive(Debug)]
pub(super) struct Transfer {
    number: u64,
    size: u64,
    on_disk: bool,
    /// From whom it comes now.
    from: usize,
    /// Who else may have it.
    left: Vec<WorkerId>,
}

/// Somebody who wanted an object that only the core knows of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    asker: usize,
    object: ObjectId,
    number: u64,
}

/// What is heard of a source at the end.
#[derive(Clone, Copy, Debug)]
pub enum Heard {
    /// All the bytes: the value and its size.
    All(u64, u64),
    /// That it does not have the object.
    NotThere,
    /// Nothing.
    Silence,
}

impl Worker {
    pub(super) fn fetch(
        &mut self,
        object: ObjectId,
        mut workers: Vec<WorkerId>,
        size: u64,
        on_disk: bool,
        world: &mut World,
    ) {
        if workers.is_empty() {
            return world.fail(format!("worker {} fetches {object} from nobody", self.number));
        }
        // Any of them may come first.
        let first = world.rng.below(workers.len() as u64) as usize;
        workers.rotate_left(first);
        workers.reverse();
        let unknown = |it: &&WorkerId| !self.met.contains(it);
        if !self.config.spec.addresses.is_empty()
            && let Some(stranger) = workers.iter().find(unknown)
        {
            world.fail(format!("worker {} was never told where {stranger} is", self.number));
        }
        let (number, from) = (self.transfers_begun, self.number);
        let transfer = Transfer { number, size, on_disk, from, left: workers };
        if self.transfers.insert(object, transfer).is_some() {
            return world.fail(format!("worker {} fetches {object} twice", self.number));
        }
        self.try_next(object, 0, world);
    }

    /// Turns to the next source after so many microseconds, or gives up if there is none.
    fn try_next(&mut self, object: ObjectId, us: u64, world: &mut World) {
        let Some(transfer) = self.transfers.get_mut(&object) else { return };
        let Some(source) = transfer.left.pop() else {
            self.transfers.remove(&object);
            let result = Err("no worker that was named has it".to_owned());
            return self.deliver(Event::Fetched { object, result }, world);
        };
        transfer.from = source.0 as usize;
        transfer.number = self.transfers_begun;
        self.transfers_begun += 1;
        let at = world.transfer(transfer.from, self.number, transfer.size);
        let (worker, number) = (self.number, transfer.number);
        world.agenda.at(at + us, Happening::Arriving { worker, object, number });
    }

    /// From whom an object comes that would be here by now, if it is still that transfer.
    pub fn source_of(&self, object: ObjectId, number: u64) -> Option<usize> {
        let transfer = self.transfers.get(&object);
        transfer.filter(|transfer| transfer.number == number).map(|transfer| transfer.from)
    }

    /// What was heard of the source of that transfer, if it is still under way.
    pub fn heard(&mut self, object: ObjectId, number: u64, heard: Heard, world: &mut World) {
        if self.source_of(object, number).is_none() {
            return;
        }
        let broken = world.rng.chance(world.faults.fetch_failure);
        match heard {
            Heard::All(hash, size) if !broken => self.arrived_whole(object, hash, size, world),
            Heard::NotThere => self.try_next(object, 0, world),
            _ => {
                let us = world.rng.scaled(1_000, 3_000_000);
                self.try_next(object, us, world);
            }
        }
    }

    /// Another worker wants an object: what is known at once, or nothing while the core is asked.
    pub fn wanted(
        &mut self,
        asker: usize,
        object: ObjectId,
        number: u64,
        world: &mut World,
    ) -> Option<Heard> {
        if let Some(kept) = self.store.get(object) {
            return Some(Heard::All(kept.hash, kept.size));
        }
        let ticket = self.transfers_begun;
        self.transfers_begun += 1;
        self.tickets.insert(ticket, Ticket { asker, object, number });
        self.deliver(Event::Wanted { ticket, object }, world);
        None
    }

    /// The core answers somebody who wanted an object.
    pub(super) fn serve_ticket(&mut self, ticket: u64, value: Option<Value>, world: &mut World) {
        let Some(Ticket { asker, object, number }) = self.tickets.remove(&ticket) else {
            return world.fail(format!("worker {} served ticket {ticket} twice", self.number));
        };
        let found = match value {
            Some(value) => decode_value(&value).map(|hash| (hash, value.bytes.len() as u64)),
            None => self.store.get(object).map(|kept| (kept.hash, kept.size)),
        };
        let heard = found.map_or(Heard::NotThere, |(hash, size)| Heard::All(hash, size));
        let us = world.faults.weather.latency_us;
        world.after(us, Happening::Heard { worker: asker, object, number, heard });
    }

    /// Those who waited for an answer from here hear nothing.
    pub(super) fn fall_silent(&mut self, world: &mut World) {
        for Ticket { asker, object, number } in std::mem::take(&mut self.tickets).into_values() {
            world.after(
                0,
                Happening::Heard { worker: asker, object, number, heard: Heard::Silence },
            );
        }
    }

    fn arrived_whole(&mut self, object: ObjectId, hash: u64, size: u64, world: &mut World) {
        let Some(transfer) = self.transfers.remove(&object) else { return };
        let plan = std::rc::Rc::clone(&world.plan);
        let contains = plan.by_id.get(&object.task).filter(|_| object.index == 0);
        let contains = contains.map(|&no| nested::handed_over(&plan, no)).unwrap_or_default();
        let meta = ObjectMeta { codec: Codec::RAW, size, contains };
        let value = match self.store.get(object).map(|kept| kept.extent) {
            None => self.lay_down(object, hash, size, transfer.on_disk, world),
            // It was made here meanwhile: what has come is dropped.
            Some(Some(extent)) => LocalValue::Extent { extent, codec: Codec::RAW },
            Some(None) => {
                let result = Err("it is here, on disk".to_owned());
                return self.deliver(Event::Fetched { object, result }, world);
            }
        };
        self.deliver(Event::Fetched { object, result: Ok((meta, value)) }, world);
    }
}
