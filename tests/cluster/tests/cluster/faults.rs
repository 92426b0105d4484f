//! Networks that fail: addresses that change, cuts, silence, loss.

use std::time::Duration;

use manyhands::Client;
use manyhands_cluster_tests::{Cluster, Faults, Plan, Relay, in_time};
use rustix::process::Signal;

use crate::examples::grace;
use crate::work::{block, check_all, digest, digest_of, many_slowly, until_info, warm};

const LIMIT: Duration = Duration::from_secs(120);

/// A relay in front of the scheduler, on the machine of this number.
fn relay(cluster: &Cluster, machine: usize, faults: Faults) -> Relay {
    let to = cluster.scheduler_address();
    Relay::open(&cluster.machines[machine], to, faults, 42)
}

fn client_through(cluster: &Cluster, relay: &Relay) -> Client {
    cluster.client_by(&Cluster::by_way_of(&cluster.for_clients, relay.address()))
}

/// Cuts somebody's way until the scheduler misses them, and mends it. It must not have missed them
/// before; others it may have, on a busy machine.
fn cut(cluster: &Cluster, relay: &Relay, who: &str) {
    let is_away = |line: &str| line.contains(who) && line.contains("is away");
    let before = cluster.scheduler.lines_with("is away");
    assert!(!before.iter().any(|line| is_away(line)), "{before:?}");
    relay.cut();
    cluster.scheduler.line("that it is away", |line| is_away(line).then_some(()));
    relay.mend();
}

#[test]
fn a_client_whose_address_changes_or_whose_way_is_cut_gets_its_results() {
    in_time("a client moves", LIMIT, || {
        let plan = Plan { machines: 1, workers: 1, scheduler: grace("30s"), ..Plan::default() };
        let cluster = Cluster::start(plan);
        let relay = relay(&cluster, 2, Faults::default());
        let client = client_through(&cluster, &relay);
        warm(&cluster, &client);
        let handles = many_slowly(&client, 100, 10);
        client.wait(&handles, 10, None).unwrap();
        relay.change_port();
        client.wait(&handles, 40, None).unwrap();
        cut(&cluster, &relay, "session-");
        check_all(&client, &handles);
        let info = until_info(&cluster, "one client more", |_| true);
        assert_eq!(info.rerun, 0, "{info:?}");
    });
}

#[test]
fn a_client_whose_machine_gets_another_address_gets_its_results() {
    in_time("a client's machine moves", LIMIT, || {
        let plan = Plan { machines: 1, workers: 1, scheduler: grace("30s"), ..Plan::default() };
        let mut cluster = Cluster::start(plan);
        if !cluster.machines.are_apart() {
            eprintln!("skipped: machines on 127.0.0.x keep their addresses");
            return;
        }
        let client = cluster.client();
        warm(&cluster, &client);
        let handles = many_slowly(&client, 100, 10);
        client.wait(&handles, 10, None).unwrap();
        cluster.readdress_client(77);
        check_all(&client, &handles);
        assert_eq!(cluster.number("rerun"), 0);
    });
}

#[test]
fn what_lies_with_a_worker_whose_machine_gets_another_address_is_found_there() {
    in_time("a worker's machine moves", LIMIT, || {
        let plan = Plan { machines: 2, workers: 1, scheduler: grace("30s"), ..Plan::default() };
        let mut cluster = Cluster::start(plan);
        if !cluster.machines.are_apart() {
            eprintln!("skipped: machines on 127.0.0.x keep their addresses");
            return;
        }
        let moving = cluster.worker(1, &["--bind", "0.0.0.0:0"]);
        moving.line("that it has joined", |line| line.contains("joined").then_some(()));
        cluster.workers.push(moving);
        let client = cluster.client();
        warm(&cluster, &client);
        let words = 1 << 17;
        let made = client.submit(&block::lazy(1, words).label("worker", "w1")).unwrap();
        client.wait(std::slice::from_ref(&made), 1, None).unwrap();
        cluster.readdress_worker(1, 78);
        let moved = |line: &str| line.contains("has moved").then_some(());
        cluster.workers[1].line("that it has moved", moved);
        let elsewhere = digest::lazy(&made).label("worker", "w0");
        assert_eq!(client.compute(&elsewhere).unwrap(), digest_of(&block(1, words)));
        assert!(client.get(&made).unwrap() == block(1, words));
        assert_eq!(cluster.number("rerun"), 0);
    });
}

#[test]
fn a_worker_whose_address_changes_or_whose_way_is_cut_goes_on() {
    in_time("a worker moves", LIMIT, || {
        let plan = Plan { machines: 2, workers: 1, scheduler: grace("30s"), ..Plan::default() };
        let mut cluster = Cluster::start(plan);
        let relay = relay(&cluster, 2, Faults::default());
        let line = Cluster::by_way_of(&cluster.for_workers, relay.address());
        // Its data link is not behind the relay.
        let at = cluster.machines[2].at(0).to_string();
        let moving = cluster.worker_at(&cluster.machines[2], 1, &line, &["--advertise", &at]);
        moving.line("that it has joined", |line| line.contains("joined").then_some(()));
        cluster.workers.push(moving);
        let client = cluster.client();
        warm(&cluster, &client);
        let handles = many_slowly(&client, 150, 10);
        client.wait(&handles, 10, None).unwrap();
        relay.change_port();
        client.wait(&handles, 60, None).unwrap();
        cut(&cluster, &relay, "worker-1");
        let back = |line: &str| line.contains("worker-1 is back").then_some(());
        cluster.scheduler.line("that it is back", back);
        check_all(&client, &handles);
        let info = until_info(&cluster, "both workers", |info| info.workers == 2 && info.away == 0);
        assert_eq!(info.rerun, 0, "{info:?}");
    });
}

#[test]
fn a_worker_that_is_silent_past_its_grace_is_lost_and_joins_anew() {
    in_time("a silent worker", LIMIT, || {
        let plan = Plan { machines: 2, workers: 2, scheduler: grace("500ms"), ..Plan::default() };
        let cluster = Cluster::start(plan);
        let client = cluster.client();
        warm(&cluster, &client);
        let handles = many_slowly(&client, 60, 20);
        client.wait(&handles, 5, None).unwrap();
        let silent = &cluster.workers[0];
        silent.signal(Signal::STOP);
        check_all(&client, &handles);
        cluster.scheduler.line("that it is gone", |line| line.contains("is gone").then_some(()));
        let info = until_info(&cluster, "one worker", |info| info.workers == 1);
        println!("{} of {} tasks ran again", info.rerun, info.ended);
        silent.signal(Signal::CONT);
        let mut joined = 0;
        silent.line("that it has joined again", |line| {
            joined += usize::from(line.contains("joined the scheduler"));
            (joined == 2).then_some(())
        });
        until_info(&cluster, "two workers", |info| info.workers == 2 && info.away == 0);
        check_all(&client, &many_slowly(&client, 20, 5));
    });
}

/// The control links of client and workers, and the data links of the workers.
#[test]
fn with_loss_and_delay_everything_is_still_right() {
    const DATA_PORT: u16 = 7471;
    in_time("loss and delay", LIMIT, || {
        let mut cluster = Cluster::start(Plan { machines: 2, workers: 0, ..Plan::default() });
        let mut relays = Vec::new();
        for at in 0..2 {
            let machine = &cluster.machines[at + 1];
            let control = relay(&cluster, at + 1, Faults::default());
            let data = Relay::open(machine, machine.at(DATA_PORT), Faults::default(), at as u64);
            let line = Cluster::by_way_of(&cluster.for_workers, control.address());
            let (bind, seen) = (machine.at(DATA_PORT).to_string(), data.address().to_string());
            let worker =
                cluster.worker_at(machine, at, &line, &["--bind", &bind, "--advertise", &seen]);
            worker.line("that it has joined", |line| line.contains("joined").then_some(()));
            cluster.workers.push(worker);
            relays.extend([control, data]);
        }
        let control = relay(&cluster, 3, Faults::default());
        let client = client_through(&cluster, &control);
        relays.push(control);
        warm(&cluster, &client);
        let millis = Duration::from_millis;
        let bad = Faults { loss: 0.05, delay: millis(20), jitter: millis(2) };
        relays.iter().for_each(|relay| relay.set(bad));

        let (count, words) = (2_000, 1 << 14);
        let (_, seconds) = Cluster::seconds(|| check_all(&client, &many_slowly(&client, count, 0)));
        println!("5 % loss, 20 ms each way: {:.0} tasks/s", count as f64 / seconds);
        let call = |number| digest::submit(&client, block::lazy(number, words));
        let (digests, seconds) = Cluster::seconds(|| {
            let handles: Vec<_> = (0..4).map(|number| call(number).unwrap()).collect();
            client.gather(&handles).unwrap()
        });
        println!("5 % loss, 20 ms each way: 4 objects digested where they are in {seconds:.2} s");
        let expected = |number| digest_of(&block(number, words));
        assert_eq!(digests, (0..4).map(expected).collect::<Vec<_>>());
        let (bytes, seconds) = Cluster::seconds(|| {
            let handles: Vec<_> =
                (0..4).map(|number| block::submit(&client, number, words).unwrap()).collect();
            let blocks = client.gather(&handles).unwrap();
            let right = blocks.iter().zip(0..).all(|(it, number)| *it == block(number, words));
            assert!(right, "a block that came over a bad network");
            blocks.iter().map(|block| block.len() * 8).sum::<usize>()
        });
        let mib = bytes as f64 / f64::from(1 << 20);
        println!("5 % loss, 20 ms each way: {:.2} MiB/s of objects", mib / seconds);
        let lost: u64 = relays.iter().map(|relay| relay.counts().lost).sum();
        assert!(lost > 0, "nothing was lost");
    });
}
