//! What tasks print, at the client that asked.
//!
//! A thread of its own writes it, started by the first output: the thread that brings it must never
//! wait for a terminal.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use manyhands_proto::TaskId;
use manyhands_proto::client::Stream;

use crate::error::short;

/// An unfinished line longer than this is printed as it is, in bytes.
const LINE_LIMIT: usize = 64 << 10;

/// Tasks whose unfinished lines are kept; past that all are printed.
const OPEN_LINES: usize = 1024;

/// What is called with the output of tasks: task, function, stream, bytes as they came.
pub(crate) type Listener = Box<dyn FnMut(TaskId, &str, Stream, &[u8]) + Send>;

/// What is called with what there is to say of the connection.
pub(crate) type NoticeListener = Box<dyn FnMut(&str) + Send>;

struct Output {
    task: TaskId,
    name: String,
    stream: Stream,
    bytes: Bytes,
}

enum Order {
    Print(Output),
    Listen(Listener),
    Notice(String),
    ListenToNotices(NoticeListener),
}

/// Prints, or hands to a listener, what tasks print.
#[derive(Default)]
pub(crate) struct Printer {
    thread: Mutex<Option<(Sender<Order>, JoinHandle<()>)>>,
}

impl Printer {
    pub(crate) fn print(&self, task: TaskId, name: String, stream: Stream, bytes: Bytes) {
        self.order(Order::Print(Output { task, name, stream, bytes }));
    }

    /// From now on `listener` gets what would be printed.
    pub(crate) fn listen(&self, listener: Listener) {
        self.order(Order::Listen(listener));
    }

    /// Prints, or hands to its listener, what no task has printed.
    pub(crate) fn notice(&self, text: String) {
        self.order(Order::Notice(text));
    }

    /// From now on `listener` gets the notices.
    pub(crate) fn listen_to_notices(&self, listener: NoticeListener) {
        self.order(Order::ListenToNotices(listener));
    }

    fn order(&self, order: Order) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (orders, inbox) = mpsc::channel();
            let name = "manyhands-output".to_owned();
            let started = std::thread::Builder::new().name(name).spawn(move || run(inbox));
            // Without a thread there is no output: the tasks themselves are unharmed.
            *thread = started.ok().map(|started| (orders, started));
        }
        if let Some((orders, _)) = &*thread {
            let _ = orders.send(order);
        }
    }

    /// Prints what has come, and ends the thread.
    pub(crate) fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((orders, thread)) = thread {
            drop(orders);
            // A listener may hold the session's last reference: it cannot wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn run(inbox: Receiver<Order>) {
    let (mut listener, mut noticed) = (None::<Listener>, None::<NoticeListener>);
    let mut lines = Lines::default();
    for order in inbox {
        match order {
            Order::Listen(new) => listener = Some(new),
            Order::ListenToNotices(new) => noticed = Some(new),
            Order::Print(output) => match &mut listener {
                Some(listen) => listen(output.task, &output.name, output.stream, &output.bytes),
                None => lines.add(output, &mut write),
            },
            Order::Notice(text) => match &mut noticed {
                Some(listen) => listen(&text),
                None => write(Stream::Stderr, format!("manyhands: {text}\n").as_bytes()),
            },
        }
    }
    lines.finish(&mut write);
}

fn write(stream: Stream, text: &[u8]) {
    // Whoever closed the program's output does not want it.
    let _ = match stream {
        Stream::Stdout => {
            std::io::stdout().write_all(text).and_then(|()| std::io::stdout().flush())
        }
        Stream::Stderr => std::io::stderr().write_all(text),
    };
}

/// Whole lines, each behind the name and number of its task.
#[derive(Default)]
struct Lines {
    open: BTreeMap<(TaskId, bool), (String, Vec<u8>)>,
}

impl Lines {
    fn add(&mut self, output: Output, write: &mut dyn FnMut(Stream, &[u8])) {
        let Output { task, name, stream, bytes } = output;
        let prefix = format!("[{} #{}] ", short(&name), task.seq);
        let (mut line, mut text) = match self.open.remove(&(task, stream == Stream::Stderr)) {
            Some((_, line)) => (line, Vec::new()),
            None => (Vec::new(), Vec::new()),
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.ends_with(b"\n") || line.len() > LINE_LIMIT {
                text.extend_from_slice(prefix.as_bytes());
                text.append(&mut line);
                if !text.ends_with(b"\n") {
                    text.push(b'\n');
                }
            }
        }
        if !text.is_empty() {
            write(stream, &text);
        }
        if !line.is_empty() {
            self.open.insert((task, stream == Stream::Stderr), (prefix, line));
        }
        if self.open.len() > OPEN_LINES {
            self.finish(write);
        }
    }

    fn finish(&mut self, write: &mut dyn FnMut(Stream, &[u8])) {
        for ((_, stderr), (prefix, line)) in std::mem::take(&mut self.open) {
            let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
            write(stream, &[prefix.as_bytes(), &line, b"\n"].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_proto::{JobId, Lane};
    use uuid::Uuid;

    #[test]
    fn lines_are_put_together_and_named() {
        let task = TaskId { job: JobId(Uuid::from_u128(1)), lane: Lane(1), seq: 7 };
        let other = TaskId { seq: 8, ..task };
        let (mut lines, mut printed) = (Lines::default(), String::new());
        let mut write = |_, text: &[u8]| printed.push_str(str::from_utf8(text).unwrap());
        for (task, text) in [(task, "one\ntw"), (other, "x\n"), (task, "o\nthree")] {
            let name = "demo::count".to_owned();
            let output = Output { task, name, stream: Stream::Stdout, bytes: text.into() };
            lines.add(output, &mut write);
        }
        lines.finish(&mut write);
        assert_eq!(printed, "[count #7] one\n[count #8] x\n[count #7] two\n[count #7] three\n");
    }
    #[test]
    fn notices_go_to_their_own_listener() {
        let (tell, told) = mpsc::channel();
        let printer = Printer::default();
        printer.listen(Box::new(|_, _, _, _| unreachable!("no task has printed this")));
        printer.listen_to_notices(Box::new(move |text| tell.send(text.to_owned()).unwrap()));
        printer.notice("it is lost".to_owned());
        printer.notice("it is back".to_owned());
        printer.finish();
        assert_eq!(told.iter().collect::<Vec<_>>(), ["it is lost", "it is back"]);
    }
}
