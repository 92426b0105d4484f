//! How a client in the worker's own process puts large values: it asks the worker's loop for room,
//! as executors do, writes into the extent itself, and says so.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use manyhands_proto::executor::Extent;
use manyhands_proto::value::{ObjectMeta, Value};
use manyhands_proto::{ObjectId, TaskId};
use manyhands_store::{Store, Writer};
use manyhands_transport::Sender;

use crate::shell::{Input, Mail};

/// Answers whoever wants room: with an extent and the number of its request, or with why there is
/// none. Says whether there was still somebody to answer.
pub(crate) type PutGrant = Box<dyn FnOnce(Result<(u64, Extent), String>) -> bool + Send>;

/// Clients that wait for room, by the number of their request.
#[derive(Default)]
pub(crate) struct GrantWaiters {
    next: u64,
    waiting: HashMap<u64, PutGrant>,
}

impl GrantWaiters {
    pub(crate) fn wait(&mut self, grant: PutGrant) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, grant);
        self.next
    }

    /// `false`: nobody waits for it any more.
    pub(crate) fn answer(&mut self, request: u64, answer: Result<Extent, String>) -> bool {
        let Some(grant) = self.waiting.remove(&request) else { return false };
        grant(answer.map(|extent| (request, extent)))
    }
}

/// A client's way to the large objects of the worker in its own process.
#[derive(Clone)]
pub struct Shelf {
    store: Arc<Store>,
    inbox: Sender<Input>,
}

impl Shelf {
    /// The shelf of the worker that `mail` belongs to.
    pub fn new(store: Arc<Store>, mail: &Mail) -> Shelf {
        Shelf { store, inbox: mail.sender() }
    }

    /// A value that lies in the store, mapped and not copied; read from disk if it was spilled.
    pub fn read(&self, object: ObjectId) -> io::Result<Value> {
        let value = self.store.get(object).map_err(io::Error::other)?;
        value.ok_or_else(|| io::Error::other(format!("object {object} is not in the store")))
    }

    /// Writes a value into the store, one piece behind the other. Waits while there is no room.
    pub fn write(&self, object: ObjectId, meta: &ObjectMeta, pieces: &[&[u8]]) -> io::Result<()> {
        let (codec, size) = (meta.codec, pieces.iter().map(|piece| piece.len() as u64).sum());
        let extent = self.room(object.task, size)?;
        self.store.write_pieces(extent, pieces).map_err(io::Error::other)?;
        let extent = Extent { len: size, ..extent };
        self.store.publish(Writer::DAEMON, object, codec, extent).map_err(io::Error::other)?;
        self.tell(Input::Put { object, meta: meta.clone(), extent })
    }

    /// Says where the file of a program, or of an archive of modules, is that has this hash. It has
    /// to stay there. Comes before any task that is submitted afterwards.
    pub fn offer_program(&self, program: u128, path: PathBuf) -> io::Result<()> {
        self.tell(Input::Program { program, path })
    }

    fn room(&self, task: TaskId, size: u64) -> io::Result<Extent> {
        let (answer, granted) = mpsc::sync_channel(1);
        let grant = Box::new(move |granted| answer.send(granted).is_ok());
        self.tell(Input::PutRequested { task, size, grant })?;
        let answer = granted.recv().map_err(|_| gone())?;
        let (_, extent) = answer.map_err(io::Error::other)?;
        Ok(extent)
    }

    fn tell(&self, input: Input) -> io::Result<()> {
        self.inbox.send(input).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the local cluster has stopped")
}
