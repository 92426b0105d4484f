//! What clients in other languages ask of a session: values as bytes, and references that are let
//! go of while their task goes on.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use manyhands_proto::client::{FromClient, Outcome, Runtime};
use manyhands_proto::value::Value;

use super::state::{FOREIGN, Found, Key};
use super::table::UNTIL_END;
use super::{OUTBOX_ROWS, Session, Tries};
use crate::connection::Stored;
use crate::error::{Error, TaskError};
use crate::foreign::Fetched;

impl Session {
    /// What runs described functions from now on.
    pub(crate) fn set_runtime(&self, runtime: Runtime) {
        self.lock().runtime = runtime;
    }

    /// Whether a call would not wait.
    pub(crate) fn has_room(&self) -> bool {
        self.connection.is_pumped() || self.lock().rows_waiting() < OUTBOX_ROWS
    }

    /// Waits until a call would not.
    pub(crate) fn wait_room(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        let mut state = self.lock();
        loop {
            state.check_open()?;
            if state.rows_waiting() < OUTBOX_ROWS {
                return Ok(true);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            let left = left.unwrap_or(Duration::from_secs(3600));
            let waited = self.drained.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One handle less, but the task goes on and is not cancelled for want of one.
    pub(crate) fn let_go(&self, key: Key) {
        let mut state = self.lock();
        if key.job == FOREIGN || state.is_done(key) {
            drop(state);
            return self.release(key);
        }
        state.want(&[key]);
        if let Some(slot) = state.slot(key) {
            slot.handles = (slot.handles - 1) | UNTIL_END;
        }
        self.poke_if_mail(state);
    }

    /// What is known of each of these; let go ones are not asked for.
    pub(crate) fn look_at(
        &self,
        keys: impl Iterator<Item = (Key, bool)>,
        tell: &mut dyn FnMut(Fetched),
    ) {
        let mut state = self.lock();
        for (key, gone) in keys {
            let found = match gone {
                true => Fetched::Gone,
                false => match state.found(key) {
                    Ok(Some(Found::Small { codec, len, bytes })) => {
                        Fetched::Small { codec, len, bytes }
                    }
                    Ok(Some(Found::Known(Outcome::Value(value)))) => Fetched::Value(value),
                    Ok(Some(Found::Known(Outcome::Stored { .. }))) => Fetched::Stored,
                    Ok(Some(Found::Known(Outcome::Failed(failed)))) => {
                        Fetched::Failed(Box::new(TaskError::new(state.object(key), failed)))
                    }
                    Ok(None) | Err(_) => Fetched::Pending,
                },
            };
            tell(found);
        }
    }

    /// Waits for a value and reads it; `None` when the deadline has passed first.
    pub(crate) fn fetch_value(
        &self,
        key: Key,
        deadline: Option<Instant>,
    ) -> Result<Option<Value>, Error> {
        let mut tries = Tries::default();
        loop {
            let found = self.lock().found(key)?;
            match found {
                None => {
                    if self.wait(&[key], 1, deadline)? == 0 {
                        return Ok(None);
                    }
                }
                Some(Found::Small { codec, len, bytes }) => {
                    let bytes = bytes::Bytes::copy_from_slice(&bytes[..len as usize]);
                    return Ok(Some(Value { codec, bytes }));
                }
                Some(Found::Known(Outcome::Value(value))) => return Ok(Some(value)),
                Some(Found::Known(Outcome::Failed(failed))) => {
                    return Err(Box::new(TaskError::new(self.object(key), failed)).into());
                }
                Some(Found::Known(Outcome::Stored { codec, size, workers })) => {
                    let (object, stored) = (self.object(key), Stored { codec, size, workers });
                    match self.connection.read_stored(object, &stored) {
                        Ok(value) => return Ok(Some(value)),
                        Err(message) if !tries.again(self.connection.patience()) => {
                            return Err(Error::Unreadable { object, message });
                        }
                        // It may have moved, or be made again: whoever knows will say.
                        Err(_) => self.lock().forget_place(key),
                    }
                }
            }
        }
    }

    /// Waits until every task of a job that this session asked for has ended.
    pub(crate) fn drain_job(&self, job: u32, deadline: Option<Instant>) -> Result<bool, Error> {
        let unended: Vec<Key> = {
            let mut state = self.lock();
            let table = state.jobs.get(job).map(|job| job.table.unended()).unwrap_or_default();
            table.into_iter().map(|(seq, index)| Key { seq, index, job }).collect()
        };
        Ok(self.wait(&unended, unended.len(), deadline)? == unended.len())
    }

    /// How many tasks of a job have not ended, as far as is known here.
    pub(crate) fn unended(&self, job: u32) -> usize {
        self.lock().jobs.get(job).map_or(0, |job| job.table.unended().len())
    }

    /// Stops all that has not ended.
    pub(crate) fn cancel_job(&self, job: u32, reason: String) -> Result<(), Error> {
        let mut state = self.lock();
        state.check_open()?;
        state.flush();
        // Nothing is left of one that is forgotten.
        let Some(job) = state.jobs.get(job).map(|job| job.id) else { return Ok(()) };
        state.outbox.push(FromClient::CancelJob { job, reason });
        self.poke(state);
        Ok(())
    }
}
