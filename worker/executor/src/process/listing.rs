//! A program that says which tasks it has, and does nothing else.

use std::fmt::Write as _;
use std::io::Write as _;

use manyhands_proto::FunctionId;

use crate::registry::TASKS;

/// The variable of the environment that makes a program print its tasks, before `main`, and end.
/// Its value is the version of the list.
pub const LIST_VARIABLE: &str = "MANYHANDS_LIST_TASKS";

const VERSION: &str = "1";

/// What every list begins with.
const HEAD: &str = "manyhands tasks 1";

/// Prints the list on standard output: a line for each task, its id in hexadecimal digits and its
/// name. Whether it could be printed.
pub(super) fn print() -> bool {
    if std::env::var_os(LIST_VARIABLE).is_none_or(|version| version != VERSION) {
        eprintln!("manyhands: {LIST_VARIABLE} asks for a list that this program does not know");
        return false;
    }
    let mut list = format!("{HEAD}\n");
    for task in TASKS {
        // Writing to a string does not fail.
        let _ = writeln!(list, "{} {}", task.id, task.name);
    }
    let mut out = std::io::stdout();
    out.write_all(list.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Reads a list that a program printed: names and ids. `None`: it is none.
pub fn read_list(list: &str) -> Option<Vec<(String, FunctionId)>> {
    let mut lines = list.lines();
    lines.next().filter(|head| *head == HEAD)?;
    let read = |line: &str| {
        let (id, name) = line.split_once(' ')?;
        Some((name.to_owned(), FunctionId(u128::from_str_radix(id, 16).ok()?)))
    };
    lines.map(read).collect()
}
