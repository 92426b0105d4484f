//! The programs that functions of a session need, this one among them: what they are called, and
//! how they get to the workers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use manyhands_executor::process::own_file;
use manyhands_proto::WorkerId;
use manyhands_transport::machine::program_hash;

use super::crew::Crew;
use crate::error::Error;

/// What this program is called: the hash of its file.
pub(super) fn own_hash() -> Result<u128, Error> {
    static HASH: OnceLock<u128> = OnceLock::new();
    if let Some(hash) = HASH.get() {
        return Ok(*hash);
    }
    let hash = program_hash(own_file()).map_err(|error| Error::Program(Arc::new(error)))?;
    Ok(*HASH.get_or_init(|| hash))
}

/// The files that the workers may ask for, by hash.
#[derive(Default)]
pub(super) struct Programs(Mutex<HashMap<u128, Offered>>);

struct Offered {
    path: PathBuf,
    /// Its content, read once for all workers that want it at the same time: lets go with the last
    /// upload.
    content: Weak<Vec<u8>>,
}

impl Programs {
    /// From now on workers can have this file.
    pub(super) fn offer(&self, program: u128, path: &Path) {
        let offered = Offered { path: path.to_owned(), content: Weak::new() };
        self.lock().entry(program).or_insert(offered);
    }

    /// The bytes of one of them.
    fn read(&self, program: u128) -> Result<Bytes, String> {
        struct Whole(Arc<Vec<u8>>);
        impl AsRef<[u8]> for Whole {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        if own_hash().is_ok_and(|own| own == program) {
            self.offer(program, own_file());
        }
        let mut all = self.lock();
        let unknown = || format!("this client has no program {program:032x}");
        let offered = all.get_mut(&program).ok_or_else(unknown)?;
        let whole = match offered.content.upgrade() {
            Some(whole) => whole,
            None => {
                let read = std::fs::read(&offered.path);
                let words = |error| format!("{}: {error}", offered.path.display());
                let whole = Arc::new(read.map_err(words)?);
                offered.content = Arc::downgrade(&whole);
                whole
            }
        };
        Ok(Bytes::from_owner(Whole(whole)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Offered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a program to a worker, on a thread of its own. `failed` is told why it could not.
pub(super) fn send(
    programs: Arc<Programs>,
    crew: Arc<Crew>,
    program: u128,
    worker: WorkerId,
    failed: impl Fn(String) + Clone + Send + 'static,
) {
    let tell = failed.clone();
    let sending = move || {
        let sent = programs.read(program).and_then(|it| crew.put_program(worker, program, it));
        sent.unwrap_or_else(tell);
    };
    let thread = std::thread::Builder::new().name("manyhands-upload".to_owned()).spawn(sending);
    if let Err(error) = thread {
        failed(format!("it cannot be sent: {error}"));
    }
}
