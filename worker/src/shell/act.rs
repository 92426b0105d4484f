//! What the core wants done, done.

use std::collections::HashSet;
use std::os::fd::AsFd;

use manyhands_proto::Time;
use manyhands_proto::client::Runtime;
use manyhands_proto::executor::{End, Place, Run, ToExecutor};
use manyhands_proto::task::FailureKind;
use manyhands_proto::worker::FromWorker;
use manyhands_store::Writer;
use manyhands_worker_core::event::ExecutorId;
use manyhands_worker_core::{Action, Event, ProgramNews};

use super::{WATCH_INTERVAL_US, Worker, writer};
use crate::disk::DiskJob;
use crate::host::{FeedError, Program, Python};

impl Worker {
    /// Does what the core wants, and what it then wants in turn.
    pub(super) fn act(&mut self, now: Time) {
        // Doing one thing can have an answer at once, to which the core may react.
        while !self.actions.is_empty() {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.perform(now, action);
            }
            if self.actions.is_empty() {
                self.actions = actions;
                return;
            }
            self.core.round(now, &mut self.actions);
        }
    }

    fn perform(&mut self, now: Time, action: Action) {
        match action {
            Action::ToScheduler(message) => {
                if let (FromWorker::Draining, Some(transfers)) = (&message, &self.transfers) {
                    transfers.refuse_puts();
                }
                self.to_scheduler.push(message);
            }
            Action::Feed { executor, run } => self.feed(now, executor, run),
            Action::RunInPlace { executor, run } => {
                self.give_segments(executor, &run);
                let fed = self.host.run_in_place(executor, &run);
                self.on_fed(now, executor, &run, fed);
            }
            Action::TakeBack { executor, task, attempt } => {
                let ok = self.host.take_back(executor, task, attempt);
                let event = Event::TookBack { executor, task, attempt, ok };
                self.core.handle(now, event, &mut self.actions);
            }
            Action::StartExecutor { executor, runtime } => self.start(now, executor, &runtime),
            Action::Interrupt { executor, task, attempt } => {
                self.host.interrupt(executor, task, attempt);
            }
            Action::Kill { executor } => self.host.kill(executor),
            Action::Retire { executor } => self.host.retire(executor),
            Action::ToExecutor { executor, message } => self.host.send(executor, &message, None),
            Action::Grant { executor, request, size, on_disk } => {
                self.grant(now, executor, request, size, on_disk);
            }
            Action::Readable { executor, object, place } => {
                if let Ok(Place::Extent { extent, .. }) = &place {
                    self.give_segment(executor, extent.segment, false);
                }
                self.host.send(executor, &ToExecutor::Readable { object, place }, None);
            }
            Action::Fetch { object, workers, size, on_disk } => match &self.transfers {
                Some(transfers) => transfers.fetch(object, size, workers, on_disk),
                None => {
                    let result = Err(format!("no link to {workers:?}, which have {object}"));
                    self.core.handle(now, Event::Fetched { object, result }, &mut self.actions);
                }
            },
            Action::Spill { object, value } => {
                self.disk.send(DiskJob::Spill { object, value });
                self.trim.arm(now);
            }
            Action::Load { object, on_disk } => self.disk.send(DiskJob::Load { object, on_disk }),
            Action::Free { object } => {
                self.store.free(object);
                self.trim.arm(now);
            }
            Action::FetchProgram { program, workers } => match &self.transfers {
                Some(transfers) => transfers.fetch_program(program, workers),
                None => {
                    let message = format!("no link to {workers:?}, which have it");
                    let news = ProgramNews::NotFetched { message };
                    self.core.handle(now, Event::Program { program, news }, &mut self.actions);
                }
            },
            Action::Serve { ticket, value } => {
                if let Some(answer) = self.wanted.remove(&ticket) {
                    answer(value);
                }
            }
            Action::Peers { peers } => {
                if let Some(transfers) = &self.transfers {
                    transfers.peers(peers);
                }
            }
            Action::PeersGone { workers } => {
                if let Some(transfers) = &self.transfers {
                    transfers.peers_gone(&workers);
                }
            }
            Action::Leave => self.left = true,
        }
    }

    fn start(&mut self, now: Time, executor: ExecutorId, runtime: &Runtime) {
        let program = match self.program_for(runtime) {
            Ok(program) => program,
            Err(missing) => {
                let message = format!("the program {missing:032x} is not here any more");
                let gone = Event::Program { program: missing, news: ProgramNews::Gone };
                self.core.handle(now, gone, &mut self.actions);
                let event = Event::StartFailed { executor, message };
                return self.core.handle(now, event, &mut self.actions);
            }
        };
        self.given.insert(executor, HashSet::new());
        self.host.start_executor(executor, &program);
        self.census.count(self.host.len());
    }

    /// What executors of a runtime are forked from. An error: the file with this hash is not here.
    pub(super) fn program_for(&self, runtime: &Runtime) -> Result<Program, u128> {
        let file = |hash: u128| {
            let near = self.programs.get(&hash).cloned();
            let come = || self.transfers.as_ref().and_then(|transfers| transfers.program(hash));
            near.or_else(come).ok_or(hash)
        };
        Ok(match runtime {
            Runtime::Rust { program: 0 } => Program::Own,
            Runtime::Rust { program } => Program::Rust { hash: *program, path: file(*program)? },
            Runtime::Python(environment) => Program::Python(Python {
                interpreter: self.python.interpreter.clone(),
                environment: environment.clone(),
                archive: match environment.archive {
                    0 => None,
                    archive => Some(file(archive)?),
                },
                cache: self.python.cache.clone(),
            }),
        })
    }

    fn feed(&mut self, now: Time, executor: ExecutorId, run: Run) {
        self.give_segments(executor, &run);
        let fed = self.host.feed(executor, &run);
        self.on_fed(now, executor, &run, fed);
        if self.next_watch == Time::NEVER {
            self.next_watch = now + WATCH_INTERVAL_US;
        }
    }

    /// A task that no message can carry ends at once; one for an executor that has died meanwhile
    /// is taken care of with its death.
    fn on_fed(&mut self, now: Time, executor: ExecutorId, run: &Run, fed: Result<(), FeedError>) {
        let Err(FeedError::Unencodable { message, .. }) = fed else { return };
        let (task, attempt) = (run.task, run.attempt);
        let result = Err(Box::new(FailureKind::Value { message }));
        let end = End { task, attempt, duration_us: 0, printed: None, leaves: false, result };
        self.core.handle(now, Event::TaskEnded { executor, end }, &mut self.actions);
    }

    fn grant(&mut self, now: Time, executor: ExecutorId, request: u64, size: u64, on_disk: bool) {
        let granted = self.store.alloc(writer(executor), size, on_disk);
        let mut extent = granted.as_ref().ok().copied();
        let answer = granted.map_err(|error| error.to_string());
        if executor == ExecutorId::CLIENT {
            if !self.puts.answer(request, answer)
                && let Some(nobodys) = extent.take()
            {
                let _ = self.store.release(Writer::DAEMON, nobodys);
            }
        } else {
            if let Some(extent) = extent {
                self.grants.granted(executor, request, extent);
                self.give_segment(executor, extent.segment, true);
            }
            self.host.send(executor, &ToExecutor::Granted { request, extent: answer }, None);
        }
        self.core.handle(now, Event::Granted { executor, request, extent }, &mut self.actions);
    }

    fn give_segments(&mut self, executor: ExecutorId, run: &Run) {
        for place in &run.inputs {
            if let Place::Extent { extent, .. } = place {
                self.give_segment(executor, extent.segment, false);
            }
        }
    }

    /// Whoever has mapped a segment that is no more keeps its memory until it lets go.
    pub(super) fn drop_segment(&mut self, segment: u32) {
        for (executor, given) in &mut self.given {
            let ways = [false, true].map(|writable| given.remove(&(segment, writable)));
            if ways.contains(&true) {
                self.host.send(*executor, &ToExecutor::DropSegment { segment }, None);
            }
        }
    }

    /// An executor gets each segment once, before the first extent of it.
    fn give_segment(&mut self, executor: ExecutorId, segment: u32, writable: bool) {
        let Some(given) = self.given.get_mut(&executor) else { return };
        if !given.insert((segment, writable)) {
            return;
        }
        let found = self
            .store
            .segment_size(segment)
            .and_then(|size| self.store.segment_fd(segment, writable).map(|fd| (size, fd)));
        match found {
            Ok((size, fd)) => {
                let message = ToExecutor::Segment { segment, writable, size };
                self.host.send(executor, &message, Some(fd.as_fd()));
            }
            // Out of descriptors: the executor cannot map what it is about to be told of. Its death
            // costs an attempt, which says so; a wait would never end.
            Err(error) => {
                eprintln!("manyhands: worker: segment {segment} for an executor: {error}");
                self.host.kill(executor);
            }
        }
    }
}
