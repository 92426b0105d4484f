//! Two jobs that have work at the same time share the slots. How exactly is what the simulator
//! checks, whose time no other program takes; here the bounds are wide.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use manyhands::{Client, task};

/// Uses about a millisecond of time; when it began, in nanoseconds since the epoch, and how long it
/// had its slot, which is more where other programs took the core.
#[task]
fn work(_n: u32) -> (u64, u64) {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    (began.as_nanos() as u64, start.elapsed().as_nanos() as u64)
}

/// The slot time that the large job had while the small one had its own, as a multiple of that.
/// Slot time is what is shared, and not the number of tasks. What began before both had submitted,
/// or after, says nothing: this thread may have been late.
fn slot_time_beside(large_weight: u32) -> f64 {
    let client = Client::builder().slots(2).local().unwrap();
    let (large, small) =
        (client.job("large", large_weight).unwrap(), client.job("small", 1).unwrap());
    let many: Vec<_> = (0..1200).map(|i| work::submit(&large, i).unwrap()).collect();
    let few: Vec<_> = (0..400).map(|i| work::submit(&small, i).unwrap()).collect();
    let of_small = small.gather(&few).unwrap();
    let of_large = large.gather(&many).unwrap();
    let begun = |times: &[(u64, u64)]| times.iter().map(|&(began, _)| began).collect::<Vec<_>>();
    let small_began = begun(&of_small);
    let span = *small_began.iter().min().unwrap()..=*small_began.iter().max().unwrap();
    let slot_time = |times: &[(u64, u64)]| {
        let within = times.iter().filter(|(began, _)| span.contains(began));
        within.map(|&(_, took)| took as f64).sum::<f64>()
    };
    slot_time(&of_large) / slot_time(&of_small)
}

#[test]
fn jobs_of_ten_to_one_tasks_get_half_of_the_slots_each() {
    let ratio = slot_time_beside(1);
    assert!((0.67..=1.5).contains(&ratio), "the large job had {ratio} times the slot time");
}

#[test]
fn a_job_of_twice_the_weight_gets_twice_the_slots() {
    let ratio = slot_time_beside(2);
    assert!((1.5..=2.9).contains(&ratio), "the large job had {ratio} times the slot time");
}
