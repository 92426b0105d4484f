use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use manyhands_proto::client::{FromClient, Outcome, PutPlace, ToClient};
use manyhands_proto::graph::TaskRow;
use manyhands_proto::task::{Failed, FailureKind, TaskFailure};
use manyhands_proto::value::{Codec, Value};
use manyhands_proto::{Lane, TaskId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::handle::Handle;
use crate::testing::{add, batches, client, divide, drained_client, end, give, said, sum};

const HELD_WANTED: u8 = TaskRow::HELD | TaskRow::WANTED;

#[test]
fn what_is_submitted_before_it_is_taken_is_one_batch_and_one_poke() {
    let (fake, client) = client();
    let before = fake.pokes.load(Ordering::Relaxed);
    let a = add::submit(&client, 1, 2).unwrap();
    let b = add::submit(&client, &a, 3).unwrap();
    let c = sum::submit(&client, [&a, &b].map(Handle::clone)).unwrap();
    assert_eq!(fake.pokes.load(Ordering::Relaxed) - before, 1);
    let mut said = said(&client);
    let FromClient::Functions { first_slot: 0, functions } = said.remove(0) else { panic!() };
    assert_eq!(functions[0].name, "manyhands::testing::add");
    assert!(matches!(&said[0], FromClient::Functions { first_slot: 1, .. }));
    let [batch] = &batches(said)[..] else { panic!("one batch") };
    assert_eq!((batch.lane, batch.first_seq, batch.more), (Lane(7), 0, false));
    assert_eq!(batch.rows.iter().map(|row| row.flags).collect::<Vec<_>>(), [HELD_WANTED; 3]);
    let args: Vec<&[u8]> = batch
        .rows_with_parts()
        .map(|(.., at)| &batch.args[at.start as usize..at.end as usize])
        .collect();
    assert_eq!(args[0], [0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 2], "two values");
    assert_eq!(args[1], [1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 3], "an input and a value");
    assert_eq!(args[2], [2, 0, 0, 0, 0, 2, 0, 0, 0], "a list of two inputs");
    assert_eq!(batch.inputs.iter().map(|input| input.seq).collect::<Vec<_>>(), [0, 0, 1]);
    drop((a, b, c));
}

#[test]
fn a_handle_that_is_dropped_before_its_batch_leaves_is_not_held() {
    let (_, client) = client();
    drop(add::submit(&client, 1, 2).unwrap());
    let kept = add::submit(&client, 3, 4).unwrap();
    let first = said(&client);
    let [batch] = &batches(first.clone())[..] else { panic!("one batch") };
    assert_eq!(batch.rows.iter().map(|row| row.flags).collect::<Vec<_>>(), [0, HELD_WANTED]);
    assert!(!first.iter().any(|message| matches!(message, FromClient::Release { .. })));
    let id = kept.id();
    let clone = kept.clone();
    drop(kept);
    assert_eq!(said(&client), [], "a clone is left");
    drop(clone);
    assert_eq!(said(&client), [FromClient::Release { objects: vec![id] }]);
}

#[test]
fn small_results_that_are_forgotten_wait_for_company() {
    let (fake, client) = client();
    let handle = add::submit(&client, 1, 2).unwrap();
    let id = handle.id();
    let _ = said(&client);
    give(&client, id, 3);
    assert_eq!(handle.get().unwrap(), 3);
    let before = fake.pokes.load(Ordering::Relaxed);
    drop(handle);
    assert_eq!(fake.pokes.load(Ordering::Relaxed), before, "nobody is woken for it");
    let _other = add::submit(&client, 1, 2).unwrap();
    assert_eq!(said(&client).pop(), Some(FromClient::Release { objects: vec![id] }));
}

#[test]
fn repeated_and_late_ends_change_nothing() {
    let (_, client) = client();
    let handle = add::submit(&client, 1, 2).unwrap();
    let id = handle.id();
    assert!(!handle.is_done());
    give(&client, id, 3);
    give(&client, id, 4);
    assert_eq!(handle.get().unwrap(), 3);
    drop(handle);
    give(&client, id, 5);
    let strange = TaskId { lane: Lane(99), ..id.task };
    give(&client, strange.object(0), 6);
    assert_eq!(client.session.lock().jobs[0].table.get(0, 0).map(|_| ()), None);
}

#[test]
fn every_result_of_several_has_a_handle() {
    let (_, client) = client();
    let (quotient, remainder) = divide::submit(&client, 7, 2).unwrap();
    assert_eq!((quotient.id().index, remainder.id().index), (0, 1));
    let _ = said(&client);
    give(&client, quotient.id(), 3);
    give(&client, remainder.id(), 1);
    assert_eq!((client.get(&quotient).unwrap(), client.get(&remainder).unwrap()), (3, 1));
    let id = remainder.id();
    drop(remainder);
    assert!(said(&client).contains(&FromClient::Release { objects: vec![id] }));
    assert!(quotient.is_done());
}

#[test]
fn puts_are_known_at_once_and_large_ones_are_stored() {
    let (fake, client) = client();
    let small = client.put(&"text".to_owned()).unwrap();
    let large = client.put(&vec![1.5f64; 10_000]).unwrap();
    let [FromClient::Put { object, meta, place: PutPlace::Inline(_) }, second] = &said(&client)[..]
    else {
        panic!("two puts")
    };
    assert_eq!((*object, meta.codec), (small.id(), Codec::MSGPACK));
    let FromClient::Put { object, meta, place } = second else { panic!("a put") };
    assert_eq!((*object, meta.codec, meta.size), (large.id(), Codec::POD, 80_000));
    assert_eq!(*place, PutPlace::Stored(WorkerId(3)));
    assert_eq!(client.get(&small).unwrap(), "text");
    assert_eq!(client.get(&large.slice()).unwrap()[9_999], 1.5);
    fake.stored.lock().unwrap().clear();
    let error = client.get(&large).unwrap_err().to_string();
    assert!(error.ends_with("cannot be brought here: it is gone"), "{error}");
}

#[derive(Serialize, Deserialize)]
struct Pair {
    left: Handle<i64>,
    right: Handle<i64>,
}

#[test]
fn handles_in_values_are_reported_and_come_back_as_handles() {
    let (_, client) = client();
    let left = add::submit(&client, 1, 2).unwrap();
    let right = add::submit(&client, 3, 4).unwrap();
    let ids = vec![left.id(), right.id()];
    let pair = client.put(&Pair { left, right }).unwrap();
    let said_now = said(&client);
    let Some(FromClient::Put { meta, .. }) =
        said_now.iter().find(|m| matches!(m, FromClient::Put { .. }))
    else {
        panic!("a put")
    };
    assert_eq!(meta.contains, ids);
    assert_eq!(said_now.last(), Some(&FromClient::Release { objects: ids.clone() }));
    let back = client.get(&pair).unwrap();
    assert_eq!((back.left.id(), back.right.id()), (ids[0], ids[1]));
    assert_eq!(said(&client), [FromClient::Hold { objects: ids.clone() }], "held again");
    let error = rmp_serde::to_vec(&back).unwrap_err().to_string();
    assert!(error.contains("a handle can only be written as part of"), "{error}");
}

#[test]
fn an_object_of_another_lane_is_held_while_a_handle_to_it_lives() {
    let (_, client) = client();
    let own = add::submit(&client, 1, 2).unwrap();
    let other = TaskId { lane: Lane(99), ..own.id().task }.object(2);
    let _ = said(&client);
    let first: Handle<i64> = Handle::new(client.session.adopt(other, false));
    let second: Handle<i64> = Handle::new(client.session.adopt(other, false));
    assert_eq!(said(&client), [FromClient::Hold { objects: vec![other] }]);
    assert_eq!(first.id(), other);
    drop(first);
    give(&client, other, 9);
    assert_eq!(second.get().unwrap(), 9);
    drop(second);
    assert_eq!(said(&client), [FromClient::Release { objects: vec![other] }]);
    let borrowed: Handle<i64> = Handle::new(client.session.adopt(other, true));
    drop(borrowed);
    assert_eq!(said(&client), [], "the task's arguments are held by the cluster");
}

#[test]
fn a_thread_that_waits_is_woken_by_the_last_it_needs() {
    let (_, client) = client();
    let handles: Vec<Handle<i64>> = (0..3).map(|i| add::submit(&client, i, 1).unwrap()).collect();
    let soon = Some(Instant::now());
    let keys: Vec<_> = handles.iter().map(|handle| handle.reference.key).collect();
    assert_eq!(client.session.wait(&keys, 2, soon).unwrap(), 0, "a wait that is over at once");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.gather(&handles));
        let again = scope.spawn(|| client.wait(&handles, 1, Some(Duration::from_secs(60))));
        handles.iter().enumerate().for_each(|(i, handle)| give(&client, handle.id(), i as i64));
        assert_eq!(waiting.join().unwrap().unwrap(), [0, 1, 2]);
        assert!(again.join().unwrap().unwrap().0.contains(&0));
    });
}

#[test]
fn what_was_persisted_is_wanted_when_somebody_waits_for_it() {
    let (_, client) = client();
    let handle = client.persist(add::lazy(1, 2)).unwrap();
    let [batch] = &batches(said(&client))[..] else { panic!("one batch") };
    assert_eq!(batch.rows[0].flags, TaskRow::HELD);
    let waited = client.get_timeout(&handle, Duration::ZERO);
    assert!(matches!(waited, Err(Error::Timeout { pending: 1 })));
    assert_eq!(said(&client), [FromClient::Want { objects: vec![handle.id()] }]);
    let _ = client.get_timeout(&handle, Duration::ZERO);
    assert_eq!(said(&client), [], "once is enough");
    let late = client.persist(add::lazy(1, 2)).unwrap();
    let _ = client.get_timeout(&late, Duration::ZERO);
    let [batch] = &batches(said(&client))[..] else { panic!("one batch") };
    assert_eq!(batch.rows[0].flags, HELD_WANTED, "its batch had not left");
}

#[test]
fn failures_and_the_end_of_the_session_reach_whoever_waits() {
    let (_, client) = client();
    let bad = add::submit(&client, 1, 2).unwrap();
    let kind = FailureKind::Error { message: "no".into() };
    let (args, attempts) = Default::default();
    let failure = TaskFailure { task: bad.id().task, name: "add".into(), args, kind, attempts };
    let failed = Failed { failure: Arc::new(failure), chain: Vec::new() };
    end(&client, bad.id(), Outcome::Failed(failed));
    let Err(Error::TaskFailed(error)) = client.get(&bad) else { panic!("a failed task") };
    assert_eq!((error.name(), error.task()), ("add", bad.id().task));
    let never = add::submit(&client, 1, 2).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.get(&never));
        client.session.end("the scheduler has stopped");
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed { .. })));
    });
    assert!(matches!(add::submit(&client, 1, 2), Err(Error::Closed { .. })));
    assert!(matches!(client.compute(add::lazy(1, 2)), Err(Error::Closed { .. })));
}

#[test]
fn a_value_of_another_type_is_refused_in_words() {
    let (_, client) = client();
    let handle = add::submit(&client, 1, 2).unwrap();
    let bytes = Bytes::from_static(&[0xc1]);
    end(&client, handle.id(), Outcome::Value(Value { codec: Codec::MSGPACK, bytes }));
    let error = client.get(&handle).unwrap_err().to_string();
    assert!(error.contains("cannot be read as i64"), "{error}");
}

#[test]
fn handles_stay_in_their_session() {
    let ((_, one), (_, other)) = (client(), client());
    let handle = add::submit(&one, 1, 2).unwrap();
    assert!(matches!(other.get(&handle), Err(Error::ForeignHandle { .. })));
    assert!(matches!(add::submit(&other, &handle, 2), Err(Error::ForeignHandle { .. })));
    let node = add::lazy(add::lazy(1, 2), &handle);
    assert!(matches!(other.compute(node), Err(Error::ForeignHandle { .. })));
    assert!(add::submit(&other, 1, 2).is_ok(), "the graph that was refused left nothing open");
}

#[test]
fn another_job_of_the_session_numbers_its_own_tasks_and_may_use_handles_of_the_first() {
    let (_, client) = client();
    let first = add::submit(&client, 1, 2).unwrap();
    let job = client.job("other", 3).unwrap();
    let second = add::submit(&job, &first, 1).unwrap();
    assert_ne!(first.id().task.job, second.id().task.job);
    assert_eq!(second.id().task.seq, 0);
    drop(first);
    let said = said(&client);
    let place = |find: &dyn Fn(&FromClient) -> bool| said.iter().position(find).unwrap();
    let open = place(&|m| matches!(m, FromClient::OpenJob { weight: 3, .. }));
    let of = |job| move |m: &FromClient| matches!(m, FromClient::Submit(b) if b.job == job);
    let (one, two) = (place(&of(client.job_id())), place(&of(job.job_id())));
    let release = place(&|m| matches!(m, FromClient::Release { .. }));
    assert!(open < two && one < two && two < release, "{said:?}");
}

#[test]
fn cancels_follow_what_they_cancel() {
    let (_, client) = client();
    let handle = add::submit(&client, 1, 2).unwrap();
    client.cancel(&handle, "enough").unwrap();
    let said = said(&client);
    assert!(matches!(&said[said.len() - 2], FromClient::Submit(_)));
    let tasks = vec![handle.id().task];
    assert_eq!(said[said.len() - 1], FromClient::Cancel { tasks, reason: "enough".into() });
}

#[test]
fn futures_are_woken_and_a_dropped_one_leaves_nothing() {
    use std::future::{Future, IntoFuture};
    use std::task::{Context, Poll, Wake};
    struct Count(std::sync::atomic::AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (_, client) = client();
    let handle = add::submit(&client, 1, 2).unwrap();
    let count = Arc::new(Count(Default::default()));
    let waker = Arc::clone(&count).into();
    let mut context = Context::from_waker(&waker);
    let mut forgotten = Box::pin((&handle).into_future());
    assert!(forgotten.as_mut().poll(&mut context).is_pending());
    drop(forgotten);
    let mut future = Box::pin((&handle).into_future());
    assert!(future.as_mut().poll(&mut context).is_pending());
    give(&client, handle.id(), 3);
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    let Poll::Ready(Ok(3)) = future.as_mut().poll(&mut context) else { panic!("it is there") };
}

#[test]
fn refusals_are_told_to_whoever_waits() {
    let (_, client) = client();
    let handle = add::submit(&client, 1, 2).unwrap();
    client.session.receive(vec![ToClient::Refused { message: "too many".into() }]);
    let refused = client.get(&handle).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
}

#[test]
fn a_full_batch_closes() {
    let (_, client) = client();
    let handles: Vec<_> = (0..5000).map(|i| add::submit(&client, i, 1).unwrap()).collect();
    let batches = batches(said(&client));
    assert_eq!(batches.iter().map(|batch| batch.rows.len()).collect::<Vec<_>>(), [4096, 904]);
    assert_eq!(batches[1].first_seq, 4096);
    drop(handles);
}

#[test]
fn results_are_given_in_the_order_in_which_they_come() {
    let (fake, client) = drained_client();
    let map = client.map(0..4, |i| add::lazy(i, 1)).window(2);
    let mut results = map.as_completed();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| results.next());
        let submitted = || batches(fake.drained.lock().unwrap().clone());
        let limit = Instant::now() + Duration::from_secs(60);
        while submitted().iter().map(|batch| batch.rows.len()).sum::<usize>() < 2 {
            assert!(Instant::now() < limit, "waited for the window to be filled");
            std::thread::yield_now();
        }
        let task = TaskId { job: client.job_id(), lane: Lane(7), seq: 1 };
        give(&client, task.object(0), 2);
        assert!(matches!(next.join().unwrap(), Some((1, Ok(2)))));
    });
}

#[test]
fn an_order_that_has_ended_touches_nothing_of_who_has_its_number_now() {
    let (_, client) = drained_client();
    let handles = [1, 2, 3].map(|n| add::submit(&client, n, n).unwrap());
    let [first, second, third] = handles.each_ref().map(|handle| handle.reference.key);
    let session = &client.session;
    let (ended, pending) = (session.watch_order(), || Vec::new());
    session.watch_also(&ended, first);
    assert!(ended.end());
    assert!(!ended.end(), "it ends once");
    session.end_order(&ended, &[first]);
    // It has the number that was freed.
    let order = session.watch_order();
    session.watch_also(&order, second);
    session.watch_also(&ended, third);
    for handle in &handles {
        give(&client, handle.id(), 1);
    }
    let now = Some(Instant::now());
    assert_eq!(session.next_done(&ended, &pending, None).unwrap(), []);
    assert_eq!(session.next_done(&order, &pending, now).unwrap(), [second]);
}
