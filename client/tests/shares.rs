//! Two jobs that have work at the same time share the slots.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use manyhands::{Client, task};

/// Uses about a millisecond of time; when it began, in nanoseconds since the epoch.
#[task]
fn work(_n: u32) -> u64 {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    began.as_nanos() as u64
}

/// How many tasks of the large job began while those of the small one did. What began before both had
/// submitted, or after, says nothing: this thread may have been late.
fn begun_beside(large_weight: u32) -> usize {
    let client = Client::builder().slots(2).local().unwrap();
    let (large, small) =
        (client.job("large", large_weight).unwrap(), client.job("small", 1).unwrap());
    let many: Vec<_> = (0..1200).map(|i| work::submit(&large, i).unwrap()).collect();
    let few: Vec<_> = (0..400).map(|i| work::submit(&small, i).unwrap()).collect();
    let small_began = small.gather(&few).unwrap();
    let span = *small_began.iter().min().unwrap()..=*small_began.iter().max().unwrap();
    let large_began = large.gather(&many).unwrap();
    large_began.iter().filter(|began| span.contains(began)).count()
}

#[test]
fn jobs_of_ten_to_one_tasks_get_half_of_the_slots_each() {
    let begun = begun_beside(1);
    assert!((360..=440).contains(&begun), "400 tasks of the small job, {begun} of the large one");
}

#[test]
fn a_job_of_twice_the_weight_gets_twice_the_slots() {
    let begun = begun_beside(2);
    assert!((720..=880).contains(&begun), "400 tasks of the small job, {begun} of the large one");
}
