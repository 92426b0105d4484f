//! Compares the graphs' answers with the same sums in one process.

use std::sync::mpsc;
use std::time::Duration;

use manyhands::Client;
use manyhands_example_montecarlo::pure::{Piece, hits};
use manyhands_example_montecarlo::{Darts, estimate, integrate};

/// Runs a test's work, but no longer than two minutes.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    end.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[test]
fn a_hundred_thousand_tiny_tasks_hit_as_often_as_one_loop() {
    let darts = Darts { tasks: 100_000, throws: 50 };
    let work = move || estimate(&Client::local().unwrap(), darts).unwrap();
    let hit = in_time("the darts", work);
    let expected: u64 = (0..darts.tasks).map(|seed| hits(seed, darts.throws)).sum();
    assert_eq!(hit, expected);
    let pi = 4.0 * hit as f64 / darts.all() as f64;
    assert!((pi - std::f64::consts::PI).abs() < 0.01, "{pi}");
}

#[test]
fn tasks_that_submit_tasks_agree_with_plain_recursion() {
    let piece = Piece { from: 0.0, to: 1.0, tolerance: 1e-7, halvings: 30 };
    let work = move || integrate(&Client::local().unwrap(), piece).unwrap();
    let area = in_time("the integral", work);
    assert_eq!(area.integral, piece.integral(), "the same sums in the same order");
    assert!(area.tasks > 100, "only {} tasks", area.tasks);
}
