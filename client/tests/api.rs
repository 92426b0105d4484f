//! Every item of the public API in local mode, at least once.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use manyhands::{
    Client, Error, FailureKind, Handle, Lazy, Slice, Stream, TaskError, TaskState, graph,
};
use serde::{Deserialize, Serialize};

#[manyhands::task]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[manyhands::task]
fn total(all: Vec<i64>) -> i64 {
    all.into_iter().sum()
}

#[manyhands::task]
fn parse(text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

#[manyhands::task(outputs)]
fn halves(all: Vec<i64>) -> (Vec<i64>, Vec<i64>) {
    let (left, right) = all.split_at(all.len() / 2);
    (left.to_vec(), right.to_vec())
}

#[manyhands::task(parts)]
fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[manyhands::task]
fn ramp(n: usize) -> Vec<f64> {
    (0..n).map(|i| i as f64).collect()
}

#[manyhands::task]
fn mean(all: Slice<f64>) -> f64 {
    all.iter().sum::<f64>() / all.len() as f64
}

#[manyhands::task]
fn nothing() {}

/// Waits until somebody makes the file.
#[manyhands::task]
fn wait_for(path: String) -> bool {
    let limit = Instant::now() + Duration::from_secs(30);
    while !std::path::Path::new(&path).exists() && !manyhands::is_cancelled() {
        if Instant::now() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[manyhands::task]
fn say(words: String) {
    println!("{words}");
    eprintln!("and {words} again");
}

#[test]
fn functions_stay_callable() {
    assert_eq!(add(1, 2), 3);
    assert_eq!(parse("7".into()).unwrap(), 7);
    assert_eq!(words("a b".into()), ["a", "b"]);
    assert!(manyhands::current().is_none() && !manyhands::is_cancelled());
}

#[test]
fn graphs_of_values_and_nodes() -> Result<(), Error> {
    let client = Client::local()?;
    let three = add::lazy(1, 2);
    let six = add::lazy(&three, 3);
    assert_eq!(client.compute(&six)?, 6);
    assert_eq!(client.compute((&three, vec![&six, &six]))?, (3, vec![6, 6]));
    let sum: Lazy<i64> = total::lazy(vec![three.clone(), six, add::lazy(three, 1)]);
    assert_eq!(client.compute(sum)?, 13);
    assert_eq!(client.compute(total::lazy(vec![1, 2, 3]))?, 6);
    assert_eq!(client.compute(parse::lazy("42"))?, 42);
    client.compute(nothing::lazy())?;
    Ok(())
}

#[test]
fn eager_calls_and_handles() -> Result<(), Error> {
    let client = Client::builder().slots(2).name("eager").local()?;
    let three = add::submit(&client, 1, 2)?;
    let six = add::submit(&client, &three, 3)?;
    let mixed = add::submit(&client, add::lazy(&six, 1), &three)?;
    assert_eq!(client.gather([&three, &six, &mixed])?, [3, 6, 10]);
    assert!(mixed.is_done());
    let put = client.put(&5)?;
    assert_eq!(client.get(&add::submit(&client, put, three)?)?, 8);
    let kept = client.persist(total::lazy([&six, &mixed].map(Handle::clone)))?;
    assert_eq!(kept.get()?, 16);
    let submitted = client.submit(add::lazy(kept, 1))?;
    assert_eq!(client.get_timeout(&submitted, Duration::from_secs(30))?, 17);
    Ok(())
}

#[test]
fn a_thousand_handles_are_gathered_and_dropped() -> Result<(), Error> {
    let client = Client::local()?;
    let handles: Vec<_> =
        (0..1000).map(|i| add::submit(&client, i, 1)).collect::<Result<_, Error>>()?;
    assert_eq!(client.gather(&handles)?, (1..=1000).collect::<Vec<_>>());
    drop(handles);
    assert_eq!(client.get(&add::submit(&client, 1, 1)?)?, 2);
    Ok(())
}

#[test]
fn several_results() -> Result<(), Error> {
    let client = Client::local()?;
    let (left, right) = halves::lazy(vec![1, 2, 3, 4]);
    assert_eq!(client.compute((&left, &right))?, (vec![1, 2], vec![3, 4]));
    assert_eq!(client.compute(total::lazy(&right))?, 7, "the other one is dropped");
    let (left, _) = halves::submit(&client, vec![5, 6])?;
    assert_eq!(left.get()?, [5]);
    let parts = words::lazy("many hands").parts(2);
    assert_eq!(client.compute(&parts)?, ["many", "hands"]);
    let parts = words::submit(&client, 3, "make light work")?;
    assert_eq!(client.gather(&parts)?, ["make", "light", "work"]);
    let error = client.compute(words::lazy("one two").parts(3)).unwrap_err().to_string();
    assert!(error.contains("it returned 2 parts and was asked for 3"), "{error}");
    assert!(matches!(client.compute(words::lazy("").parts(0)), Ok(none) if none.is_empty()));
    assert!(matches!(words::submit(&client, 70_000, ""), Err(Error::Outputs { .. })));
    Ok(())
}

#[test]
fn large_values_are_shared() -> Result<(), Error> {
    let client = Client::local()?;
    let numbers = ramp::submit(&client, 1_000_000)?;
    assert_eq!(client.get(&mean::submit(&client, &numbers)?)?, 499_999.5);
    let slice = client.get(&numbers.slice())?;
    assert_eq!((slice.len(), slice[999_999]), (1_000_000, 999_999.0));
    let put = client.put(&vec![2.0f64; 100_000])?;
    assert_eq!(client.compute(mean::lazy(&put))?, 2.0);
    assert_eq!(client.get(&put)?.len(), 100_000);
    let inline = mean::lazy(Slice::from(vec![3.0; 50_000]));
    assert_eq!(client.compute(inline)?, 3.0, "a large argument is put by itself");
    assert_eq!(slice[1], 1.0, "a slice outlives its handle");
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Order {
    name: String,
    amounts: Vec<Handle<i64>>,
}

#[manyhands::task]
fn bill(order: Order) -> Result<String, Error> {
    let client = manyhands::current().expect("a task has a client");
    let amounts = client.gather(&order.amounts)?;
    Ok(format!("{}: {}", order.name, amounts.iter().sum::<i64>()))
}

#[manyhands::task]
fn order(name: String, n: i64) -> Result<Order, Error> {
    let client = manyhands::current().expect("a task has a client");
    let amounts = (0..n).map(|i| add::submit(&client, i, 1)).collect::<Result<_, _>>()?;
    Ok(Order { name, amounts })
}

#[test]
fn handles_within_structures() -> Result<(), Error> {
    let client = Client::local()?;
    let amounts = (0..3).map(|i| add::submit(&client, i, 10)).collect::<Result<_, _>>()?;
    let own = Order { name: "own".into(), amounts };
    assert_eq!(client.compute(bill::lazy(own))?, "own: 33");
    let made = order::submit(&client, "made", 4)?;
    assert_eq!(client.get(&bill::submit(&client, &made)?)?, "made: 10");
    let here = client.get(&made)?;
    drop(made);
    assert_eq!(client.gather(&here.amounts)?, [1, 2, 3, 4]);
    Ok(())
}

#[manyhands::task]
fn fib(n: u64) -> Result<u64, Error> {
    if n < 2 {
        return Ok(n);
    }
    let client = manyhands::current().expect("a task has a client");
    let (a, b) = (fib::submit(&client, n - 1)?, fib::submit(&client, n - 2)?);
    Ok(client.get(&a)? + client.get(&b)?)
}

#[manyhands::task]
fn count_down(n: u64) -> Result<u64, Error> {
    match n {
        0 => Ok(0),
        n => {
            let client = manyhands::current().expect("a task has a client");
            Ok(client.compute(count_down::lazy(n - 1))? + 1)
        }
    }
}

#[test]
fn tasks_submit_tasks() -> Result<(), Error> {
    let client = Client::local()?;
    assert_eq!(client.compute(fib::lazy(16))?, 987);
    Ok(())
}

#[test]
fn deep_recursion() -> Result<(), Error> {
    let client = Client::local()?;
    assert_eq!(client.compute(count_down::lazy(2000))?, 2000);
    Ok(())
}

#[test]
fn maps_in_order_and_as_completed() -> Result<(), Error> {
    let client = Client::local()?;
    let doubled: Vec<i64> =
        client.map(0..500, |x| add::lazy(x, x)).window(16).collect::<Result<_, _>>()?;
    assert_eq!(doubled, (0..500).map(|x| 2 * x).collect::<Vec<_>>());
    let all: BTreeMap<usize, i64> = client
        .map(0..500, |x| add::lazy(x, x))
        .window(16)
        .as_completed()
        .map(|(i, result)| result.map(|doubled| (i, doubled)))
        .collect::<Result<_, _>>()?;
    assert_eq!(all.len(), 500);
    assert!(all.iter().all(|(i, doubled)| *doubled == 2 * *i as i64));
    let texts = ["1", "x", "3"];
    let failed = client.map(texts, parse::lazy).filter(Result::is_err).count();
    assert_eq!(failed, 1);
    Ok(())
}

fn failed<T>(result: Result<T, Error>) -> Box<TaskError> {
    match result {
        Err(Error::TaskFailed(error)) => error,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it did not fail"),
    }
}

#[test]
fn failures_name_the_task_and_what_failed_with_it() -> Result<(), Error> {
    let client = Client::local()?;
    let bad = parse::lazy("many").retries(1);
    let error = failed(client.compute(total::lazy([add::lazy(bad, 1)])));
    assert!(error.name().ends_with("parse"), "{error}");
    assert_eq!(error.attempts().len(), 2);
    let text = error.to_string();
    assert!(text.contains("invalid digit"), "{text}");
    assert!(text.contains("failed with it: -> add"), "{text}");
    Ok(())
}

/// A path that no other test has.
fn private_path(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("manyhands-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path.to_string_lossy().into_owned()
}

#[test]
fn waits_for_some_of_many() -> Result<(), Error> {
    let client = Client::builder().slots(2).local()?;
    let path = private_path("some");
    let slow = wait_for::submit(&client, &path)?;
    let quick = client.submit(wait_for::lazy("/"))?;
    let both = [slow, quick];
    assert_eq!(client.wait(&both, 1, Some(Duration::from_secs(30)))?, (vec![1], vec![0]));
    let late = client.get_timeout(&both[0], Duration::from_millis(1));
    assert!(matches!(late, Err(Error::Timeout { pending: 1 })));
    std::fs::write(&path, "").unwrap();
    assert_eq!(client.wait(&both, 2, None)?, (vec![0, 1], vec![]));
    std::fs::remove_file(&path).unwrap();
    Ok(())
}

#[test]
fn cancelled_and_explained() -> Result<(), Error> {
    let client = Client::builder().slots(1).local()?;
    let path = private_path("never");
    let running = wait_for::submit(&client, &path)?;
    let waiting = client.submit(nothing::lazy().after(&wait_for::lazy(&path)))?;
    let explanation = client.explain(&waiting)?;
    assert_eq!(explanation.state, TaskState::Waiting, "{}", explanation.reason);
    assert!(!explanation.reason.is_empty());
    client.cancel(&running, "it takes too long")?;
    let error = failed(client.get(&running));
    assert_eq!(*error.kind(), FailureKind::Cancelled { reason: "it takes too long".into() });
    client.cancel(&waiting, "not needed")?;
    failed(client.get(&waiting));
    let impossible = nothing::lazy().resource("gpu", 1.0).label("zone", "moon");
    let impossible = client.submit(impossible)?;
    let explanation = client.explain(&impossible)?;
    assert!(explanation.state != TaskState::Running, "{}", explanation.reason);
    Ok(())
}

#[test]
fn options_are_taken() -> Result<(), Error> {
    let client = Client::builder().slots(2).resource("gpu", 1.0).label("zone", "a").local()?;
    let node = add::lazy(1, 1)
        .retries(3)
        .crash_retries(1)
        .time_limit(Duration::from_secs(20))
        .deadline(SystemTime::now() + Duration::from_secs(60))
        .priority(5)
        .cores(0.5)
        .memory(1 << 20)
        .resource("gpu", 1.0)
        .label("zone", "a")
        .memory_limit(1 << 30)
        .after(&add::lazy(1, 2));
    assert_eq!(client.compute(node)?, 2);
    let path = private_path("limit");
    let slow = wait_for::lazy(&path).time_limit(Duration::from_millis(20));
    let error = failed(client.compute(slow));
    assert!(matches!(error.kind(), FailureKind::TimeLimit { limit_us: 20_000 }), "{error}");
    let late = wait_for::lazy(&path).deadline(SystemTime::now() + Duration::from_millis(20));
    assert!(matches!(failed(client.compute(late)).kind(), FailureKind::Deadline));
    Ok(())
}

#[test]
fn cycles_are_refused() -> Result<(), Error> {
    let client = Client::local()?;
    let first = add::lazy(1, 2);
    let second = add::lazy(&first, 3);
    let first = first.after(&second);
    assert!(matches!(client.compute(first), Err(Error::Cycle { .. })));
    assert_eq!(client.compute(add::lazy(1, 2))?, 3);
    Ok(())
}

#[test]
fn what_tasks_print_comes_here() -> Result<(), Error> {
    let client = Client::local()?;
    let printed: Arc<Mutex<Vec<(Stream, String)>>> = Arc::default();
    let (sender, came) = std::sync::mpsc::channel();
    let into = printed.clone();
    client.on_output(move |_, name, stream, bytes| {
        assert!(name.ends_with("say"), "{name}");
        into.lock().unwrap().push((stream, String::from_utf8_lossy(bytes).into_owned()));
        let _ = sender.send(());
    });
    client.compute(say::lazy("hello"))?;
    let text = |of: Stream| -> String {
        let printed = printed.lock().unwrap();
        printed.iter().filter(|(stream, _)| *stream == of).map(|(_, text)| &**text).collect()
    };
    while text(Stream::Stdout) != "hello\n" || text(Stream::Stderr) != "and hello again\n" {
        let waited = came.recv_timeout(Duration::from_secs(30));
        waited
            .unwrap_or_else(|_| panic!("waited for the output; got {:?}", printed.lock().unwrap()));
    }
    Ok(())
}

/// A runtime of one future, on this thread.
fn block_on<F: IntoFuture>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn handles_and_graphs_are_awaited() -> Result<(), Error> {
    let client = Client::local()?;
    let three = add::submit(&client, 1, 2)?;
    assert_eq!(block_on(&three)?, 3);
    let sum = block_on(async { Ok::<_, Error>(three.await? + add::submit(&client, 1, 1)?.await?) });
    assert_eq!(sum?, 5);
    let graph = (add::lazy(1, 1), vec![add::lazy(2, 2); 3]);
    assert_eq!(block_on(client.compute_async(graph))?, (2, vec![4; 3]));
    Ok(())
}

#[test]
fn jobs_and_their_progress() -> Result<(), Error> {
    let client = Client::local()?;
    let other = client.job("other", 3)?;
    assert_ne!(client.job_id(), other.job_id());
    let base = add::submit(&client, 1, 2)?;
    assert_eq!(other.compute(add::lazy(&base, 1))?, 4);
    let nodes: Vec<_> = (0..100).map(|i| add::lazy(i, 1)).collect();
    let mut told = 0;
    let sums = other.compute_with_progress(&nodes, |counts| told = counts.submitted)?;
    assert_eq!(sums.len(), 100);
    let counts = other.progress()?;
    assert!(counts.submitted >= told && counts.failed == 0, "{counts:?}");
    other.close_job();
    assert_eq!(client.get(&base)?, 3);
    Ok(())
}

#[test]
fn several_clusters_at_once() {
    let run = |n: i64| -> Result<i64, Error> {
        let client = Client::builder().slots(1).local()?;
        client.map(0..100, |i| add::lazy(i, n)).sum()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|n| scope.spawn(move || run(n))).collect();
        for (n, sum) in all.into_iter().enumerate() {
            assert_eq!(sum.join().unwrap().unwrap(), 4950 + 100 * n as i64);
        }
    });
}

#[test]
fn a_client_that_was_shut_down_says_so() -> Result<(), Error> {
    let client = Client::local()?;
    let path = private_path("shutdown");
    let never = wait_for::submit(&client, &path)?;
    client.shutdown();
    assert!(matches!(client.get(&never), Err(Error::Closed { .. })));
    assert!(matches!(add::submit(&client, 1, 2), Err(Error::Closed { .. })));
    Ok(())
}

#[test]
fn a_graph_is_drawn() {
    let node = total::lazy([add::lazy(1, 2), add::lazy(3, 4)]);
    assert_eq!(graph::stats(&node).tasks, 3);
    assert!(graph::dot(&node).contains("label=\"total\""));
    assert!(graph::svg(&node).contains(">add</text>"));
}
