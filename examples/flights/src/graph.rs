//! x
use crate::*;
/// x
pub fn analyse() {}
