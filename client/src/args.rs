//! What can stand for a parameter: a value, the result of a task, or a list of results.

use std::sync::{Arc, Mutex, PoisonError};

use bytemuck::Pod;
use bytes::Bytes;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use serde::Serialize;
use smallvec::SmallVec;

use crate::error::Error;
use crate::foreign::Pieces;
use crate::handle::{Handle, Reference, collect_handles};
use crate::lazy::{Lazy, Node};
use crate::session::{PutBytes, Session};
use crate::slice::Slice;
use crate::value::{encode, encode_plain, is_plain, raw_bytes};

/// First bytes of an argument, as `manyhands_proto::executor` lays them out.
pub(crate) const VALUE: u8 = 0;
const INPUT: u8 = 1;
const INPUTS: u8 = 2;

/// The encoded arguments of one call, as they are collected.
#[doc(hidden)]
#[derive(Default)]
pub struct Args {
    pub(crate) bytes: SmallVec<[u8; 32]>,
    pub(crate) sources: SmallVec<[Source; 1]>,
    /// The first value that could not be encoded.
    pub(crate) error: Option<Box<Error>>,
}

/// Appends to encoded arguments.
struct Appending<'a>(&'a mut SmallVec<[u8; 32]>);

impl std::io::Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An object among the arguments.
#[derive(Clone)]
pub(crate) enum Source {
    /// A result of a node that may not be submitted yet.
    Lazy(Arc<Node>, u32),
    /// An object that a session knows.
    Handle(Reference),
    /// A value that is too large to travel with its task: put when the task is submitted.
    Large(Arc<Large>),
}

/// A large argument.
pub(crate) struct Large {
    codec: Codec,
    pieces: Pieces,
    contains: Vec<Reference>,
    put: Mutex<Option<Reference>>,
}

impl Large {
    pub(crate) fn new(codec: Codec, pieces: Pieces, contains: Vec<Reference>) -> Large {
        Large { codec, pieces, contains, put: Mutex::new(None) }
    }

    /// The objects that it holds references to.
    pub(crate) fn contains(&self) -> &[Reference] {
        &self.contains
    }

    /// Its object in this session, where it is put the first time.
    pub(crate) fn put(&self, session: &Arc<Session>, job: u32) -> Result<Reference, Error> {
        let mut put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        match &*put {
            Some(reference) if Arc::ptr_eq(&reference.session, session) => Ok(reference.clone()),
            _ => {
                let bytes = PutBytes::Pieces(&self.pieces);
                let reference = session.put(job, self.codec, bytes, &self.contains)?;
                *put = Some(reference.clone());
                Ok(reference)
            }
        }
    }
}

impl Args {
    fn value<T: Serialize + 'static>(&mut self, value: &T) {
        match raw_bytes(value) {
            Some(raw) => self.encoded(Codec::POD, raw, Vec::new()),
            None if is_plain::<T>() => self.plain(value),
            None => self.encode(value, std::any::type_name::<T>()),
        }
    }

    /// A value without handles in it is encoded where it is to be.
    fn plain<T: Serialize + 'static>(&mut self, value: &T) {
        const HEAD: usize = 6;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[VALUE, Codec::MSGPACK.0, 0, 0, 0, 0]);
        let encoded = encode_plain(value, &mut Appending(&mut self.bytes));
        let len = self.bytes.len() - start - HEAD;
        if encoded.is_ok() && len <= INLINE_LIMIT {
            self.bytes[start + 2..start + HEAD].copy_from_slice(&(len as u32).to_le_bytes());
        } else {
            self.bytes.truncate(start);
            self.encode(value, std::any::type_name::<T>());
        }
    }

    fn encode<T: Serialize + ?Sized>(&mut self, value: &T, type_name: &'static str) {
        thread_local! {
            static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let (result, met) = collect_handles(|| encode_plain(value, &mut scratch));
        match result {
            Ok(codec) => self.encoded(codec, &scratch, met),
            Err(message) => {
                let what = "an argument".to_owned();
                let error = Error::Encode { what, type_name, message };
                self.error.get_or_insert_with(|| Box::new(error));
            }
        }
        if scratch.capacity() <= INLINE_LIMIT {
            SCRATCH.set(scratch);
        }
    }

    pub(crate) fn encoded(&mut self, codec: Codec, bytes: &[u8], met: Vec<Reference>) {
        if bytes.len() > INLINE_LIMIT {
            let pieces = Pieces::new(vec![Bytes::copy_from_slice(bytes)]);
            // The task needs the handles in it too: the object keeps them, and so does the task.
            let handles: Vec<Source> = met.iter().cloned().map(Source::Handle).collect();
            let large = Large::new(codec, pieces, met);
            self.source(Source::Large(Arc::new(large)));
            self.sources.extend(handles);
            return;
        }
        self.bytes.push(VALUE);
        self.bytes.push(codec.0);
        self.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
        self.sources.extend(met.into_iter().map(Source::Handle));
    }

    pub(crate) fn source(&mut self, source: Source) {
        let number = self.sources.len() as u32;
        self.sources.push(source);
        self.bytes.push(INPUT);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn list(&mut self, sources: impl Iterator<Item = Source>) {
        let first = self.sources.len() as u32;
        self.sources.extend(sources);
        let count = self.sources.len() as u32 - first;
        self.bytes.push(INPUTS);
        self.bytes.extend_from_slice(&first.to_le_bytes());
        self.bytes.extend_from_slice(&count.to_le_bytes());
    }
}

/// What can be given where a task's function takes a `T`.
///
/// - a `T`, or a reference to one;
/// - the result of another task: [`Lazy<T>`], [`Handle<T>`], or references to them;
/// - for a `Vec<T>` also a vector, array or slice of `Lazy<T>` or `Handle<T>`;
/// - for a [`Slice<T>`] also the result of a task that returns a `Vec<T>`;
/// - for a `String` also a `&str`.
///
/// A function whose parameter contains handles (`Handle<T>`, `Vec<Handle<T>>`, a structure with
/// handles in it) gets them as handles.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be given where the task takes a `{T}`",
    label = "expected a `{T}`, a `Lazy<{T}>` or a `Handle<{T}>`",
    note = "arguments are values, or results of other tasks that have the parameter's type"
)]
pub trait IntoArg<T> {
    /// Appends the argument.
    #[doc(hidden)]
    fn append(self, args: &mut Args);
}

impl<T: Serialize + 'static> IntoArg<T> for T {
    fn append(self, args: &mut Args) {
        args.value(&self);
    }
}

impl<T: Serialize + 'static> IntoArg<T> for &T {
    fn append(self, args: &mut Args) {
        args.value(self);
    }
}

impl IntoArg<String> for &str {
    fn append(self, args: &mut Args) {
        args.encode(self, "str");
    }
}

trait AsSource {
    fn as_source(&self) -> Source;
}

impl<T> AsSource for Lazy<T> {
    fn as_source(&self) -> Source {
        Source::Lazy(self.node.clone(), self.index)
    }
}

impl<T> AsSource for Handle<T> {
    fn as_source(&self) -> Source {
        Source::Handle(self.reference.clone())
    }
}

macro_rules! results {
    ($($result:ident),*) => { $(
        impl<T> IntoArg<T> for $result<T> {
            fn append(self, args: &mut Args) {
                args.source(self.as_source());
            }
        }
        impl<T> IntoArg<T> for &$result<T> {
            fn append(self, args: &mut Args) {
                args.source(self.as_source());
            }
        }
        impl<T: Pod> IntoArg<Slice<T>> for $result<Vec<T>> {
            fn append(self, args: &mut Args) {
                args.source(self.as_source());
            }
        }
        impl<T: Pod> IntoArg<Slice<T>> for &$result<Vec<T>> {
            fn append(self, args: &mut Args) {
                args.source(self.as_source());
            }
        }
        impl<T> IntoArg<Vec<T>> for Vec<$result<T>> {
            fn append(self, args: &mut Args) {
                args.list(self.iter().map(AsSource::as_source));
            }
        }
        impl<T> IntoArg<Vec<T>> for &Vec<$result<T>> {
            fn append(self, args: &mut Args) {
                args.list(self.iter().map(AsSource::as_source));
            }
        }
        impl<T> IntoArg<Vec<T>> for &[$result<T>] {
            fn append(self, args: &mut Args) {
                args.list(self.iter().map(AsSource::as_source));
            }
        }
        impl<T, const N: usize> IntoArg<Vec<T>> for [$result<T>; N] {
            fn append(self, args: &mut Args) {
                args.list(self.iter().map(AsSource::as_source));
            }
        }
        impl<T, const N: usize> IntoArg<Vec<T>> for &[$result<T>; N] {
            fn append(self, args: &mut Args) {
                args.list(self.iter().map(AsSource::as_source));
            }
        }
    )* };
}
results!(Lazy, Handle);

/// A value as the client puts it: encoded, with the handles in it.
pub(crate) fn encode_put<T: Serialize + 'static>(
    value: &T,
) -> Result<(Codec, Vec<u8>, Vec<Reference>), Error> {
    let mut bytes = Vec::new();
    let (codec, met) = collect_handles(|| encode(value, &mut bytes));
    let codec = codec.map_err(|message| Error::Encode {
        what: "a value to put".to_owned(),
        type_name: std::any::type_name::<T>(),
        message,
    })?;
    Ok((codec, bytes, met))
}
