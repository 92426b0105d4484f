//! Two jobs that have work at the same time share the slots.

use std::time::{Duration, Instant};

use manyhands::{Client, task};

/// Uses about a millisecond of this thread's processor time.
#[task]
fn work(n: u32) -> u32 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    n
}

/// How many tasks of the large job had ended when the last one of the small job did.
fn ended_beside(large_weight: u32) -> usize {
    let client = Client::builder().slots(2).local().unwrap();
    let (large, small) =
        (client.job("large", large_weight).unwrap(), client.job("small", 1).unwrap());
    let many: Vec<_> = (0..4000).map(|i| work::submit(&large, i).unwrap()).collect();
    let few: Vec<_> = (0..400).map(|i| work::submit(&small, i).unwrap()).collect();
    small.gather(&few).unwrap();
    many.iter().filter(|handle| handle.is_done()).count()
}

#[test]
fn jobs_of_ten_to_one_tasks_get_half_of_the_slots_each() {
    let ended = ended_beside(1);
    assert!((360..=440).contains(&ended), "400 tasks of the small job, {ended} of the large one");
}

#[test]
fn a_job_of_twice_the_weight_gets_twice_the_slots() {
    let ended = ended_beside(2);
    assert!((720..=880).contains(&ended), "400 tasks of the small job, {ended} of the large one");
}
