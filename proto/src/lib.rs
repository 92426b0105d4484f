//! The words that the parts of manyhands say to each other: ids, messages, codec, versions.
//!
//! This crate promises that it holds no policy, no runtime and no sockets: only data, and how the
//! data is laid out. Whatever it decodes may come from a stranger, so decoding returns errors and
//! never panics.
//!
//! # Layout
//! - [`ids`]: who is who: jobs, lanes, tasks, objects, functions, sessions, workers.
//! - [`time`]: microseconds, handed in by whoever owns a clock.
//! - [`value`]: an encoded value, its codec, and where it may lie.
//! - [`task`]: what a user may ask of a task (options, resources) and how a task fails.
//! - [`words`]: how amounts and failures are written for people.
//! - [`graph`]: a batch of a task graph, in columns.
//! - [`client`]: the conversation between a client and the scheduler.
//! - [`worker`]: the conversation between the scheduler and a worker.
//! - [`executor`]: the protocol between a worker and its executors.
//! - [`inspect`]: what people ask about a cluster, and the answers.
//! - [`link`]: how a link between machines begins, and what its frames are.
//! - [`session`]: frames numbered, repeated and put in order again over links that break.
//! - [`frame`]: length-prefixed MessagePack frames, and the hello with its version rule.

pub mod client;
pub mod executor;
pub mod frame;
pub mod graph;
pub mod ids;
pub mod inspect;
pub mod link;
pub mod session;
pub mod task;
pub mod time;
pub mod value;
pub mod words;
pub mod worker;

pub use ids::{FunctionId, JobId, Lane, ObjectId, SessionId, TaskId, WorkerId};
pub use time::Time;
