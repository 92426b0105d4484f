//! What a generator yields, handed over item by item while there is room.

use manyhands::foreign::TaskScope;
use manyhands_executor::Invocation;
use manyhands_executor::context::ContextError;
use manyhands_executor::stream::Items;
use manyhands_proto::task::FailureKind;
use pyo3::intern;
use pyo3::prelude::*;

use super::failure;
use super::results::{hand_over, write};

/// Runs a generator to its end. The task's own result is how many items there were.
pub(super) fn make(
    generator: &Bound<'_, PyAny>,
    plain_result: bool,
    scope: &TaskScope,
    invocation: &mut Invocation<'_>,
) -> Result<(), FailureKind> {
    let mut items = Items::begin().map_err(stopped)?;
    let made = put_all(generator, plain_result, &mut items);
    if made.is_err() {
        close(generator);
    }
    made?;
    scope.retire();
    let count = items.made().into_pyobject(generator.py()).map_err(|never| match never {})?;
    hand_over(count.as_any(), plain_result, invocation)
}

fn put_all(
    generator: &Bound<'_, PyAny>,
    plain_result: bool,
    items: &mut Items,
) -> Result<(), FailureKind> {
    let py = generator.py();
    let mut yielded = generator.try_iter().map_err(|error| failure::raised(py, error))?;
    loop {
        // Before the item is made: it may be large, and nobody may want it.
        items.wait_for_room().map_err(stopped)?;
        let Some(item) = yielded.next() else { return Ok(()) };
        let item = item.map_err(|error| failure::raised(py, error))?;
        let number = items.made();
        write(
            &item,
            plain_result,
            &|| format!("item {number}"),
            &mut |codec, contains, pieces| items.put(codec, contains, pieces).map_err(stopped),
        )?;
    }
}

/// Lets a generator that is not asked again end in good order.
fn close(generator: &Bound<'_, PyAny>) {
    let py = generator.py();
    // The interrupt that has ended the wait is not for its clean-up.
    let _ = py.check_signals();
    if let Err(error) = generator.call_method0(intern!(py, "close")) {
        error.print(py);
    }
}

fn stopped(error: ContextError) -> FailureKind {
    FailureKind::Value { message: format!("the stream was stopped: {error}") }
}
