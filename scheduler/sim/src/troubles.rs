//! What befalls workers: they join, die, slow down, go away and come back, and are drained.

use manyhands_proto::Time;

use crate::plan::Plan;
use crate::rng::Rng;

/// Something that befalls a worker, or adds one. It befalls nobody if the worker is gone by then.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A worker joins that is configured as this one.
    Join(usize),
    /// Its machine dies, with all that it ran and held. The scheduler sees its link broken after
    /// `noticed_us`, and gives it up after `lost_us`.
    Die {
        /// Which.
        worker: usize,
        /// Microseconds.
        noticed_us: u64,
        /// Microseconds.
        lost_us: u64,
    },
    /// Everything takes longer there for a while.
    Slow {
        /// Which.
        worker: usize,
        /// So many times longer.
        times: u64,
        /// For how long, microseconds.
        us: u64,
    },
    /// Its link to the scheduler breaks. It comes back within the grace time; or after it, as a new
    /// worker that has nothing.
    Away {
        /// Which.
        worker: usize,
        /// When the scheduler sees it, microseconds from now.
        noticed_us: u64,
        /// The grace time, microseconds from now.
        grace_us: u64,
        /// When it is whole again, microseconds from now.
        us: u64,
        /// Nobody else can reach it meanwhile.
        cut_off: bool,
    },
    /// A client asks for it to be drained.
    Drain(usize),
    /// Its own machine tells it to end.
    Terminate(usize),
    /// At the end of all troubles somebody is there who can run whatever is left.
    Muster,
}

/// The troubles of a run.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    /// What happens when.
    pub list: Vec<(Time, Trouble)>,
    /// After this nothing happens any more.
    pub calm_at: Time,
    /// In words.
    pub title: String,
}

/// Longest time over which troubles begin, microseconds.
const LONGEST_US: u64 = 20_000_000;

/// Draws what befalls so many workers.
pub fn draw(plan: &Plan, workers: usize, rng: &mut Rng) -> Troubles {
    let mut troubles = Troubles::default();
    if rng.chance(45_000) {
        return troubles;
    }
    let slots = workers as u64 * 2;
    let span = plan.critical_path_us() + plan.work_us() / slots + 10_000;
    let mut drawing = Drawing { rng, workers, span: span.min(LONGEST_US), list: Vec::new() };
    // Some runs have only what loses nothing: there everything runs once.
    let kinds: &[Kind] = match drawing.rng.below(4) {
        0 => &[Kind::Join, Kind::Drain],
        1 => &[Kind::Join, Kind::Die],
        2 => &[Kind::Join, Kind::Away, Kind::Slow, Kind::Drain],
        _ => &[Kind::Join, Kind::Die, Kind::Slow, Kind::Away, Kind::Outlast, Kind::Drain],
    };
    for _ in 0..drawing.rng.range(1, 2 + workers.min(10) as u64) {
        let kind = *drawing.rng.pick(kinds);
        drawing.draw(kind);
    }
    let mut list = drawing.list;
    list.sort_by_key(|(at, _)| *at);
    let last = list.iter().map(|(at, trouble)| at.0 + trouble.lasts_us()).max();
    troubles.calm_at = Time(last.unwrap_or(0) + 1);
    list.push((troubles.calm_at, Trouble::Muster));
    troubles.title = kinds.iter().map(|kind| format!(", {}", kind.word())).collect();
    troubles.list = list;
    troubles
}

#[derive(Clone, Copy)]
enum Kind {
    Join,
    Die,
    Slow,
    Away,
    Outlast,
    Drain,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Join => "joins",
            Kind::Die => "deaths",
            Kind::Slow => "slow workers",
            Kind::Away => "breaks",
            Kind::Outlast => "long breaks",
            Kind::Drain => "drains",
        }
    }
}

impl Trouble {
    /// How long it lasts, microseconds.
    fn lasts_us(&self) -> u64 {
        match self {
            Trouble::Die { lost_us, .. } => *lost_us,
            Trouble::Slow { us, .. } => *us,
            Trouble::Away { grace_us, us, .. } => *us.max(grace_us),
            _ => 0,
        }
    }
}

struct Drawing<'a> {
    rng: &'a mut Rng,
    workers: usize,
    /// Microseconds in which the work could be done.
    span: u64,
    list: Vec<(Time, Trouble)>,
}

impl Drawing<'_> {
    fn draw(&mut self, kind: Kind) {
        let worker = self.rng.below(self.workers as u64) as usize;
        let at = Time(self.rng.below(self.span * 3 / 2));
        // Links break for shorter than it takes to run everything, or for about as long.
        let most = *self.rng.pick(&[2_000, 100_000, 3_000_000]);
        let noticed_us = self.rng.scaled(1, most);
        let grace_us = noticed_us + self.rng.scaled(100, 5_000_000);
        let trouble = match kind {
            Kind::Join => Trouble::Join(worker),
            Kind::Die => {
                if self.rng.chance(40_000) {
                    // The machine starts again.
                    let back = at + self.rng.scaled(10, 5_000_000);
                    self.list.push((back, Trouble::Join(worker)));
                }
                Trouble::Die { worker, noticed_us, lost_us: grace_us }
            }
            Kind::Slow => {
                let times = self.rng.range(2, 20);
                Trouble::Slow { worker, times, us: self.rng.scaled(1_000, self.span) }
            }
            Kind::Away => {
                let us = self.rng.range(1, grace_us - 1);
                let cut_off = self.rng.below(2) == 0;
                Trouble::Away { worker, noticed_us, grace_us, us, cut_off }
            }
            Kind::Outlast => {
                let us = grace_us + self.rng.scaled(1, 3_000_000);
                let cut_off = self.rng.below(2) == 0;
                Trouble::Away { worker, noticed_us, grace_us, us, cut_off }
            }
            Kind::Drain if self.rng.below(2) == 0 => Trouble::Drain(worker),
            Kind::Drain => Trouble::Terminate(worker),
        };
        self.list.push((at, trouble));
    }
}
