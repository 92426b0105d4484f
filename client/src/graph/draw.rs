//! Pictures of graphs, without any other program.

use std::fmt::Write;
use std::sync::Arc;

use super::collect::Collected;
use super::layout::{Place, places};
use super::order::Order;
use crate::error::short;
use crate::lazy::Node;

const DOT_LIMIT: usize = 20_000;
const SVG_LIMIT: usize = 2_000;

/// Sizes in an SVG, in pixels.
const CHAR: usize = 7;
const HEIGHT: usize = 24;
const GAP: usize = 24;
const LAYER: usize = 64;
const MARGIN: usize = 16;

/// Names in an SVG are cut after so many characters.
const NAME_LIMIT: usize = 28;

/// A graph to be drawn: names, and what each node needs.
///
/// ```
/// let mut picture = manyhands::graph::Picture::new(2);
/// picture.add("load".to_owned(), vec![]);
/// picture.add("count".to_owned(), vec![0]);
/// assert!(picture.dot().contains("n0 -> n1"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Picture {
    names: Vec<String>,
    needs: Vec<Vec<u32>>,
    /// Nodes of the whole graph.
    total: usize,
}

impl Picture {
    /// Of a graph of so many nodes, all of which need not be added.
    pub fn new(total: usize) -> Picture {
        Picture { total, ..Picture::default() }
    }

    /// Adds the next node, and which of those before it it needs. Others are left out.
    pub fn add(&mut self, name: String, needs: Vec<u32>) {
        let own = self.names.len() as u32;
        self.names.push(name);
        self.needs.push(needs.into_iter().filter(|needed| *needed < own).collect());
    }

    /// The first nodes of a graph without cycles, or of any graph that is not to be laid out.
    fn of(graph: &Collected, limit: usize) -> Picture {
        let shown = graph.len().min(limit);
        let name = |node: &Arc<Node>| short(node.callee.name()).to_owned();
        let needs = |node: u32| -> Vec<u32> {
            graph.needs(node).iter().copied().filter(|needed| (*needed as usize) < shown).collect()
        };
        Picture {
            names: graph.nodes[..shown].iter().map(name).collect(),
            needs: (0..shown as u32).map(needs).collect(),
            total: graph.len(),
        }
    }

    /// In the language of Graphviz: the first 20,000 nodes, with a note if there are more.
    pub fn dot(&self) -> String {
        let shown = self.names.len().min(DOT_LIMIT);
        let mut dot = String::from("digraph manyhands {\n  node [shape=box];\n");
        if shown < self.total {
            let _ = writeln!(dot, "  // {shown} of {} tasks", self.total);
        }
        for (node, name) in self.names[..shown].iter().enumerate() {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(dot, "  n{node} [label=\"{name}\"];");
            for needed in &self.needs[node] {
                let _ = writeln!(dot, "  n{needed} -> n{node};");
            }
        }
        dot.push_str("}\n");
        dot
    }

    /// As an SVG document of its own: the first 2,000 nodes, with a note if there are more.
    pub fn svg(&self) -> String {
        let shown = self.names.len().min(SVG_LIMIT);
        let needs = &self.needs[..shown];
        let names: Vec<String> = self.names[..shown].iter().map(|name| cut(name)).collect();
        let boxes = Boxes::new(&places(needs), &names);
        let mut body = String::new();
        for (node, needs) in needs.iter().enumerate() {
            needs.iter().for_each(|needed| boxes.line(&mut body, *needed as usize, node));
        }
        for (node, name) in names.iter().enumerate() {
            boxes.node(&mut body, node, name);
        }
        let mut height = boxes.height;
        if shown < self.total {
            let note = format!("{shown} of {} tasks are shown", self.total);
            body += &text(MARGIN, height + HEIGHT / 2, &note);
            height += LAYER;
        }
        document(boxes.width, height, &body)
    }
}

pub(super) fn dot(graph: &Collected) -> String {
    Picture::of(graph, DOT_LIMIT).dot()
}

pub(super) fn svg(graph: &Collected) -> String {
    match Order::new(graph) {
        Ok(_) => Picture::of(graph, SVG_LIMIT).svg(),
        Err(error) => {
            let words = text(MARGIN, MARGIN + HEIGHT, &error.to_string());
            document(MARGIN * 2 + 800, LAYER, &words)
        }
    }
}

/// Where each box is.
struct Boxes {
    /// Left, top and width of each.
    at: Vec<(usize, usize, usize)>,
    width: usize,
    height: usize,
}

impl Boxes {
    fn new(places: &[Place], names: &[String]) -> Boxes {
        let widths: Vec<usize> =
            names.iter().map(|name| name.chars().count() * CHAR + 2 * CHAR).collect();
        let layers = places.iter().map(|place| place.layer + 1).max().unwrap_or(0);
        let mut rows = vec![Vec::new(); layers];
        for (node, place) in places.iter().enumerate() {
            rows[place.layer].push((place.column, node));
        }
        let row_width = |row: &Vec<(usize, usize)>| -> usize {
            row.iter().map(|(_, node)| widths[*node] + GAP).sum::<usize>().saturating_sub(GAP)
        };
        let widest = rows.iter().map(row_width).max().unwrap_or(0);
        let mut at = vec![(0, 0, 0); places.len()];
        for (layer, row) in rows.iter_mut().enumerate() {
            let mut x = MARGIN + (widest - row_width(row)) / 2;
            row.sort_unstable();
            for (_, node) in row {
                at[*node] = (x, MARGIN + layer * LAYER, widths[*node]);
                x += widths[*node] + GAP;
            }
        }
        let height = (layers.max(1) - 1) * LAYER + HEIGHT + 2 * MARGIN;
        Boxes { at, width: widest + 2 * MARGIN, height }
    }

    fn line(&self, body: &mut String, from: usize, to: usize) {
        let ((x, y, w), (to_x, to_y, to_w)) = (self.at[from], self.at[to]);
        let (x, y, to_x) = (x + w / 2, y + HEIGHT, to_x + to_w / 2);
        let middle = (y + to_y) / 2;
        let _ =
            writeln!(body, "<path d=\"M{x} {y} C{x} {middle} {to_x} {middle} {to_x} {to_y}\"/>");
    }

    fn node(&self, body: &mut String, node: usize, name: &str) {
        let (x, y, w) = self.at[node];
        let _ = writeln!(
            body,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{HEIGHT}\" rx=\"5\"/>"
        );
        body.push_str(&text(x + CHAR, y + HEIGHT * 2 / 3, name));
    }
}

fn text(x: usize, y: usize, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x}\" y=\"{y}\">{text}</text>\n")
}

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME_LIMIT) {
        None => name.to_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

fn document(width: usize, height: usize, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>text{{font:12px monospace}}\
         rect{{fill:#eef4fb;stroke:#37618e}}path{{fill:none;stroke:#888}}</style>\n{body}</svg>\n"
    )
}
