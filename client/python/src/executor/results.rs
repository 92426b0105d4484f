//! What a function returns, on its way to whoever waits for it.

use std::cell::RefCell;

use manyhands_executor::Invocation;
use manyhands_proto::ObjectId;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use pyo3::prelude::*;

use super::failure;
use crate::codec::{self, Encoded, Role};

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Where a written value goes: how to read it, what it refers to, and its bytes.
pub(super) type Give<'g> =
    &'g mut dyn FnMut(Codec, Vec<ObjectId>, &[&[u8]]) -> Result<(), FailureKind>;

/// Hands over what a function has returned: one object, or as many as were asked for.
pub(super) fn hand_over(
    returned: &Bound<'_, PyAny>,
    plain_result: bool,
    invocation: &mut Invocation<'_>,
) -> Result<(), FailureKind> {
    let outputs = usize::from(invocation.outputs());
    let mut give =
        |codec, contains, pieces: &[&[u8]]| invocation.return_pieces(codec, contains, pieces);
    if outputs == 1 {
        return write(returned, plain_result, &|| "the result".to_owned(), &mut give);
    }
    let py = returned.py();
    let Ok(items) = returned.try_iter() else {
        let kind = returned.get_type().name().map_or_else(|_| "object".into(), |n| n.to_string());
        let message = format!("it returned one {kind} and was asked for {outputs} values (`nout`)");
        return Err(FailureKind::Value { message });
    };
    let parts: Vec<Bound<'_, PyAny>> =
        items.collect::<PyResult<_>>().map_err(|error| failure::raised(py, error))?;
    if parts.len() != outputs {
        let message = format!("it returned {} values and was asked for {outputs}", parts.len());
        return Err(FailureKind::Value { message });
    }
    parts.iter().enumerate().try_for_each(|(i, part)| {
        write(part, plain_result, &|| format!("result {}", i + 1), &mut give)
    })
}

/// Writes a value and hands it over. `what` names it in errors.
pub(super) fn write(
    value: &Bound<'_, PyAny>,
    plain_result: bool,
    what: &dyn Fn() -> String,
    give: Give<'_>,
) -> Result<(), FailureKind> {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let done = if codec::plain(value, &mut scratch) {
        give(Codec::MSGPACK, Vec::new(), &[&scratch])
    } else if plain_result {
        match codec::plain_data(value, &mut scratch) {
            Ok(()) => give(Codec::MSGPACK, Vec::new(), &[&scratch]),
            Err(error) => Err(failure::unwritable(value.py(), &what(), &error)),
        }
    } else {
        write_any(value, what, give)
    };
    if scratch.capacity() <= INLINE_LIMIT {
        SCRATCH.set(scratch);
    }
    done
}

fn write_any(
    value: &Bound<'_, PyAny>,
    what: &dyn Fn() -> String,
    give: Give<'_>,
) -> Result<(), FailureKind> {
    match codec::encode(value, Role::Value, what) {
        Ok(Encoded { codec, pieces, met, contains }) => {
            let given = give(codec, contains, &pieces.slices());
            // The futures hold their objects until the value has been handed over.
            drop(met);
            given
        }
        Err(error) => Err(failure::raised(value.py(), error)),
    }
}
