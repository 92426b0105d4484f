//! This program: what it is called, and how it gets to the workers.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_transport::machine::program_hash;

use super::crew::Crew;
use crate::error::Error;

/// The file of this process's program, also if another took its name since.
const OWN: &str = "/proc/self/exe";

/// What this program is called: the hash of its file.
pub(super) fn own_hash() -> Result<u128, Error> {
    static HASH: OnceLock<u128> = OnceLock::new();
    if let Some(hash) = HASH.get() {
        return Ok(*hash);
    }
    let hash = program_hash(Path::new(OWN)).map_err(|error| Error::Program(Arc::new(error)))?;
    Ok(*HASH.get_or_init(|| hash))
}

/// Sends this program to a worker, on a thread of its own. `failed` is told why it could not.
pub(super) fn send(
    crew: Arc<Crew>,
    program: u128,
    worker: WorkerId,
    failed: impl Fn(String) + Clone + Send + 'static,
) {
    let tell = failed.clone();
    let sending = move || {
        let sent = read(program).and_then(|bytes| crew.put_program(worker, program, bytes));
        sent.unwrap_or_else(tell);
    };
    let thread = std::thread::Builder::new().name("manyhands-upload".to_owned()).spawn(sending);
    if let Err(error) = thread {
        failed(format!("it cannot be sent: {error}"));
    }
}

/// The program's bytes: read once for all workers that want them at the same time.
fn read(program: u128) -> Result<Bytes, String> {
    /// Lets go with the last upload.
    static SHARED: Mutex<Weak<Vec<u8>>> = Mutex::new(Weak::new());
    if own_hash().map_err(|error| error.to_string())? != program {
        return Err(format!("this client's program is not {program:032x}"));
    }
    struct Whole(Arc<Vec<u8>>);
    impl AsRef<[u8]> for Whole {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let whole = match shared.upgrade() {
        Some(whole) => whole,
        None => {
            let read = std::fs::read(OWN);
            let whole = Arc::new(read.map_err(|error: io::Error| format!("{OWN}: {error}"))?);
            *shared = Arc::downgrade(&whole);
            whole
        }
    };
    Ok(Bytes::from_owner(Whole(whole)))
}
