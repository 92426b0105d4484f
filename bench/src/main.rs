//! manyhands and its peers on the same work.
//!
//! It promises that every figure is measured as the peers' are (`bench/peers`): the same shapes and
//! sizes, several repeats, each case in fresh processes; and that no figure is ever a test that can
//! fail for being slow.
//!
//! # Layout
//! - here: the command line.
//! - `cases`: what is measured.
//! - `runner`: fresh processes, repeats, time limits.
//! - `record`: one measurement as a line of JSON, in the peers' format.
//! - `table`: our figures beside the peers'.
//! - `census`: the memory of a tree of processes.

mod cases;
mod census;
mod record;
mod runner;
mod table;

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cases::{CASES, CLUSTER, Case};
use crate::record::{Record, number};

const USAGE: &str = "\
usage: manyhands-bench CASE[,CASE...] | all | cluster  [--json] [--out FILE] [--scale X] [--processes N]
       manyhands-bench table FILE...
       manyhands-bench list

  --json         print records as lines of JSON, and not for people
  --out FILE     also append the records there
  --scale X      multiplies every size (default 1)
  --processes N  fresh processes for each case (default: the case's own)";

fn main() -> ExitCode {
    match command(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("manyhands-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn command(args: Vec<String>) -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["--help" | "-h" | "help"] => println!("{USAGE}"),
        ["list"] => CASES
            .iter()
            .chain(CLUSTER)
            .for_each(|case| println!("{:<16} {}", case.name, case.about)),
        ["table", files @ ..] if !files.is_empty() => {
            let mut records = Vec::new();
            for file in files {
                records.extend(record::read(file.as_ref())?);
            }
            print!("{}", table::render(&records));
        }
        [runner::CHILD, case, scale] => runner::child(find(case)?, scale.parse()?)?,
        _ => return Options::parse(args)?.run(),
    }
    Ok(ExitCode::SUCCESS)
}

fn find(name: &str) -> Result<&'static Case, String> {
    let case = CASES.iter().chain(CLUSTER).find(|case| case.name == name);
    case.ok_or_else(|| format!("no case `{name}`; see `manyhands-bench list`"))
}

/// What to run and where to show it.
struct Options {
    cases: Vec<&'static Case>,
    json: bool,
    out: Option<PathBuf>,
    scale: f64,
    processes: Option<u32>,
}

impl Options {
    fn parse(args: Vec<String>) -> Result<Options, Box<dyn Error>> {
        let (cases, json, out) = (Vec::new(), false, None);
        let mut options = Options { cases, json, out, scale: 1.0, processes: None };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--out" => options.out = Some(value()?.into()),
                "--scale" => options.scale = value()?.parse()?,
                "--processes" => options.processes = Some(value()?.parse()?),
                "all" => options.cases.extend(CASES),
                "cluster" => options.cases.extend(CLUSTER),
                flag if flag.starts_with('-') => Err(format!("unknown option {flag}\n{USAGE}"))?,
                names => {
                    for name in names.split(',') {
                        options.cases.push(find(name)?);
                    }
                }
            }
        }
        if options.cases.is_empty() {
            Err(USAGE)?;
        }
        Ok(options)
    }

    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let mut file = match &self.out {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        let mut failed = false;
        for case in &self.cases {
            let mut records = Vec::new();
            runner::run(case, self.scale, self.processes, |record| {
                if let Some(file) = &mut file {
                    record.write(file)?;
                }
                if self.json {
                    record.write(&mut io::stdout().lock())?;
                }
                records.push(record);
                Ok(())
            })?;
            failed |= records.iter().any(|record| record.failed.is_some());
            if !self.json {
                show(case, &records)?;
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// A case's figures for people.
fn show(case: &Case, records: &[Record]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}", case.name, case.about)?;
    for (metric, values) in table::by_metric(records) {
        let each: Vec<String> = values.iter().map(|value| number(*value)).collect();
        writeln!(
            out,
            "  {metric:<28} {:>14}   {}",
            number(table::median(&values)),
            each.join("  ")
        )?;
    }
    for record in records {
        if let Some(word) = record.failed.as_ref().or(record.note.as_ref()) {
            let errors = record.stderr.as_deref().unwrap_or_default();
            writeln!(out, "  note: {word} {errors}")?;
        }
    }
    out.flush()
}
