//! How programs come to a virtual worker: from those that have them, or from a client.

use manyhands_worker_core::event::ProgramNews;

use super::*;

impl Worker {
    /// Asks those that have a program, the last named first.
    pub(super) fn fetch_program(
        &mut self,
        program: u128,
        mut workers: Vec<WorkerId>,
        world: &mut World,
    ) {
        let Some(from) = workers.pop() else {
            let message = "nobody who was named has it".to_owned();
            let news = ProgramNews::NotFetched { message };
            return self.deliver(Event::Program { program, news }, world);
        };
        let from = from.0 as usize;
        let at = world.transfer(from, self.number, PROGRAM_SIZE);
        let happening = Happening::ProgramArriving { worker: self.number, from, program, workers };
        world.agenda.at(at, happening);
    }

    /// The source has sent a program, or is not to be reached or does not have it; then the others
    /// are asked.
    pub fn program_arrived(
        &mut self,
        program: u128,
        good: bool,
        others: Vec<WorkerId>,
        world: &mut World,
    ) {
        match good {
            true => self.keep_program(program, world),
            false => self.fetch_program(program, others, world),
        }
    }

    /// A program is here.
    pub fn keep_program(&mut self, program: u128, world: &mut World) {
        self.programs.insert(program);
        self.deliver(Event::Program { program, news: ProgramNews::Here }, world);
    }
}
