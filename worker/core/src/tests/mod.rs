//! Scripts of events with the exact actions, and properties over random plays.

mod bench;
mod block;
mod desk;
mod executors;
mod feed;
mod functions;
mod limits;
mod memory;
mod peers;
mod play;
mod programs;
mod properties;
