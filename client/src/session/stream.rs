//! Streams: room for items of a task that makes them while it runs, and references to these.

use std::sync::Arc;

use manyhands_proto::ObjectId;
use manyhands_proto::client::{FromClient, ROOM_LIMIT};

use super::state::{Key, State};
use super::table::State as ObjectState;
use super::{Reference, Session};
use crate::error::Error;

impl Session {
    /// Gives the task of `end` (its first object) room for the items from number `from` to before
    /// `upto`: references to these, which the scheduler tells of without being asked. An item that never
    /// comes to be is told of as lost; what the task returns says how many there were.
    pub(crate) fn give_room(
        self: &Arc<Self>,
        end: &Reference,
        from: u64,
        upto: u64,
    ) -> Result<Vec<Reference>, Error> {
        let end = self.own_key(end)?;
        let mut state = self.lock();
        state.check_open()?;
        while state.graph_open {
            state = self.wait_drained(state, |state| !state.graph_open);
            state.check_open()?;
        }
        // The task first, and what was released before.
        state.flush();
        let task = state.object(end).task;
        let mut first = from;
        while first < upto {
            let behind = upto.min(first + ROOM_LIMIT);
            state.outbox.push(FromClient::Room { task, from: first, upto: behind });
            first = behind;
        }
        let keys = (from..upto).map(|number| state.expect_item(task.item(number)));
        let keys: Vec<Key> = keys.collect();
        self.poke(state);
        Ok(keys.into_iter().map(|key| Reference { session: self.clone(), key }).collect())
    }
}

impl State {
    /// One more reference to an item for which room is given: the session then holds and wants it.
    fn expect_item(&mut self, item: ObjectId) -> Key {
        let key = self.adopt(item, false);
        // That there is room says so.
        self.changes.pop_if(|change| *change == (item, true));
        if let Some(slot) = self.slot(key)
            && matches!(slot.state, ObjectState::Pending)
        {
            slot.state = ObjectState::Wanted;
        }
        key
    }
}
