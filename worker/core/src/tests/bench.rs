//! What a no-op task costs: assign, feed, end and free together. Run by hand:
//! `cargo test --release -p manyhands-worker-core -- --ignored --nocapture cost`.

use bytes::Bytes;
use manyhands_proto::Time;
use manyhands_proto::executor::{End, ReturnedBytes};
use manyhands_proto::worker::ToWorker;

use super::desk::{Desk, assignment, returned, task};
use crate::{Action, Event, ExecutorId};

const TASKS: u64 = 200_000;
const BATCH: u64 = 500;

#[test]
#[ignore = "prints a figure, asserts nothing that could fail"]
fn cost_of_a_no_op_task() {
    let mut desk = Desk::started(2);
    let options = std::sync::Arc::new(manyhands_proto::task::TaskOptions::default());
    let plain =
        |n| manyhands_proto::worker::Assignment { options: options.clone(), ..assignment(task(n)) };
    let batches: Vec<Event> = (0..TASKS / BATCH)
        .map(|b| {
            let tasks = (b * BATCH..(b + 1) * BATCH).map(plain).collect();
            Event::FromScheduler(ToWorker::Assign { tasks })
        })
        .collect();
    #[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a bench has a clock")]
    let start = std::time::Instant::now();
    let (mut out, mut fed, mut ended) = (Vec::new(), Vec::new(), 0);
    for batch in batches {
        desk.core.handle(desk.now, batch, &mut out);
        loop {
            desk.now = Time(desk.now.0 + 100);
            desk.core.round(desk.now, &mut out);
            for action in out.drain(..) {
                if let Action::Feed { executor, run } = action {
                    fed.push((executor, run));
                }
            }
            if fed.is_empty() {
                break;
            }
            for (executor, run) in fed.drain(..) {
                let bytes = ReturnedBytes::Inline(Bytes::from_static(b"x"));
                let result = Ok([returned(bytes)].into_iter().collect());
                let (task, attempt) = (run.task, run.attempt);
                let end =
                    End { task, attempt, duration_us: 0, printed: None, leaves: false, result };
                ended += 1;
                desk.core.handle(desk.now, Event::TaskEnded { executor, end }, &mut out);
            }
        }
        let objects = (ended - BATCH..ended).map(|n| task(n).object(0)).collect();
        let free = Event::FromScheduler(ToWorker::Free { objects });
        desk.core.handle(desk.now, free, &mut out);
    }
    let spent = start.elapsed().as_nanos() as u64;
    assert_eq!(ended, TASKS);
    assert!(desk.core.running(ExecutorId(0)).is_none());
    println!("{} ns a task", spent / TASKS);
}
