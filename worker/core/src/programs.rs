//! Programs that tasks need and that are not here: asked for once, awaited, and refused in words.
//!
//! Tasks wait for their program as they wait for an input: they take nothing from others meanwhile.

use manyhands_proto::WorkerId;
use manyhands_proto::client::Runtime;
use manyhands_proto::worker::FromWorker;

use crate::action::Action;
use crate::core::Core;
use crate::event::ProgramNews;

/// How often a program is asked for in a row when it does not come.
const TRIES_LIMIT: u32 = 3;

/// Whether the program of a pool is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Here,
    Absent,
    /// The scheduler was asked for it, so many times in a row.
    Awaited {
        tries: u32,
    },
    /// It came and cannot run here.
    Unusable {
        message: String,
    },
}

impl Program {
    /// What is known of a runtime that was never heard of before.
    pub(crate) fn of(runtime: &Runtime) -> Program {
        match runtime {
            Runtime::Rust { program: 0 } => Program::Here,
            Runtime::Rust { .. } => Program::Absent,
            Runtime::Python(environment) if environment.archive == 0 => Program::Here,
            Runtime::Python(_) => Program::Absent,
        }
    }

    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        matches!(self, Program::Here)
    }

    /// Why tasks wait for it, in words; `None`: they do not.
    pub(crate) fn why_not(&self, worker: WorkerId) -> Option<String> {
        match self {
            Program::Here => None,
            Program::Absent | Program::Awaited { .. } => {
                Some(format!("waits for its program, which is on its way to {worker}"))
            }
            Program::Unusable { message } => Some(message.clone()),
        }
    }
}

impl Core {
    /// The worker's own program is known as program 0, whatever others call it.
    pub(crate) fn known_as(&self, runtime: &Runtime) -> Runtime {
        match runtime {
            Runtime::Rust { program } if *program == self.config.own_program => {
                Runtime::Rust { program: 0 }
            }
            other => other.clone(),
        }
    }

    /// A pool's runtime by the name that others know, where there is one.
    pub(crate) fn public_runtime(&self, pool: u32) -> Runtime {
        match &self.pools[pool as usize].runtime {
            Runtime::Rust { program: 0 } => Runtime::Rust { program: self.config.own_program },
            other => other.clone(),
        }
    }

    /// A task needs the program of a pool, which is not here. It is asked for, unless it has been. An
    /// error: it never will be here.
    pub(crate) fn need_program(&mut self, pool: u32, out: &mut Vec<Action>) -> Result<(), String> {
        let pool = &mut self.pools[pool as usize];
        let program = match &pool.runtime {
            Runtime::Rust { program } => *program,
            Runtime::Python(environment) => environment.archive,
        };
        match &pool.program {
            Program::Unusable { message } => return Err(message.clone()),
            Program::Absent => {
                pool.program = Program::Awaited { tries: 1 };
                out.push(Action::ToScheduler(FromWorker::NeedProgram { program }));
            }
            Program::Here | Program::Awaited { .. } => {}
        }
        Ok(())
    }

    /// The scheduler says where a program is to be had. One that nobody has comes from a client.
    pub(crate) fn on_program_source(
        &mut self,
        program: u128,
        source: Result<Vec<WorkerId>, String>,
        out: &mut Vec<Action>,
    ) {
        let pool = self.pool_of(&Runtime::Rust { program });
        if !matches!(self.pools[pool as usize].program, Program::Awaited { .. }) {
            return;
        }
        match source {
            Ok(workers) if workers.is_empty() => {}
            Ok(workers) => out.push(Action::FetchProgram { program, workers }),
            Err(message) => {
                self.pools[pool as usize].program = Program::Absent;
                self.fail_pool(pool, &message);
            }
        }
    }

    pub(crate) fn on_program_news(
        &mut self,
        program: u128,
        news: ProgramNews,
        out: &mut Vec<Action>,
    ) {
        let pool = self.pool_of(&Runtime::Rust { program });
        let p = &mut self.pools[pool as usize];
        match news {
            ProgramNews::Here => {
                p.program = Program::Here;
                out.push(Action::ToScheduler(FromWorker::HasProgram { program }));
            }
            ProgramNews::Gone if !p.program.is_here() => {}
            ProgramNews::Gone => {
                p.program = Program::Absent;
                self.ask_if_awaited(pool, out);
            }
            ProgramNews::Unusable { message } => {
                p.program = Program::Unusable { message: message.clone() };
                self.fail_pool(pool, &message);
            }
            ProgramNews::NotFetched { message } => self.ask_again(pool, program, &message, out),
        }
    }

    /// Tasks that wait for a program that is gone again have it asked for.
    fn ask_if_awaited(&mut self, pool: u32, out: &mut Vec<Action>) {
        if self.attempts.iter().any(|(_, a)| a.pool == pool && a.executor().is_none()) {
            // Never an error: it was here.
            let _ = self.need_program(pool, out);
        }
    }

    /// A program did not come: whoever has it now is asked, a few times.
    fn ask_again(&mut self, pool: u32, program: u128, message: &str, out: &mut Vec<Action>) {
        let p = &mut self.pools[pool as usize];
        let Program::Awaited { tries } = p.program else { return };
        if tries < TRIES_LIMIT {
            p.program = Program::Awaited { tries: tries + 1 };
            out.push(Action::ToScheduler(FromWorker::NeedProgram { program }));
        } else {
            p.program = Program::Absent;
            let message = format!(
                "the program {program:032x} did not reach {} in {tries} tries; the last one: \
                 {message}",
                self.worker
            );
            self.fail_pool(pool, &message);
        }
    }
}
