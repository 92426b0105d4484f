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
    /// `upto`: references to these, which the scheduler tells of without being asked. An item that
    /// never comes to be is told of as lost; what the task returns says how many there were.
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

#[cfg(test)]
mod tests {
    use manyhands_proto::client::{FromClient, ROOM_LIMIT};

    use crate::handle::Handle;
    use crate::testing::{add, client, give, said};

    #[test]
    fn room_follows_its_task_and_an_item_that_is_dropped_is_released() {
        let (_, client) = client();
        let end = add::submit(&client, 1, 2).unwrap();
        let task = end.id().task;
        let items = client.session.give_room(&end.reference, 0, 2).unwrap();
        let said_first = said(&client);
        let [.., FromClient::Submit(_), room] = &said_first[..] else { panic!("{said_first:?}") };
        assert_eq!(*room, FromClient::Room { task, from: 0, upto: 2 });
        let mut items = items.into_iter().map(Handle::<i64>::new);
        let first = items.next().unwrap();
        assert_eq!(first.id(), task.item(0));
        assert!(!first.is_done());
        give(&client, task.item(0), 40);
        assert_eq!(first.get().unwrap(), 40);
        assert_eq!(said(&client), [], "it was wanted from the beginning");
        drop(first);
        client.session.give_room(&end.reference, 2, 3).unwrap().pop();
        let objects = vec![task.item(0)];
        let room = FromClient::Room { task, from: 2, upto: 3 };
        let last = FromClient::Release { objects: vec![task.item(2)] };
        assert_eq!(said(&client), [FromClient::Release { objects }, room, last]);
    }

    #[test]
    fn much_room_is_given_in_pieces() {
        let (_, client) = client();
        let end = add::submit(&client, 1, 2).unwrap();
        let items = client.session.give_room(&end.reference, 0, ROOM_LIMIT + 1).unwrap();
        let rooms: Vec<(u64, u64)> = said(&client)
            .iter()
            .filter_map(|message| match message {
                FromClient::Room { from, upto, .. } => Some((*from, *upto)),
                _ => None,
            })
            .collect();
        assert_eq!(rooms, [(0, ROOM_LIMIT), (ROOM_LIMIT, ROOM_LIMIT + 1)]);
        assert_eq!(items.len() as u64, ROOM_LIMIT + 1);
    }
}
