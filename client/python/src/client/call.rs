//! A call with its arguments, and how it is submitted.
//!
//! Arguments become bytes where they are to lie. A future or a node among them is an input of the
//! task; one that is inside of a value becomes one too, and the value holds its number.

use std::cell::RefCell;

use manyhands::foreign::{Arguments, Large, Object};
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use smallvec::SmallVec;

use super::client::{Client, Open};
use super::failures::raised;
use super::functions::Known;
use super::future::Future;
use super::large::portable;
use super::lazy::Lazy;
use crate::codec::{self, Encoded, Role};

/// What is asked of a call besides its arguments.
#[derive(Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) options: Option<&'a TaskOptions>,
    pub(crate) outputs: Option<u16>,
}

impl<'a> Asked<'a> {
    /// What the function itself asks for, where the caller does not say otherwise.
    pub(crate) fn or_of(self, known: &'a Known) -> Asked<'a> {
        Asked {
            options: self.options.or(known.options.as_ref()),
            outputs: self.outputs.or(known.outputs),
        }
    }
}

/// Submits a call: a future, or a list of them if several results were asked for.
pub(crate) fn submit<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    asked: Asked<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let known = open.functions.find(Some(!open.is_local), function)?;
    if known.is_stream {
        return stream(client, function, args, kwargs, asked);
    }
    submit_known(client, open, &known, args, kwargs, asked)
}

/// Submits a call of a function that is known.
pub(crate) fn submit_known<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    known: &Known,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    asked: Asked<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let asked = asked.or_of(known);
    let encoded = arguments(Target::Session(open), known, args, kwargs)?;
    open.wait_room(client.py())?;
    let outputs = asked.outputs.unwrap_or(1);
    let may_wait = encoded.may_wait();
    let submit = || open.client.submit_call(&known.function, encoded, outputs, asked.options);
    let objects = match may_wait {
        true => open.submit_slowly(client.py(), submit),
        false => submit(),
    };
    let objects = objects.map_err(|error| raised(client.py(), &error))?;
    futures(client, objects, known, asked.outputs.is_some())
}

/// A future for the only object, or a list of futures.
fn futures<'py>(
    client: &Bound<'py, Client>,
    objects: SmallVec<[Object; 1]>,
    known: &Known,
    as_list: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let name = known.name.bind(client.py());
    let mut futures = objects.into_iter().map(|object| Future::new(client, object, name));
    if as_list {
        let futures: Vec<_> = futures.collect::<PyResult<_>>()?;
        return Ok(PyList::new(client.py(), futures)?.into_any());
    }
    futures.next().expect("a task has an object").map(Bound::into_any)
}

/// A call of a generator function gives a stream of items, which is Python's.
#[cold]
fn stream<'py>(
    client: &Bound<'py, Client>,
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    asked: Asked<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = client.py();
    let options = asked.options.map(|options| super::options::Options(options.clone()));
    let open = py.import("manyhands._stream")?.getattr("open")?;
    open.call1((client, function, args, kwargs, options))
}

/// A call for each row of positional arguments.
pub(crate) fn submit_rows<'py>(
    client: &Bound<'py, Client>,
    open: &Open,
    function: &Bound<'py, PyAny>,
    rows: &Bound<'py, PyAny>,
    asked: Asked<'_>,
) -> PyResult<Bound<'py, PyList>> {
    let known = open.functions.find(Some(!open.is_local), function)?;
    let futures = PyList::empty(client.py());
    for row in rows.try_iter()? {
        let row = row?;
        let row = row.cast::<PyTuple>()?;
        futures.append(match known.is_stream {
            false => submit_known(client, open, &known, row, None, asked)?,
            true => stream(client, function, row, None, asked)?,
        })?;
    }
    Ok(futures)
}

/// Puts a value; futures inside of it stay futures.
pub(crate) fn put(open: &Open, value: &Bound<'_, PyAny>) -> PyResult<Object> {
    let what = || "the value to put".to_owned();
    let Encoded { codec, pieces, met, .. } = codec::encode(value, Role::Value, &what)?;
    let mut contains = Vec::with_capacity(met.len());
    for met in met {
        contains.push(open.own(met.bind(value.py()).cast::<Future>()?.get())?.clone());
    }
    open.put(value.py(), codec, &portable(pieces), &contains)
}

/// Encodes the arguments of a call.
pub(crate) fn arguments(
    target: Target<'_>,
    known: &Known,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Arguments> {
    let mut into = Arguments::default();
    let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
    let is_foreign = known.is_foreign;
    if is_foreign && kwargs.is_some() {
        let message = format!("{} is a function in Rust: its arguments have no names", known.name);
        return Err(PyTypeError::new_err(message));
    }
    if let Some(kwargs) = kwargs {
        keywords(&mut into, kwargs)?;
    }
    if let Some(body) = &known.body {
        body.append(&mut into);
    }
    for (i, arg) in args.iter_borrowed().enumerate() {
        let what = || format!("argument {} of {}", i + 1, known.name);
        append(target, &mut into, &arg, is_foreign, &what)?;
    }
    for (name, arg) in kwargs.into_iter().flat_map(|kwargs| kwargs.iter()) {
        let what = || format!("argument {name} of {}", known.name);
        append(target, &mut into, &arg, false, &what)?;
    }
    Ok(into)
}

/// The names of the arguments that are given by name: the last ones.
fn keywords(into: &mut Arguments, kwargs: &Bound<'_, PyDict>) -> PyResult<()> {
    let mut names = Vec::new();
    codec::plain_data(&kwargs.keys(), &mut names)?;
    into.value(Codec::KEYWORDS, &names);
    Ok(())
}

/// Where the values of a call go: into the session of a client, or with the node of a graph.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    Session(&'a Open),
    Node,
}

impl Target<'_> {
    fn object<'f>(&self, future: &'f Future) -> PyResult<&'f Object> {
        match self {
            Target::Session(open) => open.own(future),
            Target::Node => future.object(),
        }
    }
}

/// Appends one argument.
fn append(
    target: Target<'_>,
    into: &mut Arguments,
    arg: &Bound<'_, PyAny>,
    is_foreign: bool,
    what: &dyn Fn() -> String,
) -> PyResult<()> {
    if append_plain(into, arg) {
        return Ok(());
    }
    if let Ok(future) = arg.cast_exact::<Future>() {
        into.object(target.object(future.get())?);
        return Ok(());
    }
    if let Ok(lazy) = arg.cast_exact::<Lazy>() {
        let (node, index) = lazy.get().parts();
        into.node(node, index);
        return Ok(());
    }
    let encoded = match is_foreign {
        false => codec::encode(arg, Role::Argument { first: into.inputs() }, what)?,
        true => codec::encode_foreign(arg, what)?,
    };
    append_encoded(target, into, arg, encoded)
}

/// Appends an argument that is one number or text. False if it is none.
fn append_plain(into: &mut Arguments, arg: &Bound<'_, PyAny>) -> bool {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let is_plain = codec::plain(arg, scratch);
        if is_plain {
            into.value(Codec::MSGPACK, scratch);
        }
        is_plain
    })
}

fn append_encoded(
    target: Target<'_>,
    into: &mut Arguments,
    arg: &Bound<'_, PyAny>,
    encoded: Encoded,
) -> PyResult<()> {
    let Encoded { codec, pieces, met, .. } = encoded;
    if pieces.len() <= INLINE_LIMIT {
        let mut bytes = Vec::with_capacity(pieces.len());
        pieces.append_to(&mut bytes);
        into.value(codec, &bytes);
        return extras(target, into, met, arg.py());
    }
    // The value holds the numbers that come next: those of what is in it, and then its own.
    let is_shared = met.is_empty();
    extras(target, into, met, arg.py())?;
    match target {
        Target::Session(open) if is_shared => {
            into.object(&*open.puts.put(open, arg, codec, pieces)?);
        }
        // It names inputs of this call: no other call can use it.
        Target::Session(open) => into.object(&open.put(arg.py(), codec, &portable(pieces), &[])?),
        Target::Node => into.large(&Large::new(codec, portable(pieces), &[])),
    }
    Ok(())
}

/// Futures and nodes inside of an argument: each is an input, and the value holds its number.
fn extras(
    target: Target<'_>,
    into: &mut Arguments,
    met: Vec<Py<PyAny>>,
    py: Python<'_>,
) -> PyResult<()> {
    for met in met {
        let met = met.into_bound(py);
        if let Ok(future) = met.cast::<Future>() {
            into.extra_object(target.object(future.get())?);
        } else {
            let (node, index) = met.cast::<Lazy>()?.get().parts();
            into.extra_node(node, index);
        }
    }
    Ok(())
}
