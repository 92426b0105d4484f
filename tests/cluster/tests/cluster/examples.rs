//! The examples, unchanged, over a scheduler and three workers with addresses of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use manyhands::Client;
use manyhands_cluster_tests::{Cluster, Plan, in_time};
use manyhands_example_flights as flights;
use manyhands_example_montecarlo::pure::{Piece, hits};
use manyhands_example_montecarlo::{Darts, estimate, integrate};
use manyhands_example_wordcount as wordcount;
use rustix::process::Signal;

use crate::work::{block, digest_of, until_info};

const LIMIT: Duration = Duration::from_secs(120);

/// What the examples compute in this process alone.
struct Expected {
    data: flights::Data,
    report: flights::Report,
    files: Vec<wordcount::text::TextFile>,
    words: wordcount::Answer,
    darts: Darts,
    hits: u64,
    piece: Piece,
}

impl Expected {
    fn new() -> Expected {
        let data = flights::Data::open(&flights::Data::default_folder())
            .unwrap_or_else(|error| panic!("{error}"));
        let report = flights::alone(&data).unwrap();
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
        let files = wordcount::text::files_below(&[sources]).unwrap();
        let words = wordcount::alone(&files, 50).unwrap();
        let darts = Darts { tasks: 2_000, throws: 50 };
        let hits = (0..darts.tasks).map(|seed| hits(seed, darts.throws)).sum();
        let piece = Piece { from: 0.0, to: 1.0, tolerance: 1e-4, halvings: 30 };
        Expected { data, report, files, words, darts, hits, piece }
    }

    /// Runs all three on a cluster, and compares.
    fn compare(&self, client: &Client) {
        assert_eq!(flights::analyse(client, &self.data, |_, _| {}).unwrap(), self.report);
        assert_eq!(wordcount::count(client, &self.files, 50).unwrap(), self.words);
        assert_eq!(estimate(client, self.darts).unwrap(), self.hits);
        assert_eq!(integrate(client, self.piece).unwrap().integral, self.piece.integral());
    }
}

/// Compares again and again, at least twice, until `change` has changed the cluster meanwhile; and
/// once more.
fn while_running(cluster: &mut Cluster, expected: &Expected, change: impl FnOnce(&mut Cluster)) {
    let client = cluster.client();
    let over = AtomicBool::new(false);
    let (began, begin) = mpsc::channel();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            expected.compare(&client);
            let _ = began.send(());
            while !over.load(Ordering::SeqCst) {
                expected.compare(&client);
            }
            expected.compare(&client);
        });
        // If it panics, the other end is dropped with it, and the scope passes the panic on.
        if begin.recv().is_ok() {
            change(cluster);
        }
        over.store(true, Ordering::SeqCst);
        if let Err(panic) = running.join() {
            cluster.scheduler.show();
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn the_examples_agree_while_a_worker_joins_and_one_is_drained_and_nothing_runs_twice() {
    in_time("the examples while workers come and go", LIMIT, || {
        let expected = Expected::new();
        let mut cluster = Cluster::start(Plan { machines: 4, ..Plan::default() });
        // Objects that are too large for messages lie with the workers that made them.
        let holder = cluster.client();
        let call = |number| block::submit(&holder, number, 1 << 15);
        let blocks: Vec<_> = (0..12).map(|number| call(number).unwrap()).collect();
        holder.wait(&blocks, blocks.len(), None).unwrap();
        while_running(&mut cluster, &expected, |cluster| {
            cluster.join(3);
            let drained = cluster.workers.remove(0);
            let output = cluster.run(&["drain", "w0", "--wait"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(drained.end().success());
        });
        for (number, handle) in blocks.iter().enumerate() {
            let words = holder.get(handle).unwrap();
            assert_eq!(words.len(), 1 << 15);
            assert_eq!(digest_of(&words), digest_of(&block(number as u64, 1 << 15)));
        }
        let info = until_info(&cluster, "three workers", |info| info.workers == 3);
        assert_eq!(info.rerun, 0, "nothing has to run twice: {info:?}");
    });
}

#[test]
fn the_examples_agree_after_a_worker_was_killed_midway() {
    in_time("the examples while a worker is killed", LIMIT, || {
        let expected = Expected::new();
        let plan = Plan { scheduler: grace("1s"), ..Plan::default() };
        let mut cluster = Cluster::start(plan);
        while_running(&mut cluster, &expected, |cluster| {
            let killed = cluster.workers.remove(1);
            killed.signal(Signal::KILL);
            let info = until_info(cluster, "the worker is missed", |info| info.workers == 2);
            println!("{} of {} tasks ran again", info.rerun, info.ended);
        });
    });
}

/// Links that are silent for a second are broken, and a broken one has `span` to come back.
pub(crate) fn grace(span: &str) -> Vec<String> {
    ["--worker-grace", span, "--idle-timeout", "1s"].map(str::to_owned).into()
}
