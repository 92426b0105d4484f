//! Large arguments are put once, however often they are passed.
//!
//! What was put is known by the identity of the object while that lives, and by a hash of its
//! content: an array that was changed in between is put again.

use std::sync::Arc;

use bytes::Bytes;
use manyhands::foreign::{Object, Pieces};
use manyhands_proto::value::Codec;
use pyo3::prelude::*;

use super::client::Open;
use super::watched::Watched;
use crate::codec;

/// The large arguments of one client.
#[derive(Default)]
pub(crate) struct Puts(Watched<Put>);

#[derive(Clone)]
struct Put {
    object: Arc<Object>,
    content: blake3::Hash,
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
        let content = content(&pieces);
        if let Some(put) = self.0.get(arg).filter(|put| put.content == content) {
            return Ok(put.object);
        }
        let object = Arc::new(open.put(arg.py(), codec, &pieces, &[])?);
        self.0.keep(arg, Put { object: object.clone(), content })?;
        Ok(object)
    }
}

/// A hash of the whole value (BLAKE3): some GB a second, as fast as to put it again, and the store
/// has it once.
pub(super) fn content(pieces: &Pieces) -> blake3::Hash {
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
