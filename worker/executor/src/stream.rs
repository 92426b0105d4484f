//! Streams: objects that a task makes one after the other while it runs.
//!
//! `manyhands_proto::client` says how it goes. The task waits while there is no room, and lends its
//! slot away meanwhile.

use bytes::Bytes;
use manyhands_proto::client::{FromClient, PutPlace};
use manyhands_proto::value::{Codec, INLINE_LIMIT, ObjectMeta};
use manyhands_proto::{ObjectId, WorkerId};

use crate::context::{self, ContextError};

/// The stream that the running task makes.
#[derive(Debug)]
pub struct Items {
    made: u64,
}

impl Items {
    /// Says that the running task makes one. Once for an attempt.
    pub fn begin() -> Result<Items, ContextError> {
        context::send(FromClient::Stream)?;
        Ok(Items { made: 0 })
    }

    /// How many there are so far: what the task returns in the end.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Waits until there is room for the next item. Fails when the attempt shall stop.
    pub fn wait_for_room(&self) -> Result<(), ContextError> {
        context::block_for_room(self.made)
    }

    /// Hands over the next item, for which there is room. Its bytes lie in `pieces`, which are
    /// copied once; `contains` are the objects that it holds references to.
    pub fn put(
        &mut self,
        codec: Codec,
        contains: Vec<ObjectId>,
        pieces: &[&[u8]],
    ) -> Result<(), ContextError> {
        let task = context::current().ok_or(ContextError::NoTask)?.task;
        let (object, size) = (task.item(self.made), context::total(pieces));
        let place = if size > INLINE_LIMIT {
            context::put_stored_pieces(object, codec, pieces)?;
            // The worker that passes the message on is the one that has it.
            PutPlace::Stored(WorkerId(0))
        } else {
            PutPlace::Inline(Bytes::from(pieces.concat()))
        };
        let meta = ObjectMeta { codec, size: size as u64, contains };
        context::send(FromClient::Put { object, meta, place })?;
        // Somebody may be waiting for it, and the next one may take long.
        context::flush();
        self.made += 1;
        Ok(())
    }
}
