//! The 336,776 departures from New York in 2013: who was late, when, where to, and in which
//! weather.
//!
//! [`analyse`] builds a lazy graph over the parts of the data set and has a cluster compute it:
//!
//! ```text
//! part 00 ─ parse ─┬─ by_carrier ─┐
//!                  ├─ by_hour     │ merge, as a tree ─┐
//!                  ├─ by_route    │                   │
//! planes ──────────┼─ by_age      │                   ├─ report
//! weather ─────────┴─ by_weather ─┘                   │
//! part 01 ─ ...                    airlines, airports ┘
//! ```
//!
//! [`alone`] computes the same with the same functions, one after the other in this process. All
//! figures are counts and sums of whole minutes, so that both agree to the last digit whatever the
//! order in which the parts meet.
//!
//! # Layout
//! - [`flight`]: one departure, and how a part of the table is parsed.
//! - [`tables`]: airlines, airports, planes and weather, which are joined to the departures.
//! - [`delays`]: what is summed up, and by what.
//! - [`report`]: the figures with names, and how they are printed.
//! - [`graph`]: the tasks, and the graph that they make.
//! - [`mod@alone`]: the same without a cluster.
//! - [`bar`]: a bar that shows how far a graph is.

pub mod alone;
pub mod bar;
pub mod delays;
pub mod flight;
pub mod graph;
pub mod report;
pub mod tables;

use std::path::{Path, PathBuf};

pub use alone::alone;
pub use graph::analyse;
pub use report::Report;

/// Where the data set lies.
#[derive(Clone, Debug)]
pub struct Data {
    /// The parts of the table of departures, in order.
    pub parts: Vec<PathBuf>,
    /// The folder with the other tables.
    pub folder: PathBuf,
}

/// Why the data set cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A folder or file that cannot be listed or opened.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that is no table in CSV.
    #[error("cannot parse {path}: {source}")]
    Malformed {
        /// Which one.
        path: PathBuf,
        /// Where and why.
        source: csv::Error,
    },
    /// A field that does not hold what it should.
    #[error("{path}, line {line}: {column} is {found:?}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// What it holds.
        found: String,
    },
    /// A folder without a single part.
    #[error("no parts in {0}: run examples/flights/setup.py first (`make demo` does)")]
    NoParts(PathBuf),
}

impl Data {
    /// The data set that `setup.py` wrote to `folder`.
    pub fn open(folder: &Path) -> Result<Data, DataError> {
        let folder = std::path::absolute(folder)
            .map_err(|source| DataError::Unreadable { path: folder.to_owned(), source })?;
        let list = folder.join("parts");
        if !list.is_dir() {
            return Err(DataError::NoParts(list));
        }
        let unreadable = |source| DataError::Unreadable { path: list.clone(), source };
        let mut parts = std::fs::read_dir(&list)
            .map_err(unreadable)?
            .map(|entry| Ok(entry.map_err(unreadable)?.path()))
            .collect::<Result<Vec<_>, DataError>>()?;
        parts.sort();
        if parts.is_empty() {
            return Err(DataError::NoParts(list));
        }
        Ok(Data { parts, folder })
    }

    /// The file of one of the other tables: airlines, airports, planes, weather.
    pub fn table(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.csv"))
    }

    /// The folder that `make demo` and `make test` set up, below the root of the workspace.
    pub fn default_folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/flights")
    }
}
