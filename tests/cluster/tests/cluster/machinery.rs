//! The machines, the relay and the daemons themselves.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use manyhands_cluster_tests::{Daemon, Faults, LIMIT, Machines, Relay, in_time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A socket in which nothing is waited for longer than the limit.
fn patient(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Answers each datagram with the address that it came from, up to an empty one.
fn mirror(socket: UdpSocket) {
    let mut buffer = [0; 64];
    while let Ok((len, from)) = socket.recv_from(&mut buffer)
        && len > 0
    {
        socket.send_to(from.to_string().as_bytes(), from).unwrap();
    }
}

#[test]
fn machines_see_each_other_under_addresses_of_their_own_and_nobody_else() {
    let (machines, others) = (Machines::new(3), Machines::new(3));
    let server = patient(machines[0].enter(|| UdpSocket::bind(machines[0].at(0))).unwrap());
    let place = server.local_addr().unwrap();
    std::thread::spawn(move || mirror(server));
    for machine in machines.iter().skip(1) {
        let client = patient(machine.enter(|| UdpSocket::bind(machine.at(0))).unwrap());
        client.send_to(b"who am I?", place).unwrap();
        let mut buffer = [0; 64];
        let (len, _) = client.recv_from(&mut buffer).unwrap();
        let seen = String::from_utf8_lossy(&buffer[..len]).into_owned();
        assert_eq!(seen, client.local_addr().unwrap().to_string());
    }
    if !machines.are_apart() {
        return;
    }
    // The same address is another machine to the others, where nobody listens.
    let stranger = patient(others[1].enter(|| UdpSocket::bind(others[1].at(0))).unwrap());
    stranger.connect(place).unwrap();
    stranger.send(b"hello?").unwrap();
    let refused = stranger.recv(&mut [0; 64]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_relay_loses_its_share_is_cut_and_changes_its_port() {
    let machines = Machines::new(2);
    let server = patient(machines[0].enter(|| UdpSocket::bind(machines[0].at(0))).unwrap());
    let half = Faults { loss: 0.5, ..Faults::default() };
    let relay = Relay::open(&machines[1], server.local_addr().unwrap(), half, 7);
    let client = patient(machines[1].enter(|| UdpSocket::bind(machines[1].at(0))).unwrap());
    client.connect(relay.address()).unwrap();

    let mut buffer = [0; 64];
    for number in 0..200u8 {
        client.send(&[number]).unwrap();
    }
    // The last datagram goes when nothing is lost any more, and none overtakes another.
    let all = manyhands_cluster_tests::until("the relay took all", || {
        let counts = relay.counts();
        (counts.passed + counts.lost == 200).then_some(counts)
    });
    relay.set(Faults::default());
    client.send(b"last").unwrap();
    let mut came = 0;
    let old = loop {
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        if &buffer[..len] == b"last" {
            break from;
        }
        came += 1;
    };
    assert_eq!(came, all.passed);
    assert!((60..140).contains(&came), "{came} of 200 came through");

    relay.cut();
    client.send(b"lost").unwrap();
    manyhands_cluster_tests::until("the cut loses one", || {
        (relay.counts().lost == all.lost + 1).then_some(())
    });
    relay.mend();
    relay.change_port();
    client.send(b"moved").unwrap();
    let (len, new) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"moved");
    assert_eq!(new.ip(), old.ip());
    assert_ne!(new.port(), old.port());
    server.send_to(b"back", new).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
}

#[test]
fn a_relay_takes_its_time_and_reorders() {
    let machines = Machines::on_loopback(2);
    let server = patient(UdpSocket::bind(machines[0].at(0)).unwrap());
    let millis = Duration::from_millis;
    let slow = Faults { delay: millis(5), jitter: millis(20), loss: 0.0 };
    let relay = Relay::open(&machines[1], server.local_addr().unwrap(), slow, 1);
    let client = UdpSocket::bind(machines[1].at(0)).unwrap();
    let start = std::time::Instant::now();
    for number in 0..50u8 {
        client.send_to(&[number], relay.address()).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..50 {
        let mut byte = [0];
        server.recv(&mut byte).unwrap();
        order.push(byte[0]);
    }
    assert!(start.elapsed() >= millis(5), "a delay is never shorter");
    assert!(!order.is_sorted(), "{order:?}");
    order.sort_unstable();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_daemon_is_waited_for_by_what_it_prints_and_ends_with_its_value() {
    let machines = Machines::new(1);
    let mut command = machines[0].command("sh");
    command.args(["-c", "echo one; echo two >&2; exec sleep 1000"]);
    let daemon = Daemon::start("toy", command);
    daemon.line("two", |line| (line == "two").then_some(()));
    assert_eq!(daemon.lines_with("o").len(), 2);
    let (pid, watched) = (daemon.pid(), watch(daemon.pid()));
    assert!(daemon.resident() > 0);
    drop(daemon);
    wait_for_end(pid, &watched);
}

fn watch(pid: u32) -> rustix::fd::OwnedFd {
    let pid = Pid::from_raw(pid as i32).expect("a process id is not 0");
    pidfd_open(pid, PidfdFlags::empty()).expect("the process lives")
}

fn wait_for_end(pid: u32, watched: &rustix::fd::OwnedFd) {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    let mut fds = [PollFd::new(watched, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)), Ok(1), "waited for the end of process {pid}");
}

/// Set for the process that the next test starts and kills.
const VICTIM: &str = "MACHINERY_TEST_VICTIM";

/// Starts a daemon, names it, and waits for its own end.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let machines = Machines::new(2);
    let mut command = machines[1].command("sleep");
    command.arg("1000");
    let daemon = Daemon::start("toy", command);
    println!("\ndaemon {}", daemon.pid());
    loop {
        std::thread::park();
    }
}

#[test]
fn a_test_that_is_killed_leaves_no_daemon_behind() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["machinery::victim", "--exact", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let pid = in_time("the victim names its daemon", LIMIT, || {
        use std::io::BufRead;
        let mut lines = std::io::BufReader::new(stdout).lines().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix("daemon ")?.parse().ok()).unwrap()
    });
    let watched = watch(pid);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for_end(pid, &watched);
}
