//! Programs that tasks need and that are not here: asked for once, awaited, and refused in words.
//!
//! Tasks wait for their program as they wait for an input: they take nothing from others meanwhile.

use manyhands_proto::WorkerId;
use manyhands_proto::client::Runtime;
use manyhands_proto::worker::FromWorker;

use crate::action::Action;
use crate::core::Core;
use crate::event::ProgramNews;
use crate::executors::Pool;

/// How often a program is asked for in a row when it does not come.
const TRIES_LIMIT: u32 = 3;

/// What is known of a program that is not simply absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Here,
    /// The scheduler was asked for it, so many times in a row.
    Awaited {
        tries: u32,
    },
    /// It came and cannot run here.
    Unusable {
        message: String,
    },
}

/// The program that a runtime needs besides the worker itself: a Rust program, or an archive of
/// Python modules. 0 for none.
fn program_of(runtime: &Runtime) -> u128 {
    match runtime {
        Runtime::Rust { program } => *program,
        Runtime::Python(environment) => environment.archive,
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

    /// Whether executors of a runtime can be started.
    pub(crate) fn has_program(&self, runtime: &Runtime) -> bool {
        let program = program_of(runtime);
        program == 0 || matches!(self.programs.get(&program), Some(Program::Here))
    }

    /// Why a pool's tasks wait for its program, in words; `None`: they do not.
    pub(crate) fn why_no_program(&self, pool: u32) -> Option<String> {
        let pool = &self.pools[pool as usize];
        let what = match &pool.runtime {
            _ if pool.has_program => return None,
            Runtime::Rust { .. } => "program",
            Runtime::Python(_) => "modules",
        };
        match self.programs.get(&program_of(&pool.runtime)) {
            Some(Program::Unusable { message }) => Some(message.clone()),
            _ => Some(format!("waits for its {what}, on the way to {}", self.worker)),
        }
    }

    /// A task needs the program of a pool, which is not here. It is asked for, unless it has been.
    /// An error: it never will be here.
    pub(crate) fn need_program(&mut self, pool: u32, out: &mut Vec<Action>) -> Result<(), String> {
        let program = program_of(&self.pools[pool as usize].runtime);
        match self.programs.get(&program) {
            Some(Program::Unusable { message }) => return Err(message.clone()),
            Some(Program::Here | Program::Awaited { .. }) => {}
            None => self.ask_for(program, 1, out),
        }
        Ok(())
    }

    fn ask_for(&mut self, program: u128, tries: u32, out: &mut Vec<Action>) {
        self.programs.insert(program, Program::Awaited { tries });
        out.push(Action::ToScheduler(FromWorker::NeedProgram { program }));
    }

    /// The scheduler says where a program is to be had. One that nobody has comes from a client.
    pub(crate) fn on_program_source(
        &mut self,
        program: u128,
        source: Result<Vec<WorkerId>, String>,
        out: &mut Vec<Action>,
    ) {
        if !matches!(self.programs.get(&program), Some(Program::Awaited { .. })) {
            return;
        }
        match source {
            Ok(workers) if workers.is_empty() => {}
            Ok(workers) => out.push(Action::FetchProgram { program, workers }),
            Err(message) => {
                self.programs.remove(&program);
                self.fail_without(program, &message);
            }
        }
    }

    pub(crate) fn on_program_news(
        &mut self,
        program: u128,
        news: ProgramNews,
        out: &mut Vec<Action>,
    ) {
        match news {
            ProgramNews::Here => {
                self.programs.insert(program, Program::Here);
                self.tell_pools(program, true);
                out.push(Action::ToScheduler(FromWorker::HasProgram { program }));
            }
            ProgramNews::Gone => {
                if self.programs.get(&program) == Some(&Program::Here) {
                    self.programs.remove(&program);
                    self.tell_pools(program, false);
                    self.ask_if_awaited(program, out);
                }
            }
            ProgramNews::Unusable { message } => {
                self.programs.insert(program, Program::Unusable { message: message.clone() });
                self.tell_pools(program, false);
                self.fail_without(program, &message);
            }
            ProgramNews::NotFetched { message } => self.ask_again(program, &message, out),
        }
    }

    /// The pools that need a program. Different settings of an interpreter may share an archive.
    fn pools_with(&self, program: u128) -> impl Iterator<Item = usize> {
        let needs = move |(_, pool): &(usize, &Pool)| program_of(&pool.runtime) == program;
        self.pools.iter().enumerate().filter(needs).map(|(at, _)| at)
    }

    fn tell_pools(&mut self, program: u128, is_here: bool) {
        let pools = self.pools.iter_mut().filter(|pool| program_of(&pool.runtime) == program);
        pools.for_each(|pool| pool.has_program = is_here);
    }

    fn fail_without(&mut self, program: u128, message: &str) {
        let pools: Vec<usize> = self.pools_with(program).collect();
        pools.into_iter().for_each(|pool| self.fail_pool(pool as u32, message));
    }

    /// Tasks that wait for a program that is gone again have it asked for.
    fn ask_if_awaited(&mut self, program: u128, out: &mut Vec<Action>) {
        let waits = |pool| {
            self.attempts.iter().any(|(_, a)| a.pool as usize == pool && a.executor().is_none())
        };
        if self.pools_with(program).any(waits) {
            self.ask_for(program, 1, out);
        }
    }

    /// A program did not come: whoever has it now is asked, a few times.
    fn ask_again(&mut self, program: u128, message: &str, out: &mut Vec<Action>) {
        let Some(Program::Awaited { tries }) = self.programs.get(&program) else { return };
        if *tries < TRIES_LIMIT {
            return self.ask_for(program, tries + 1, out);
        }
        self.programs.remove(&program);
        let message = format!(
            "the program {program:032x} did not reach {} in {tries} tries; the last one: {message}",
            self.worker,
            tries = TRIES_LIMIT,
        );
        self.fail_without(program, &message);
    }
}
