//! Plays seeds of the simulator, or prints what each policy is worth.

use std::process::ExitCode;

const USAGE: &str = "\
usage: manyhands-sim --seed N [--trace]   plays one seed, twice unless it is traced
       manyhands-sim --seeds A..B [--first] plays a range of seeds, up to the first that fails
       manyhands-sim fairness             sees whether jobs share the slots by their weights
       manyhands-sim policies             prints what each policy is worth, as a table";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--seed", seed] => parse(seed).map_or_else(usage, |seed| play(seed, false)),
        ["--seed", seed, "--trace"] => parse(seed).map_or_else(usage, |seed| play(seed, true)),
        ["--seeds", range] => parse_range(range).map_or_else(usage, |it| play_all(it, false)),
        ["--seeds", range, "--first"] => {
            parse_range(range).map_or_else(usage, |it| play_all(it, true))
        }
        ["policies"] => policies(),
        ["fairness"] => fairness(),
        _ => usage(),
    }
}

fn policies() -> ExitCode {
    match manyhands_sim::policies::table() {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn fairness() -> ExitCode {
    match manyhands_sim::fairness::check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn parse(seed: &str) -> Option<u64> {
    seed.parse().ok()
}

fn parse_range(range: &str) -> Option<std::ops::Range<u64>> {
    let (from, to) = range.split_once("..")?;
    Some(parse(from)?..parse(to)?)
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::FAILURE
}

fn play(seed: u64, trace: bool) -> ExitCode {
    println!("seed {seed}: {}", manyhands_sim::Scenario::from_seed(seed).title);
    let result =
        if trace { manyhands_sim::run(seed, true) } else { manyhands_sim::run_twice(seed) };
    match result {
        Ok(outline) => {
            println!("seed {seed}: {outline:?}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("seed {seed} failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn play_all(seeds: std::ops::Range<u64>, first: bool) -> ExitCode {
    let mut failed = 0;
    for seed in seeds.clone() {
        if let Err(failure) = manyhands_sim::run_caught(seed) {
            println!("seed {seed} failed: {failure}");
            failed += 1;
            if first {
                break;
            }
        }
    }
    println!("{failed} of {} seeds failed", seeds.count());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
