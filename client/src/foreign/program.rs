//! Files that functions need: Rust programs, whose tasks are called by name, and archives of
//! modules.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use manyhands_executor::process::{LIST_VARIABLE, read_list};
use manyhands_proto::FunctionId;
use manyhands_transport::machine::program_hash;

use super::Function;
use crate::client::Client;
use crate::error::Error;

/// A file that functions need, named by the hash of its content. It must stay where it is as long
/// as workers may ask for it.
#[derive(Clone, Debug)]
pub struct Program {
    hash: u128,
    path: PathBuf,
    tasks: Vec<(String, FunctionId)>,
}

impl Program {
    /// A Rust program with tasks of its own, which is asked for their names: it is started once,
    /// and ends before its `main`. Fails if it cannot be read, or has no tasks.
    pub fn rust(path: impl AsRef<Path>) -> Result<Program, Error> {
        let mut program = Program::of_file(path)?;
        program.tasks = list(&program.path).map_err(|message| program.unusable(message))?;
        program.tasks.sort();
        Ok(program)
    }

    /// Any file: an archive of modules.
    pub(crate) fn of_file(path: impl AsRef<Path>) -> Result<Program, Error> {
        let path = path.as_ref();
        let unusable = |error: std::io::Error| Error::File {
            path: path.to_owned(),
            message: error.to_string(),
        };
        // Whoever needs it may have another working directory.
        let path = path.canonicalize().map_err(unusable)?;
        let hash = program_hash(&path).map_err(unusable)?;
        Ok(Program { hash, path, tasks: Vec::new() })
    }

    /// What names it in the cluster.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The names of its tasks: the paths of their functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|(name, _)| name.as_str())
    }

    /// One of its tasks, by the path of the function, or by the end of that where only one ends so.
    /// Its arguments and results are plain data, as MessagePack.
    pub fn function(&self, name: &str) -> Result<Function, Error> {
        let exact = self.tasks.iter().find(|(full, _)| full == name);
        let mut ends = self.tasks.iter().filter(|(full, _)| {
            full.strip_suffix(name).is_some_and(|before| before.ends_with("::"))
        });
        match exact.or_else(|| ends.next()) {
            Some((full, _)) if exact.is_none() && ends.next().is_some() => {
                Err(self.unusable(format!("several of its tasks end in {name}, {full} is one")))
            }
            Some((full, id)) => Ok(Function::linked(self.hash, *id, full)),
            None => {
                let names: Vec<&str> = self.names().collect();
                let message = format!("it has no task {name}, but {}", names.join(", "));
                Err(self.unusable(message))
            }
        }
    }

    fn unusable(&self, message: String) -> Error {
        Error::File { path: self.path.clone(), message }
    }
}

/// Starts a program so that it lists its tasks. One that would not do that, but run, is not
/// started.
fn list(path: &Path) -> Result<Vec<(String, FunctionId)>, String> {
    let none = || "it is no program with tasks of manyhands".to_owned();
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    if !contains(&content, LIST_VARIABLE.as_bytes()) {
        return Err(none());
    }
    let mut program = Command::new(path);
    program.env(LIST_VARIABLE, "1").stdin(Stdio::null()).stderr(Stdio::null());
    let output = program.output().map_err(|error| format!("it cannot be started: {error}"))?;
    let list = String::from_utf8_lossy(&output.stdout);
    read_list(&list).filter(|tasks| !tasks.is_empty()).ok_or_else(none)
}

fn contains(content: &[u8], text: &[u8]) -> bool {
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| *byte == text[0]) {
        rest = &rest[at..];
        if rest.starts_with(text) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

impl Client {
    /// Brings a program to those workers that are given tasks of its functions. To be called before
    /// the first of them is submitted.
    pub fn offer(&self, program: &Program) -> Result<(), Error> {
        let offered = self.session.connection.offer_program(program.hash, &program.path);
        offered.map_err(|message| program.unusable(message))
    }
}
