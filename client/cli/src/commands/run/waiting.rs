//! What a command waits for that does not start.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use manyhands::{Client, TaskState};

/// After so long it is said why nothing has started.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says once, on standard error, why no command of the client's job has started after a while. Ends
/// with what it returns.
pub(super) fn tell_why(client: &Client) -> Sender<()> {
    let (running, ended) = mpsc::channel::<()>();
    let (cluster, job) = (client.cluster(), client.job_id());
    let watch = move || {
        if !matches!(ended.recv_timeout(PATIENCE), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        // Without answers there is nothing to say.
        let begun = [TaskState::Running, TaskState::Assigned, TaskState::Done, TaskState::Failed];
        let any = |state| cluster.tasks(Some(job), Some(state), 1).is_ok_and(|it| it.total > 0);
        if begun.into_iter().any(any) {
            return;
        }
        let ready = cluster.tasks(Some(job), Some(TaskState::Ready), 1);
        if let Some(task) = ready.ok().and_then(|ready| ready.items.into_iter().next())
            && let Ok(explanation) = cluster.explain(task.task)
        {
            eprintln!("manyhands: still waiting: {}", explanation.reason);
        }
    };
    // Without the thread the command runs as well.
    let _ = std::thread::Builder::new().name("manyhands-waiting".to_owned()).spawn(watch);
    running
}
