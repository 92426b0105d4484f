//! What the tasks of a run did: every attempt that an executor claimed, and how it ended.

use manyhands_proto::Time;
use rustc_hash::FxHashSet;

use crate::plan::{Plan, TaskNo};

/// How an attempt ended, as its executor saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It still runs.
    Running,
    /// With values.
    Well,
    /// With an error of its own.
    Erred,
    /// Its executor died, not by the worker's will.
    Died,
    /// The worker stopped it, by interrupt or kill.
    Stopped,
    /// Its worker was lost before the scheduler heard how it ended.
    Lost,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// Where it ran.
    pub worker: usize,
    /// When it was claimed.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// How it ended.
    pub fate: Fate,
    /// The scheduler has heard of its end.
    pub told: bool,
}

/// How an attempt that begins stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// It is the first, or those before it came to nothing.
    Rightly,
    /// The task was forgotten and submitted again.
    Anew,
    /// One before it had ended well, on this worker: that must have been for a reason.
    AfterWell(usize),
}

/// Every attempt of every task.
#[derive(Debug, Default)]
pub struct Record {
    attempts: Vec<Vec<Attempt>>,
    claimed: FxHashSet<(TaskNo, u32)>,
    /// When something last went on.
    pub progress: Time,
    /// When an attempt last ended well.
    pub last_end: Time,
    /// Attempts that ended well.
    pub well: u64,
    /// Attempts that ran what had run already: their objects were lost, or they were with their
    /// worker.
    pub rerun: u64,
}

impl Record {
    /// An empty record of so many tasks.
    pub fn new(tasks: usize) -> Record {
        Record { attempts: vec![Vec::new(); tasks], ..Record::default() }
    }

    /// An executor claims an attempt. Nobody may claim it again, and no other of the task may run;
    /// unless `anew`: the task was forgotten with the attempt that had submitted it, and submitted
    /// again by the next.
    pub fn claim(
        &mut self,
        no: TaskNo,
        attempt: u32,
        worker: usize,
        now: Time,
        anew: bool,
    ) -> Result<Began, String> {
        self.progress = now;
        if !self.claimed.insert((no, attempt)) && !anew {
            return Err(format!("attempt {attempt} was claimed a second time"));
        }
        let began = match self.may_begin(no, attempt) {
            _ if anew => Began::Anew,
            well => well?,
        };
        let before = self.attempts[no].last().map(|before| before.fate);
        self.rerun += u64::from(matches!(before, Some(Fate::Well | Fate::Lost)));
        let fate = Fate::Running;
        let record = Attempt { attempt, worker, began: now, ended: now, fate, told: false };
        self.attempts[no].push(record);
        Ok(began)
    }

    fn may_begin(&self, no: TaskNo, attempt: u32) -> Result<Began, String> {
        let attempts = &self.attempts[no];
        if let Some(other) = attempts.iter().find(|other| other.fate == Fate::Running) {
            let (number, worker) = (other.attempt, other.worker);
            return Err(format!(
                "attempt {attempt} began while attempt {number} runs on worker {worker}"
            ));
        }
        let well = attempts.iter().rfind(|other| other.fate == Fate::Well);
        Ok(well.map_or(Began::Rightly, |well| Began::AfterWell(well.worker)))
    }

    /// An attempt ended.
    pub fn end(&mut self, no: TaskNo, attempt: u32, worker: usize, fate: Fate, now: Time) {
        self.progress = now;
        if fate == Fate::Well {
            self.well += 1;
            self.last_end = now;
        }
        let running = |record: &&mut Attempt| {
            (record.attempt, record.worker, record.fate) == (attempt, worker, Fate::Running)
        };
        if let Some(record) = self.attempts[no].iter_mut().find(running) {
            (record.fate, record.ended) = (fate, now);
        }
    }

    /// The scheduler hears that an attempt has ended.
    pub fn told(&mut self, no: TaskNo, attempt: u32, worker: usize) {
        let mut attempts = self.attempts[no].iter_mut().rev();
        if let Some(record) = attempts.find(|it| it.attempt == attempt && it.worker == worker) {
            record.told = record.fate != Fate::Running;
        }
    }

    /// The scheduler gives up a worker: of whatever it has not heard the end, it never will.
    pub fn give_up(&mut self, worker: usize) {
        for record in self.attempts.iter_mut().flatten() {
            if record.worker == worker && !record.told {
                record.fate = Fate::Lost;
            }
        }
    }

    /// All attempts of a task that began, in order.
    pub fn attempts(&self, no: TaskNo) -> &[Attempt] {
        &self.attempts[no]
    }

    /// Whether the task that submits this one, or one above that, began more than once.
    pub fn submitted_anew(&self, plan: &Plan, no: TaskNo) -> bool {
        let mut above = plan.tasks[no].parent;
        while let Some(parent) = above {
            if self.attempts[parent].len() > 1 {
                return true;
            }
            above = plan.tasks[parent].parent;
        }
        false
    }

    /// Attempts of a task that ended so.
    pub fn count(&self, no: TaskNo, fate: Fate) -> u32 {
        self.attempts[no].iter().filter(|attempt| attempt.fate == fate).count() as u32
    }
}
