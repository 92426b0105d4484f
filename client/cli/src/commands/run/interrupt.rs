//! Ctrl-C: the first one stops the commands, the second one us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use manyhands::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Cancels the client's job on SIGINT, SIGTERM or SIGHUP, which the flag then tells.
pub(super) fn cancel(client: &Client) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (flag, cluster, job) = (interrupted.clone(), client.cluster(), client.job_id());
    let fail = |error| Failure::value("signals", error);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(fail)?;
    let entered = runtime.enter();
    let mut int = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut term = signal(SignalKind::terminate()).map_err(fail)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(fail)?;
    drop(entered);
    let mut next = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
                _ = hangup.recv() => {}
            }
        });
    };
    let watch = move || {
        next();
        flag.store(true, Ordering::SeqCst);
        eprintln!("manyhands: stopping the command; once more ends at once");
        std::thread::spawn(move || {
            // The session may be over by now, and the job with it.
            let _ = cluster.cancel_job(job, "interrupted");
        });
        next();
        std::process::exit(130);
    };
    let thread = std::thread::Builder::new().name("manyhands-signals".to_owned()).spawn(watch);
    thread.map_err(fail)?;
    Ok(interrupted)
}
