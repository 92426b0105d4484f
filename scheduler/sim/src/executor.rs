//! A virtual executor: claims what it was fed in order, and plays each task as it was planned.

mod play;
mod stream;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use manyhands_proto::client::{FromClient, Outcome, PutPlace, Runtime, ToClient};
use manyhands_proto::executor::{End, Extent, Place, Returned, ReturnedBytes, Run};
use manyhands_proto::task::{Death, FailureKind};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::{FunctionId, ObjectId, TaskId, Time, WorkerId};
use manyhands_worker_core::{Event, ExecutorId};

use crate::nested;
use crate::plan::{
    Ending, Plan, TaskNo, TaskPlan, code_of, decode_value, encode_args, encode_value, is_inline,
};
use crate::record::Fate;
use crate::store::Store;
use crate::world::{Happening, World};

/// A process.
#[derive(Debug)]
pub struct Executor {
    worker: usize,
    id: ExecutorId,
    runtime: Runtime,
    /// The functions that it was told of.
    told_of: BTreeSet<FunctionId>,
    /// Its process id.
    pub pid: u32,
    /// It has started.
    pub started: bool,
    /// It has started and not died; of its death the core may not know yet.
    pub alive: bool,
    /// It claims nothing more.
    leaves: bool,
    ring: VecDeque<Run>,
    /// To be run on top of a task that waits, or before the ring if none does any more.
    in_place: VecDeque<Run>,
    stack: Vec<Frame>,
    frames: u64,
    requests: u64,
}

/// A claimed task.
#[derive(Debug)]
struct Frame {
    number: u64,
    run: Run,
    no: TaskNo,
    began: Time,
    step: Step,
    /// Mapped for reading.
    pinned: Vec<Extent>,
    /// Granted for writing: what is not returned comes back at the end.
    granted: Vec<Extent>,
    returned: Vec<Returned>,
    /// Results that came while others were still waited for, to be read from the store.
    to_read: Vec<ObjectId>,
    /// It waits, or has waited: its slot is lent away.
    lent: bool,
    /// How many items of its stream it has put, and for how many there is room.
    items: u64,
    room: u64,
    /// Something that it waited for failed: the task fails with it.
    broken: bool,
}

/// Where a task is.
#[derive(Debug, PartialEq)]
enum Step {
    /// Runs, up to the middle if it does something there.
    First,
    /// Waits for room for the value that it puts.
    Putting(u64),
    /// Waits for these objects.
    Waiting(Vec<ObjectId>),
    /// Reads these objects, one after the other.
    Reading(Vec<ObjectId>),
    /// Runs to its end.
    Second,
    /// Waits for room for its next value.
    Writing(u64),
    /// Makes the next item of its stream.
    Item,
    /// Waits for room for a large item in the store.
    ItemRoom(u64),
    /// Waits for its consumer to give it room.
    Room,
}

/// What the executor needs of the world around it.
pub struct Around<'a> {
    /// The world.
    pub world: &'a mut World,
    /// Its worker's store.
    pub store: &'a mut Store,
}

impl Executor {
    /// A process that is starting.
    pub fn new(worker: usize, id: ExecutorId, runtime: Runtime) -> Executor {
        let pid = 1000 * (worker as u32 + 1) + id.0;
        let (ring, in_place, stack) = (VecDeque::new(), VecDeque::new(), Vec::new());
        let (started, alive, leaves) = (false, false, false);
        let (frames, requests) = (0, 0);
        Executor {
            worker,
            id,
            runtime,
            told_of: BTreeSet::new(),
            pid,
            started,
            alive,
            leaves,
            ring,
            in_place,
            stack,
            frames,
            requests,
        }
    }

    /// The process is there and can be fed.
    pub fn begin_life(&mut self) {
        (self.started, self.alive) = (true, true);
    }

    /// It is told of a function with code.
    pub fn told_of(&mut self, id: FunctionId, code: &[u8], around: &mut Around) {
        if !self.told_of.insert(id) || code != code_of(id) {
            around.world.fail(format!("{:?} was told of {id} wrongly, or twice", self.id));
        }
    }

    /// A task enters the ring.
    pub fn feed(&mut self, run: Run, around: &mut Around) {
        if !self.started {
            around
                .world
                .fail(format!("worker {} fed {:?}, which has not started", self.worker, self.id));
        }
        self.ring.push_back(run);
        self.claim(around);
    }

    /// Takes a task out of the ring again, if it has not been claimed.
    pub fn take_back(&mut self, task: TaskId, attempt: u32) -> bool {
        let found = self.ring.iter().position(|run| (run.task, run.attempt) == (task, attempt));
        found.map(|place| self.ring.remove(place)).is_some()
    }

    /// Begins the next task, if nothing runs, or what waits runs in its place.
    fn claim(&mut self, around: &mut Around) {
        while self.alive {
            let next = match self.stack.last() {
                None if self.leaves => self.in_place.pop_front(),
                None => self.in_place.pop_front().or_else(|| self.ring.pop_front()),
                Some(top) if top.is_blocked() => self.in_place.pop_front(),
                Some(_) => None,
            };
            let Some(run) = next else { return };
            self.begin(run, around);
        }
    }

    /// A task begins on top of the blocked one. That may have gone on meanwhile: then this one waits
    /// for the next that blocks, or for its end.
    pub fn run_in_place(&mut self, run: Run, around: &mut Around) {
        self.in_place.push_back(run);
        self.claim(around);
    }

    fn begin(&mut self, run: Run, around: &mut Around) {
        let world = &mut *around.world;
        let plan = Rc::clone(&world.plan);
        let Some(&no) = plan.by_id.get(&run.task) else {
            return world.fail(format!("{} was run, which nobody submitted", run.task));
        };
        if plan.runtime_of(no) != self.runtime {
            world.fail(format!("{} runs in {:?}", run.task, self.runtime));
        }
        if matches!(self.runtime, Runtime::Python(_)) && !self.told_of.contains(&run.function) {
            world.fail(format!("{:?} was not told of the function of {}", self.id, run.task));
        }
        let anew = world.record.submitted_anew(&plan, no);
        world.claimed(no, run.attempt, self.worker, anew);
        let task = &plan.tasks[no];
        let number = self.frames;
        self.frames += 1;
        self.stack.push(Frame {
            number,
            no,
            began: around.world.now,
            step: Step::First,
            pinned: read_inputs(task, &run, around),
            granted: Vec::new(),
            returned: Vec::new(),
            items: 0,
            room: 0,
            to_read: Vec::new(),
            lent: false,
            broken: false,
            run,
        });
        self.plan_steps(task, number, around.world);
    }

    fn plan_steps(&self, task: &TaskPlan, number: u64, world: &mut World) {
        if !matches!(task.ending, Ending::Hangs | Ending::Swells(_)) {
            let us = if task.pauses() { task.duration_us / 2 } else { task.duration_us };
            let us = world.takes_us(self.worker, us);
            world.after(us, Happening::Step(self.worker, self.id, number));
        }
        if world.rng.chance(world.faults.executor_death) {
            let us = world.rng.below(task.duration_us + 1);
            world.after(us, Happening::Death(self.worker, self.id, number));
        }
    }

    /// Whether the frame of that number is still on the stack.
    pub fn has(&self, number: u64) -> bool {
        self.alive && self.stack.iter().any(|frame| frame.number == number)
    }

    /// The top frame's time has come.
    pub fn step(&mut self, number: u64, around: &mut Around) {
        if !self.alive || self.stack.last().is_none_or(|frame| frame.number != number) {
            return;
        }
        match self.stack.last().map(|frame| &frame.step) {
            Some(Step::First) => self.first_half_done(around),
            Some(Step::Second) => self.finish(around),
            Some(Step::Item) => self.item_ready(around),
            _ => {}
        }
    }

    /// The top frame ends; the next goes on, or the next task of the ring begins.
    fn end(&mut self, result: Result<Vec<Returned>, FailureKind>, fate: Fate, around: &mut Around) {
        let Some(frame) = self.stack.pop() else { return };
        let world = &mut *around.world;
        world.ended(frame.no, frame.run.attempt, self.worker, fate);
        for extent in &frame.pinned {
            around.store.unpin(*extent);
        }
        settle_extents(&frame, result.as_deref().unwrap_or_default(), around);
        let world = &mut *around.world;
        self.leaves |= world.rng.chance(world.faults.leaves);
        let end = End {
            task: frame.run.task,
            attempt: frame.run.attempt,
            duration_us: around.world.now.since(frame.began) as u32,
            printed: None,
            leaves: self.leaves && self.stack.is_empty(),
            result: result.map(Into::into).map_err(Box::new),
        };
        around.world.tell(self.worker, 0, Event::TaskEnded { executor: self.id, end });
        self.go_on(around);
        self.claim(around);
    }

    /// SIGINT: a task that heeds it ends soon, if it is the one that runs.
    pub fn interrupt(&mut self, task: TaskId, attempt: u32, around: &mut Around) {
        let plan = Rc::clone(&around.world.plan);
        let Some(frame) = self.stack.last_mut() else { return };
        if (frame.run.task, frame.run.attempt) != (task, attempt) || !plan.tasks[frame.no].heeds {
            return;
        }
        let message = "interrupted".to_owned();
        self.end(Err(FailureKind::Error { message }), Fate::Stopped, around);
    }

    /// The process ends under whatever it runs. Nothing of it is heard again.
    pub fn die(&mut self, fate: Fate, around: &mut Around) {
        if !self.alive {
            return;
        }
        self.alive = false;
        self.abandon(fate, around);
        let signal = if fate == Fate::Died { 11 } else { 9 };
        let death = Death {
            signal: Some(signal),
            exit_code: None,
            peak_memory: 1 << 20,
            stderr_tail: String::new(),
        };
        let us = around.world.rng.below(300);
        around.world.tell(self.worker, us, Event::ExecutorDied { executor: self.id, death });
    }

    /// What ran ends so, without a word.
    pub fn abandon(&mut self, fate: Fate, around: &mut Around) {
        let mut fate = fate;
        while let Some(frame) = self.stack.pop() {
            let world = &mut *around.world;
            world.ended(frame.no, frame.run.attempt, self.worker, fate);
            for extent in &frame.pinned {
                around.store.unpin(*extent);
            }
            settle_extents(&frame, &[], around);
            // Whoever waited under the one that was stopped goes down with it.
            if fate == Fate::Stopped {
                fate = Fate::Died;
            }
        }
        self.ring.clear();
        self.in_place.clear();
    }

    /// The memory that its running task owns.
    pub fn memory(&self, world: &World) -> u64 {
        match self.stack.last().map(|frame| &world.plan.tasks[frame.no].ending) {
            Some(Ending::Swells(bytes)) => *bytes,
            _ => 1 << 20,
        }
    }

    /// The task that runs now, in a slot of its own: not one that is blocked, nor one that goes on
    /// again while others still run in the slot that it has lent.
    pub fn running(&self) -> Option<TaskNo> {
        self.stack.last().filter(|frame| !frame.lent).map(|frame| frame.no)
    }

    /// Whether anything is claimed or fed.
    pub fn is_idle(&self) -> bool {
        // What lies in the ring of one that leaves is no longer its own.
        let ring = self.leaves || self.ring.is_empty();
        self.stack.is_empty() && ring && self.in_place.is_empty()
    }

    fn say(&mut self, message: FromClient, world: &mut World) {
        let (executor, run) = (self.id, &self.top().run);
        let (task, attempt) = (run.task, run.attempt);
        world.tell(self.worker, 0, Event::FromTask { executor, task, attempt, message });
    }

    fn top(&mut self) -> &mut Frame {
        self.stack.last_mut().expect("only a running task takes steps")
    }
}

impl Frame {
    fn is_blocked(&self) -> bool {
        matches!(self.step, Step::Waiting(_) | Step::Room)
    }
}

/// Publishes what was returned in extents; the rest of what was granted comes back.
fn settle_extents(frame: &Frame, returned: &[Returned], around: &mut Around) {
    let mut unused = frame.granted.clone();
    for (index, value) in returned.iter().enumerate() {
        if let ReturnedBytes::Extent(extent) = value.bytes {
            unused.retain(|granted| granted.segment != extent.segment);
            let object = frame.run.task.object(index as u32);
            let published = around.store.publish(object, extent);
            around.world.check(&object.to_string(), published);
        }
    }
    for extent in unused {
        let dropped = around.store.drop_extent(extent);
        around.world.check("a granted extent", dropped);
    }
}

/// Looks at a task's arguments as it would see them; pins what it maps.
fn read_inputs(task: &TaskPlan, run: &Run, around: &mut Around) -> Vec<Extent> {
    let mut pinned = Vec::new();
    if run.args[..] != encode_args(task)[..] {
        around.world.fail(format!("{} got another task's arguments", task.id));
    }
    if run.outputs as usize != task.outputs.len() || run.inputs.len() != task.inputs.len() {
        around.world.fail(format!("{} got a wrong number of inputs or outputs", task.id));
    }
    for (object, place) in task.inputs.iter().zip(&run.inputs) {
        if let Place::Extent { extent, .. } = place {
            around.store.pin(*extent);
            pinned.push(*extent);
        }
        check_place(*object, place, around);
    }
    pinned
}

fn check_place(object: ObjectId, place: &Place, around: &mut Around) {
    let found = match place {
        Place::Inline(value) => decode_value(value).ok_or_else(|| "an empty value".to_owned()),
        Place::Extent { extent, .. } => around.store.read(*extent),
    };
    let right = around.world.plan.value(object);
    match found {
        Ok(hash) if Some(hash) == right => {}
        Ok(_) => around.world.fail(format!("a task read a wrong value for {object}")),
        Err(what) => around.world.fail(format!("a task wanted {object} and {what}")),
    }
}
