//! What a panic leaves behind: its message, its place and the backtrace.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::PanicHookInfo;

use manyhands_proto::task::FailureKind;

thread_local! {
    static RUNS_TASKS: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<(String, Backtrace)>> = const { RefCell::new(None) };
}

/// From now on panics of this thread are kept for [`failure`]. They are printed as well: a panic
/// that cannot be caught would otherwise leave no trace.
pub(crate) fn install_hook() {
    RUNS_TASKS.set(true);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        if RUNS_TASKS.get() {
            LAST.set(Some((describe(info), Backtrace::force_capture())));
        }
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = text(info.payload());
    match info.location() {
        Some(location) => format!("{message}, at {location}"),
        None => message.to_owned(),
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}

/// The failure that a caught panic stands for.
pub(crate) fn failure(payload: Box<dyn Any + Send>) -> FailureKind {
    // Somebody else's hook may have taken the place of ours: then there is no backtrace.
    let (message, backtrace) = match LAST.take() {
        Some((message, backtrace)) => (message, backtrace.to_string()),
        None => (text(&*payload).to_owned(), String::new()),
    };
    // A payload whose destructor panics would take the executor with it, in the middle of nothing.
    std::mem::forget(payload);
    FailureKind::Panicked { message, backtrace }
}
