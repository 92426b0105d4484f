//! Programs that connect: this one is sent to the workers, which do not have it.

use std::io::Write;
use std::time::Duration;

use manyhands::foreign::{Arguments, Program};
use manyhands::python::PythonConfig;
use manyhands::{Client, Error, FailureKind, Slice};
use manyhands_proto::value::Codec;

use crate::machine::Cluster;

#[manyhands::task]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[manyhands::task]
fn sum(values: Slice<u64>) -> u64 {
    values.iter().sum()
}

#[manyhands::task]
fn count_to(n: u64) -> Vec<u64> {
    (0..n).collect()
}

#[manyhands::task]
fn fib(n: u64) -> Result<u64, Error> {
    let Some(client) = manyhands::current() else { return Ok(n) };
    if n < 2 {
        return Ok(n);
    }
    let (a, b) = client.compute((fib::lazy(n - 1), fib::lazy(n - 2)))?;
    Ok(a + b)
}

#[manyhands::task]
fn fail() -> Result<(), String> {
    Err("out of luck".to_owned())
}

#[test]
fn a_program_runs_on_a_cluster_as_it_does_here() {
    let cluster = Cluster::start(2);
    let client = Client::connect(&cluster.address).unwrap();
    let graph = (0..100).fold(add::lazy(0, 0), |all, i| add::lazy(&all, i));
    assert_eq!(client.compute(&graph).unwrap(), 4950);
    assert_eq!(client.compute(fib::lazy(8)).unwrap(), 21);
    let error = client.compute(fail::lazy()).unwrap_err();
    let Error::TaskFailed(failed) = &error else { panic!("{error}") };
    assert!(matches!(failed.kind(), FailureKind::Error { message } if message == "out of luck"));
    assert_eq!(client.cluster().info().unwrap().clients, 1);
}

#[test]
fn large_values_go_past_the_scheduler() {
    let cluster = Cluster::start(2);
    let client = Client::connect(&cluster.address).unwrap();
    let values: Vec<u64> = (0..1_000_000).collect();
    let put = client.put(&values).unwrap();
    assert_eq!(client.get(&put).unwrap(), values);
    assert_eq!(sum::submit(&client, put.slice()).unwrap().get().unwrap(), 499_999_500_000);
    let made = count_to::submit(&client, 1_000_000).unwrap();
    assert_eq!(made.get().unwrap(), values);
    let objects = client.cluster().objects(None, 10).unwrap();
    assert!(objects.items.iter().any(|it| it.object == put.id() && it.size == 8_000_000));
}

#[test]
fn a_large_result_is_made_again_when_its_worker_is_gone() {
    let mut cluster = Cluster::start(2);
    let client = Client::connect(&cluster.address).unwrap();
    let made = count_to::submit(&client, 1_000_000).unwrap();
    client.wait(std::slice::from_ref(&made), 1, None).unwrap();
    let objects = client.cluster().objects(None, 1).unwrap();
    let holder = objects.items[0].workers[0];
    let workers = client.cluster().workers().unwrap();
    let name = &workers.iter().find(|worker| worker.worker == holder).unwrap().spec.name;
    cluster.kill_worker(name.trim_start_matches('w').parse().unwrap());
    assert_eq!(made.get().unwrap().len(), 1_000_000);
}

#[test]
fn whoever_cannot_connect_is_told_why() {
    let cluster = Cluster::start(0);
    let short = |address: &str| {
        let builder = Client::builder().connect_timeout(Duration::from_millis(300));
        builder.connect(address).unwrap_err()
    };
    let (token, _) = cluster.address.rsplit_once('@').unwrap();
    let unresolved = short(&format!("{token}@no-such-host.invalid:1"));
    assert!(
        unresolved.to_string().contains("no-such-host.invalid cannot be found"),
        "{unresolved}"
    );
    // The port of a socket that nobody listens on.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let unreachable = short(&format!("{token}@{}", silent.local_addr().unwrap()));
    assert!(unreachable.to_string().contains("nobody answers"), "{unreachable}");
    let other = Cluster::start(0);
    let (_, place) = other.address.rsplit_once('@').unwrap();
    let stranger = short(&format!("{token}@{place}"));
    assert!(stranger.to_string().contains("of another cluster"), "{stranger}");
    let role = short(&cluster.worker_address);
    assert!(role.to_string().contains("the token is for a worker"), "{role}");
    let nonsense = short("http://x");
    assert!(matches!(nonsense, Error::Address { .. }), "{nonsense}");
}

#[test]
fn a_task_of_another_program_is_called_by_its_name() {
    let cluster = Cluster::start(1);
    // Another program than this one, as its hash tells: one byte more.
    let other = cluster.dir().join("other");
    std::fs::copy(std::env::current_exe().unwrap(), &other).unwrap();
    let mut appending = std::fs::OpenOptions::new().append(true).open(&other).unwrap();
    appending.write_all(&[0]).unwrap();
    drop(appending);
    let program = Program::rust(&other).unwrap();
    let builder = Client::builder().python(PythonConfig::default());
    let client = builder.connect(&cluster.address).unwrap();
    client.offer(&program).unwrap();
    let mut arguments = Arguments::default();
    arguments.value(Codec::MSGPACK, &[40]);
    arguments.value(Codec::MSGPACK, &[2]);
    let add = program.function("add").unwrap();
    let result = client.submit_call(&add, arguments, 1, None).unwrap().remove(0);
    assert_eq!(client.fetch_raw(&result, None).unwrap().unwrap().bytes[..], [42]);
    assert_eq!(client.compute(add::lazy(1, 2)).unwrap(), 3, "this one goes there too");
}
