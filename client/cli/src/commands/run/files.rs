//! Files that go with a command, and those that come back.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use manyhands::{Client, Handle};

use crate::failure::Failure;
use crate::order::{Order, stays_within};
use crate::units::Bytes as Size;

/// Bytes of standard input at most.
const STDIN_LIMIT: u64 = 1 << 30;

/// After so long without the end of standard input it is said what is waited for.
const STDIN_PATIENCE: Duration = Duration::from_secs(2);

/// A file here, and what it is called there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct In {
    local: PathBuf,
    remote: String,
}

/// A file there, and what it is called here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Out {
    remote: String,
    local: String,
}

impl FromStr for In {
    type Err = String;

    fn from_str(text: &str) -> Result<In, String> {
        let (local, remote) = match text.split_once(':') {
            Some((local, remote)) => (local, remote.to_owned()),
            None => (text, file_name(text)?),
        };
        check_remote(&remote)?;
        Ok(In { local: local.into(), remote })
    }
}

impl FromStr for Out {
    type Err = String;

    fn from_str(text: &str) -> Result<Out, String> {
        let (remote, local) = match text.split_once(':') {
            Some((remote, local)) => (remote, local.to_owned()),
            None => (text, file_name(text)?),
        };
        check_remote(remote)?;
        Ok(Out { remote: remote.to_owned(), local })
    }
}

fn file_name(path: &str) -> Result<String, String> {
    let name = Path::new(path).file_name().ok_or("it names no file")?;
    Ok(name.to_string_lossy().into_owned())
}

fn check_remote(name: &str) -> Result<(), String> {
    match stays_within(Path::new(name)) {
        true => Ok(()),
        false => Err(format!("{name:?} is not a name within the directory of the command")),
    }
}

impl In {
    /// Its name there and its mode.
    pub(super) fn file(&self) -> Result<(Bytes, u32), Failure> {
        let fail = |error| Failure::file(&self.local, "read", error);
        let meta = fs::metadata(&self.local).map_err(fail)?;
        if meta.is_dir() {
            let message = format!("{} is a directory: pack it into one file", self.local.display());
            return Err(Failure::value("--in", message));
        }
        Ok((Bytes::from(self.remote.clone()), meta.permissions().mode()))
    }

    /// Its content.
    pub(super) fn read(&self) -> Result<Vec<u8>, Failure> {
        fs::read(&self.local).map_err(|error| Failure::file(&self.local, "read", error))
    }
}

impl Out {
    /// Its name there.
    pub(super) fn name(&self) -> Bytes {
        Bytes::from(self.remote.clone())
    }

    /// Its name here.
    fn path(&self, index: Option<u64>) -> PathBuf {
        let name = OsString::from(self.local.clone());
        match index {
            None => name.into(),
            Some(_) => Order::named(index).word(name.as_bytes()).into(),
        }
    }
}

/// Writes the files that a command left.
pub(super) fn bring(
    client: &Client,
    outs: &[Out],
    index: Option<u64>,
    contents: Vec<Handle<Vec<u8>>>,
) -> Result<(), Failure> {
    for (out, content) in outs.iter().zip(contents) {
        let path = out.path(index);
        let content = client.get(&content.slice())?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let written = folder.map_or(Ok(()), fs::create_dir_all);
        let written = written.and_then(|()| fs::write(&path, &*content));
        written.map_err(|error| Failure::file(path, "written", error))?;
    }
    Ok(())
}

/// All of our standard input.
pub(super) fn stdin() -> Result<Vec<u8>, Failure> {
    let (sender, came) = mpsc::channel();
    // It may never end: the thread ends with the process then.
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let read = io::stdin().lock().take(STDIN_LIMIT + 1).read_to_end(&mut all);
        let _ = sender.send(read.map(|_| all));
    });
    let read = came.recv_timeout(STDIN_PATIENCE).or_else(|_| {
        eprintln!("manyhands: reading standard input to its end; --no-stdin runs it without");
        came.recv()
    });
    let read = read.unwrap_or_else(|_| Err(io::Error::other("it could not be read")));
    let all = read.map_err(|error| Failure::value("standard input", error))?;
    if all.len() as u64 > STDIN_LIMIT {
        let message = format!("more than {}: put it into a file, --in", Size(STDIN_LIMIT));
        return Err(Failure::value("standard input", message));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_name_on_either_side() {
        let file: In = "data/a.csv".parse().unwrap();
        assert_eq!((file.local, file.remote), ("data/a.csv".into(), "a.csv".to_owned()));
        let file: In = "/tmp/a:in/b".parse().unwrap();
        assert_eq!((file.local, file.remote), ("/tmp/a".into(), "in/b".to_owned()));
        let out: Out = "out-{}.txt:here/{}".parse().unwrap();
        assert_eq!(out.path(Some(7)), Path::new("here/7"));
        let out: Out = "deep/out.txt".parse().unwrap();
        assert_eq!((out.path(None), out.name()), ("out.txt".into(), Bytes::from("deep/out.txt")));
        for wrong in ["", "/", "a:/etc/passwd", "a:../b"] {
            assert!(wrong.parse::<In>().is_err(), "{wrong}");
        }
        for wrong in ["", "/etc/passwd", "../a:b"] {
            assert!(wrong.parse::<Out>().is_err(), "{wrong}");
        }
    }
}
