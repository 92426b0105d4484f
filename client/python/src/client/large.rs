//! Large arguments are put once, however often they are passed.
//!
//! What was put is known by the identity of the object while that lives, and by a sample of its
//! bytes: an array that was changed in between is put again. A change of a few bytes of a large array
//! can be missed; who changes arrays between calls puts them himself.

use std::hash::{DefaultHasher, Hasher};
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

/// Pieces up to this size (bytes) are looked at as a whole; of larger ones samples are.
const WHOLE: usize = 16 << 10;

/// Samples of a large piece, and how many bytes each has.
const SAMPLES: (usize, usize) = (256, 64);

/// The large arguments of one client.
#[derive(Default)]
pub(crate) struct Puts(Arc<Mutex<Table>>);

type Table = FxHashMap<usize, Put>;

struct Put {
    object: Arc<Object>,
    sample: u64,
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
        let (id, sample) = (arg.as_ptr() as usize, sample(&pieces));
        let known = self.lock().get(&id).filter(|put| put.sample == sample).map(Put::object);
        if let Some(object) = known {
            return Ok(object);
        }
        let object = Arc::new(open.put(arg.py(), codec, &pieces, &[])?);
        let forget = Forget { puts: Arc::downgrade(&self.0), id };
        // What cannot be watched is put each time: another object could get its identity.
        if let Ok(watch) = weak_reference(arg.py())?.call1((arg, forget)) {
            let put = Put { object: object.clone(), sample, _watch: watch.unbind() };
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

/// A hash of small pieces and of samples of large ones.
fn sample(pieces: &Pieces) -> u64 {
    let mut hasher = DefaultHasher::new();
    for piece in pieces.iter() {
        hasher.write_usize(piece.len());
        if piece.len() <= WHOLE {
            hasher.write(piece);
            continue;
        }
        let (count, len) = SAMPLES;
        for i in 0..count {
            let start = (piece.len() - len) / (count - 1) * i;
            hasher.write(&piece[start..start + len]);
        }
        hasher.write(&piece[piece.len() - len..]);
    }
    hasher.finish()
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
