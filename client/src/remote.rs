//! A cluster somewhere else: one network thread for a session, and large values past the scheduler.
//!
//! The thread keeps the link with the scheduler up (see `manyhands_transport::link`), over whatever
//! connections that takes: calls wait while it is broken, and are told when its grace time is over.
//! Large values, and the program itself, go straight to and from the workers; the endpoint for that
//! is started when it is first needed.

mod control;
mod crew;
mod program;
mod wait;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::link::Key;
use manyhands_proto::value::{Codec, ObjectMeta, Value};
use manyhands_proto::{Lane, ObjectId, WorkerId};
use manyhands_transport::address::Address;
use manyhands_transport::link::Link;
use manyhands_transport::{Receive, Source};

use crate::connection::{Connection, Stored};
use crate::error::Error;
use crate::foreign::joined;
use crate::session::Ends;

use control::Control;
use crew::Crew;
use program::Programs;

/// How long an object that cannot be read is asked for again: its workers may be lost, and it may
/// have to be made again.
const PATIENCE: Duration = Duration::from_secs(45);

/// What whoever connects may choose.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The name of this client, for people.
    pub(crate) name: String,
    /// How long to try to connect.
    pub(crate) timeout: Duration,
    /// It will submit tasks of this program, which has to have a name: found while the connection is
    /// made, and not with the first task.
    pub(crate) submits: bool,
}

/// The connection of one session.
struct Remote {
    control: Control,
    lane: Lane,
    wire: Arc<Wire>,
    program: OnceLock<u128>,
}

/// The name of this program where its file cannot be read: no worker ever gets it, and its tasks are
/// told why.
const UNREADABLE: u128 = u128::MAX;

/// Begins a session. Waits until it has begun, or failed to.
pub(crate) fn open(address: Address, options: Options) -> Result<Arc<dyn Connection>, Error> {
    let address = address.complete()?;
    let place = address.place();
    let Some(token) = address.token.clone() else {
        return Err(Error::connect(
            &place,
            "the address has no token: use the whole line that the \
            scheduler printed for clients, manyhands://TOKEN@HOST:PORT, or set MANYHANDS_TOKEN or \
            MANYHANDS_TOKEN_FILE",
        ));
    };
    let crew = Crew::new(token, &options.name);
    let wire = Arc::new(Wire {
        session: OnceLock::new(),
        crew,
        link: OnceLock::new(),
        programs: Arc::default(),
    });
    let dialing = Control::dial(address, &options, wire.clone())?;
    // While the handshake is under way.
    let program = OnceLock::new();
    if options.submits {
        let _ = program.set(program::own_hash()?);
    }
    let (control, lane) = dialing.opened(&place)?;
    // The session has said nothing yet, so nobody has asked for the link.
    let _ = wire.link.set(control.link());
    Ok(Arc::new(Remote { control, lane, wire, program }))
}

/// What the link drains and fills.
struct Wire {
    session: OnceLock<Ends>,
    crew: Arc<Crew>,
    link: OnceLock<Link>,
    programs: Arc<Programs>,
}

impl Wire {
    /// Tells whoever has the session about its link.
    fn notice(&self, text: String) {
        if let Some(session) = self.session.get() {
            session.notice(text);
        }
    }

    /// Sends a program to a worker, and says so if that fails.
    fn send_program(&self, program: u128, worker: WorkerId) {
        let (Some(session), Some(link)) = (self.session.get(), self.link.get()) else { return };
        let (session, link) = (session.clone(), link.clone());
        let failed = move |message| {
            session.say(FromClient::ProgramFailed { program, message });
            link.poke();
        };
        program::send(self.programs.clone(), self.crew.clone(), program, worker, failed);
    }
}

impl Source<FromClient> for Wire {
    fn drain(&self, out: &mut Vec<FromClient>) {
        if let Some(session) = self.session.get() {
            session.drain(out);
        }
    }
}

impl Receive<ToClient> for Wire {
    fn receive(&self, mut messages: Vec<ToClient>) {
        messages.retain_mut(|message| match message {
            ToClient::Workers { peers, gone } => {
                self.crew.changed(std::mem::take(peers), gone);
                false
            }
            ToClient::SendProgram { program, worker } => {
                self.send_program(*program, *worker);
                false
            }
            _ => true,
        });
        if let Some(session) = self.session.get() {
            session.receive(messages);
        }
    }

    fn closed(&self, reason: &str) {
        self.crew.close(reason);
        if let Some(session) = self.session.get() {
            session.closed(reason);
        }
    }
}

impl Connection for Remote {
    fn attach(&self, session: Ends) {
        // A second session cannot be: `Session::open` calls this once.
        let _ = self.wire.session.set(session);
        if let Some(reason) = self.wire.crew.closed() {
            self.wire.closed(&reason);
        }
    }

    fn lane(&self) -> Lane {
        self.lane
    }

    fn poke(&self) {
        self.control.poke();
    }

    fn read_stored(&self, object: ObjectId, stored: &Stored) -> Result<Value, String> {
        let Stored { size, workers, .. } = stored;
        let (meta, bytes) = self.wire.crew.read(Key::Object(object), *size, workers.clone())?;
        Ok(Value { codec: meta.codec, bytes })
    }

    fn put_stored(
        &self,
        object: ObjectId,
        meta: &ObjectMeta,
        pieces: &[&[u8]],
    ) -> Result<WorkerId, String> {
        self.wire.crew.put(Key::Object(object), meta, joined(pieces))
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn program(&self) -> u128 {
        *self.program.get_or_init(|| program::own_hash().unwrap_or(UNREADABLE))
    }

    fn offer_program(&self, program: u128, path: &Path) -> Result<(), String> {
        self.wire.programs.offer(program, path);
        Ok(())
    }

    fn close(&self) {
        self.wire.crew.close("the session was closed");
        self.control.close();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.close();
    }
}

/// How the bytes of a program are to be read.
const PROGRAM_CODEC: Codec = Codec::RAW;
