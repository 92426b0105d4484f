//! Prints an estimate of pi and an integral, and how long the tasks took.
//!
//! ```text
//! montecarlo [tasks [darts per task]]
//! ```

use std::error::Error;
use std::time::Instant;

use manyhands::Client;
use manyhands_example_montecarlo::pure::Piece;
use manyhands_example_montecarlo::{Darts, estimate, integrate};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let tasks = args.next().map_or(Ok(200_000), |text| text.parse())?;
    let throws = args.next().map_or(Ok(500), |text| text.parse())?;
    let client = Client::start()?;

    let darts = Darts { tasks, throws };
    let start = Instant::now();
    let hits = estimate(&client, darts)?;
    let took = start.elapsed();
    println!("pi is about {:.6}", 4.0 * hits as f64 / darts.all() as f64);
    println!(
        "{tasks} tasks with {throws} darts each: {:.3} s, {:.0} tasks/s",
        took.as_secs_f64(),
        tasks as f64 / took.as_secs_f64()
    );

    let piece = Piece { from: 0.0, to: 1.0, tolerance: 1e-10, halvings: 40 };
    let start = Instant::now();
    let area = integrate(&client, piece)?;
    println!("the integral of sin(1 / (x + 0.01)) from 0 to 1 is about {:.9}", area.integral);
    println!(
        "{} tasks that submitted each other: {:.3} s",
        area.tasks,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
