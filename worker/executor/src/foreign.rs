//! Executors of programs in another language: the template and the loop are the same, and a
//! [`Runtime`] stands where the functions of a Rust program would.
//!
//! Three things differ from a Rust executor. A program becomes a template when it calls [`serve`],
//! not before its `main`. An executor runs its tasks on the process's main thread, as interpreters
//! want it. And its functions are declared to it ([`Declared`]) before their first task.

use std::sync::OnceLock;

use bytes::Bytes;
use manyhands_proto::FunctionId;
use manyhands_proto::task::FailureKind;

use crate::invocation::Invocation;

pub use crate::process::foreign::{prepare, serve};

/// The variable of the environment that says that a process shall become a template by [`serve`].
/// Its value is the version of the conversation, as with [`crate::process::VARIABLE`].
pub const VARIABLE: &str = "MANYHANDS_PYTHON_TEMPLATE";

/// What runs functions of another language. All of it is called on the main thread, but for
/// [`on_interrupt`](Runtime::on_interrupt).
pub trait Runtime: Sync {
    /// Its name and version, for people.
    fn describe(&self) -> String;

    /// In the template, before it forks.
    fn before_fork(&self) {}

    /// In the template, after it has forked, or has failed to.
    fn after_fork_in_parent(&self) {}

    /// In the child, as soon as it exists.
    fn after_fork_in_child(&self) {}

    /// In the template, once, when the first executors are forked and it has nothing to do: what makes
    /// later ones ready sooner.
    fn warm_up(&self) {}

    /// In the child, once, before its first task: standard output and error are the task's now.
    fn begin(&self) {}

    /// Runs a function. When this returns nothing of its arguments should be alive that it did not
    /// keep on purpose.
    fn invoke(
        &self,
        function: &Declared,
        invocation: &mut Invocation<'_>,
    ) -> Result<(), FailureKind>;

    /// Hands over to the system whatever functions have printed.
    fn flush(&self) {}

    /// Calls `sleep`, which sleeps or waits, with whatever lock let go that threads of a task need.
    fn idle(&self, sleep: &mut dyn FnMut()) {
        sleep();
    }

    /// The current attempt shall stop. Called in a handler of a signal: must be async-signal-safe.
    fn on_interrupt(&self) {}

    /// An attempt has ended, and no signal for it can come any more: one that was noted and not acted
    /// upon is to be forgotten.
    fn settle(&self) {}

    /// The process is about to end in good order.
    fn leave(&self) {}
}

/// A function that the worker has declared.
#[derive(Debug)]
pub struct Declared {
    /// Its id.
    pub id: FunctionId,
    /// Its name, for people.
    pub name: String,
    /// As the client wrote it for the runtime.
    pub code: Bytes,
    /// Its number among the functions of this process, from 0 without gaps: for a runtime's own table.
    pub slot: usize,
}

static RUNTIME: OnceLock<&'static dyn Runtime> = OnceLock::new();

/// The runtime of this process, if it is one of another language.
pub(crate) fn runtime() -> Option<&'static dyn Runtime> {
    RUNTIME.get().copied()
}

/// Puts the handler of SIGINT back in its place, which a task has taken.
pub fn take_over_interrupts() {
    crate::signals::take_over();
}

/// For a process that a task has forked: it has no part in what its parent says to the worker. From
/// now on this thread runs no task.
pub fn disown() {
    crate::executor::disown();
}

/// Lets another executor take the place of this one when the task that this thread runs has ended: for
/// a process that has become too large, or should not become so. On other threads it does nothing.
pub fn retire() {
    crate::executor::with(|executor| executor.leaves = true);
}

/// Ends the process without destructors and without handlers of `atexit`, which belong to a program
/// that it never was.
pub fn leave(code: i32) -> ! {
    crate::process::exit(code)
}

/// From now on this process's runtime.
pub(crate) fn set_runtime(runtime: &'static dyn Runtime) {
    // A second one would come from a second call of `serve`, which never returns.
    let _ = RUNTIME.set(runtime);
}

/// Sleeps or waits, as the runtime wants it. Nothing of this thread's executor may be borrowed:
/// whatever the runtime does before or after may use it.
pub(crate) fn idle<R>(sleep: impl FnOnce() -> R) -> R {
    let Some(runtime) = runtime() else { return sleep() };
    let (mut sleep, mut slept) = (Some(sleep), None);
    runtime.idle(&mut || {
        if let Some(sleep) = sleep.take() {
            slept = Some(sleep());
        }
    });
    match (slept, sleep) {
        (Some(slept), _) => slept,
        (None, Some(sleep)) => sleep(),
        (None, None) => unreachable!("what was taken has been called"),
    }
}
