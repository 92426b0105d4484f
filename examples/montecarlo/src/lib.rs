//! Pi from darts thrown by very many tiny tasks, and an integral by tasks that submit tasks.
//!
//! [`estimate`] makes 100,000 tasks and more of a few microseconds each: what a task costs beside
//! its work is all that counts here. [`integrate`] does not know beforehand what there is to do: a
//! task looks at its interval, and if that is difficult it submits a task for each half, waits for
//! both, and lends its slot away meanwhile.
//!
//! # Layout
//! - [`pure`]: the arithmetic, without a cluster in sight.
//! - [`darts`]: many tiny tasks.
//! - [`area`]: tasks that submit tasks.

pub mod area;
pub mod darts;
pub mod pure;

pub use area::{Area, integrate};
pub use darts::{Darts, estimate};
