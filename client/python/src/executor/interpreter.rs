//! The interpreter as a runtime of executors.
//!
//! The main thread runs tasks, and holds the GIL but while it sleeps or waits: threads that tasks
//! have started run then, and whenever Python lets them.

use std::ffi::CStr;

use manyhands::foreign::TaskScope;
use manyhands_executor::Invocation;
use manyhands_executor::foreign::{self, Declared, Runtime};
use manyhands_proto::task::FailureKind;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::call;

/// The interpreter of this process.
pub(super) struct Interpreter;

impl Runtime for Interpreter {
    fn describe(&self) -> String {
        Python::attach(|py| {
            let version = py.version_info();
            format!("python {}.{}.{}", version.major, version.minor, version.patch)
        })
    }

    fn before_fork(&self) {
        // SAFETY: the calling thread has the GIL, as `serve` was called by Python.
        unsafe { ffi::PyOS_BeforeFork() }
    }

    fn after_fork_in_parent(&self) {
        // SAFETY: as above.
        unsafe { ffi::PyOS_AfterFork_Parent() }
    }

    fn after_fork_in_child(&self) {
        // SAFETY: as above; the thread that forked is the only one.
        unsafe { ffi::PyOS_AfterFork_Child() }
    }

    fn warm_up(&self) {
        Python::attach(|py| {
            let template = py.import("manyhands._template");
            if let Err(error) = template.and_then(|template| template.call_method0("warm_up")) {
                error.print(py);
            }
        });
    }

    fn begin(&self) {
        Python::attach(|py| {
            let begun = call::run_module(py).and_then(|run| run.call_method0("begin"));
            if let Err(error) = begun {
                error.print(py);
            }
        });
    }

    fn invoke(
        &self,
        function: &Declared,
        invocation: &mut Invocation<'_>,
    ) -> Result<(), FailureKind> {
        Python::attach(|py| {
            let _room = Room::new();
            let result = call::run(py, function, invocation, &TaskScope::begin());
            call::leave_if_forked(py, &result);
            result
        })
    }

    fn flush(&self) {
        Python::attach(flush);
    }

    fn idle(&self, sleep: &mut dyn FnMut()) {
        // Who waits within a task may have let go of the GIL or not: both end here.
        Python::attach(|py| {
            let mut sleep = Sleep(sleep);
            py.detach(move || sleep.run());
        });
    }

    fn on_interrupt(&self) {
        // SAFETY: it sets flags, and is documented as safe in handlers of signals.
        unsafe { ffi::PyErr_SetInterrupt() }
    }

    fn settle(&self) {
        Python::attach(|py| {
            // Whatever is raised by a signal that came late was meant for what has ended.
            let _ = py.check_signals();
            if !call::has_own_interrupt(py) {
                foreign::take_over_interrupts();
            }
        });
    }

    fn leave(&self) {
        Python::attach(|py| {
            let left = call::run_module(py).and_then(|run| run.call_method0("leave"));
            if let Err(error) = left {
                error.print(py);
            }
        });
    }
}

/// What waits without the GIL. It touches nothing of Python.
struct Sleep<'a>(&'a mut dyn FnMut());

// SAFETY: `detach` wants to be sure that nothing bound to the GIL is used without it; it runs the
// closure on the calling thread.
unsafe impl Send for Sleep<'_> {}

impl Sleep<'_> {
    fn run(&mut self) {
        (self.0)();
    }
}

/// Frames that a task may have, whatever it runs on top of.
const FRAMES: i32 = 1000;

thread_local! {
    static DEPTH: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// Room for the frames of a task: one that runs on top of another has as much as that had.
struct Room {
    /// The limit of the task below, if there is one.
    below: Option<i32>,
}

impl Room {
    fn new() -> Room {
        let is_nested = DEPTH.replace(DEPTH.get() + 1) > 0;
        let below = is_nested.then(Room::limit);
        if let Some(below) = below {
            Room::set_limit(below.saturating_add(FRAMES));
        }
        Room { below }
    }

    fn limit() -> i32 {
        // SAFETY: reads a setting of the interpreter, whose lock is held.
        unsafe { ffi::Py_GetRecursionLimit() }
    }

    fn set_limit(limit: i32) {
        // SAFETY: changes a setting of the interpreter, whose lock is held.
        unsafe { ffi::Py_SetRecursionLimit(limit) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if let Some(below) = self.below {
            // The task may have set another limit: the one below it has no less than before.
            Room::set_limit(Room::limit().saturating_sub(FRAMES).max(below));
        }
    }
}

/// Hands over to the system whatever Python and C have been told to print.
pub(super) fn flush(py: Python<'_>) {
    for name in [c"stdout", c"stderr"] {
        if let Some(stream) = system(py, name) {
            // A stream of a user's own may fail; the task has ended, and has its result.
            let _ = stream.call_method0(intern!(py, "flush"));
        }
    }
    // SAFETY: flushes all streams of the C library.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// Something of the module `sys`.
fn system<'py>(py: Python<'py>, name: &CStr) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the name ends with a zero; the reference is borrowed and becomes one of our own.
    let object =
        unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PySys_GetObject(name.as_ptr())) };
    object.filter(|object| !object.is_none())
}
