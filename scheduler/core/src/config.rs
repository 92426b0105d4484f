//! What the shell decides about a scheduler core before it starts.

/// The settings of a core.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Unix time of `Time(0)`, in microseconds: deadlines are submitted as Unix times.
    pub unix_offset_us: u64,
    /// Seeds the only randomness there is: random placement, when it is asked for.
    pub seed: u64,
    /// Which policies are in force.
    pub policies: Policies,
    /// Other workers can join. Where they cannot, as in local mode, what no worker can run fails at
    /// once; else it waits for one that can.
    pub workers_may_join: bool,
    /// Bytes a second that go from worker to worker: what placement reckons with.
    pub bandwidth: u64,
    /// Bytes of small values that are kept to be sent along with tasks that need them.
    pub cache_limit: u64,
    /// Bytes of what tasks have printed that are kept for those who ask.
    pub logs_limit: u64,
    /// Bytes of records of ended tasks that nobody holds, kept so that lost objects can be made
    /// again.
    pub lineage_limit: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            unix_offset_us: 0,
            seed: 0,
            policies: Policies::default(),
            workers_may_join: true,
            bandwidth: 1 << 30,
            cache_limit: 64 << 20,
            logs_limit: 16 << 20,
            lineage_limit: 256 << 20,
        }
    }
}

/// The policies of placement. Each can be switched off, so that the simulator can print what each
/// is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// How a worker is chosen for a task.
    pub placement: Placement,
    /// Tasks of one priority run in the order of the client's ranks, and not as they came.
    pub rank_order: bool,
    /// Tasks without inputs are sent only when a worker has room for them.
    pub hold_back_roots: bool,
    /// Small tasks are sent ahead, many at a time.
    pub batch_small: bool,
    /// Idle workers take tasks from loaded ones.
    pub steal: bool,
    /// Jobs share the slots by their weights.
    pub fairness: bool,
    /// Room for a task's output is reserved before it is sent.
    pub admission: bool,
    /// How fast each worker is is measured, and a slow one gets less.
    pub pace: bool,
}

/// How a worker is chosen for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// By the bytes that would have to be moved and by load.
    Cost,
    /// Any worker with room, by chance.
    Random,
}

impl Default for Policies {
    fn default() -> Self {
        Policies {
            placement: Placement::Cost,
            rank_order: true,
            hold_back_roots: true,
            batch_small: true,
            steal: true,
            fairness: true,
            admission: true,
            pace: true,
        }
    }
}
