//! A shell with its executors, its store and a scheduler, all played at random. It looks at every
//! action of the core as it is done, and knows what must never be done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::executor::{End, Extent, Place, Returned, ReturnedBytes, Run};
use manyhands_proto::task::{Death, FailureKind, Resources, TaskOptions};
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::worker::{Assignment, FromWorker, InputPlace, ToWorker};
use manyhands_proto::{ObjectId, TaskId, Time, WorkerId};

use super::desk::{assignment, config, function, functions, input, task};
use crate::objects::pages;
use crate::{Action, Core, Event, ExecutorId, LocalValue, ProgramNews};

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = from.into_iter().collect();
        (!all.is_empty()).then(|| all[self.roll(all.len() as u64) as usize])
    }
}

type Key = (TaskId, u32);

/// One that is not always here; it has function 2.
const PROGRAM: u128 = 9;

#[derive(Default)]
struct Process {
    live: bool,
    /// It claims nothing more.
    leaves: bool,
    ring: VecDeque<Run>,
    /// What it runs, with what that waits for.
    stack: Vec<(Run, Vec<TaskId>)>,
    granted: Vec<(u64, Extent)>,
    asked: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Lies {
    Inline,
    Memory(Extent),
    DiskSegment(Extent),
    /// Its memory is not free yet.
    Spilling(Option<Extent>),
    Disk,
    Coming,
    Peer,
}

pub(super) struct Play {
    core: Core,
    now: Time,
    dice: Dice,
    limit: u64,
    processes: BTreeMap<ExecutorId, Process>,
    store: BTreeMap<ObjectId, (Lies, u64)>,
    pins: BTreeMap<Key, Vec<ObjectId>>,
    open: BTreeMap<Key, Assignment>,
    answered: BTreeSet<Key>,
    asked_back: BTreeSet<Key>,
    /// Children that the scheduler has not assigned yet, with their parents.
    unborn: Vec<(TaskId, TaskId)>,
    spills: Vec<ObjectId>,
    loads: Vec<(ObjectId, bool)>,
    fetches: Vec<(ObjectId, bool)>,
    wanted: BTreeMap<u64, (ObjectId, bool)>,
    /// It is to come from a peer or a client.
    asked_for_program: bool,
    /// Copies that were asked for and not answered.
    copying: BTreeSet<ObjectId>,
    next_task: u64,
    next_extent: u64,
    on_disk: BTreeSet<u64>,
    pending: VecDeque<Event>,
    calm: bool,
    pub(super) ends: u64,
}

impl Play {
    pub(super) fn new(seed: u64, slots: u32, limit: u64) -> Play {
        let mut config = config(slots, limit);
        config.spec.resources.named = vec![("gpu".to_owned(), 1000)];
        config.spec.resources.memory = 1 << 30;
        config.processes_per_slot = 2;
        let mut play = Play {
            core: Core::new(WorkerId(0), config),
            now: Time(0),
            dice: Dice(seed),
            limit,
            processes: BTreeMap::new(),
            store: BTreeMap::new(),
            pins: BTreeMap::new(),
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            asked_back: BTreeSet::new(),
            unborn: Vec::new(),
            spills: Vec::new(),
            loads: Vec::new(),
            fetches: Vec::new(),
            wanted: BTreeMap::new(),
            asked_for_program: false,
            copying: BTreeSet::new(),
            next_task: 0,
            next_extent: 0,
            on_disk: BTreeSet::new(),
            pending: VecDeque::new(),
            calm: false,
            ends: 0,
        };
        play.tell(Event::FromScheduler(functions()));
        let functions = vec![function(2, PROGRAM)];
        play.tell(Event::FromScheduler(ToWorker::Functions { functions }));
        play
    }

    /// Some steps at random, and then calm until all is answered.
    pub(super) fn run(&mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
            self.deliver();
        }
        self.calm = true;
        for round in 0.. {
            if self.open.is_empty() && self.unborn.is_empty() {
                break;
            }
            assert!(round < 20_000, "these were never answered: {}", self.picture());
            self.step();
            self.deliver();
        }
        self.settle_down();
    }

    fn picture(&self) -> String {
        let open: Vec<_> = self.open.keys().collect();
        let processes: Vec<_> = self
            .processes
            .iter()
            .map(|(id, p)| {
                (
                    id,
                    p.live,
                    p.ring.len(),
                    p.stack.iter().map(|s| (&s.0.task, &s.1)).collect::<Vec<_>>(),
                )
            })
            .collect();
        format!("{open:?}\nunborn {:?}\n{processes:?}\n{:#?}", self.unborn, self.core)
    }

    /// After the end: everything is freed, and every slot can be used.
    fn settle_down(&mut self) {
        for _ in 0..1000 {
            self.finish_io();
            self.deliver();
        }
        let objects: Vec<ObjectId> = self.store.keys().copied().collect();
        self.tell(Event::FromScheduler(ToWorker::Free { objects }));
        for _ in 0..100 {
            self.finish_io();
            self.deliver();
        }
        assert!(self.wanted.is_empty() && self.copying.is_empty(), "no answer: {:#?}", self.core);
        assert_eq!(self.core.holdings(), (0, 0), "{:#?}", self.core);
        assert_eq!(format!("{:?}", self.core.room), format!("{:?}", self.core.total));
        assert_eq!(
            self.core.used(),
            self.processes.values().flat_map(|p| &p.granted).map(|_| 0).sum::<u64>()
        );
    }

    fn step(&mut self) {
        match self.dice.roll(25) {
            0..=2 if !self.calm => self.assign(),
            3 if !self.calm => self.retract(),
            4 if !self.calm => self.cancel(),
            5 if !self.calm => self.free(),
            6 if !self.calm => self.ask(),
            7..=8 => self.finish_io(),
            9 => self.start(),
            10 => self.bear(),
            11 => self.pass_time(),
            12 if !self.calm => self.kill_one(),
            13 if !self.calm => self.measure_one(),
            14 if !self.calm => self.repeat(),
            15 if !self.calm => self.copy(),
            16 if !self.calm => self.want(),
            17 if self.asked_for_program => self.program_comes(),
            18 if !self.calm && self.dice.one_in(20) => {
                let (program, news) = (PROGRAM, ProgramNews::Gone);
                self.pending.push_back(Event::Program { program, news });
            }
            _ => self.execute(),
        }
    }

    fn tell(&mut self, event: Event) {
        self.pending.push_back(event);
        self.deliver();
    }

    /// Hands the core what has happened, and does what it wants.
    fn deliver(&mut self) {
        loop {
            let mut out = Vec::new();
            while let Some(event) = self.pending.pop_front() {
                self.core.handle(self.now, event, &mut out);
                self.core.sanity_check();
            }
            self.core.round(self.now, &mut out);
            self.core.sanity_check();
            if out.is_empty() {
                return;
            }
            for action in out {
                self.perform(action);
                self.check_limit();
            }
        }
    }

    fn check_limit(&self) {
        let stored = self.store.values().map(|(lies, _)| match lies {
            Lies::Memory(extent) | Lies::Spilling(Some(extent)) => pages(extent.len),
            _ => 0,
        });
        let granted = self.processes.values().flat_map(|p| &p.granted);
        let granted = granted.filter(|(_, e)| !self.on_disk.contains(&e.offset));
        let used = stored.sum::<u64>() + granted.map(|(_, e)| pages(e.len)).sum::<u64>();
        assert!(used <= self.limit, "{used} bytes of {} are used", self.limit);
    }

    fn extent(&mut self, len: u64, on_disk: bool) -> Extent {
        self.next_extent += 1;
        if on_disk {
            self.on_disk.insert(self.next_extent * 4096);
        }
        Extent { segment: 0, offset: self.next_extent * 4096, len }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::ToScheduler(message) => self.on_worker(message),
            Action::StartExecutor { executor, .. } => {
                assert!(self.processes.insert(executor, Process::default()).is_none());
            }
            Action::Feed { executor, run } => {
                self.check_run(&run);
                let plain = is_plain(&self.open[&(run.task, run.attempt)]);
                let process = self.processes.get_mut(&executor).expect("a live executor is fed");
                assert!(process.live, "{executor:?} is fed and not live");
                let busy = !process.ring.is_empty() || !process.stack.is_empty();
                assert!(plain || !busy, "{} is fed ahead", run.task);
                if process.leaves {
                    // The core will hear of it, and give the task to another.
                    self.pins.remove(&(run.task, run.attempt));
                }
                process.ring.push_back(run);
            }
            Action::RunInPlace { executor, run } => {
                self.check_run(&run);
                let process = self.processes.get_mut(&executor).expect("a live executor is fed");
                let top = process.stack.last().expect("something blocked lies under it");
                assert!(!top.1.is_empty(), "{} is put on a task that runs", run.task);
                process.stack.push((run, Vec::new()));
            }
            Action::TakeBack { executor, task, attempt } => {
                let slow = self.dice.one_in(4);
                let process = self.processes.get_mut(&executor);
                let ring = process.map(|p| &mut p.ring);
                let at = ring
                    .as_ref()
                    .and_then(|r| r.iter().position(|r| r.task == task && r.attempt == attempt));
                if let (Some(at), Some(ring)) = (at, ring) {
                    ring.remove(at);
                    self.pins.remove(&(task, attempt));
                }
                let event = Event::TookBack { executor, task, attempt, ok: at.is_some() };
                if slow {
                    self.pending.push_front(event);
                } else {
                    self.pending.push_back(event);
                }
            }
            Action::Interrupt { executor, task, attempt } => {
                let process =
                    self.processes.get(&executor).expect("an interrupt finds its executor");
                let head = process.stack.last().map(|s| &s.0).or(process.ring.front());
                let head = head.map(|r| (r.task, r.attempt));
                assert_eq!(head, Some((task, attempt)), "the interrupt would hit another task");
            }
            Action::Kill { executor } | Action::Retire { executor } => {
                let process = self.processes.remove(&executor).expect("it was started");
                for run in process.ring.iter().chain(process.stack.iter().map(|s| &s.0)) {
                    self.pins.remove(&(run.task, run.attempt));
                }
                let death = death(9);
                self.pending.push_back(Event::ExecutorDied { executor, death });
            }
            Action::ToExecutor { .. } => {}
            Action::Peers { .. } | Action::PeersGone { .. } => {}
            Action::FetchProgram { .. } => self.asked_for_program = true,
            Action::Leave => panic!("nobody wanted it to leave"),
            Action::Serve { ticket, value } => {
                let (object, there) = self.wanted.remove(&ticket).expect("a ticket is used once");
                assert!(!there || value.is_some(), "{object} lies here");
            }
            Action::Grant { executor, request, size, on_disk } => {
                let extent = self.extent(size, on_disk);
                let failed = self.dice.one_in(30);
                let process = self.processes.get_mut(&executor).expect("it asked");
                process.asked = false;
                if !failed {
                    process.granted.push((request, extent));
                }
                let extent = (!failed).then_some(extent);
                self.pending.push_back(Event::Granted { executor, request, extent });
            }
            Action::Readable { executor, object, place } => {
                if place.is_ok() {
                    let process = &self.processes[&executor];
                    let top = process.stack.last().expect("a reader runs");
                    self.pins.entry((top.0.task, top.0.attempt)).or_default().push(object);
                }
            }
            Action::Fetch { object, on_disk, .. } => {
                self.store.insert(object, (Lies::Coming, self.size_of(object)));
                self.fetches.push((object, on_disk));
            }
            Action::Spill { object, .. } => {
                self.check_unpinned(object);
                let (lies, _) = self.store.get_mut(&object).expect("it lies here");
                *lies = match *lies {
                    Lies::Memory(extent) => Lies::Spilling(Some(extent)),
                    Lies::Inline => Lies::Spilling(None),
                    other => panic!("{object} is spilled and lies in {other:?}"),
                };
                self.spills.push(object);
            }
            Action::Load { object, on_disk } => {
                let (lies, _) = self.store.get_mut(&object).expect("it lies here");
                assert_eq!(*lies, Lies::Disk, "{object} is loaded");
                *lies = Lies::Coming;
                self.loads.push((object, on_disk));
            }
            Action::Free { object } => {
                self.check_unpinned(object);
                let known = self.store.remove(&object);
                assert!(!matches!(known, Some((Lies::Coming | Lies::Spilling(_), _))), "{object}");
            }
        }
    }

    fn size_of(&self, object: ObjectId) -> u64 {
        self.store.get(&object).map_or(0, |(_, size)| *size)
    }

    fn check_unpinned(&self, object: ObjectId) {
        let pinned = self.pins.iter().find(|(_, objects)| objects.contains(&object));
        assert!(pinned.is_none(), "{object} is taken away from {pinned:?}");
    }

    /// A fed task must be open, in one place only, and find its inputs.
    fn check_run(&mut self, run: &Run) {
        let key = (run.task, run.attempt);
        let assignment = self.open.get(&key).expect("a fed attempt is open");
        assert!(!self.pins.contains_key(&key), "{key:?} runs twice");
        assert_eq!(run.inputs.len(), assignment.inputs.len());
        let mut read = Vec::new();
        for (input, place) in assignment.inputs.iter().zip(&run.inputs) {
            if matches!(input.place, InputPlace::Inline(_)) {
                continue;
            }
            read.push(input.object);
            match (place, self.store.get(&input.object)) {
                (Place::Inline(_), Some((Lies::Inline, _))) => {}
                (
                    Place::Extent { extent, .. },
                    Some((Lies::Memory(at) | Lies::DiskSegment(at), _)),
                ) => {
                    assert_eq!(extent, at);
                }
                other => panic!("{} cannot read {}: {other:?}", run.task, input.object),
            }
        }
        self.pins.insert(key, read);
    }

    fn on_worker(&mut self, message: FromWorker) {
        match message {
            FromWorker::Ended { ends } => {
                for end in ends {
                    self.ends += 1;
                    if end.result.is_err() {
                        self.scrap(end.task);
                    }
                    self.answer((end.task, end.attempt));
                }
            }
            FromWorker::Missing { task, attempt, object, .. } => {
                let assignment = self.open[&(task, attempt)].clone();
                assert!(assignment.inputs.iter().any(|input| input.object == object));
                self.answer((task, attempt));
                if self.dice.one_in(2) {
                    self.submit(Assignment { attempt: attempt + 1, ..assignment });
                }
            }
            FromWorker::NeedProgram { program } => {
                assert!(!self.asked_for_program, "it is on its way");
                let source = match self.dice.roll(3) {
                    0 if !self.calm => Err("nobody has it".to_owned()),
                    n => Ok(vec![WorkerId(1); n as usize]),
                };
                self.asked_for_program = source == Ok(Vec::new());
                let source = ToWorker::Program { program, source };
                self.pending.push_back(Event::FromScheduler(source));
            }
            FromWorker::Copied { objects } => {
                for object in objects {
                    self.copying.remove(&object);
                }
            }
            FromWorker::CopyFailed { object, .. } => {
                assert!(self.copying.remove(&object), "no copy of {object} was wanted");
            }
            FromWorker::Retracted { given, kept } => {
                for key in given {
                    assert!(self.asked_back.contains(&key));
                    let assignment = self.open[&key].clone();
                    self.answer(key);
                    if self.dice.one_in(2) {
                        self.submit(Assignment { attempt: key.1 + 1, ..assignment });
                    }
                }
                for key in kept {
                    assert!(self.asked_back.contains(&key));
                }
            }
            FromWorker::Lost { objects } => {
                for object in objects {
                    self.store.remove(&object);
                }
            }
            FromWorker::Blocked { task, at_limit: true, .. } if self.dice.one_in(2) => {
                if let Some(at) = self.unborn.iter().position(|(_, parent)| *parent == task) {
                    let (child, parent) = self.unborn.swap_remove(at);
                    let in_place_of = Some(parent);
                    self.submit(Assignment { in_place_of, ..self.child(child, parent) });
                }
            }
            _ => {}
        }
    }

    /// Results of a task that failed are not its objects; the core frees their extents.
    fn scrap(&mut self, _task: TaskId) {}

    fn answer(&mut self, key: Key) {
        assert!(self.open.remove(&key).is_some(), "{key:?} is answered and not open");
        assert!(self.answered.insert(key), "{key:?} is answered twice");
    }

    fn submit(&mut self, assignment: Assignment) {
        let key = (assignment.task, assignment.attempt);
        self.open.insert(key, assignment.clone());
        let tasks = vec![assignment];
        self.pending.push_back(Event::FromScheduler(ToWorker::Assign { tasks }));
    }

    /// The scheduler repeats itself.
    fn repeat(&mut self) {
        if let Some(key) = self.dice.pick(self.open.keys().copied()) {
            let tasks = vec![self.open[&key].clone()];
            self.pending.push_back(Event::FromScheduler(ToWorker::Assign { tasks }));
        }
    }

    fn new_task(&mut self) -> TaskId {
        self.next_task += 1;
        task(self.next_task)
    }

    fn assign(&mut self) {
        for _ in 0..=self.dice.roll(6) {
            let mut assignment = assignment(self.new_task());
            assignment.order = self.dice.roll(4);
            assignment.function = self.dice.roll(3) as u32;
            assignment.outputs = 1 + u16::from(self.dice.one_in(8));
            assignment.wanted = self.dice.one_in(3);
            assignment.args = Bytes::from(vec![0; self.dice.roll(60_000) as usize]);
            if self.dice.one_in(3) {
                assignment.options = Arc::new(self.options());
            }
            while self.dice.one_in(2) {
                self.add_input(&mut assignment);
            }
            self.submit(assignment);
        }
    }

    fn options(&mut self) -> TaskOptions {
        let mut options = TaskOptions::default();
        match self.dice.roll(7) {
            0 => options.time_limit_us = Some(1 + self.dice.roll(100_000)),
            1 => options.memory_limit = Some(1000),
            2 => options.resources.millicores = 2000,
            3 => options.resources.millicores = 500,
            4 => options.resources.named = vec![("gpu".to_owned(), 1000)],
            5 => options.deadline_unix_us = Some(self.now.0 + self.dice.roll(100_000)),
            _ => {
                let named = vec![("tpu".to_owned(), 1)];
                options.resources = Resources { named, ..Resources::default() };
            }
        }
        options
    }

    fn add_input(&mut self, assignment: &mut Assignment) {
        let here =
            self.store.iter().filter(|(_, (lies, _))| *lies != Lies::Peer).map(|(id, _)| *id);
        let here: Vec<ObjectId> = here.collect();
        match self.dice.roll(3) {
            0 => {
                let value = Value { codec: Codec::RAW, bytes: Bytes::new() };
                let object = self.new_task().object(0);
                assignment.inputs.push(input(object, InputPlace::Inline(value)));
            }
            1 => {
                let object = self.new_task().object(0);
                let size = self.dice.roll(self.limit);
                self.store.insert(object, (Lies::Peer, size));
                let place = InputPlace::Peers { workers: vec![WorkerId(1)], size };
                assignment.inputs.push(input(object, place));
            }
            _ => {
                if let Some(object) = self.dice.pick(here) {
                    assignment.inputs.push(input(object, InputPlace::Here));
                }
            }
        }
    }

    fn retract(&mut self) {
        let Some(key) = self.dice.pick(self.open.keys().copied()) else { return };
        self.asked_back.insert(key);
        let stranger = (task(1 << 40), 0);
        self.asked_back.insert(stranger);
        let tasks = vec![key, stranger];
        self.pending.push_back(Event::FromScheduler(ToWorker::Retract { tasks }));
    }

    fn cancel(&mut self) {
        let Some(key) = self.dice.pick(self.open.keys().copied()) else { return };
        let failure = FailureKind::Cancelled { reason: "the dice".to_owned() };
        let tasks = vec![(key.0, key.1, failure)];
        self.pending.push_back(Event::FromScheduler(ToWorker::Cancel { tasks }));
    }

    /// Frees an object that no open attempt needs.
    fn free(&mut self) {
        let needed: BTreeSet<ObjectId> =
            self.open.values().flat_map(|a| &a.inputs).map(|i| i.object).collect();
        let open: BTreeSet<TaskId> = self.open.keys().map(|k| k.0).collect();
        let free = self.store.keys().copied();
        let free = free.filter(|o| !needed.contains(o) && !open.contains(&o.task));
        let Some(object) = self.dice.pick(free.collect::<Vec<_>>()) else { return };
        let objects = vec![object, object];
        self.pending.push_back(Event::FromScheduler(ToWorker::Free { objects }));
    }

    fn ask(&mut self) {
        if let Some(object) = self.dice.pick(self.store.keys().copied()) {
            let objects = vec![object];
            self.pending.push_back(Event::FromScheduler(ToWorker::Send { objects }));
        }
        if let Some((task, _)) = self.dice.pick(self.open.keys().copied()) {
            self.pending.push_back(Event::FromScheduler(ToWorker::Explain { query: 1, task }));
        }
    }

    /// The scheduler wants a copy here of something far or near.
    fn copy(&mut self) {
        let far = self.dice.one_in(2);
        let object = match self.dice.pick(self.store.keys().copied()) {
            Some(object) if !far => object,
            _ => {
                let (object, size) = (self.new_task().object(0), self.dice.roll(self.limit));
                self.store.insert(object, (Lies::Peer, size));
                object
            }
        };
        self.copying.insert(object);
        let (size, workers) = (self.size_of(object), vec![WorkerId(1)]);
        let copy = ToWorker::Copy { object, size, workers };
        self.pending.push_back(Event::FromScheduler(copy));
    }

    fn program_comes(&mut self) {
        self.asked_for_program = false;
        let message = String::new();
        let news = match self.dice.roll(40) {
            0 if !self.calm => ProgramNews::Unusable { message },
            1..10 if !self.calm => ProgramNews::NotFetched { message },
            _ => ProgramNews::Here,
        };
        self.pending.push_back(Event::Program { program: PROGRAM, news });
    }

    /// A peer wants something.
    fn want(&mut self) {
        let Some(object) = self.dice.pick(self.store.keys().copied()) else { return };
        let ticket = self.dice.roll(u64::MAX);
        self.wanted.insert(ticket, (object, self.core.value(object).is_some()));
        self.tell(Event::Wanted { ticket, object });
    }

    fn fails(&mut self, n: u64) -> bool {
        !self.calm && self.dice.one_in(n)
    }

    fn finish_io(&mut self) {
        let bad = self.fails(8);
        match self.dice.roll(3) {
            0 if !self.spills.is_empty() => {
                let at = self.dice.roll(self.spills.len() as u64) as usize;
                let object = self.spills.swap_remove(at);
                if let Some((lies, _)) = self.store.get_mut(&object) {
                    *lies = match *lies {
                        Lies::Spilling(Some(extent)) if bad => Lies::Memory(extent),
                        Lies::Spilling(None) if bad => Lies::Inline,
                        _ => Lies::Disk,
                    };
                }
                self.pending.push_back(Event::Spilled { object, ok: !bad });
            }
            1 if !self.loads.is_empty() => {
                let at = self.dice.roll(self.loads.len() as u64) as usize;
                let (object, on_disk) = self.loads.swap_remove(at);
                let result =
                    if bad { Err("bad disk".to_owned()) } else { Ok(self.come(object, on_disk)) };
                self.pending.push_back(Event::Loaded { object, result });
            }
            2 if !self.fetches.is_empty() => {
                let at = self.dice.roll(self.fetches.len() as u64) as usize;
                let (object, on_disk) = self.fetches.swap_remove(at);
                let result = if bad {
                    self.store.remove(&object);
                    Err("no peer".to_owned())
                } else {
                    let size = self.size_of(object);
                    let meta = ObjectMeta { codec: Codec::RAW, size, contains: Vec::new() };
                    Ok((meta, self.come(object, on_disk)))
                };
                self.pending.push_back(Event::Fetched { object, result });
            }
            _ => {}
        }
    }

    fn come(&mut self, object: ObjectId, on_disk: bool) -> LocalValue {
        let size = self.size_of(object);
        let extent = self.extent(size, on_disk);
        let lies = if on_disk { Lies::DiskSegment(extent) } else { Lies::Memory(extent) };
        self.store.insert(object, (lies, size));
        LocalValue::Extent { extent, codec: Codec::RAW }
    }

    fn start(&mut self) {
        let starting = |(id, _): (&ExecutorId, &Process)| *id;
        let waiting = self.processes.iter().filter(|(_, p)| !p.live).map(starting);
        let Some(executor) = self.dice.pick(waiting.collect::<Vec<_>>()) else { return };
        if self.fails(10) {
            self.processes.remove(&executor);
            let message = "no memory".to_owned();
            self.pending.push_back(Event::StartFailed { executor, message });
            return;
        }
        self.processes.get_mut(&executor).expect("picked above").live = true;
        self.pending.push_back(Event::ExecutorStarted { executor, pid: executor.0 });
    }

    /// The scheduler assigns a child as a task like any other.
    fn bear(&mut self) {
        if !self.unborn.is_empty() {
            let (child, parent) = self.unborn.swap_remove(0);
            self.submit(self.child(child, parent));
        }
    }

    /// A task submits tasks of its own program.
    fn child(&self, child: TaskId, parent: TaskId) -> Assignment {
        let parent = self.open.values().find(|a| a.task == parent);
        let function = parent.map_or(0, |parent| parent.function);
        Assignment { function, ..assignment(child) }
    }

    fn pass_time(&mut self) {
        self.now = self.now + self.dice.roll(20_000);
        if self.calm {
            self.now = self.now.max(self.core.next_tick().unwrap_or(self.now));
        }
        if self.core.next_tick().is_some_and(|at| at <= self.now) {
            self.pending.push_back(Event::Tick);
        }
    }

    fn live(&self) -> Vec<ExecutorId> {
        self.processes.iter().filter(|(_, p)| p.live).map(|(id, _)| *id).collect()
    }

    fn kill_one(&mut self) {
        let Some(executor) = self.dice.pick(self.live()).filter(|_| self.dice.one_in(4)) else {
            return;
        };
        let process = self.processes.remove(&executor).expect("picked above");
        for run in process.ring.iter().chain(process.stack.iter().map(|s| &s.0)) {
            self.pins.remove(&(run.task, run.attempt));
        }
        self.pending.push_back(Event::ExecutorDied { executor, death: death(11) });
    }

    fn measure_one(&mut self) {
        let Some(executor) = self.dice.pick(self.core.watched().collect::<Vec<_>>()) else {
            return;
        };
        let used = self.dice.roll(2000);
        self.pending.push_back(Event::MemoryUsed { executor, used });
    }

    /// An executor goes on a little.
    fn execute(&mut self) {
        let Some(id) = self.dice.pick(self.live()) else { return };
        let calm = self.calm;
        let process = self.processes.get_mut(&id).expect("picked above");
        if process.stack.is_empty() {
            if process.leaves {
                return;
            }
            process.stack.extend(process.ring.pop_front().map(|run| (run, Vec::new())));
            return;
        }
        if process.asked {
            return;
        }
        let (run, waits) = process.stack.last_mut().expect("not empty");
        let (task, attempt) = (run.task, run.attempt);
        if !waits.is_empty() {
            let over = |t: &TaskId| {
                self.answered.iter().any(|k| k.0 == *t) && !self.open.keys().any(|k| k.0 == *t)
            };
            waits.retain(|t| !over(t));
            if waits.is_empty() {
                self.pending.push_back(Event::Unblocked { executor: id, task, attempt });
            }
            return;
        }
        match self.dice.roll(8) {
            0 if !calm => self.block(id, task, attempt),
            1 => {
                let size = 1 + self.dice.roll(self.limit + self.limit / 8);
                let request = self.dice.roll(1 << 40);
                self.processes.get_mut(&id).expect("picked above").asked = true;
                self.pending.push_back(Event::AllocRequested { executor: id, request, task, size });
            }
            2 if !calm => {
                let object = self.dice.pick(self.store.keys().copied());
                let doomed = |o: &ObjectId| {
                    let objects = &self.core.objects;
                    objects.small(*o).is_none() && objects.recorded(*o).is_none_or(|o| o.doomed)
                };
                if let Some(object) = object.filter(|o| !doomed(o)) {
                    self.pending.push_back(Event::ReadRequested { executor: id, task, object });
                }
            }
            _ => self.end(id),
        }
    }

    fn block(&mut self, id: ExecutorId, task: TaskId, attempt: u32) {
        let children: Vec<TaskId> = (0..=self.dice.roll(3)).map(|_| self.new_task()).collect();
        self.unborn.extend(children.iter().map(|child| (*child, task)));
        let process = self.processes.get_mut(&id).expect("the caller picked it");
        process.stack.last_mut().expect("something runs").1.clone_from(&children);
        let waits_for = children.iter().map(|c| c.object(0)).collect();
        self.pending.push_back(Event::Blocked { executor: id, task, attempt, waits_for });
    }

    fn end(&mut self, id: ExecutorId) {
        let process = self.processes.get_mut(&id).expect("the caller picked it");
        let (run, _) = process.stack.pop().expect("something runs");
        let key = (run.task, run.attempt);
        self.pins.remove(&key);
        // What is granted to the others on the stack is left alone.
        let mut granted = std::mem::take(&mut process.granted);
        let wrong = self.dice.one_in(20);
        let result = if self.dice.one_in(6) {
            Err(Box::new(FailureKind::Error { message: "no".to_owned() }))
        } else {
            let outputs = if wrong { run.outputs + 1 } else { run.outputs };
            Ok((0..u32::from(outputs))
                .map(|n| self.output(run.task.object(n), granted.pop()))
                .collect())
        };
        let process = self.processes.get_mut(&id).expect("the caller picked it");
        let leaves = process.stack.is_empty() && self.dice.one_in(12);
        if leaves {
            process.leaves = true;
            for run in &process.ring {
                self.pins.remove(&(run.task, run.attempt));
            }
        }
        let duration_us = self.dice.roll(3000) as u32;
        let end = End { task: key.0, attempt: key.1, duration_us, printed: None, leaves, result };
        self.pending.push_back(Event::TaskEnded { executor: id, end });
    }

    fn output(&mut self, object: ObjectId, granted: Option<(u64, Extent)>) -> Returned {
        let known = self.store.contains_key(&object);
        let (bytes, lies) = match granted.filter(|_| !known) {
            Some((_, extent)) if self.on_disk.contains(&extent.offset) => {
                (ReturnedBytes::Extent(extent), Lies::DiskSegment(extent))
            }
            Some((_, extent)) => (ReturnedBytes::Extent(extent), Lies::Memory(extent)),
            None => {
                let bytes = Bytes::from(vec![0; self.dice.roll(3000) as usize]);
                (ReturnedBytes::Inline(bytes), Lies::Inline)
            }
        };
        let size = match &bytes {
            ReturnedBytes::Extent(extent) => extent.len,
            ReturnedBytes::Inline(bytes) => bytes.len() as u64,
        };
        if !known {
            self.store.insert(object, (lies, size));
        }
        Returned { codec: Codec::RAW, bytes, contains: Vec::new() }
    }
}

fn is_plain(assignment: &Assignment) -> bool {
    *assignment.options == TaskOptions::default()
}

fn death(signal: i32) -> Death {
    Death { signal: Some(signal), exit_code: None, peak_memory: 0, stderr_tail: String::new() }
}
