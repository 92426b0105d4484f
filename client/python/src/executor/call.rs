//! One call of a Python function.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

use manyhands::foreign::TaskScope;
use manyhands_executor::foreign::Declared;
use manyhands_executor::{Arg, Invocation, Loaded};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::results::hand_over;
use super::{failure, stream};
use crate::codec::{self, Input};

/// A function as this process has it.
struct Function {
    callable: Py<PyAny>,
    traits: Traits,
}

/// How a function is called.
#[derive(Clone, Copy)]
struct Traits {
    /// The first arguments are a hash and what it is of, the function to be called: one that
    /// travels as an object.
    is_given: bool,
    /// The result is for another language.
    plain_result: bool,
    /// It is a generator function, whose items are handed over one by one.
    is_stream: bool,
}

thread_local! {
    /// The functions that have been read, by their slot. Tasks run on one thread.
    static FUNCTIONS: RefCell<Vec<Option<Function>>> = const { RefCell::new(Vec::new()) };
    /// Functions that were given as arguments and are kept; the one used last is last.
    static GIVEN: RefCell<Vec<Given>> = const { RefCell::new(Vec::new()) };
}

/// A function that was given as an argument.
struct Given {
    content: Vec<u8>,
    /// Of its pickle.
    bytes: usize,
    callable: Py<PyAny>,
    is_stream: bool,
}

/// Functions that are kept, and bytes of their pickles.
const GIVEN_LIMIT: usize = 32;
const GIVEN_BYTES: usize = 64 << 20;

/// Larger ones (bytes) that have buffers beside their pickle are read each time: that is short, and
/// to keep them would keep what they map.
const MAPPED_LIMIT: usize = 1 << 20;

/// This process was forked by a task, and is no executor.
static FORKED: AtomicBool = AtomicBool::new(false);

pub(super) fn mark_forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Ends a process that a task has forked, and that has come to the end of the task's function: the
/// task's end is its parent's to tell.
pub(super) fn leave_if_forked(py: Python<'_>, result: &Result<(), FailureKind>) {
    if FORKED.load(Ordering::Relaxed) {
        super::interpreter::flush(py);
        if let Err(FailureKind::Raised { traceback, .. }) = result {
            eprint!("{traceback}");
        }
        manyhands_executor::foreign::leave(i32::from(result.is_err()));
    }
}

/// The module with what is better said in Python.
pub(super) fn run_module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("manyhands._run").map(Bound::unbind))?;
    Ok(module.bind(py))
}

/// Whether SIGINT is handled as it was when the process began. If a task has changed that, it is
/// put right: it is how tasks are told to stop.
pub(super) fn has_own_interrupt(py: Python<'_>) -> bool {
    static HANDLER: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
    let find = || {
        let signal = py.import("_signal")?;
        let handler = signal.getattr("default_int_handler")?.unbind();
        Ok::<_, PyErr>((signal.getattr("getsignal")?.unbind(), handler))
    };
    let Ok((getsignal, handler)) = HANDLER.get_or_try_init(py, find) else { return true };
    let current = getsignal.bind(py).call1((libc::SIGINT,));
    if current.is_ok_and(|current| current.is(handler)) {
        return true;
    }
    let restore = || py.import("_signal")?.call_method1("signal", (libc::SIGINT, handler));
    let _ = restore();
    false
}

/// Runs a function on what the invocation brings, and hands over what it returns.
pub(super) fn run(
    py: Python<'_>,
    declared: &Declared,
    invocation: &mut Invocation<'_>,
    scope: &TaskScope,
) -> Result<(), FailureKind> {
    let (callable, mut traits) = find(py, declared)?;
    let arguments = Arguments::read(py, invocation, traits.is_given)?;
    let callable = match arguments.function {
        None => callable,
        Some((given, is_stream)) => {
            traits.is_stream = is_stream;
            given
        }
    };
    let result = callable.bind(py).call(arguments.positional, arguments.named.as_ref());
    drop(callable);
    drop(arguments.named);
    let returned = result.map_err(|error| failure::raised(py, error))?;
    if traits.is_stream {
        return stream::make(&returned, traits.plain_result, scope, invocation);
    }
    scope.retire();
    hand_over(&returned, traits.plain_result, invocation)
}

/// The function, read when it is called first.
fn find(py: Python<'_>, declared: &Declared) -> Result<(Py<PyAny>, Traits), FailureKind> {
    let known = |functions: &Vec<Option<Function>>| {
        let function = functions.get(declared.slot)?.as_ref()?;
        Some((function.callable.clone_ref(py), function.traits))
    };
    if let Some(found) = FUNCTIONS.with_borrow(known) {
        return Ok(found);
    }
    let function = load(py, declared)
        .map_err(|error| failure::unreadable(py, &format!("function {}", declared.name), &error))?;
    FUNCTIONS.with_borrow_mut(|functions| {
        if functions.len() <= declared.slot {
            functions.resize_with(declared.slot + 1, || None);
        }
        functions[declared.slot] = Some(function);
        Ok(known(functions).expect("it was put there"))
    })
}

fn load(py: Python<'_>, declared: &Declared) -> PyResult<Function> {
    let code = codec::decode_slice(py, Codec::MSGPACK, &declared.code)?;
    let loaded = run_module(py)?.call_method1("load", (&declared.name, code))?;
    let (callable, is_given, plain_result, is_stream) = loaded.extract()?;
    Ok(Function { callable, traits: Traits { is_given, plain_result, is_stream } })
}

/// What a function is called with.
struct Arguments<'py> {
    /// The function itself, if it was given, and whether it is a generator function.
    function: Option<(Py<PyAny>, bool)>,
    positional: Bound<'py, PyTuple>,
    named: Option<Bound<'py, PyDict>>,
}

impl<'py> Arguments<'py> {
    fn read(
        py: Python<'py>,
        invocation: &Invocation<'_>,
        is_given: bool,
    ) -> Result<Arguments<'py>, FailureKind> {
        let mut first = 0;
        let names = names(py, invocation)?;
        first += usize::from(names.is_some());
        let function = match is_given {
            true => Some(given(py, invocation, first)?),
            false => None,
        };
        first += if is_given { 2 } else { 0 };
        let read = || {
            let read = |i| value(py, invocation, i, first);
            (first..invocation.arg_count()).map(read).collect::<Result<Vec<_>, _>>()
        };
        let mut values = match has_nested(invocation) {
            false => read()?,
            true => codec::with_inputs(inputs(invocation)?, read)?,
        };
        let unreadable = |error: PyErr| failure::unreadable(py, "the arguments", &error);
        let named = match names {
            None => None,
            Some(names) => {
                let named = PyDict::new(py);
                let start = values.len().saturating_sub(names.len());
                for (name, value) in names.iter().zip(values.drain(start..)) {
                    named.set_item(name, value).map_err(unreadable)?;
                }
                Some(named)
            }
        };
        let positional = PyTuple::new(py, values).map_err(unreadable)?;
        Ok(Arguments { function, positional, named })
    }
}

/// The names of the last arguments, if they have any.
fn names<'py>(
    py: Python<'py>,
    invocation: &Invocation<'_>,
) -> Result<Option<Bound<'py, PyList>>, FailureKind> {
    if invocation.arg_count() == 0 {
        return Ok(None);
    }
    match invocation.arg(0)? {
        Arg::One(loaded) if loaded.codec == Codec::KEYWORDS => {
            let names = codec::decode_slice(py, Codec::MSGPACK, loaded.as_slice())
                .and_then(|names| Ok(names.cast_into::<PyList>()?));
            names.map(Some).map_err(|error| failure::unreadable(py, "the keywords", &error))
        }
        _ => Ok(None),
    }
}

/// A function that travels as an object, of which the hash is argument number `i`; and whether it
/// is a generator function.
fn given(
    py: Python<'_>,
    invocation: &Invocation<'_>,
    i: usize,
) -> Result<(Py<PyAny>, bool), FailureKind> {
    let (Arg::One(content), Arg::One(loaded)) = (invocation.arg(i)?, invocation.arg(i + 1)?) else {
        return Err(FailureKind::Value { message: "the function is a list".to_owned() });
    };
    let content = content.as_slice();
    let known = GIVEN.with_borrow_mut(|given| {
        let place = given.iter().rposition(|known| known.content == content)?;
        given[place..].rotate_left(1);
        let found = given.last()?;
        Some((found.callable.clone_ref(py), found.is_stream))
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let unreadable = |error: PyErr| failure::unreadable(py, "the function", &error);
    let callable = read(py, &loaded).map_err(unreadable)?.unbind();
    let told = run_module(py).and_then(|run| run.call_method1("is_stream", (&callable,)));
    let is_stream = told.and_then(|told| told.extract()).unwrap_or(false);
    let (codec, bytes) = (loaded.codec, loaded.as_slice().len());
    if bytes <= MAPPED_LIMIT || codec == Codec::PICKLE5 && bytes <= GIVEN_BYTES {
        let content = content.to_vec();
        keep(Given { content, bytes, callable: callable.clone_ref(py), is_stream });
    }
    Ok((callable, is_stream))
}

/// Keeps a function, and lets go of those that were used longest ago.
fn keep(function: Given) {
    let dropped: Vec<Given> = GIVEN.with_borrow_mut(|given| {
        given.push(function);
        let mut kept = 0;
        let is_kept = |given: &&Given| {
            kept += given.bytes;
            kept <= GIVEN_BYTES
        };
        let kept = given.iter().rev().take(GIVEN_LIMIT).take_while(is_kept).count();
        given.drain(..given.len() - kept).collect()
    });
    // Outside of the borrow: what goes here may run Python code.
    drop(dropped);
}

/// Argument number `i`; the first one that the function is called with is `first`.
fn value<'py>(
    py: Python<'py>,
    invocation: &Invocation<'_>,
    i: usize,
    first: usize,
) -> Result<Bound<'py, PyAny>, FailureKind> {
    let value = match invocation.arg(i)? {
        Arg::One(loaded) => read(py, &loaded),
        Arg::List(all) => all
            .iter()
            .map(|loaded| read(py, loaded))
            .collect::<PyResult<Vec<_>>>()
            .and_then(|values| Ok(PyList::new(py, values)?.into_any())),
    };
    value.map_err(|error| failure::unreadable(py, &format!("argument {}", i + 1 - first), &error))
}

fn read<'py>(py: Python<'py>, loaded: &Loaded<'_>) -> PyResult<Bound<'py, PyAny>> {
    match loaded.as_slice() {
        small if small.len() <= INLINE_LIMIT => codec::decode_slice(py, loaded.codec, small),
        _ => codec::decode(py, loaded.codec, &loaded.to_bytes()),
    }
}

/// Whether futures stood inside arguments.
fn has_nested(invocation: &Invocation<'_>) -> bool {
    invocation.input_count() > invocation.named_input_count()
}

/// The inputs for those who look for what stood inside arguments.
fn inputs(invocation: &Invocation<'_>) -> Result<Vec<Option<Input>>, FailureKind> {
    let input = |number| {
        let loaded = invocation.input(number)?;
        Ok(Some(Input::Bytes(loaded.codec, loaded.to_bytes())))
    };
    (0..invocation.input_count() as u32).map(input).collect()
}
