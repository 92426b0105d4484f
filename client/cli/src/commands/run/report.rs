//! How the commands ended: one exit code, and what to say about those that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manyhands::{Error, FailureKind};
use serde_json::json;

use super::output::Output;
use crate::failure::Failure;
use crate::order::exit_code;

/// Failures that are told one by one.
const SHOWN: usize = 10;

/// The code of `timeout(1)` for what ran too long, and of others for what could not be run.
const TIMED_OUT: i32 = 124;
const NOT_RUN: i32 = 125;
const INTERRUPTED: i32 = 130;

/// Gathers the ends of all commands.
pub(super) struct Report {
    output: Output,
    interrupted: Arc<AtomicBool>,
    ended: u64,
    failed: u64,
    highest: i32,
    told: Vec<String>,
}

impl Report {
    pub(super) fn new(output: Output, interrupted: Arc<AtomicBool>) -> Report {
        Report { output, interrupted, ended: 0, failed: 0, highest: 0, told: Vec::new() }
    }

    /// A command has ended, and its files have come or not.
    pub(super) fn ended(&mut self, index: Option<u64>, end: Result<Result<(), Failure>, Error>) {
        self.ended += 1;
        let (code, message) = match end {
            Ok(Ok(())) => (0, None),
            Ok(Err(failure)) => (NOT_RUN, Some(failure.to_string())),
            Err(error) => code_of(&error),
        };
        if self.output.is_json() && (index.is_some() || message.is_some()) {
            self.output.tell(&json!({ "index": index, "exit_code": code, "message": message }));
        }
        self.failed += u64::from(code != 0);
        self.highest = self.highest.max(code);
        let words = match (index, message) {
            (Some(index), Some(message)) => format!("{index}: {message}"),
            (Some(index), None) if code != 0 => format!("{index}: exit code {code}"),
            (None, Some(message)) => message,
            _ => return,
        };
        if self.told.len() < SHOWN && !self.interrupted.load(Ordering::SeqCst) {
            self.told.push(words);
        }
    }

    /// Says what there is to say; the code to end with.
    pub(super) fn finish(self, output: &Output) -> u8 {
        output.finish();
        let interrupted = self.interrupted.load(Ordering::SeqCst);
        let code = if interrupted { INTERRUPTED } else { self.highest.min(255) };
        self.told.iter().for_each(|words| eprintln!("manyhands: {words}"));
        if self.failed > 0 && self.ended > 1 {
            eprintln!("manyhands: {} of {} commands failed", self.failed, self.ended);
        }
        output.tell(&json!({ "commands": self.ended, "failed": self.failed, "exit_code": code }));
        code as u8
    }
}

/// The exit code that an end stands for, and words for what the command cannot have said itself.
fn code_of(error: &Error) -> (i32, Option<String>) {
    let Error::TaskFailed(failed) = error else { return (NOT_RUN, Some(error.to_string())) };
    match failed.kind() {
        FailureKind::Error { message } => match (exit_code(message), message.split_once(": ")) {
            (Some(code), None) if code > 128 && message.starts_with("signal") => {
                (code, Some(format!("killed by {message}")))
            }
            (Some(code), None) => (code, None),
            // It said so itself.
            (Some(code @ (126 | 127)), Some(_)) => (code, None),
            (Some(code), Some((_, words))) => (code, Some(words.to_owned())),
            (None, _) => (NOT_RUN, Some(message.clone())),
        },
        FailureKind::TimeLimit { .. } => (TIMED_OUT, Some("its time was over".to_owned())),
        FailureKind::Cancelled { reason } => (INTERRUPTED, Some(format!("cancelled: {reason}"))),
        _ => (NOT_RUN, Some(error.to_string())),
    }
}
