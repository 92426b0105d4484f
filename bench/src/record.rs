//! One measurement, as a line of JSON: the format of `peers/bench.py`, so that the two can share a
//! file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Metrics by name, in the order of their measuring. A name ends in its unit: of `/s` and `%` more
/// is better, of the rest less.
pub(crate) type Metrics = Map<String, Value>;

/// One repeat of one case on one system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) system: String,
    pub(crate) case: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) metrics: Metrics,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stderr: Option<String>,
    /// The system has no such feature.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unsupported: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<f64>,
    /// The machine's speed at that moment, as each runner measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calib_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) load1: Option<f64>,
}

impl Record {
    pub(crate) fn new(system: &str, case: &str) -> Record {
        Record {
            system: system.to_owned(),
            case: case.to_owned(),
            metrics: Map::new(),
            note: None,
            failed: None,
            stderr: None,
            unsupported: false,
            scale: None,
            calib_ms: None,
            load1: None,
        }
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        out.write_all(b"\n")
    }
}

/// All records of a file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Record>> {
    let lines = BufReader::new(File::open(path)?).lines();
    let parse = |(number, line): (usize, io::Result<String>)| {
        let context = |error| format!("{}, line {}: {error}", path.display(), number + 1);
        serde_json::from_str(&line?).map_err(|error| io::Error::other(context(error)))
    };
    lines.enumerate().map(parse).collect()
}

/// A number for people: whole from 100 on, else three digits.
pub(crate) fn number(x: f64) -> String {
    let size = x.abs();
    match size {
        _ if size >= 100.0 => thousands(x.round() as i64),
        _ if size >= 10.0 => format!("{x:.1}"),
        _ if size >= 1.0 || size == 0.0 => format!("{x:.2}"),
        _ => format!("{x:.3}"),
    }
}

fn thousands(x: i64) -> String {
    let digits = x.unsigned_abs().to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    format!("{}{}", if x < 0 { "-" } else { "" }, groups.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shown = [1_234_567.4, -4321.0, 100.0, 99.94, 1.5, 0.012_34, 0.0].map(number);
        assert_eq!(shown, ["1,234,567", "-4,321", "100", "99.9", "1.50", "0.012", "0.00"]);
    }

    #[test]
    fn a_line_of_the_peers_is_a_record() {
        let line = r#"{"system": "dask", "case": "latency", "metrics": {"p50_us": 9000.5, "p99_us": 1},
            "scale": 1.0, "calib_ms": 40.1, "load1": 0.3}"#;
        let record: Record = serde_json::from_str(line).unwrap();
        assert_eq!(record.metrics.keys().collect::<Vec<_>>(), ["p50_us", "p99_us"]);
        let line = r#"{"system": "mp", "case": "actor", "unsupported": true}"#;
        assert!(serde_json::from_str::<Record>(line).unwrap().unsupported);
    }
}
