//! In which order a graph is to run: depth first along the critical path.
//!
//! Results that are made shortly before they are needed do not lie around. So the order is that of
//! a depth-first walk from the roots, which enters the deepest of what a node needs first: the
//! longest chain begins at once, and while it runs nothing else waits for it in memory.

use std::sync::Arc;

use petgraph::algo::kosaraju_scc;
use petgraph::graphmap::DiGraphMap;
use rustc_hash::FxHashMap;

use super::collect::Collected;
use crate::error::{Error, short};
use crate::lazy::Node;

/// Nodes in order, each after all that it needs, and how deep each one is.
pub(crate) struct Order {
    /// Numbers of nodes. Those whose results are known already are left out.
    pub(crate) nodes: Vec<u32>,
    /// By number: nodes on the longest path down from it, itself included. Not known of an order
    /// that was given.
    pub(crate) heights: Vec<u32>,
}

impl Order {
    pub(crate) fn new(graph: &Collected) -> Result<Order, Error> {
        if graph.edges() == 0 {
            let nodes = (0..graph.len() as u32).filter(|n| !graph.known.contains_key(n)).collect();
            return Ok(Order { nodes, heights: vec![1; graph.len()] });
        }
        let heights = heights(graph)?;
        let nodes = depth_first(graph, &heights);
        Ok(Order { nodes, heights })
    }

    /// The order of these nodes: without those that are not of the graph or whose results are
    /// known. `None` if one of the graph's is missing, or comes before what it needs.
    pub(crate) fn given(graph: &Collected, given: &[Arc<Node>]) -> Option<Order> {
        let numbered = graph.nodes.iter().zip(0u32..);
        let mut left: FxHashMap<*const Node, u32> =
            numbered.map(|(node, number)| (Arc::as_ptr(node), number)).collect();
        let mut is_there = vec![false; graph.len()];
        graph.known.keys().for_each(|known| is_there[*known as usize] = true);
        let mut nodes = Vec::with_capacity(graph.len());
        for node in given {
            let Some(number) = left.remove(&Arc::as_ptr(node)) else { continue };
            if graph.known.contains_key(&number) {
                continue;
            }
            if !graph.needs(number).iter().all(|needed| is_there[*needed as usize]) {
                return None;
            }
            is_there[number as usize] = true;
            nodes.push(number);
        }
        (nodes.len() + graph.known.len() == graph.len())
            .then(|| Order { nodes, heights: Vec::new() })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Entered,
    Left,
}

/// How deep each node is. Refuses cycles.
fn heights(graph: &Collected) -> Result<Vec<u32>, Error> {
    let mut heights = vec![0u32; graph.len()];
    let mut marks = vec![Mark::New; graph.len()];
    let mut stack: Vec<(u32, u32)> = Vec::new();
    for root in 0..graph.len() as u32 {
        if marks[root as usize] != Mark::New {
            continue;
        }
        marks[root as usize] = Mark::Entered;
        stack.push((root, 0));
        while let Some((node, next)) = stack.last_mut() {
            let needs = graph.needs(*node);
            let Some(&needed) = needs.get(*next as usize) else {
                let deepest = needs.iter().map(|needed| heights[*needed as usize]).max();
                heights[*node as usize] = deepest.unwrap_or(0) + 1;
                marks[*node as usize] = Mark::Left;
                stack.pop();
                continue;
            };
            *next += 1;
            match marks[needed as usize] {
                Mark::New => {
                    marks[needed as usize] = Mark::Entered;
                    stack.push((needed, 0));
                }
                Mark::Entered => return Err(cycle(graph)),
                Mark::Left => {}
            }
        }
    }
    Ok(heights)
}

fn depth_first(graph: &Collected, heights: &[u32]) -> Vec<u32> {
    let mut order = Vec::with_capacity(graph.len());
    let mut entered = vec![false; graph.len()];
    // What is left to do, last first: enter a node, or leave it when all it needs is in the order.
    let mut stack: Vec<(u32, bool)> = Vec::new();
    let mut deepest_last: Vec<u32> = Vec::new();
    for root in 0..graph.len() as u32 {
        stack.push((root, false));
        while let Some((node, leave)) = stack.pop() {
            if leave {
                order.push(node);
                continue;
            }
            if std::mem::replace(&mut entered[node as usize], true)
                || graph.known.contains_key(&node)
            {
                continue;
            }
            stack.push((node, true));
            let needs = graph.needs(node);
            if needs.len() == 1 {
                stack.push((needs[0], false));
                continue;
            }
            deepest_last.clear();
            // From the back, so that of equally deep ones the first argument is entered first.
            deepest_last.extend(needs.iter().rev());
            deepest_last.sort_by_key(|needed| heights[*needed as usize]);
            stack.extend(deepest_last.iter().map(|needed| (*needed, false)));
        }
    }
    order
}

/// Names the functions of one cycle of a graph that has one.
fn cycle(graph: &Collected) -> Error {
    let mut map = DiGraphMap::<u32, ()>::new();
    for node in 0..graph.len() as u32 {
        for &needed in graph.needs(node) {
            map.add_edge(needed, node, ());
        }
    }
    let components = kosaraju_scc(&map);
    let on_cycle = |nodes: &&Vec<u32>| nodes.len() > 1 || map.contains_edge(nodes[0], nodes[0]);
    let component = components.iter().filter(on_cycle).min_by_key(|nodes| nodes.len());
    let names = component.map(|nodes| walk_around(&map, nodes)).unwrap_or_default();
    let name = |node: &u32| short(graph.nodes[*node as usize].callee.name()).to_owned();
    Error::Cycle { names: names.iter().map(name).collect() }
}

/// A way around a strongly connected component, back to where it begins.
fn walk_around(map: &DiGraphMap<u32, ()>, nodes: &[u32]) -> Vec<u32> {
    let start = nodes.iter().copied().min().unwrap_or_default();
    let mut way = vec![start];
    loop {
        let here = way[way.len() - 1];
        let next = map.neighbors(here).filter(|next| nodes.contains(next));
        // Along the cycle there is always a next node; home if it is near, else one not yet seen.
        let mut next: Vec<u32> = next.collect();
        next.sort_by_key(|node| (*node != start, way.contains(node), *node));
        let Some(&next) = next.first() else { return way };
        if let Some(seen) = way.iter().position(|node| *node == next) {
            way.drain(..seen);
            way.push(next);
            return way;
        }
        way.push(next);
    }
}
