//! What the code that [`task`](crate::task) generates calls. Not for anybody else.

use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;

pub use manyhands_executor::{Arg, Invocation, TASKS, TaskEntry, function_id, linkme};
pub use manyhands_proto::task::FailureKind;

pub use crate::args::Args;
use crate::client::Client;
use crate::error::{Error, short};
use crate::foreign::Callee;
use crate::graph::{self, Purpose};
use crate::handle::{Handle, Reader, Reference, collect_handles, decode_for};
use crate::lazy::{Lazy, Node, Parts};
use crate::nested::EndOfTask;
use crate::targets::Root;
use crate::value::{Data, decode, encode_plain, is_plain, raw_bytes};
use manyhands_proto::value::{Codec, INLINE_LIMIT};

/// Runs a task's function, whatever `body` does for that.
pub fn run<'i>(
    invocation: &mut Invocation<'i>,
    body: impl FnOnce(&mut Invocation<'i>) -> Result<(), FailureKind>,
) -> Result<(), FailureKind> {
    let _end = EndOfTask::new();
    body(invocation)
}

/// A parameter of this type. `(&Param::<T>::NEW).read(..)` finds the better of two ways to read it:
/// a vector can be a list of results.
pub struct Param<T>(PhantomData<T>);

impl<T> Param<T> {
    /// The only one.
    #[allow(clippy::declare_interior_mutable_const, reason = "it holds nothing")]
    pub const NEW: Param<T> = Param(PhantomData);
}

/// Reads a vector.
pub trait ListParam {
    /// The parameter's type.
    type Value;
    /// Argument number `i`, of this name.
    fn read(&self, from: &Invocation<'_>, i: usize, name: &str)
    -> Result<Self::Value, FailureKind>;
}

/// Reads anything else.
pub trait PlainParam {
    /// The parameter's type.
    type Value;
    /// Argument number `i`, of this name.
    fn read(&self, from: &Invocation<'_>, i: usize, name: &str)
    -> Result<Self::Value, FailureKind>;
}

fn unreadable<T>(name: &str, message: &str) -> FailureKind {
    let type_name = std::any::type_name::<T>();
    let message = format!("its argument `{name}` cannot be read as {type_name}: {message}");
    FailureKind::Value { message }
}

fn one<T: Data>(loaded: &manyhands_executor::Loaded<'_>, name: &str) -> Result<T, FailureKind> {
    let read = || decode(loaded.codec, loaded);
    let value = if is_plain::<T>() { read() } else { decode_for(Reader::Task, read) };
    value.map_err(|message| unreadable::<T>(name, &message))
}

impl<T: Data> ListParam for Param<Vec<T>> {
    type Value = Vec<T>;

    fn read(&self, from: &Invocation<'_>, i: usize, name: &str) -> Result<Vec<T>, FailureKind> {
        match from.arg(i)? {
            Arg::One(loaded) => one(&loaded, name),
            Arg::List(all) => all.iter().map(|loaded| one(loaded, name)).collect(),
        }
    }
}

impl<T: Data> PlainParam for &Param<T> {
    type Value = T;

    fn read(&self, from: &Invocation<'_>, i: usize, name: &str) -> Result<T, FailureKind> {
        match from.arg(i)? {
            Arg::One(loaded) => one(&loaded, name),
            Arg::List(_) => Err(unreadable::<T>(name, "a list was given")),
        }
    }
}

/// A function that can fail returns one of these.
pub trait Fallible {
    /// What it returns if it does not.
    type Ok;
    /// What it returns if it does.
    type Error;
    /// As a plain `Result`.
    fn into_result(self) -> Result<Self::Ok, Self::Error>;
}

impl<T, E> Fallible for Result<T, E> {
    type Ok = T;
    type Error = E;
    fn into_result(self) -> Result<T, E> {
        self
    }
}

/// An error of a task. `(&&Failure(error)).kind()` finds the most that it can tell.
pub struct Failure<E>(pub E);

/// An error with sources.
pub trait SourcedFailure {
    /// As the end of the task.
    fn kind(&self) -> FailureKind;
}

/// An error that can be shown.
pub trait ShownFailure {
    /// As the end of the task.
    fn kind(&self) -> FailureKind;
}

impl<E: std::error::Error> SourcedFailure for Failure<E> {
    fn kind(&self) -> FailureKind {
        let mut message = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some errors show their source themselves.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        FailureKind::Error { message }
    }
}

impl<E: Display> ShownFailure for &Failure<E> {
    fn kind(&self) -> FailureKind {
        FailureKind::Error { message: format!("{:#}", self.0) }
    }
}

/// Hands over one return value.
pub fn give<T: Data>(to: &mut Invocation<'_>, value: &T) -> Result<(), FailureKind> {
    thread_local! {
        static SCRATCH: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    crate::nested::retire();
    if let Some(bytes) = raw_bytes(value) {
        return to.return_bytes(Codec::POD, Vec::new(), bytes);
    }
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let mut encode = || encode_plain(value, &mut scratch);
    let (encoded, met) = match is_plain::<T>() {
        true => (encode(), Vec::new()),
        false => collect_handles(encode),
    };
    let codec = encoded.map_err(|message| {
        let type_name = std::any::type_name::<T>();
        let message = format!("its result of type {type_name} cannot be encoded: {message}");
        FailureKind::Value { message }
    })?;
    let contains = met.iter().map(Reference::object).collect();
    to.return_bytes(codec, contains, &scratch)?;
    if scratch.capacity() <= INLINE_LIMIT {
        SCRATCH.set(scratch);
    }
    Ok(())
}

/// Hands over the elements of a vector, one object each.
pub fn give_parts<T: Data>(to: &mut Invocation<'_>, parts: Vec<T>) -> Result<(), FailureKind> {
    let asked = to.outputs() as usize;
    if parts.len() != asked {
        let message = format!("it returned {} parts and was asked for {asked}", parts.len());
        return Err(FailureKind::Value { message });
    }
    parts.iter().try_for_each(|part| give(to, part))
}

/// A vector of parts.
pub trait Sequence {
    /// One part.
    type Item;
}

impl<T> Sequence for Vec<T> {
    type Item = T;
}

/// Several return values.
pub trait Tuple {
    /// A node for each.
    type Lazies;
    /// A handle for each.
    type Handles;
    /// How many.
    const COUNT: u16;
    /// The nodes of a call.
    fn lazies(call: Call) -> Self::Lazies;
    /// Submits a call.
    fn submit(call: Call, client: &Client) -> Result<Self::Handles, Error>;
    /// Hands over the return values.
    fn give(self, to: &mut Invocation<'_>) -> Result<(), FailureKind>;
}

macro_rules! tuples {
    ($($n:literal: $($x:ident $i:tt),+;)*) => { $(
        impl<$($x: Data),+> Tuple for ($($x,)+) {
            type Lazies = ($(Lazy<$x>,)+);
            type Handles = ($(Handle<$x>,)+);
            const COUNT: u16 = $n;

            fn lazies(call: Call) -> Self::Lazies {
                let node = call.node($n);
                ($(Lazy::<$x>::new(node.clone(), $i),)+)
            }

            fn submit(call: Call, client: &Client) -> Result<Self::Handles, Error> {
                let mut references = call.submit_all(client, $n)?.into_iter();
                let mut next = || references.next().expect("a reference for each output");
                Ok(($(Handle::<$x>::new(next()),)+))
            }

            fn give(self, to: &mut Invocation<'_>) -> Result<(), FailureKind> {
                $(give(to, &self.$i)?;)+
                Ok(())
            }
        }
    )* };
}
tuples! {
    1: A 0;
    2: A 0, B 1;
    3: A 0, B 1, C 2;
    4: A 0, B 1, C 2, D 3;
    5: A 0, B 1, C 2, D 3, E 4;
    6: A 0, B 1, C 2, D 3, E 4, F 5;
    7: A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
}

/// A call with its arguments.
pub struct Call {
    entry: &'static TaskEntry,
    args: Args,
}

impl Call {
    /// Of this function, with arguments to be appended by [`IntoArg`](crate::IntoArg).
    pub fn new(entry: &'static TaskEntry, append: impl FnOnce(&mut Args)) -> Call {
        let mut args = Args::default();
        append(&mut args);
        if let Some(Error::Encode { what, .. }) = args.error.as_deref_mut() {
            *what = format!("an argument of {}", short(entry.name));
        }
        Call { entry, args }
    }

    fn node(self, outputs: u16) -> Arc<Node> {
        Node::new(Callee::Linked(self.entry), outputs, self.args)
    }

    /// A node with one result.
    pub fn lazy<T>(self) -> Lazy<T> {
        Lazy::new(self.node(1), 0)
    }

    /// Submits it now; its one result.
    pub fn submit<T>(self, client: &Client) -> Result<Handle<T>, Error> {
        let references = self.submit_all(client, 1)?;
        let first = references.into_iter().next().expect("a reference for each output");
        Ok(Handle::new(first))
    }

    /// Submits it now; its `n` parts.
    pub fn submit_parts<T>(self, client: &Client, n: usize) -> Result<Vec<Handle<T>>, Error> {
        let name = self.entry.name;
        let outputs = u16::try_from(n).ok().filter(|n| *n > 0);
        let outputs = outputs.ok_or(Error::Outputs { name, parts: n })?;
        Ok(self.submit_all(client, outputs)?.into_iter().map(Handle::new).collect())
    }

    fn submit_all(
        self,
        client: &Client,
        outputs: u16,
    ) -> Result<smallvec::SmallVec<[Reference; 1]>, Error> {
        let Client { session, job, .. } = client;
        if let Some(error) = self.args.error {
            return Err(*error);
        }
        if graph::lazy_sources(&self.args.sources) {
            let node = self.node(outputs);
            let root = |index| Root { node: node.clone(), index };
            let roots: Vec<Root> = (0..u32::from(outputs)).map(root).collect();
            return Ok(graph::submit(session, *job, &roots, Purpose::Submit)?.into());
        }
        let Args { bytes, sources, .. } = &self.args;
        let first = graph::call_parts(
            session,
            *job,
            &Callee::Linked(self.entry),
            outputs,
            bytes,
            sources,
            None,
            true,
        )?;
        let mut references = smallvec::SmallVec::new();
        if outputs > 1 {
            references.extend(session.further(&first, outputs));
        }
        references.insert(0, first);
        Ok(references)
    }
}

/// The type of a node whose parts are taken by [`Lazy::parts`].
pub type LazyParts<S> = Lazy<Parts<<S as Sequence>::Item>>;
