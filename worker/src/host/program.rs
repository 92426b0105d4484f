//! What executors are forked from, and the command that starts it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use manyhands_executor::foreign;
use manyhands_executor::process::{self, VARIABLE, VERSION};
use manyhands_proto::client::Environment;
use serde_json::json;

/// What no process of a user's shall inherit: secrets and settings of the daemon.
const OWN_VARIABLES: &str = "MANYHANDS_";

/// What an interpreter runs first.
const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// How long (microseconds) after its first command something that has said nothing may still turn out
/// to be a template: another Rust program, an interpreter, one that has to install something first.
const ANSWER_LIMIT_US: u64 = 20_000_000;
const IMPORT_LIMIT_US: u64 = 180_000_000;
const INSTALL_LIMIT_US: u64 = 1_800_000_000;

/// Something that can fork executors, and by which the host tells templates apart.
#[derive(Clone, Debug)]
pub enum Program {
    /// The program that the host itself is part of.
    Own,
    /// Another Rust program that is linked with manyhands.
    Rust {
        /// Hash of its content.
        hash: u128,
        /// Its file.
        path: PathBuf,
    },
    /// A Python interpreter.
    Python(Python),
}

/// A Python interpreter, and what it is set up with.
#[derive(Clone, Debug)]
pub struct Python {
    /// Its file, or its name, which is looked for in `PATH`.
    pub interpreter: PathBuf,
    /// What it is set up with.
    pub environment: Arc<Environment>,
    /// The file of the environment's archive, if it has one.
    pub archive: Option<PathBuf>,
    /// Where requirements are installed: a directory, made when it is needed, that several hosts may
    /// share.
    pub cache: PathBuf,
}

impl Program {
    /// Whether both are the same: what one's template forks is what the other's would.
    pub(super) fn is(&self, other: &Program) -> bool {
        match (self, other) {
            (Program::Own, Program::Own) => true,
            (Program::Rust { hash: one, .. }, Program::Rust { hash: other, .. }) => one == other,
            (Program::Python(one), Program::Python(other)) => one.environment == other.environment,
            _ => false,
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self, Program::Own)
    }

    /// How long it may be silent at first, in microseconds; `None`: it is known to be a template.
    pub(super) fn answer_limit_us(&self) -> Option<u64> {
        match self {
            Program::Own => None,
            Program::Rust { .. } => Some(ANSWER_LIMIT_US),
            Program::Python(python) if python.environment.requirements.is_empty() => {
                Some(IMPORT_LIMIT_US)
            }
            Program::Python(_) => Some(INSTALL_LIMIT_US),
        }
    }

    /// What starts it as a template.
    pub(super) fn command(&self) -> Command {
        let mut command = match self {
            Program::Own => own_command(),
            Program::Rust { path, .. } => clean(path),
            Program::Python(python) => return python.command(),
        };
        command.env(VARIABLE, VERSION);
        command
    }

    /// Why it cannot even be started, in words.
    pub(super) fn explain(&self, error: &io::Error) -> String {
        let path = match self {
            Program::Own => process::own_file(),
            Program::Rust { path, .. } => path,
            Program::Python(python) => return python.explain(error),
        };
        let why = match error.raw_os_error() {
            Some(libc::ENOEXEC) => "it is no program for this machine",
            Some(libc::ENOENT) if path.exists() => "its interpreter (the loader) is not here",
            Some(libc::EACCES) => "it may not be executed (is its directory mounted noexec?)",
            _ => "it cannot be started",
        };
        format!("{why}: {error}")
    }

    /// What it is that was silent for too long, in words.
    pub(super) fn never_answered(&self) -> String {
        match self {
            Program::Own | Program::Rust { .. } => {
                "it did not answer as a program that is linked with manyhands".to_owned()
            }
            Program::Python(_) => {
                let seconds = self.answer_limit_us().unwrap_or_default() / 1_000_000;
                format!("it did not get ready in {seconds} s (what does it import first?)")
            }
        }
    }

    /// What helps when it started and was no template.
    pub(super) fn advice(&self) -> Option<&'static str> {
        let linked = "it must be linked with manyhands, and with a C library that is no newer than \
                      the one here: build it on a system as old as this one, or give its tasks a \
                      label of workers that can run it";
        match self {
            Program::Own | Program::Rust { .. } => Some(linked),
            // It says what is wrong itself.
            Program::Python(_) => None,
        }
    }

    /// Words about it, with its name.
    pub(super) fn about(&self, message: &str) -> String {
        match self {
            Program::Own => message.to_owned(),
            Program::Rust { hash, .. } => {
                format!("program {hash:032x} does not run here: {message}")
            }
            Program::Python(python) => {
                let interpreter = python.interpreter.display();
                format!("the Python interpreter {interpreter} runs no tasks here: {message}")
            }
        }
    }
}

/// What starts the program that this process is part of.
fn own_command() -> Command {
    if let Some([program, arguments @ ..]) = process::loaded().map(|loaded| &loaded.command[..]) {
        let mut command = clean(program.as_ref());
        command.args(arguments);
        return command;
    }
    let mut command = clean(process::own_file());
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
}

impl Python {
    fn command(&self) -> Command {
        let environment = &*self.environment;
        // A path that is not absolute is meant from here, and not from the tasks' directory.
        let here = self.interpreter.components().nth(1).map(|_| &self.interpreter);
        let absolute = here.and_then(|path| std::path::absolute(path).ok());
        let mut command = clean(absolute.as_ref().unwrap_or(&self.interpreter));
        command.envs(environment.variables.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &environment.directory {
            command.current_dir(directory);
        }
        command.env(foreign::VARIABLE, VERSION);
        command.arg("-c").arg(BOOTSTRAP).arg(self.spec());
        command
    }

    /// What the package's template is told, as JSON.
    fn spec(&self) -> String {
        let environment = &*self.environment;
        let spec = json!({
            "preload": environment.preload,
            "path": environment.path,
            "archive": self.archive,
            "requirements": environment.requirements,
            "cache": self.cache,
        });
        spec.to_string()
    }

    fn explain(&self, error: &io::Error) -> String {
        match (&self.environment.directory, error.raw_os_error()) {
            (Some(directory), _) if !Path::new(directory).is_dir() => {
                format!("the working directory {directory} is not on this machine")
            }
            (_, Some(libc::ENOENT)) => "there is no such program on this machine: install Python, \
                                        or give the worker another interpreter (--python)"
                .to_owned(),
            _ => format!("it cannot be started: {error}"),
        }
    }
}

/// A program in a process group of its own, without what is the daemon's.
fn clean(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(OWN_VARIABLES.as_bytes()) {
            command.env_remove(name);
        }
    }
    // What a terminal sends to our group (Ctrl-C) is for us to answer.
    command.process_group(0);
    command
}
