//! Programs, and archives of Python modules: which worker has which, and who sends one to a worker that needs it.
//!
//! A program travels once from a client to the cluster, and from then on from worker to worker. So of
//! those that need it only one is served by a client at a time; the others wait until that one has it.

use manyhands_proto::WorkerId;
use manyhands_proto::client::{Runtime, ToClient};
use manyhands_proto::worker::ToWorker;
use smallvec::SmallVec;

use crate::action::Action;
use crate::core::Core;
use crate::slab::{SessionIdx, WorkerIdx};

/// Programs of one worker that are remembered.
const PROGRAMS_A_WORKER: usize = 4096;

/// Workers with a program that one that needs it is told of.
const TOLD: usize = 16;

/// Who has a program, and who wants it.
#[derive(Debug, Default)]
pub(crate) struct Program {
    has: Vec<WorkerIdx>,
    /// Those that were told of workers that have it. One that asks again could not get it there.
    told: Vec<WorkerIdx>,
    /// Those that wait for it; the first one is served by a client.
    waiting: Vec<WorkerIdx>,
    /// The client that sends it to the first of those that wait.
    sender: Option<SessionIdx>,
    /// Clients that could not send it to that one, and why the last of them could not.
    failed: SmallVec<[SessionIdx; 2]>,
    why: String,
}

impl Program {
    /// Nothing is known of it.
    fn is_idle(&self) -> bool {
        self.has.is_empty() && self.waiting.is_empty()
    }
}

impl Core {
    /// A worker has tasks of a program that it does not have. Others that have it are named, or a
    /// client is asked to send it.
    pub(crate) fn on_program_needed(
        &mut self,
        worker: WorkerIdx,
        program: u128,
        out: &mut Vec<Action>,
    ) {
        if program == 0 {
            let message =
                "the task's function names no program (its client is too old?)".to_owned();
            return self.answer_program(worker, program, Err(message), out);
        }
        let record = self.programs.entry(program).or_default();
        if record.waiting.contains(&worker) {
            return;
        }
        if let Some(at) = record.has.iter().position(|has| *has == worker) {
            // It has lost it.
            record.has.remove(at);
            self.workers[worker].programs -= 1;
        }
        let again = record.told.contains(&worker);
        if !record.has.is_empty() && !again {
            record.told.push(worker);
            return self.tell_of_program(worker, program, out);
        }
        record.told.retain(|told| *told != worker);
        record.waiting.push(worker);
        self.have_program_sent(program, out);
    }

    /// Names those that have a program, not always the same first.
    fn tell_of_program(&self, worker: WorkerIdx, program: u128, out: &mut Vec<Action>) {
        let mut has = self.programs[&program].has.clone();
        let turn = worker.0 as usize % has.len();
        has.rotate_left(turn);
        let host = &self.workers[worker].spec.host;
        has.sort_by_key(|other| {
            let other = &self.workers[*other];
            (!other.takes_tasks(), host.is_empty() || other.spec.host != *host)
        });
        let source = Ok(has.iter().take(TOLD).map(|other| self.workers[*other].id).collect());
        self.answer_program(worker, program, source, out);
    }

    fn answer_program(
        &self,
        worker: WorkerIdx,
        program: u128,
        source: Result<Vec<WorkerId>, String>,
        out: &mut Vec<Action>,
    ) {
        let worker = self.workers[worker].id;
        out.push(Action::ToWorker { worker, message: ToWorker::Program { program, source } });
    }

    /// Asks a client to send a program to the first of those that wait, unless one does. If there is
    /// none that could, that one is told so, and the next one's turn has come.
    fn have_program_sent(&mut self, program: u128, out: &mut Vec<Action>) {
        while let Some(record) = self.programs.get(&program)
            && record.sender.is_none()
            && let Some(target) = record.waiting.first().copied()
        {
            let sender = self.client_with(program, &record.failed);
            let session = sender.and_then(|sender| self.sessions[sender].client());
            let record = self.programs.get_mut(&program).expect("it is known");
            record.sender = sender;
            if let Some(session) = session {
                // Nobody is named: it comes from a client.
                self.answer_program(target, program, Ok(Vec::new()), out);
                let worker = self.workers[target].id;
                let message = ToClient::SendProgram { program, worker };
                return out.push(Action::ToClient { session, message });
            }
            record.waiting.remove(0);
            record.failed.clear();
            let why = match std::mem::take(&mut record.why) {
                why if why.is_empty() => "no client that has it is connected".to_owned(),
                why => why,
            };
            let message = format!("the program {program:032x} cannot be had: {why}");
            self.answer_program(target, program, Err(message), out);
        }
        if self.programs.get(&program).is_some_and(Program::is_idle) {
            self.programs.remove(&program);
        }
    }

    /// A client whose functions are a program's, one whose link is up if there is one. Tasks that
    /// submit describe functions of it too, but cannot send it.
    fn client_with(&self, program: u128, but: &[SessionIdx]) -> Option<SessionIdx> {
        let able = self.sessions.iter().filter(|(index, session)| {
            session.client().is_some()
                && !but.contains(index)
                && session.functions.iter().flatten().any(|function| {
                    match &self.functions.get(*function).spec.runtime {
                        Runtime::Rust { program: own } => *own == program,
                        Runtime::Python(environment) => environment.archive == program,
                    }
                })
        });
        able.min_by_key(|(_, session)| session.away).map(|(index, _)| index)
    }

    /// Clients that were to send a program and are away, perhaps for ever: others are asked that can.
    /// One that comes back may send it all the same, which changes nothing.
    pub(crate) fn replace_senders(&mut self, out: &mut Vec<Action>) {
        let is_away = |sender: &SessionIdx| self.sessions[*sender].away;
        let mut stuck: Vec<u128> = Vec::new();
        for (program, record) in &self.programs {
            if record.sender.as_ref().is_some_and(is_away) {
                let other = self.client_with(*program, &record.failed);
                stuck.extend(other.filter(|other| !is_away(other)).map(|_| *program));
            }
        }
        stuck.sort_unstable();
        for program in stuck {
            self.programs.get_mut(&program).expect("found right above").sender = None;
            self.have_program_sent(program, out);
        }
    }

    /// A worker has a program: those that wait for it can get it there.
    pub(crate) fn on_program_there(
        &mut self,
        worker: WorkerIdx,
        program: u128,
        out: &mut Vec<Action>,
    ) {
        let count = &mut self.workers[worker].programs;
        let record = self.programs.entry(program).or_default();
        if record.has.contains(&worker) || *count >= PROGRAMS_A_WORKER {
            return;
        }
        *count += 1;
        record.has.push(worker);
        record.told.retain(|told| *told != worker);
        if record.waiting.first() == Some(&worker) {
            record.sender = None;
            record.failed.clear();
        }
        record.waiting.retain(|waiting| *waiting != worker);
        // The one that a client is serving gets it from there.
        let others = record.waiting.split_off(usize::from(record.sender.is_some()));
        record.told.extend(&others);
        for waiting in others {
            self.tell_of_program(waiting, program, out);
        }
    }

    /// A client could not send a program: another one may.
    pub(crate) fn on_program_failed(
        &mut self,
        session: SessionIdx,
        program: u128,
        message: &str,
        out: &mut Vec<Action>,
    ) {
        let Some(record) = self.programs.get_mut(&program) else { return };
        if record.sender != Some(session) {
            return;
        }
        record.sender = None;
        record.failed.push(session);
        record.why = message.chars().take(1000).collect();
        self.have_program_sent(program, out);
    }

    /// A client is gone, and with it the programs that it was about to send.
    pub(crate) fn forget_sender(&mut self, session: SessionIdx, out: &mut Vec<Action>) {
        // So that it is not asked again.
        self.release_functions(session);
        let mut sending: Vec<u128> = Vec::new();
        for (program, record) in &mut self.programs {
            record.failed.retain(|failed| *failed != session);
            if record.sender == Some(session) {
                sending.push(*program);
            }
        }
        sending.sort_unstable();
        for program in sending {
            self.on_program_failed(session, program, "the client that has it is gone", out);
        }
        for record in self.programs.values_mut() {
            // The session's number will be used again.
            record.failed.retain(|failed| *failed != session);
        }
    }

    /// A worker is gone, with the programs that it had.
    pub(crate) fn forget_programs_of(&mut self, worker: WorkerIdx, out: &mut Vec<Action>) {
        let mut left: Vec<u128> = Vec::new();
        for (program, record) in &mut self.programs {
            record.has.retain(|has| *has != worker);
            record.told.retain(|told| *told != worker);
            if record.waiting.first() == Some(&worker) {
                record.sender = None;
                record.failed.clear();
            }
            record.waiting.retain(|waiting| *waiting != worker);
            if record.sender.is_none() && !record.waiting.is_empty() {
                left.push(*program);
            }
        }
        self.programs.retain(|_, record| !record.is_idle());
        left.sort_unstable();
        for program in left {
            self.have_program_sent(program, out);
        }
    }

    /// Programs name workers and clients that are there, for the sanity check.
    pub(crate) fn check_programs(&self) {
        for (program, record) in &self.programs {
            let mut workers = record.has.iter().chain(&record.told).chain(&record.waiting);
            let there = workers.all(|worker| self.workers.get(*worker).is_some());
            assert!(there, "{program:x} names workers that are there");
            let mut clients = record.sender.iter().chain(&record.failed);
            let there = clients.all(|client| self.sessions.get(*client).is_some());
            assert!(there, "{program:x} names clients that are there");
            assert_eq!(
                record.sender.is_some(),
                !record.waiting.is_empty(),
                "{program:x} is sent while somebody waits for it"
            );
        }
    }
}
