//! A connection to nobody: tests read what a session says and answer for the scheduler.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use manyhands_proto::client::{FromClient, Outcome, ToClient};
use manyhands_proto::graph::GraphBatch;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::{Lane, ObjectId, WorkerId};
use manyhands_transport::Source;

use crate::client::Client;
use crate::connection::{Connection, Stored};
use crate::session::Ends;

#[manyhands::task]
pub(crate) fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[manyhands::task]
pub(crate) fn sum(all: Vec<i64>) -> i64 {
    all.into_iter().sum()
}

#[manyhands::task(outputs)]
pub(crate) fn divide(a: i64, b: i64) -> (i64, i64) {
    (a / b, a % b)
}

/// The link, and what was stored over it.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) pokes: AtomicUsize,
    pub(crate) stored: Mutex<HashMap<ObjectId, Value>>,
    /// Answers at once to all that is said, as a scheduler on another thread would.
    pub(crate) drains: bool,
    session: Mutex<Option<Ends>>,
    pub(crate) drained: Mutex<Vec<FromClient>>,
}

impl Connection for Fake {
    fn attach(&self, session: Ends) {
        *self.session.lock().unwrap() = Some(session);
    }

    fn lane(&self) -> Lane {
        Lane(7)
    }

    fn poke(&self) {
        self.pokes.fetch_add(1, Ordering::Relaxed);
        if self.drains
            && let Some(session) = &*self.session.lock().unwrap()
        {
            session.drain(&mut self.drained.lock().unwrap());
        }
    }

    fn read_stored(&self, object: ObjectId, _stored: &Stored) -> Result<Value, String> {
        self.stored.lock().unwrap().get(&object).cloned().ok_or_else(|| "it is gone".to_owned())
    }

    fn put_stored(
        &self,
        object: ObjectId,
        meta: &ObjectMeta,
        pieces: &[&[u8]],
    ) -> Result<WorkerId, String> {
        let value = Value { codec: meta.codec, bytes: pieces.concat().into() };
        self.stored.lock().unwrap().insert(object, value);
        Ok(WorkerId(3))
    }

    fn close(&self) {}
}

/// A client over such a link; what opening its job said is taken already.
pub(crate) fn client() -> (Arc<Fake>, Client) {
    connected(Fake::default())
}

/// The same, with a link that takes what is said at once.
pub(crate) fn drained_client() -> (Arc<Fake>, Client) {
    connected(Fake { drains: true, ..Fake::default() })
}

fn connected(fake: Fake) -> (Arc<Fake>, Client) {
    let fake = Arc::new(fake);
    let client = Client::over(fake.clone(), "test").unwrap();
    let _ = said(&client);
    fake.drained.lock().unwrap().clear();
    (fake, client)
}

/// What the client says now.
pub(crate) fn said(client: &Client) -> Vec<FromClient> {
    let mut out = Vec::new();
    client.session.drain(&mut out);
    out
}

/// The batches among what the client says, which keep the rules.
pub(crate) fn batches(said: Vec<FromClient>) -> Vec<GraphBatch> {
    let batch = |message| match message {
        FromClient::Submit(batch) => Some(batch),
        _ => None,
    };
    let batches: Vec<GraphBatch> = said.into_iter().filter_map(batch).collect();
    batches.iter().for_each(|batch| batch.validate().unwrap());
    batches
}

/// Tells the client that an object is there.
pub(crate) fn give(client: &Client, object: ObjectId, value: i64) {
    let bytes = Bytes::from(rmp_serde::to_vec(&value).unwrap());
    end(client, object, Outcome::Value(Value { codec: Codec::MSGPACK, bytes }));
}

pub(crate) fn end(client: &Client, object: ObjectId, outcome: Outcome) {
    client.session.receive(vec![ToClient::Ended { ends: vec![(object, outcome)] }]);
}
