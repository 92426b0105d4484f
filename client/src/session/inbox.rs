//! What the scheduler says to a session.

use std::sync::{Arc, Weak};

use manyhands_proto::client::{FromClient, JobCounts, Outcome, ToClient};
use manyhands_proto::{JobId, ObjectId};
use manyhands_transport::{Receive, Source};

use super::asking::Reply;
use super::state::{Key, State};
use super::table::{State as ObjectState, UNTIL_END};
use super::waiting::{Signal, Wake};
use super::{Session, Shared};
use crate::error::Error;

/// Both ends of a session, for whoever carries it: what it says and where it is told things. Does
/// not keep it alive.
#[derive(Clone)]
pub struct Ends(pub(super) Weak<Shared>);

impl Ends {
    /// Says something in the session's name; its carrier has to be poked afterwards.
    pub fn say(&self, message: FromClient) {
        if let Some(session) = self.0.upgrade() {
            session.say(message);
        }
    }

    /// Has something to say to whoever has the session, about what carries it.
    pub fn notice(&self, text: String) {
        if let Some(session) = self.0.upgrade() {
            session.printer.notice(text);
        }
    }
}

impl Source<FromClient> for Ends {
    fn drain(&self, out: &mut Vec<FromClient>) {
        if let Some(session) = self.0.upgrade() {
            session.drain(out);
        }
    }
}

impl Receive<ToClient> for Ends {
    fn receive(&self, messages: Vec<ToClient>) {
        if let Some(session) = self.0.upgrade() {
            session.receive(messages);
        }
    }

    fn closed(&self, reason: &str) {
        if let Some(session) = self.0.upgrade() {
            session.end(reason);
        }
    }
}

impl State {
    /// An object's end. Repeated and unknown ones change nothing. True if it is news.
    pub(super) fn set(&mut self, key: Key, outcome: Outcome) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        if slot.state.is_done() {
            return false;
        }
        slot.state = ObjectState::from(outcome);
        true
    }

    fn on_end(&mut self, object: ObjectId, outcome: Outcome, woken: &mut Vec<Wake>) {
        let Some(key) = self.key(object) else { return };
        if !self.set(key, outcome) {
            return;
        }
        let Some(slot) = self.slot(key) else { return };
        let (waiter, let_go) = (std::mem::take(&mut slot.waiter), slot.handles >= UNTIL_END);
        self.waiters.on_done(key, waiter, woken);
        if let_go {
            self.release_share(key, UNTIL_END);
        }
    }

    /// A worker wants a program that the connection has not been given.
    fn on_program_wanted(&mut self, program: u128) {
        self.flush();
        let message = "the client that called it has not offered it".to_owned();
        self.outbox.push(FromClient::ProgramFailed { program, message });
    }

    /// Where a job is, as far as the scheduler has told.
    fn counts(&mut self, job: u32) -> Option<JobCounts> {
        self.jobs.get(job)?.progress.counts
    }

    fn on_progress(&mut self, job: JobId, counts: JobCounts) {
        let number = self.jobs.number(job);
        if let Some(job) = number.and_then(|number| self.jobs.get(number)) {
            job.progress.counts = Some(counts);
            job.progress.watchers.iter().for_each(|signal| signal.set());
        }
    }
}

impl Shared {
    /// Takes in what the scheduler says: one lock for all of it, and nobody woken under it.
    pub(crate) fn receive(&self, messages: Vec<ToClient>) {
        let (mut woken, mut answers) = (Vec::new(), false);
        let mut state = self.lock();
        for message in messages {
            match message {
                ToClient::Ended { ends } => {
                    for (object, outcome) in ends {
                        state.on_end(object, outcome, &mut woken);
                    }
                }
                ToClient::Output { task, name, stream, bytes } => {
                    self.printer.print(task, name, stream, bytes);
                }
                ToClient::Explained { query, explanation } => {
                    state.questions.answer(query, Reply::Explained(explanation));
                }
                ToClient::Progress { job, counts } => state.on_progress(job, counts),
                ToClient::Answer { query, answer } => {
                    state.questions.answer(query, Reply::Answer(answer));
                }
                ToClient::SendProgram { program, .. } => {
                    state.on_program_wanted(program);
                    answers = true;
                }
                // The connection has dealt with these, or the executor.
                ToClient::Workers { .. } | ToClient::Room { .. } => {}
                ToClient::Refused { message } => {
                    state.refused = Some(message);
                    state.waiters.take_all(&mut woken);
                }
            }
        }
        let news = answers && !std::mem::replace(&mut state.poked, true);
        let connection = news.then(|| state.connection.clone());
        drop(state);
        connection.inspect(|connection| connection.poke());
        woken.into_iter().for_each(Wake::wake);
    }

    /// The session is over: whoever waits is told so.
    pub(crate) fn end(&self, reason: &str) {
        let mut woken = Vec::new();
        let mut state = self.lock();
        if state.closed.is_none() {
            state.closed = Some(reason.into());
        }
        state.waiters.take_all(&mut woken);
        state.questions.wake_all();
        let watchers = state.jobs.iter().flat_map(|job| &job.progress.watchers);
        watchers.for_each(|signal| signal.set());
        drop(state);
        self.drained.notify_all();
        woken.into_iter().for_each(Wake::wake);
    }
}

impl Session {
    fn watch(&self, job: u32) -> Result<(), Error> {
        let mut state = self.lock();
        state.check_open_for(job)?;
        let own = &mut state.jobs[job];
        if !std::mem::replace(&mut own.progress.watched, true) {
            let job = own.id;
            state.outbox.push(FromClient::Watch { job });
            self.poke(state);
        }
        Ok(())
    }

    /// Where a job is. Waits for the first answer.
    pub(crate) fn progress(&self, job: u32) -> Result<JobCounts, Error> {
        self.watch(job)?;
        let signal = self.add_watcher(job);
        let counts = loop {
            let mut state = self.lock();
            if let Some(counts) = state.counts(job) {
                break Ok(counts);
            }
            if let Err(error) = state.check_open_for(job) {
                break Err(error);
            }
            drop(state);
            if let Err(error) = self.block(&[], &signal, None) {
                break Err(error);
            }
            signal.clear();
        };
        self.remove_watcher(job, &signal);
        counts
    }

    /// Waits for all of these, and tells `tell` where the job is whenever that changes.
    pub(crate) fn wait_with_progress(
        &self,
        job: u32,
        keys: &[Key],
        tell: &mut dyn FnMut(JobCounts),
    ) -> Result<(), Error> {
        self.watch(job)?;
        let signal = self.add_watcher(job);
        let number = self.watch_all(keys, signal.clone());
        let mut told = None;
        let waited = loop {
            let (counts, left) = self.progress_of(job, number);
            if counts.is_some() && counts != told {
                told = counts;
                counts.into_iter().for_each(&mut *tell);
            }
            match left {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            if let Err(error) = self.block(keys, &signal, None) {
                break Err(error);
            }
            signal.clear();
        };
        self.forget_waiter(number, keys);
        self.remove_watcher(job, &signal);
        waited
    }

    /// Where a job is, if that is known, and how much a waiter still misses.
    fn progress_of(&self, job: u32, number: u32) -> (Option<JobCounts>, Result<usize, Error>) {
        let mut state = self.lock();
        let counts = state.counts(job);
        let left = match state.waiters.missing(number) {
            0 => Ok(0),
            left => state.check_waiting().map(|()| left),
        };
        (counts, left)
    }

    fn add_watcher(&self, job: u32) -> Arc<Signal> {
        let signal = Signal::here();
        if let Some(job) = self.lock().jobs.get(job) {
            job.progress.watchers.push(signal.clone());
        }
        signal
    }

    fn remove_watcher(&self, job: u32, signal: &Arc<Signal>) {
        if let Some(job) = self.lock().jobs.get(job) {
            job.progress.watchers.retain(|other| !Arc::ptr_eq(other, signal));
        }
    }
}
