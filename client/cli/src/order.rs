//! A command line as a task: what it is, and what runs it on a worker.
//!
//! The task is a function of this very program, so that a worker which is this program has it
//! already, and others get it as they get any program.

mod child;
pub(crate) mod scratch;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use manyhands::{Handle, Slice};
use manyhands_executor::context;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

use scratch::Scratch;

/// The variable that tells a command of an array which one it is.
pub(crate) const INDEX_VARIABLE: &str = "MANYHANDS_ARRAY_INDEX";
/// The variable that tells a command the id of its task.
pub(crate) const TASK_VARIABLE: &str = "MANYHANDS_TASK";
/// What stands for the index in arguments and in names of files.
pub(crate) const PLACEHOLDER: &str = "{}";

/// A command line to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The program and its arguments.
    pub(crate) words: Vec<Bytes>,
    /// Variables on top of the worker's environment.
    pub(crate) env: Vec<(Bytes, Bytes)>,
    /// Where it runs; a fresh directory unless set.
    pub(crate) dir: Option<Bytes>,
    /// Which one of an array it is.
    pub(crate) index: Option<u64>,
    /// Files to write before it starts: names and modes, in the order of their contents.
    pub(crate) files: Vec<(Bytes, u32)>,
    /// Behind these contents comes one for its standard input.
    pub(crate) stdin: bool,
    /// Files to read when it has ended.
    pub(crate) outs: Vec<Bytes>,
}

/// How a command ended that did not end well. Its text is parsed again by whoever asked for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It never started: the code that a shell would give, and why.
    NotStarted(i32, String),
    /// It ran, and what belongs to it could not be done.
    Around(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "exit code {code}"),
            Ended::Signal(signal) => write!(f, "signal {signal}"),
            Ended::NotStarted(code, message) => write!(f, "exit code {code}: {message}"),
            Ended::Around(message) => write!(f, "exit code 125: {message}"),
        }
    }
}

/// The code that a shell would give, of an error's text that [`Ended`] wrote.
pub(crate) fn exit_code(message: &str) -> Option<i32> {
    let (base, rest) = match message.strip_prefix("exit code ") {
        Some(rest) => (0, rest),
        None => (128, message.strip_prefix("signal ")?),
    };
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse::<i32>().ok().map(|code| base + code)
}

/// Runs a command line: the contents of the files that it leaves.
#[manyhands::task]
pub(crate) fn command(
    order: Order,
    contents: Vec<Slice<u8>>,
) -> Result<Vec<Handle<Vec<u8>>>, Ended> {
    perform(&order, &contents)
}

fn perform(order: &Order, contents: &[Slice<u8>]) -> Result<Vec<Handle<Vec<u8>>>, Ended> {
    let around = |what: &str, error: io::Error| Ended::Around(format!("{what}: {error}"));
    let scratch = match &order.dir {
        Some(_) => None,
        None => Some(Scratch::new().map_err(|error| around("no directory to run in", error))?),
    };
    let dir = match (&scratch, &order.dir) {
        (Some(scratch), _) => scratch.path().to_owned(),
        (None, Some(dir)) => PathBuf::from(order.word(dir)),
        (None, None) => unreachable!("there is a directory of its own unless one was named"),
    };
    for ((name, mode), content) in order.files.iter().zip(contents) {
        let path = within(&dir, &order.word(name))?;
        write(&path, *mode, content).map_err(|error| around(&path.display().to_string(), error))?;
    }
    let stdin = match contents.get(order.files.len()) {
        Some(content) if order.stdin => {
            input(content).map_err(|error| around("standard input", error))?
        }
        _ => Stdio::null(),
    };
    child::run(&mut order.command(&dir, stdin))?;
    order.outs.iter().map(|name| keep(&within(&dir, &order.word(name))?)).collect()
}

impl Order {
    /// No command at all, for what is named after an index.
    pub(crate) fn named(index: Option<u64>) -> Order {
        Order {
            words: Vec::new(),
            env: Vec::new(),
            dir: None,
            index,
            files: Vec::new(),
            stdin: false,
            outs: Vec::new(),
        }
    }

    /// A word with the index in place.
    pub(crate) fn word(&self, word: &[u8]) -> OsString {
        let Some(index) = self.index else { return OsStr::from_bytes(word).to_owned() };
        let (mut made, mut rest) = (Vec::with_capacity(word.len()), word);
        while let Some(at) = find(rest, PLACEHOLDER.as_bytes()) {
            made.extend_from_slice(&rest[..at]);
            made.extend_from_slice(index.to_string().as_bytes());
            rest = &rest[at + PLACEHOLDER.len()..];
        }
        made.extend_from_slice(rest);
        OsString::from_vec(made)
    }

    fn command(&self, dir: &Path, stdin: Stdio) -> Command {
        let mut words = self.words.iter().map(|word| self.word(word));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(dir).stdin(stdin);
        command.envs(self.env.iter().map(|(name, value)| (self.word(name), self.word(value))));
        if let Some(index) = self.index {
            command.env(INDEX_VARIABLE, index.to_string());
        }
        if let Some(current) = context::current() {
            command.env(TASK_VARIABLE, current.task.to_string());
        }
        command
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

/// Whether a name stays within the directory that it is relative to.
pub(crate) fn stays_within(name: &Path) -> bool {
    let inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    name.components().all(inside) && name.file_name().is_some()
}

fn within(dir: &Path, name: &OsStr) -> Result<PathBuf, Ended> {
    match stays_within(Path::new(name)) {
        true => Ok(dir.join(name)),
        false => {
            let name = name.to_string_lossy();
            Err(Ended::Around(format!("{name} is not a name within the task's directory")))
        }
    }
}

/// Writes a file that must not be there yet.
fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    // Not by `open`, which takes the umask off.
    file.set_permissions(Permissions::from_mode(mode & 0o777))
}

/// A file in memory to be read from its beginning.
fn input(content: &[u8]) -> io::Result<Stdio> {
    let file = rustix::fs::memfd_create("manyhands-stdin", MemfdFlags::CLOEXEC)?;
    let mut file = fs::File::from(file);
    file.write_all(content)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// Puts a file's content into the cluster.
fn keep(path: &Path) -> Result<Handle<Vec<u8>>, Ended> {
    let content = fs::read(path).map_err(|error| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ended::Around(format!("the command left no {name} to bring back: {error}"))
    })?;
    let client = manyhands::current();
    let client = client.ok_or_else(|| Ended::Around("no task is running".to_owned()))?;
    client.put(&content).map_err(|error| Ended::Around(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_takes_its_place() {
        assert_eq!(Order::named(None).word(b"a{}b"), "a{}b");
        let order = Order::named(Some(12));
        assert_eq!(order.word(b"a{}b{}"), "a12b12");
        assert_eq!(order.word(b"{"), "{");
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        for (ended, code) in [
            (Ended::Code(3), 3),
            (Ended::Signal(9), 137),
            (Ended::NotStarted(127, "no such file".to_owned()), 127),
            (Ended::Around("disk full".to_owned()), 125),
        ] {
            assert_eq!(exit_code(&ended.to_string()), Some(code), "{ended}");
        }
        for text in ["", "exit code x", "signal", "something else"] {
            assert_eq!(exit_code(text), None, "{text}");
        }
    }

    #[test]
    fn names_stay_within_the_directory() {
        for name in ["a", "a/b", "./a", "a/./b"] {
            assert!(stays_within(Path::new(name)), "{name}");
        }
        for name in ["", "/a", "../a", "a/../../b", "..", "."] {
            assert!(!stays_within(Path::new(name)), "{name}");
        }
    }
}
