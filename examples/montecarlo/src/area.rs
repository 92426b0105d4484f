//! Tasks that submit tasks.

use manyhands::{Client, Error};
use serde::{Deserialize, Serialize};

use crate::pure::Piece;

/// An integral, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// The integral.
    pub integral: f64,
    /// The tasks that looked at an interval.
    pub tasks: u64,
}

#[manyhands::task]
fn area(piece: Piece) -> Result<Area, Error> {
    if let Some(integral) = piece.easy() {
        return Ok(Area { integral, tasks: 1 });
    }
    let [left, right] = piece.halves();
    let (left, right) = match manyhands::current() {
        Some(client) => client.compute((area::lazy(left), area::lazy(right)))?,
        // Called as the plain function that it still is.
        None => (area(left)?, area(right)?),
    };
    Ok(Area { integral: left.integral + right.integral, tasks: left.tasks + right.tasks + 1 })
}

/// Integrates [`wild`](crate::pure::wild) over a piece of the line.
pub fn integrate(client: &Client, piece: Piece) -> Result<Area, Error> {
    client.compute(&area::lazy(piece))
}
