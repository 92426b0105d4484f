//! The network thread of a session, and the link that it keeps up.

use std::convert::Infallible;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use manyhands_proto::Lane;
use manyhands_proto::client::ToClient;
use manyhands_proto::link::{Join, Opened};
use manyhands_transport::address::Address;
use manyhands_transport::link::{Dial, Link, Status};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{Options, Wire};
use crate::error::Error;

/// What the scheduler is told when a client goes.
const GOODBYE: &str = "the client has ended";

/// Turns of the runtime that a goodbye gets to leave.
const LAST_TURNS: usize = 16;

/// A connection that is back within this time was not worth a word.
const SHORT_BREAK: Duration = Duration::from_secs(1);

/// A handshake that is under way.
pub(super) struct Dialing {
    opened: mpsc::Receiver<Result<(Link, Opened), String>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// The link, and the thread that keeps it up.
pub(super) struct Control {
    link: Link,
    /// The process that the thread is part of: a child that was forked has none.
    process: u32,
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl Control {
    /// Starts the thread, which begins a session.
    pub(super) fn dial(
        address: Address,
        options: &Options,
        wire: Arc<Wire>,
    ) -> Result<Dialing, Error> {
        let place = address.place();
        let fail = |error| Error::connect(&place, format!("no thread for the network: {error}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let join = Join::Client { name: options.name.clone() };
        let dial = Dial::new(address.clone(), &options.name, join);
        let dial = Dial { patience: options.timeout, ..dial };
        let (tell, opened) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let place = address.place();
        let run = move || {
            runtime.block_on(async {
                match Link::open::<_, ToClient>(dial, wire.clone(), wire.clone()).await {
                    Err(error) => drop(tell.send(Err(error.to_string()))),
                    Ok((link, opened)) => {
                        drop(tell.send(Ok((link.clone(), opened))));
                        // Also when whoever would say so is gone.
                        tokio::select! {
                            _ = stopped => {}
                            never = tell_of_breaks(&link, &wire, &place) => match never {},
                        }
                        link.close(GOODBYE).await;
                        // What the connection has to send last leaves when its task is next run.
                        for _ in 0..LAST_TURNS {
                            tokio::task::yield_now().await;
                        }
                    }
                }
            });
        };
        let name = "manyhands-net".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(fail)?;
        Ok(Dialing { opened, stop, thread })
    }

    /// The link itself.
    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    /// The session has something to say.
    pub(super) fn poke(&self) {
        self.link.poke();
    }

    /// Says what is still to be said, then goodbye; waits for both, but never for long.
    pub(super) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, thread)) = running else { return };
        if self.process != std::process::id() {
            // The thread stayed with the parent, and so did the session.
            std::mem::forget(thread);
            return;
        }
        let _ = stop.send(());
        // A session whose last reference is dropped by its own thread ends after it.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

/// Says that the scheduler has not been heard for a while, and that it is heard again.
async fn tell_of_breaks(link: &Link, wire: &Wire, place: &str) -> Infallible {
    let mut status = link.status();
    loop {
        let Status::Down { until, .. } = status else {
            // What ends the session tells whoever waits.
            status = link.changed(status).await;
            if status == Status::Over {
                return std::future::pending().await;
            }
            continue;
        };
        if let Ok(changed) = timeout(SHORT_BREAK, link.changed(status)).await {
            status = changed;
            continue;
        }
        let left = until.saturating_duration_since(Instant::now()).as_secs_f32().ceil();
        wire.notice(format!(
            "the connection with the scheduler at {place} is lost: it is tried again for {left} s"
        ));
        status = link.changed(status).await;
        if let Status::Up { .. } = status {
            wire.notice(format!("the connection with the scheduler at {place} is back"));
        }
    }
}

impl Dialing {
    /// Waits until the session has begun.
    pub(super) fn opened(self, place: &str) -> Result<(Control, Lane), Error> {
        let gone = || Err("the network thread has ended".to_owned());
        let (link, opened) = match self.opened.recv().unwrap_or_else(|_| gone()) {
            Ok(opened) => opened,
            Err(message) => return Err(Error::connect(place, message)),
        };
        let Opened::Client { lane, .. } = opened else {
            return Err(Error::connect(place, "the scheduler took this client for something else"));
        };
        let running = Mutex::new(Some((self.stop, self.thread)));
        Ok((Control { link, process: std::process::id(), running }, lane))
    }
}
