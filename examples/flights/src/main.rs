//! Prints who was late in 2013 on the way from New York, computed on every core and then, for
//! comparison, in this process alone.
//!
//! ```text
//! flights [folder]
//! ```
//!
//! The folder is one that `setup.py` wrote, `data/flights` if none is given.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use manyhands::Client;
use manyhands_example_flights::bar::Bar;
use manyhands_example_flights::{Data, alone, analyse};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(Data::default_folder, PathBuf::from);
    let data = Data::open(&folder)?;
    // Both computations find the files in the system's cache.
    for path in &data.parts {
        fs::read(path)?;
    }

    let start = Instant::now();
    let client = Client::start()?;
    let started = start.elapsed();
    let mut bar = Bar::default();
    let report = analyse(&client, &data, |done, all| bar.show(done, all))?;
    let together = start.elapsed();
    bar.finish();
    println!("\n{report}");

    let start = Instant::now();
    let expected = alone(&data)?;
    let one_process = start.elapsed();
    println!(
        "manyhands  {:>7.1} ms, of which {:.1} ms to start the cluster",
        together.as_secs_f64() * 1e3,
        started.as_secs_f64() * 1e3
    );
    println!("one process {:>6.1} ms", one_process.as_secs_f64() * 1e3);
    println!("speed-up    {:>6.2}", one_process.as_secs_f64() / together.as_secs_f64());
    if report != expected {
        return Err("the two do not agree".into());
    }
    println!("both agree in every figure");
    Ok(())
}
