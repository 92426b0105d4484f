//! Graphs: how they are built, ordered and sent, and pictures of them.
//!
//! A graph is what the nodes that are asked for need, and what those need, and so on. It is built
//! when results are asked for; the functions here build it to look at it, and run nothing.
//!
//! ```
//! # #[manyhands::task]
//! # fn add(a: i64, b: i64) -> i64 { a + b }
//! let six = add::lazy(add::lazy(1, 2), 3);
//! let stats = manyhands::graph::stats(&six);
//! assert_eq!((stats.tasks, stats.edges, stats.critical_path), (2, 1, Some(2)));
//! assert!(manyhands::graph::dot(&six).starts_with("digraph"));
//! ```

mod collect;
mod draw;
mod emit;
mod layout;
mod order;

use crate::args::Source;
use crate::targets::{Root, Targets};

pub(crate) use collect::Collected;
pub use draw::Picture;
pub use emit::Purpose;
pub(crate) use emit::{call_parts, submit, submit_in_order};
pub(crate) use order::Order;

/// How large a graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Tasks in it.
    pub tasks: usize,
    /// Results of tasks in it that are arguments of others, each as often as it is one.
    pub edges: usize,
    /// Tasks on the longest chain: so many have to run one after the other. `None` if the graph has a
    /// cycle.
    pub critical_path: Option<usize>,
}

/// Counts the tasks and edges of a graph.
pub fn stats(targets: impl Targets) -> Stats {
    let graph = Collected::to_draw(&roots(&targets));
    let order = Order::new(&graph);
    let deepest = |order: Order| order.heights.into_iter().max().unwrap_or(0) as usize;
    Stats { tasks: graph.len(), edges: graph.edges(), critical_path: order.ok().map(deepest) }
}

/// The graph in the language of Graphviz. Of a graph of more than 20,000 tasks the 20,000 nearest
/// the results, with a note.
pub fn dot(targets: impl Targets) -> String {
    dot_of(&roots(&targets))
}

pub(crate) fn dot_of(roots: &[Root]) -> String {
    draw::dot(&Collected::to_draw(roots))
}

/// A picture of the graph, as an SVG document of its own: results at the bottom, what has to run
/// first at the top. Of a graph of more than 2,000 tasks the 2,000 nearest the results, with a note.
pub fn svg(targets: impl Targets) -> String {
    svg_of(&roots(&targets))
}

pub(crate) fn svg_of(roots: &[Root]) -> String {
    draw::svg(&Collected::to_draw(roots))
}

fn roots(targets: &impl Targets) -> Vec<Root> {
    let mut roots = Vec::new();
    targets.roots(&mut roots);
    roots
}

/// Whether a call needs nodes, and so a graph.
pub(crate) fn lazy_sources(sources: &[Source]) -> bool {
    sources.iter().any(|source| matches!(source, Source::Lazy(..)))
}

#[cfg(test)]
mod tests;
