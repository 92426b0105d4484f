//! The tasks, and the graph that they make.

use std::path::PathBuf;

use bytemuck::Pod;
use manyhands::{Client, Lazy, Slice};

use crate::delays::{self, Groups};
use crate::flight::read_part;
use crate::report::{Report, Summary};
use crate::tables::{Names, read_names, read_planes, read_weather};
use crate::{Data, DataError};

/// How many results one task of a tree merges.
const FAN_IN: usize = 8;

/// A table of plain data as it goes from task to task: words that are read where they lie, by all
/// tasks that need them.
fn words<T: Pod>(rows: &[T]) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(rows)
}

/// The rows of such a table.
fn rows<T: Pod>(words: &Slice<u32>) -> &[T] {
    bytemuck::cast_slice(words)
}

#[manyhands::task]
fn parse(path: PathBuf) -> Result<Vec<u32>, DataError> {
    Ok(words(&read_part(&path)?))
}

#[manyhands::task]
fn planes(path: PathBuf) -> Result<Vec<u32>, DataError> {
    Ok(words(&read_planes(&path)?))
}

#[manyhands::task]
fn weather(path: PathBuf) -> Result<Vec<u32>, DataError> {
    Ok(words(&read_weather(&path)?))
}

#[manyhands::task]
fn names(path: PathBuf) -> Result<Names, DataError> {
    read_names(&path)
}

#[manyhands::task]
fn by_carrier(flights: Slice<u32>) -> Groups {
    delays::by_carrier(rows(&flights))
}

#[manyhands::task]
fn by_hour(flights: Slice<u32>) -> Groups {
    delays::by_hour(rows(&flights))
}

#[manyhands::task]
fn by_route(flights: Slice<u32>) -> Groups {
    delays::by_route(rows(&flights))
}

#[manyhands::task]
fn by_age(flights: Slice<u32>, planes: Slice<u32>) -> Groups {
    delays::by_age(rows(&flights), rows(&planes))
}

#[manyhands::task]
fn by_weather(flights: Slice<u32>, weather: Slice<u32>) -> Groups {
    delays::by_weather(rows(&flights), rows(&weather))
}

#[manyhands::task]
fn merge(parts: Vec<Groups>) -> Groups {
    delays::merged(parts)
}

#[manyhands::task]
fn summary(
    carriers: Groups,
    hours: Groups,
    routes: Groups,
    ages: Groups,
    weather: Groups,
) -> Summary {
    Summary { carriers, hours, routes, ages, weather }
}

#[manyhands::task]
fn report(summary: Summary, airlines: Names, airports: Names) -> Report {
    Report::new(summary, &airlines, &airports)
}

/// The graph: nothing runs before its result is asked for.
pub fn graph(data: &Data) -> Lazy<Report> {
    let planes = planes::lazy(data.table("planes"));
    let weather = weather::lazy(data.table("weather"));
    let parts: Vec<_> = data.parts.iter().map(|path| parse::lazy(path.clone())).collect();
    let summary = summary::lazy(
        tree(parts.iter().map(by_carrier::lazy).collect()),
        tree(parts.iter().map(by_hour::lazy).collect()),
        tree(parts.iter().map(by_route::lazy).collect()),
        tree(parts.iter().map(|part| by_age::lazy(part, &planes)).collect()),
        tree(parts.iter().map(|part| by_weather::lazy(part, &weather)).collect()),
    );
    let airlines = names::lazy(data.table("airlines"));
    let airports = names::lazy(data.table("airports"));
    report::lazy(summary, airlines, airports)
}

/// Merges groups as a tree, so that no task waits for all of them.
fn tree(mut level: Vec<Lazy<Groups>>) -> Lazy<Groups> {
    while level.len() > FAN_IN {
        level = level.chunks(FAN_IN).map(merge::lazy).collect();
    }
    merge::lazy(level)
}

/// Has the cluster of `client` compute the report. `progress` is told now and then how many tasks
/// have ended, and of how many.
pub fn analyse(
    client: &Client,
    data: &Data,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, manyhands::Error> {
    client.compute_with_progress(&graph(data), |counts| progress(counts.done, counts.submitted))
}
