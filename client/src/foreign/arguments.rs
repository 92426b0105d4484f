//! The encoded arguments of a call.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use smallvec::SmallVec;

use super::Node;
use super::object::Object;
use crate::args::{self, Args, Source};

/// Where a small value is written.
pub type ValueBytes = SmallVec<[u8; 32]>;

/// A value in several pieces, each of which keeps its memory alive.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Pieces {
    /// The value that these are, one behind the other. [`Bytes::from_owner`] makes a piece of
    /// anybody's memory.
    pub fn new(pieces: Vec<Bytes>) -> Pieces {
        let len = pieces.iter().map(Bytes::len).sum();
        Pieces { pieces, len }
    }

    /// Bytes of the whole value.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &piece[..])
    }
}

/// An argument that does not travel with its call: it is put once in each session that a call with
/// it is submitted to. Cheap to clone.
#[derive(Clone)]
pub struct Large(Arc<args::Large>);

impl Large {
    /// A value, and the objects that it holds references to.
    pub fn new(codec: Codec, pieces: Pieces, contains: &[Object]) -> Large {
        let contains = contains.iter().map(Object::to_reference).collect();
        Large(Arc::new(args::Large::new(codec, pieces, contains)))
    }
}

/// The encoded arguments of a call, in order.
#[derive(Default)]
pub struct Arguments {
    pub(crate) args: Args,
}

impl Arguments {
    /// Appends a value that is encoded already.
    pub fn value(&mut self, codec: Codec, bytes: &[u8]) {
        self.args.encoded(codec, bytes, Vec::new());
    }

    /// Appends a value that `encode` writes behind what is there, and tells the codec of; if it
    /// gives `None`, or fails, nothing is appended. Whether something was.
    pub fn value_with<E>(
        &mut self,
        encode: impl FnOnce(&mut ValueBytes) -> Result<Option<Codec>, E>,
    ) -> Result<bool, E> {
        const HEAD: usize = 6;
        let bytes = &mut self.args.bytes;
        let start = bytes.len();
        bytes.extend_from_slice(&[args::VALUE, 0, 0, 0, 0, 0]);
        let encoded = encode(bytes);
        let Ok(Some(codec)) = encoded else {
            bytes.truncate(start);
            return encoded.map(|_| false);
        };
        let len = bytes.len() - start - HEAD;
        if len > INLINE_LIMIT {
            let value = Bytes::copy_from_slice(&bytes[start + HEAD..]);
            bytes.truncate(start);
            self.large(&Large::new(codec, Pieces::new(vec![value]), &[]));
        } else {
            bytes[start + 1] = codec.0;
            bytes[start + 2..start + HEAD].copy_from_slice(&(len as u32).to_le_bytes());
        }
        Ok(true)
    }

    /// How many objects and results of calls it refers to so far.
    pub fn inputs(&self) -> u32 {
        self.args.sources.len() as u32
    }

    /// Appends a value that is put when the call is submitted.
    pub fn large(&mut self, large: &Large) {
        self.args.source(Source::Large(large.0.clone()));
        let contains = large.0.contains().iter().cloned().map(Source::Handle);
        self.args.sources.extend(contains);
    }

    /// Appends an object: the function gets its value.
    pub fn object(&mut self, object: &Object) {
        self.args.source(Source::Handle(object.to_reference()));
    }

    /// Appends a result of a call that may not have been submitted: the function gets its value.
    pub fn node(&mut self, node: &Node, index: u32) {
        self.args.source(Source::Lazy(node.0.clone(), index));
    }

    /// An object that an argument refers to by the number that this gives: the task needs it, and
    /// its executor finds it as the input with that number.
    pub fn extra_object(&mut self, object: &Object) -> u32 {
        self.extra(Source::Handle(object.to_reference()))
    }

    /// As [`Arguments::extra_object`], of a result of a call that may not have been submitted.
    pub fn extra_node(&mut self, node: &Node, index: u32) -> u32 {
        self.extra(Source::Lazy(node.0.clone(), index))
    }

    fn extra(&mut self, source: Source) -> u32 {
        self.args.sources.push(source);
        self.args.sources.len() as u32 - 1
    }

    /// Whether submitting them may take long: a graph goes with them, or a value has to be put.
    /// What else is submitted while [`Client::has_room`](crate::Client::has_room) waits for nobody.
    pub fn may_wait(&self) -> bool {
        let waits = |source: &Source| matches!(source, Source::Lazy(..) | Source::Large(_));
        self.args.sources.iter().any(waits)
    }

    pub(super) fn has_nodes(&self) -> bool {
        crate::graph::lazy_sources(&self.args.sources)
    }
}
