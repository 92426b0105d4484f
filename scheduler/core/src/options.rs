//! What tasks ask for, shared: options, and the demands on workers that follow from them.

use std::sync::Arc;

use manyhands_proto::task::{Resources, TaskOptions};
use manyhands_proto::words::{Amount, Bytes, Cores};
use manyhands_proto::worker::WorkerSpec;
use rustc_hash::FxHashMap;

use crate::slab::{OptIdx, Slab};

/// The demand of a task of one slot and nothing else: the one that is fast.
pub(crate) const STANDARD: u32 = 0;

/// What tasks ask of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Demand {
    pub(crate) resources: Resources,
    pub(crate) labels: Vec<(String, String)>,
}

impl Demand {
    /// Why this worker could never run such a task; `None` if it could.
    pub(crate) fn misses(&self, spec: &WorkerSpec) -> Option<String> {
        let (want, have) = (&self.resources, &spec.resources);
        if want.millicores > have.millicores || have.millicores == 0 {
            let (want, have) = (Cores(want.millicores), Amount(have.millicores.into()));
            return Some(format!("{want} (it has {have})"));
        }
        if want.memory > have.memory && have.memory > 0 || want.memory > 0 && have.memory == 0 {
            let (want, have) = (Bytes(want.memory), Bytes(have.memory));
            return Some(format!("{want} of memory (it has {have})"));
        }
        for (name, amount) in &want.named {
            let there = have.named.iter().find(|(n, _)| n == name).map_or(0, |(_, a)| *a);
            if *amount > there {
                let (want, have) = (Amount(*amount), Amount(there));
                return Some(format!("{want} {name} (it has {have})"));
            }
        }
        let missing = self.labels.iter().find(|label| !carries(spec, label));
        missing.map(|(key, value)| format!("the label {key}={value}"))
    }

    /// Whether more than slots counts.
    pub(crate) fn has_more_than_cores(&self) -> bool {
        self.resources.memory > 0 || !self.resources.named.is_empty()
    }
}

/// Whether a worker carries a label: one that it was given, or those that it has by itself, its name
/// (`worker`) and its machine (`host`). So a task can ask to be where another one was.
fn carries(spec: &WorkerSpec, label: &(String, String)) -> bool {
    let by_itself = match label.0.as_str() {
        "worker" => label.1 == spec.name,
        "host" => !spec.host.is_empty() && label.1 == spec.host,
        _ => false,
    };
    by_itself || spec.labels.contains(label)
}

/// Options that tasks share.
#[derive(Debug)]
pub(crate) struct OptionSet {
    pub(crate) options: Arc<TaskOptions>,
    pub(crate) demand: u32,
    pub(crate) millicores: u32,
    refs: u32,
}

/// All options and demands in use.
pub(crate) struct OptionTable {
    sets: Slab<OptIdx, OptionSet>,
    demands: Vec<Demand>,
    demand_ids: FxHashMap<Demand, u32>,
    /// Those made last: clients name the same few again and again.
    recent: Vec<OptIdx>,
}

/// How many sets are compared before a new one is made.
const RECENT: usize = 16;

impl Default for OptionTable {
    fn default() -> Self {
        let standard = Demand { resources: Resources::default(), labels: Vec::new() };
        OptionTable {
            sets: Slab::default(),
            demand_ids: [(standard.clone(), STANDARD)].into_iter().collect(),
            demands: vec![standard],
            recent: Vec::new(),
        }
    }
}

impl OptionTable {
    /// The set with these options. The caller has a reference to it until [`OptionTable::release`].
    pub(crate) fn intern(&mut self, options: &TaskOptions) -> OptIdx {
        let known = self.recent.iter().find(|i| *self.sets[**i].options == *options);
        if let Some(index) = known.copied() {
            self.sets[index].refs += 1;
            return index;
        }
        let demand =
            Demand { resources: options.resources.clone(), labels: options.labels.clone() };
        let millicores = options.resources.millicores;
        let demand = self.demand_of(demand);
        let options = Arc::new(options.clone());
        let index = self.sets.insert(OptionSet { options, demand, millicores, refs: 1 });
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(index);
        index
    }

    fn demand_of(&mut self, demand: Demand) -> u32 {
        if let Some(id) = self.demand_ids.get(&demand) {
            return *id;
        }
        let id = self.demands.len() as u32;
        self.demands.push(demand.clone());
        self.demand_ids.insert(demand, id);
        id
    }

    pub(crate) fn retain(&mut self, index: OptIdx) {
        self.sets[index].refs += 1;
    }

    pub(crate) fn release(&mut self, index: OptIdx) {
        let set = &mut self.sets[index];
        set.refs -= 1;
        if set.refs == 0 {
            self.sets.remove(index);
            self.recent.retain(|i| *i != index);
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: OptIdx) -> &OptionSet {
        &self.sets[index]
    }

    #[inline]
    pub(crate) fn demand(&self, demand: u32) -> &Demand {
        &self.demands[demand as usize]
    }

    /// References to all sets together.
    pub(crate) fn references(&self) -> usize {
        self.sets.iter().map(|(_, set)| set.refs as usize).sum()
    }
}
