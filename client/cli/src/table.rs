//! Lists for people: columns that align, and nothing that a terminal would have to understand.

use std::io::Write;

use crate::failure::Failure;

/// Which side of a column its entries keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// A table that is filled row by row.
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these columns. Names that begin with `>` keep to the right, as numbers do.
    pub(crate) fn new(columns: &[&'static str]) -> Table {
        let side = |name: &&'static str| match name.strip_prefix('>') {
            Some(name) => (name, Side::Right),
            None => (*name, Side::Left),
        };
        Table { columns: columns.iter().map(side).collect(), rows: Vec::new() }
    }

    /// Adds a row, an entry for each column.
    pub(crate) fn row(&mut self, entries: impl IntoIterator<Item = String>) {
        let row: Vec<String> = entries.into_iter().map(|entry| one_line(&entry)).collect();
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// The table as text: a line for the names, and one for each row. Nothing at all without rows.
    pub(crate) fn render(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.to_string()).collect();
        let all = || std::iter::once(&names).chain(&self.rows);
        let width = |i: usize| all().map(|row| row[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in all() {
            let mut line = String::new();
            for (i, entry) in row.iter().enumerate() {
                let pad = " ".repeat(widths[i] - entry.chars().count());
                let gap = if i > 0 { "  " } else { "" };
                match self.columns[i].1 {
                    Side::Left => line.extend([gap, entry, &pad]),
                    Side::Right => line.extend([gap, &pad, entry]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Without characters that would break the line, or act on a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Prints what a command has found.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Print)
}

/// Prints what a command has found as JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_their_side() {
        let mut table = Table::new(&["name", ">bytes", "state"]);
        table.row(["a".to_owned(), "5 B".to_owned(), "active".to_owned()]);
        table.row(["größer\n".to_owned(), "12 KiB".to_owned(), "away".to_owned()]);
        let text = "name      bytes  state\na           5 B  active\ngrößer   12 KiB  away\n";
        assert_eq!(table.render(), text);
        assert_eq!(Table::new(&["name"]).render(), "");
    }
}
