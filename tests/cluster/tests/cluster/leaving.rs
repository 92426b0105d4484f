//! Daemons that are told to end.

use std::time::Duration;

use manyhands_cluster_tests::{Cluster, Plan, in_time};
use rustix::process::Signal;

use crate::work::{block, check_all, digest_of, many_slowly, slowly, until_info, warm};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_worker_that_is_told_to_end_hands_on_what_it_has_and_ends_well() {
    in_time("a worker drains", LIMIT, || {
        let mut cluster = Cluster::start(Plan { machines: 2, workers: 2, ..Plan::default() });
        let client = cluster.client();
        warm(&cluster, &client);
        let call = |number| block::submit(&client, number, 1 << 14);
        let blocks: Vec<_> = (0..8).map(|number| call(number).unwrap()).collect();
        client.wait(&blocks, blocks.len(), None).unwrap();
        let handles = many_slowly(&client, 60, 20);
        client.wait(&handles, 10, None).unwrap();
        let worker = cluster.workers.remove(0);
        worker.signal(Signal::TERM);
        worker.line("that it has left", |line| line.contains("has left").then_some(()));
        assert_eq!(worker.end().code(), Some(0));
        check_all(&client, &handles);
        for (number, handle) in blocks.iter().enumerate() {
            let own = block(number as u64, 1 << 14);
            assert_eq!(digest_of(&client.get(handle).unwrap()), digest_of(&own));
        }
        let info = until_info(&cluster, "one worker", |info| info.workers == 1);
        assert_eq!(info.rerun, 0, "{info:?}");
    });
}

#[test]
fn a_second_signal_ends_a_worker_at_once_and_its_tasks_run_elsewhere() {
    in_time("a worker leaves at once", LIMIT, || {
        let mut cluster = Cluster::start(Plan { machines: 2, workers: 1, ..Plan::default() });
        let client = cluster.client();
        // Longer than the limit of this test: a drain would wait for it.
        let hours = slowly::submit(&client, 7, 3_600_000).unwrap();
        until_info(&cluster, "the task is with the worker", |info| info.assigned == 1);
        let worker = cluster.workers.remove(0);
        worker.signal(Signal::TERM);
        worker
            .line("that it waits for its task", |line| line.contains("waits for 1").then_some(()));
        worker.signal(Signal::TERM);
        worker.line("that it leaves now", |line| line.contains("leaves now").then_some(()));
        assert!(worker.end().success());
        cluster.join(1);
        until_info(&cluster, "the task is with the other", |info| {
            info.workers == 1 && info.assigned == 1
        });
        client.cancel(&hours, "it has been seen").unwrap();
        assert!(client.get(&hours).is_err());
    });
}

#[test]
fn a_scheduler_that_is_told_to_end_says_goodbye() {
    in_time("a scheduler ends", LIMIT, || {
        let cluster = Cluster::start(Plan { machines: 1, workers: 1, ..Plan::default() });
        let client = cluster.client();
        let handle = slowly::submit(&client, 1, 3_600_000).unwrap();
        until_info(&cluster, "the task is with the worker", |info| info.assigned == 1);
        let Cluster { scheduler, workers, .. } = cluster;
        scheduler.signal(Signal::TERM);
        assert_eq!(scheduler.end().code(), Some(0));
        let error = client.get(&handle).unwrap_err().to_string();
        assert!(error.contains("stopped"), "{error}");
        workers[0].line("that the session is over", |line| {
            line.contains("the session is over").then_some(())
        });
        workers[0].signal(Signal::TERM);
    });
}
