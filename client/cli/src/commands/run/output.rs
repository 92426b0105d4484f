//! What the commands print, on our own standard output and error.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use manyhands::{Client, Stream, TaskId};
use serde_json::json;

use crate::commands::logs::write;

/// An unfinished line longer than this is printed as it is, in bytes.
const LINE_LIMIT: usize = 64 << 10;

/// Unfinished lines, by the number of the task and whether it is standard error.
type OpenLines = HashMap<(u64, bool), Vec<u8>>;

/// Where the output of all commands meets.
#[derive(Clone)]
pub(super) struct Output {
    json: bool,
    /// Lines of several commands are kept apart.
    lines: bool,
    tag: bool,
    open: Arc<Mutex<OpenLines>>,
}

impl Output {
    pub(super) fn new(json: bool, lines: bool, tag: bool) -> Output {
        Output { json, lines: lines || tag, tag, open: Arc::default() }
    }

    /// Prints what the client's tasks print. Their numbers count from `first` in the order of
    /// `indices`.
    pub(super) fn listen(&self, client: &Client, first: u64, indices: Arc<Vec<Option<u64>>>) {
        let output = self.clone();
        client.on_output(move |task: TaskId, _, stream, bytes| {
            let place = task.seq.saturating_sub(first) as usize;
            let index = indices.get(place).copied().flatten();
            output.print(task.seq, index, stream, bytes);
        });
    }

    fn print(&self, seq: u64, index: Option<u64>, stream: Stream, bytes: &[u8]) {
        if !self.lines || self.json {
            return self.write(index, stream, bytes);
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = open.remove(&(seq, stream == Stream::Stderr)).unwrap_or_default();
        text.extend_from_slice(bytes);
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = if text.len() - whole > LINE_LIMIT { text.len() } else { whole };
        let rest = text.split_off(whole);
        if !rest.is_empty() {
            open.insert((seq, stream == Stream::Stderr), rest);
        }
        drop(open);
        self.write(index, stream, &text);
    }

    /// Prints the last lines of a command, which may have no end.
    pub(super) fn finish(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let mut open: Vec<_> = open.into_iter().collect();
        open.sort();
        for ((_, stderr), mut text) in open {
            text.push(b'\n');
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            self.write(None, stream, &text);
        }
    }

    fn write(&self, index: Option<u64>, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // Whoever closed our output does not want it.
        let _ = match (self.json, self.tag, index) {
            (true, ..) => {
                let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
                let text = String::from_utf8_lossy(bytes);
                self.line(&json!({ "index": index, "stream": name, "text": text }))
            }
            (false, true, Some(index)) => {
                let mut tagged = Vec::with_capacity(bytes.len() + 16);
                for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                    tagged.extend_from_slice(format!("{index}\t").as_bytes());
                    tagged.extend_from_slice(line);
                }
                write(stream, &tagged)
            }
            _ => write(stream, bytes),
        };
    }

    fn line(&self, value: &serde_json::Value) -> std::io::Result<()> {
        write(Stream::Stdout, format!("{value}\n").as_bytes())
    }

    /// Tells how a command ended, or how all did: as JSON, if that was asked for.
    pub(super) fn tell(&self, value: &serde_json::Value) {
        if self.json {
            let _ = self.line(value);
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }
}
