//! What a node that gives and takes has to bring: where bytes are found, and where they go.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::link::Key;
use manyhands_proto::value::ObjectMeta;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An object that can be given away.
#[derive(Clone, Debug)]
pub struct Held {
    /// Codec, size and handles.
    pub meta: ObjectMeta,
    /// All of its bytes. They are sent from where they lie, and kept alive until they have arrived.
    pub bytes: Bytes,
}

/// Where a worker finds what others ask for, and where it puts what others send. Called from the
/// threads of the transfers.
pub trait Shelves: Send + Sync {
    /// An object or program that lies here whole. Asked again for each chunk, more or less: what
    /// lies on disk is to be mapped and not read.
    fn find(&self, key: Key) -> BoxFuture<'_, Option<Held>>;

    /// Where to put what a client is about to send: `meta.size` bytes. It may take its time, until
    /// there is room; nothing is sent before. An error is told to the sender in these words.
    fn accept(&self, key: Key, meta: ObjectMeta) -> BoxFuture<'_, Result<Arc<dyn Sink>, String>>;
}

/// Where the bytes of one object go. Chunks come in any order and from several threads at once, and
/// never overlap; a chunk that broke off comes again. None of the calls may block for long.
pub trait Sink: Send + Sync {
    /// These bytes belong there. They lie within the size that was announced. An error ends the
    /// transfer.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads what has been written, to give it to others while the rest is still to come. An error
    /// means that nothing is given away before all has come.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;

    /// All bytes have come. When this has answered `Ok`, [`Shelves::find`] finds the object.
    fn finish(&self, meta: &ObjectMeta) -> BoxFuture<'_, Result<(), String>>;

    /// No more bytes will come, and what has come is not needed. Also called after a `finish` that
    /// failed.
    fn abort(&self);
}
