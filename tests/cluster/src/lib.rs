//! Several machines on one, and the daemons of a cluster on them: for tests and measurements.
//!
//! It promises that nothing it starts outlives the process that started it, however that ends, that
//! nothing it makes has a name that a test beside it could meet, and that whatever is waited for
//! has a limit and is named when the limit is over.
//!
//! # Layout
//! - [`Machines`]: network namespaces with an address each, or addresses in 127.0.0.0/8.
//! - [`Relay`]: a way between two of them that loses, delays, reorders, is cut, and changes its own
//!   address.
//! - [`Daemon`]: a process of the cluster: started, waited for, told to end, killed, stopped.
//! - [`Cluster`]: a scheduler, its workers, and how to ask it.
//! - [`program`]: the program `manyhands` of this workspace.
//! - [`in_time`], [`until`]: limits.

mod cluster;
mod daemon;
mod limit;
mod machines;
mod program;
mod relay;

pub use cluster::{Cluster, Plan};
pub use daemon::{Daemon, output};
pub use limit::{LIMIT, in_time, until};
pub use machines::{LOOPBACK, MACHINES_LIMIT, Machine, Machines};
pub use program::{Folder, program, scratch};
pub use relay::{Counts, Faults, Relay};
