//! A bar that shows how far a graph is.

use std::io::{IsTerminal, Write, stderr};

const WIDTH: usize = 40;

/// A bar on standard error. On a terminal it is drawn over and over in its line; elsewhere a new
/// line is written for every tenth.
#[derive(Debug)]
pub struct Bar {
    in_place: bool,
    shown: Option<u64>,
    all: u64,
}

impl Default for Bar {
    fn default() -> Bar {
        Bar { in_place: stderr().is_terminal(), shown: None, all: 0 }
    }
}

impl Bar {
    /// Shows that `done` of `all` tasks have ended.
    pub fn show(&mut self, done: u64, all: u64) {
        self.all = all;
        let steps = if self.in_place { 1000 } else { 10 };
        let step = done * steps / all.max(1);
        if self.shown == Some(step) {
            return;
        }
        self.shown = Some(step);
        let end = if self.in_place && done < all { '\r' } else { '\n' };
        // A bar that cannot be shown is no reason to stop.
        let _ = write!(stderr(), "{}{end}", drawn(done, all));
    }

    /// Shows that all tasks have ended: the cluster tells how far they are now and then, not at
    /// last.
    pub fn finish(&mut self) {
        self.show(self.all, self.all);
    }
}

fn drawn(done: u64, all: u64) -> String {
    let filled = (done * WIDTH as u64 / all.max(1)) as usize;
    format!("[{}{}] {done} of {all} tasks", "#".repeat(filled), ".".repeat(WIDTH - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_empty_at_first_and_full_in_the_end() {
        assert!(drawn(0, 0).starts_with("[.."));
        assert!(drawn(1, 2).starts_with(&format!("[{}.", "#".repeat(20))));
        assert!(drawn(7, 7).starts_with(&format!("[{}]", "#".repeat(40))));
    }
}
