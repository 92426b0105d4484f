//! What others find at this worker, and where they put things.

use std::sync::{Arc, Mutex, PoisonError};

use manyhands_proto::ObjectId;
use manyhands_proto::executor::Extent;
use manyhands_proto::link::Key;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_store::Store;
use manyhands_transport::Sender;
use manyhands_transport::bulk::{BoxFuture, Held, Shelves, Sink};
use tokio::sync::oneshot;

use super::sinks::{IntoPrograms, Room};
use crate::programs::Programs;
use crate::shell::Input;

/// The shelves of a daemon, through all its sessions.
pub(crate) struct OpenShelves {
    programs: Arc<Programs>,
    session: Mutex<Option<Session>>,
}

/// What there is while the daemon has a session with the scheduler.
#[derive(Clone)]
struct Session {
    store: Arc<Store>,
    inbox: Sender<Input>,
    /// The worker drains: what a client would put here now might be lost before the scheduler knows
    /// of it.
    drains: bool,
}

impl OpenShelves {
    pub(crate) fn new(programs: Arc<Programs>) -> OpenShelves {
        OpenShelves { programs, session: Mutex::new(None) }
    }

    /// A session begins: this is its store, and its worker's mailbox.
    pub(crate) fn open(&self, store: Arc<Store>, inbox: Sender<Input>) {
        let session = Some(Session { store, inbox, drains: false });
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// It is over: nothing of it can be had any more.
    pub(crate) fn close(&self) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// From now on, in this session, clients can put no objects here.
    pub(crate) fn refuse_objects(&self) {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = session.as_mut() {
            session.drains = true;
        }
    }

    fn session(&self) -> Option<Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shelves for OpenShelves {
    fn find(&self, key: Key) -> BoxFuture<'_, Option<Held>> {
        Box::pin(async move {
            match key {
                Key::Object(object) => self.session()?.find(object).await,
                Key::Program(program) => {
                    let bytes = self.programs.bytes(program)?;
                    Some(held(Value { codec: Codec::RAW, bytes }))
                }
            }
        })
    }

    fn accept(&self, key: Key, meta: ObjectMeta) -> BoxFuture<'_, Result<Arc<dyn Sink>, String>> {
        Box::pin(async move {
            let session = self.session().ok_or_else(gone)?;
            match key {
                Key::Object(object) => session.accept(object, meta.size).await,
                Key::Program(program) => {
                    let sink = IntoPrograms::new(self.programs.clone(), program, session.inbox);
                    let sink = sink.map_err(|error| error.to_string())?;
                    Ok(Arc::new(sink) as Arc<dyn Sink>)
                }
            }
        })
    }
}

impl Session {
    async fn find(&self, object: ObjectId) -> Option<Held> {
        if let Some(value) = self.in_store(object) {
            return Some(held(value));
        }
        let (told, answer) = oneshot::channel();
        let answer_to = Box::new(move |value| drop(told.send(value)));
        self.inbox.send(Input::Wanted { object, answer: answer_to }).ok()?;
        // It may have come into the store meanwhile.
        let value = answer.await.ok()?.or_else(|| self.in_store(object))?;
        Some(held(value))
    }

    fn in_store(&self, object: ObjectId) -> Option<Value> {
        self.store.map(object).unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        })
    }

    /// Waits until the core has room for it.
    async fn accept(&self, object: ObjectId, size: u64) -> Result<Arc<dyn Sink>, String> {
        if self.drains {
            return Err("this worker is about to leave".to_owned());
        }
        let (told, answer) = oneshot::channel();
        let (store, inbox) = (self.store.clone(), self.inbox.clone());
        let grant = Box::new(move |granted: Result<(u64, Extent), String>| {
            // The sender may have left by now, or leave before it learns of it: the room knows.
            let room = granted.map(|(request, extent)| Room::new(store, inbox, request, extent));
            let _ = told.send(room);
            true
        });
        let request = Input::PutRequested { task: object.task, size, grant };
        self.inbox.send(request).map_err(|_| gone())?;
        let room = answer.await.map_err(|_| gone())??;
        let upload = room.take(object, size).map_err(|error| error.to_string())?;
        Ok(Arc::new(upload))
    }
}

fn held(value: Value) -> Held {
    // What an object contains is known to the scheduler, which alone uses it.
    let size = value.bytes.len() as u64;
    let meta = ObjectMeta { codec: value.codec, size, contains: Vec::new() };
    Held { meta, bytes: value.bytes }
}

fn gone() -> String {
    "this worker has no session with the scheduler now".to_owned()
}
