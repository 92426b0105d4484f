//! Scripts of events with the exact actions, and properties over random plays.

mod desk;
mod play;
mod properties;
