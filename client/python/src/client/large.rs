//! Large arguments are put once, however often they are passed.
//!
//! What was put is known by the identity of the object while that lives, and by a hash of its content:
//! an array that was changed in between is put again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use manyhands::foreign::{Object, Pieces};
use manyhands_proto::value::Codec;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustc_hash::FxHashMap;

use super::client::Open;
use super::functions::weak_reference;
use crate::codec;

/// The large arguments of one client.
#[derive(Default)]
pub(crate) struct Puts(Arc<Mutex<Table>>);

type Table = FxHashMap<usize, Put>;

struct Put {
    object: Arc<Object>,
    content: blake3::Hash,
    /// Weak reference to what was put; its end takes this entry away.
    _watch: Py<PyAny>,
}

impl Puts {
    /// The object for an argument, which is put if it is new or has changed.
    pub(crate) fn put(
        &self,
        open: &Open,
        arg: &Bound<'_, PyAny>,
        codec: Codec,
        pieces: codec::Pieces,
    ) -> PyResult<Arc<Object>> {
        let pieces = portable(pieces);
        let (id, content) = (arg.as_ptr() as usize, content(&pieces));
        let known = self.lock().get(&id).filter(|put| put.content == content).map(Put::object);
        if let Some(object) = known {
            return Ok(object);
        }
        let object = Arc::new(open.put(arg.py(), codec, &pieces, &[])?);
        let forget = Forget { puts: Arc::downgrade(&self.0), id };
        // What cannot be watched is put each time: another object could get its identity.
        if let Ok(watch) = weak_reference(arg.py())?.call1((arg, forget)) {
            let put = Put { object: object.clone(), content, _watch: watch.unbind() };
            let replaced = self.lock().insert(id, put);
            drop(replaced);
        }
        Ok(object)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Put {
    fn object(&self) -> Arc<Object> {
        self.object.clone()
    }
}

/// Takes an entry away when what was put is no more here: only tasks hold it from then on.
#[pyclass(frozen)]
struct Forget {
    puts: Weak<Mutex<Table>>,
    id: usize,
}

#[pymethods]
impl Forget {
    #[pyo3(signature = (*_watch))]
    fn __call__(&self, _watch: &Bound<'_, PyTuple>) {
        let Some(puts) = self.puts.upgrade() else { return };
        let put = puts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        drop(put);
    }
}

/// A hash of the whole value (BLAKE3): some GB a second, as fast as to put it again, and the store has
/// it once.
fn content(pieces: &Pieces) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces.iter() {
        hasher.update(&(piece.len() as u64).to_le_bytes());
        hasher.update(piece);
    }
    hasher.finalize()
}

/// A piece of a value, which keeps the whole of it.
struct Piece {
    whole: Arc<codec::Pieces>,
    place: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.whole.slices()[self.place]
    }
}

/// A value as the session takes it: not copied.
pub(crate) fn portable(pieces: codec::Pieces) -> Pieces {
    let whole = Arc::new(pieces);
    let count = whole.slices().len();
    let piece = |place| Bytes::from_owner(Piece { whole: whole.clone(), place });
    Pieces::new((0..count).map(piece).collect())
}
