//! Clients within tasks: a task submits to its own job, and lends its slot while it waits.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use manyhands_executor::context::{self, ContextError, Current};
use manyhands_proto::client::FromClient;
use manyhands_proto::value::{ObjectMeta, Value};
use manyhands_proto::{Lane, ObjectId, WorkerId};
use manyhands_transport::{Receive, Source};

use crate::client::Client;
use crate::connection::{Connection, Stored};
use crate::session::{Ends, Session};

thread_local! {
    /// The sessions of the tasks on this thread's stack that have used one, innermost last.
    static SESSIONS: RefCell<Vec<(Current, Client)>> = const { RefCell::new(Vec::new()) };
}

/// Within a task: a client of its own job. `None` anywhere else, also on threads that a task
/// started.
///
/// What it submits belongs to the job of the task, and is named so that a second attempt finds what
/// the first one submitted. While it waits its slot is lent to other tasks.
///
/// ```
/// #[manyhands::task]
/// fn fib(n: u64) -> Result<u64, manyhands::Error> {
///     if n < 2 {
///         return Ok(n);
///     }
///     let Some(client) = manyhands::current() else { return Ok(fib(n - 1)? + fib(n - 2)?) };
///     let (a, b) = client.compute((fib::lazy(n - 1), fib::lazy(n - 2)))?;
///     Ok(a + b)
/// }
/// assert_eq!(fib(10).unwrap(), 55);
/// ```
pub fn current() -> Option<Client> {
    let current = context::current()?;
    SESSIONS.with_borrow_mut(|sessions| {
        if let Some((_, client)) = sessions.iter().rfind(|(known, _)| *known == current) {
            return Some(client.clone());
        }
        let session = Session::open(Arc::new(TaskLink::new(current)));
        let client = Client::within(session, current.task.job);
        sessions.push((current, client.clone()));
        Some(client)
    })
}

/// Whether the running task shall stop: it was cancelled, or its time is over. Long-running tasks
/// that look now and then can end in good order; others are interrupted and then killed. `false`
/// outside of a task.
pub fn is_cancelled() -> bool {
    context::is_cancelled()
}

/// The running task's session.
pub(crate) fn session() -> Option<Arc<Session>> {
    current().map(|client| client.session)
}

/// The running task's function has returned: its handles are settled by its end.
pub(crate) fn retire() {
    let Some(current) = context::current() else { return };
    let own = SESSIONS.with_borrow(|sessions| {
        let own = sessions.iter().rfind(|(known, _)| *known == current);
        own.map(|(_, client)| client.session.clone())
    });
    if let Some(session) = own {
        session.retire();
    }
}

/// Ends the running task's session, if it used one.
pub(crate) struct EndOfTask(Option<Current>);

impl EndOfTask {
    /// Of the task that begins now.
    pub(crate) fn new() -> EndOfTask {
        EndOfTask(context::current())
    }
}

impl Drop for EndOfTask {
    fn drop(&mut self) {
        let Some(ending) = self.0 else { return };
        let ended = SESSIONS.with_borrow_mut(|sessions| {
            let place = sessions.iter().rposition(|(known, _)| *known == ending)?;
            Some(sessions.remove(place))
        });
        if let Some((_, client)) = ended {
            client.session.connection.poke();
        }
    }
}

/// The way from a task through its worker to the scheduler.
struct TaskLink {
    current: Current,
    session: OnceLock<Ends>,
    /// Used again and again.
    spare: Mutex<Vec<FromClient>>,
}

impl TaskLink {
    fn new(current: Current) -> TaskLink {
        TaskLink { current, session: OnceLock::new(), spare: Mutex::default() }
    }

    /// Hands what the session has to say to the worker. On another thread than the task's own, or
    /// while another task runs on top, it stays where it is.
    fn pass_on(&self) {
        if context::current() != Some(self.current) {
            return;
        }
        let Some(session) = self.session.get() else { return };
        let mut messages =
            std::mem::take(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner));
        session.drain(&mut messages);
        for message in messages.drain(..) {
            if let Err(error) = context::send(message) {
                session.closed(&error.to_string());
            }
        }
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = messages;
    }
}

impl Connection for TaskLink {
    fn attach(&self, session: Ends) {
        // A second session cannot be: `Session::open` calls this once.
        let _ = self.session.set(session);
    }

    fn lane(&self) -> Lane {
        self.current.lane()
    }

    fn poke(&self) {
        self.pass_on();
        // The task may go on working for long: what it submitted can run meanwhile.
        context::flush();
    }

    fn read_stored(&self, object: ObjectId, _stored: &Stored) -> Result<Value, String> {
        context::read_stored(object).map_err(|error| error.to_string())
    }

    fn put_stored(
        &self,
        object: ObjectId,
        meta: &ObjectMeta,
        pieces: &[&[u8]],
    ) -> Result<WorkerId, String> {
        context::put_stored_pieces(object, meta.codec, pieces)
            .map_err(|error| error.to_string())?;
        // The worker that passes the message on is the one that has it.
        Ok(WorkerId(0))
    }

    fn block(
        &self,
        waits_for: &dyn Fn() -> Vec<ObjectId>,
        done: &dyn Fn() -> bool,
        deadline: Option<Instant>,
    ) -> Result<(), String> {
        self.pass_on();
        let session = self.session.get();
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let mut on_message = |message| {
            if let Some(session) = session {
                session.receive(vec![message]);
            }
        };
        match context::block(&waits_for(), &mut on_message, &mut || done(), timeout) {
            Ok(_) => Ok(()),
            Err(ContextError::NoTask) => {
                Err("a task can wait only on the thread that runs it".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn is_pumped(&self) -> bool {
        true
    }

    fn close(&self) {
        // The session ends with its task.
    }
}
