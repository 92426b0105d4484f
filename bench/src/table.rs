//! Our figures beside the peers', from the same files.

use std::collections::BTreeMap;

use crate::record::{Record, number};
use crate::runner::SYSTEM;

/// The floors of a comparison, and no systems that one could use instead.
const FLOORS: [&str; 2] = ["inline", "hq-zero"];

/// The values of one metric, by system, in the order of their first appearance.
#[derive(Default)]
struct Row {
    by_system: BTreeMap<String, Vec<f64>>,
}

/// A table in Markdown: for each metric our median with its spread, how many times better than the
/// best peer that is, and the medians of all.
pub(crate) fn render(records: &[Record]) -> String {
    let (mut order, mut rows): (Vec<(String, String)>, BTreeMap<_, Row>) = Default::default();
    let mut peers: Vec<String> = Vec::new();
    for record in records {
        if record.system != SYSTEM && !peers.contains(&record.system) {
            peers.push(record.system.clone());
        }
        for (metric, value) in &record.metrics {
            let key = (record.case.clone(), metric.clone());
            let row = rows.entry(key.clone()).or_insert_with(|| {
                order.push(key);
                Row::default()
            });
            let values = row.by_system.entry(record.system.clone()).or_default();
            values.extend(value.as_f64());
        }
    }
    let mut out = String::new();
    for record in records {
        if let Some(word) = record.note.as_ref().or(record.failed.as_ref()) {
            out += &format!("note: {} {}: {word}\n", record.system, record.case);
        }
    }
    out += &format!("\n| case | metric | {SYSTEM} | ratio | best peer |");
    peers.iter().for_each(|peer| out += &format!(" {peer} |"));
    out += &format!("\n|---|---|--:|--:|---|{}\n", "--:|".repeat(peers.len()));
    for case in cases(&order) {
        for key in order.iter().filter(|(of, _)| *of == case) {
            out += &line(key, &rows[key], &peers);
        }
    }
    out
}

/// The cases, in the order of their first appearance.
fn cases(keys: &[(String, String)]) -> Vec<String> {
    let mut cases: Vec<String> = Vec::new();
    for (case, _) in keys {
        if !cases.contains(case) {
            cases.push(case.clone());
        }
    }
    cases
}

fn line((case, metric): &(String, String), row: &Row, peers: &[String]) -> String {
    let ours = row.by_system.get(SYSTEM).filter(|values| !values.is_empty());
    let real = |system: &&String| *system != SYSTEM && !FLOORS.contains(&system.as_str());
    let medians =
        row.by_system.iter().filter(|(system, values)| real(system) && !values.is_empty());
    let best = medians
        .map(|(system, values)| (system, median(values)))
        .reduce(|a, b| if better(metric, a.1, b.1) { a } else { b });
    let ratio = ours.zip(best).map(|(ours, (_, theirs))| {
        let times =
            if more_is_better(metric) { median(ours) / theirs } else { theirs / median(ours) };
        format!("{} x", number(times))
    });
    let best = best.map(|(system, _)| format!("{system} {}", spread(&row.by_system[system])));
    let dash = || "-".to_owned();
    let mut line = format!(
        "| {case} | {metric} | {} | {} | {} |",
        ours.map_or_else(dash, |values| spread(values)),
        ratio.unwrap_or_else(dash),
        best.unwrap_or_else(dash),
    );
    for peer in peers {
        let values = row.by_system.get(peer).filter(|values| !values.is_empty());
        line += &format!(" {} |", values.map_or_else(dash, |values| number(median(values))));
    }
    line + "\n"
}

/// The values of each metric, in the order of their first appearance.
pub(crate) fn by_metric(records: &[Record]) -> Vec<(String, Vec<f64>)> {
    let mut metrics: Vec<(String, Vec<f64>)> = Vec::new();
    for (metric, value) in records.iter().flat_map(|record| &record.metrics) {
        let Some(value) = value.as_f64() else { continue };
        match metrics.iter_mut().find(|(name, _)| name == metric) {
            Some((_, values)) => values.push(value),
            None => metrics.push((metric.clone(), vec![value])),
        }
    }
    metrics
}

fn more_is_better(metric: &str) -> bool {
    metric.ends_with("/s") || metric.ends_with('%') || metric == "finished"
}

fn better(metric: &str, a: f64, b: f64) -> bool {
    if more_is_better(metric) { a >= b } else { a <= b }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

fn spread(values: &[f64]) -> String {
    let (min, max) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), x| (min.min(*x), max.max(*x)));
    match values.len() {
        1 => number(min),
        _ => format!("{} [{}-{}]", number(median(values)), number(min), number(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(system: &str, metric: &str, value: f64) -> Record {
        let mut record = Record::new(system, "case");
        record.metrics.insert(metric.to_owned(), value.into());
        record
    }

    #[test]
    fn the_ratio_is_how_many_times_better_whatever_the_unit() {
        let records = [
            record(SYSTEM, "tasks/s", 1000.0),
            record(SYSTEM, "tasks/s", 1200.0),
            record("mp", "tasks/s", 100.0),
            record("ray", "tasks/s", 10.0),
            record("inline", "tasks/s", 5000.0),
            record(SYSTEM, "p50_us", 30.0),
            record("mp", "p50_us", 150.0),
        ];
        let table = render(&records);
        let throughput =
            "| case | tasks/s | 1,100 [1,000-1,200] | 11.0 x | mp 100 | 100 | 10.0 | 5,000 |";
        assert!(table.contains(throughput), "{table}");
        assert!(
            table.contains("| case | p50_us | 30.0 | 5.00 x | mp 150 | 150 | - | - |"),
            "{table}"
        );
    }
}
