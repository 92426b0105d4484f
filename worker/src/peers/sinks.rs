//! Where bytes go as they come.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use manyhands_proto::ObjectId;
use manyhands_proto::executor::Extent;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_store::{Filling, Loaded, Store, StoreError, Where, Writer};
use manyhands_transport::Sender;
use manyhands_transport::bulk::{BoxFuture, Sink};
use manyhands_worker_core::event::{ExecutorId, LocalValue};
use manyhands_worker_core::{Event, ProgramNews};

use crate::programs::{Coming, Programs, Refusal};
use crate::shell::Input;

/// A sink for what the worker fetches for itself.
pub(super) trait Fetched: Sink {
    /// Where it is now. Called once, after all has come.
    fn value(&self, codec: Codec) -> LocalValue;
}

/// A small object, which the core keeps itself.
pub(super) struct IntoMemory {
    bytes: Mutex<Vec<u8>>,
}

impl IntoMemory {
    pub(super) fn new(size: u64) -> IntoMemory {
        IntoMemory { bytes: Mutex::new(vec![0; size as usize]) }
    }
}

impl Sink for IntoMemory {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut room = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let end = (offset as usize).checked_add(bytes.len());
        let range = end.and_then(|end| room.get_mut(offset as usize..end));
        range.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, _offset: u64, _length: usize) -> io::Result<Bytes> {
        // It is one chunk, and given on when it is there.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn finish(&self, _meta: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn abort(&self) {}
}

impl Fetched for IntoMemory {
    fn value(&self, codec: Codec) -> LocalValue {
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        LocalValue::Inline(Value { codec, bytes: bytes.into() })
    }
}

/// A large object, written to where it will be read.
pub(super) struct IntoExtent {
    store: Arc<Store>,
    object: ObjectId,
    filling: Filling,
}

impl IntoExtent {
    pub(super) fn new(store: Arc<Store>, object: ObjectId, filling: Filling) -> IntoExtent {
        IntoExtent { store, object, filling }
    }
}

impl Sink for IntoExtent {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.filling.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.filling.read_at(offset, length)
    }

    fn finish(&self, meta: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        let kept = self.store.finish(self.object, meta.codec, &self.filling);
        Box::pin(std::future::ready(kept.map(drop).map_err(|error| error.to_string())))
    }

    // The extent is free again when the last part of the transfer has let go of it.
    fn abort(&self) {}
}

impl Fetched for IntoExtent {
    fn value(&self, codec: Codec) -> LocalValue {
        // An object that was there already lies elsewhere than what has come now.
        let extent = match self.store.place(self.object) {
            Some(Where::Memory { extent, .. }) => Some(extent),
            Some(Where::Disk { .. }) => match self.store.load_in_place(self.object) {
                Ok(Loaded::Extent { extent, .. }) => Some(extent),
                _ => None,
            },
            None => None,
        };
        let extent = extent.unwrap_or(self.filling.extent());
        LocalValue::Extent { extent, codec }
    }
}

/// Room that the core has granted for an upload. It comes back when this is dropped, unless it
/// holds an object by then.
pub(super) struct Room {
    store: Arc<Store>,
    inbox: Sender<Input>,
    request: u64,
    extent: Extent,
    settled: AtomicBool,
}

impl Room {
    pub(super) fn new(
        store: Arc<Store>,
        inbox: Sender<Input>,
        request: u64,
        extent: Extent,
    ) -> Room {
        Room { store, inbox, request, extent, settled: AtomicBool::new(false) }
    }

    /// Takes an object of so many bytes in there.
    pub(super) fn take(self, object: ObjectId, size: u64) -> Result<Upload, StoreError> {
        let filling = self.store.fill(self.extent, size)?;
        let into = IntoExtent::new(self.store.clone(), object, filling);
        Ok(Upload { into, room: self })
    }

    fn settle(&self, event: Event) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            // A worker that is gone has forgotten it.
            let _ = self.inbox.send(Input::Event(event));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let (executor, request) = (ExecutorId::CLIENT, self.request);
        self.settle(Event::Granted { executor, request, extent: None });
        // An extent that was taken over is no longer granted, and comes back by itself.
        let _ = self.store.release(Writer::DAEMON, self.extent);
    }
}

/// A large object that a client sends: room was granted for it by the core, which is told what
/// became of it.
pub(super) struct Upload {
    into: IntoExtent,
    room: Room,
}

impl Sink for Upload {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.into.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.into.read_at(offset, length)
    }

    fn finish(&self, meta: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        let kept = self.into.store.finish(self.into.object, meta.codec, &self.into.filling);
        let result = kept.map_err(|error| error.to_string()).map(|_| {
            let (object, extent) = (self.into.object, Some(self.into.filling.extent()));
            let (meta, executor) = (meta.clone(), ExecutorId::CLIENT);
            self.room.settle(Event::Stored { object, meta, extent, executor });
        });
        Box::pin(std::future::ready(result))
    }

    // The room comes back when the last part of the transfer has let go of it.
    fn abort(&self) {}
}

/// A program, from a peer or a client. The core is told what became of it.
pub(super) struct IntoPrograms {
    programs: Arc<Programs>,
    program: u128,
    coming: Arc<Coming>,
    inbox: Sender<Input>,
    told: AtomicBool,
}

impl IntoPrograms {
    pub(super) fn new(
        programs: Arc<Programs>,
        program: u128,
        inbox: Sender<Input>,
    ) -> io::Result<IntoPrograms> {
        let coming = Arc::new(programs.begin()?);
        Ok(IntoPrograms { programs, program, coming, inbox, told: AtomicBool::new(false) })
    }

    /// It did not come.
    pub(super) fn fail(&self, message: String) {
        self.tell(ProgramNews::NotFetched { message });
    }

    fn tell(&self, news: ProgramNews) {
        if !self.told.swap(true, Ordering::Relaxed) {
            self.send(self.program, news);
        }
    }

    fn send(&self, program: u128, news: ProgramNews) {
        // A worker that is gone needs no program.
        let _ = self.inbox.send(Input::Event(Event::Program { program, news }));
    }

    fn settle(&self, kept: Result<Vec<u128>, Refusal>) -> Result<(), String> {
        match kept {
            Ok(gone) => {
                gone.into_iter().for_each(|program| self.send(program, ProgramNews::Gone));
                self.tell(ProgramNews::Here);
                Ok(())
            }
            Err(Refusal::NotKept(message)) => {
                self.tell(ProgramNews::NotFetched { message: message.clone() });
                Err(message)
            }
            Err(Refusal::Unusable(message)) => {
                self.tell(ProgramNews::Unusable { message: message.clone() });
                Err(message)
            }
        }
    }
}

impl Sink for IntoPrograms {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.coming.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.coming.read_at(offset, length)
    }

    fn finish(&self, _meta: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        let (programs, coming, program) =
            (self.programs.clone(), self.coming.clone(), self.program);
        Box::pin(async move {
            // It is read and hashed as a whole.
            let keep = move || programs.keep(&coming, program);
            let kept = tokio::task::spawn_blocking(keep).await;
            self.settle(kept.unwrap_or_else(|error| Err(Refusal::NotKept(error.to_string()))))
        })
    }

    fn abort(&self) {
        self.fail("the transfer broke off".to_owned());
    }
}

impl Drop for IntoPrograms {
    fn drop(&mut self) {
        self.abort();
    }
}
