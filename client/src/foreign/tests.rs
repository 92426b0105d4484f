//! What a client of another language says to a scheduler, and what it makes of the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manyhands_proto::client::{FromClient, Outcome};
use manyhands_proto::graph::TaskRow;
use manyhands_proto::task::{Failed, FailureKind, TaskFailure};
use manyhands_proto::value::INLINE_LIMIT;

use super::*;
use crate::testing::{add, batches, client, drained_client, end, give, said};

/// How long a test waits for what has to come.
const LIMIT: Duration = Duration::from_secs(60);

fn square() -> Function {
    Function::described("square", Bytes::from_static(b"the code"))
}

fn call(client: &Client, arguments: Arguments) -> Object {
    client.submit_call(&square(), arguments, 1, None).unwrap().remove(0)
}

fn put(client: &Client) -> Object {
    let one = Pieces::new(vec![Bytes::from_static(&[1])]);
    client.put_pieces(Codec::RAW, &one, &[]).unwrap()
}

fn functions(said: &[FromClient]) -> Vec<&manyhands_proto::client::FunctionSpec> {
    let all = said.iter().filter_map(|said| match said {
        FromClient::Functions { functions, .. } => Some(functions),
        _ => None,
    });
    all.flatten().collect()
}

fn released(said: Vec<FromClient>) -> Vec<ObjectId> {
    let all = said.into_iter().filter_map(|said| match said {
        FromClient::Release { objects } => Some(objects),
        _ => None,
    });
    all.flatten().collect()
}

#[test]
fn a_function_is_described_once_whoever_describes_it() {
    let (_, client) = client();
    let python = Runtime::Python(Arc::default());
    client.set_runtime(python.clone());
    let _calls = [call(&client, Arguments::default()), call(&client, Arguments::default())];
    let other = Function::described("cube", Bytes::from_static(b"other code"));
    let _other = client.submit_call(&other, Arguments::default(), 1, None).unwrap();
    let said = said(&client);
    let described = functions(&said);
    assert_eq!(described.len(), 2);
    assert_eq!((&*described[0].name, &described[0].code[..]), ("square", &b"the code"[..]));
    assert!(described.iter().all(|function| function.runtime == python));
    assert_ne!(described[0].id, described[1].id);
    let rows: Vec<u32> = batches(said)[0].rows.iter().map(|row| row.function).collect();
    assert_eq!(rows, [0, 0, 1]);
}

#[test]
fn arguments_lie_behind_each_other_as_executors_read_them() {
    let (_, client) = client();
    let object = put(&client);
    let mut arguments = Arguments::default();
    arguments.value(Codec::PICKLE5, b"xy");
    let fails = |out: &mut ValueBytes| {
        out.push(9);
        Err::<Option<Codec>, _>("no")
    };
    assert_eq!(arguments.value_with(fails), Err("no"));
    let writes = |codec| {
        move |out: &mut ValueBytes| {
            out.push(7);
            Ok::<_, ()>(codec)
        }
    };
    assert_eq!(arguments.value_with(writes(None)), Ok(false));
    assert_eq!(arguments.value_with(writes(Some(Codec::RAW))), Ok(true));
    arguments.object(&object);
    assert_eq!(arguments.extra_object(&object), 1);
    let _result = call(&client, arguments);
    let batch = &batches(said(&client))[0];
    let value = [0, Codec::PICKLE5.0, 2, 0, 0, 0, b'x', b'y', 0, Codec::RAW.0, 1, 0, 0, 0, 7];
    assert_eq!(batch.args[..], [&value[..], &[1, 0, 0, 0, 0]].concat());
    let inputs: Vec<ObjectId> = batch.inputs.iter().map(|input| batch.object(input)).collect();
    assert_eq!(inputs, [object.id(), object.id()]);
}

#[test]
fn a_large_argument_is_put_once_in_its_pieces() {
    let (fake, client) = client();
    let inner = put(&client);
    let pieces = vec![Bytes::from_static(b"head"), Bytes::from(vec![5; INLINE_LIMIT])];
    let large =
        Large::new(Codec::PICKLE5_BUFFERS, Pieces::new(pieces), std::slice::from_ref(&inner));
    let calls: Vec<Object> = (0..3)
        .map(|_| {
            let mut arguments = Arguments::default();
            arguments.large(&large);
            call(&client, arguments)
        })
        .collect();
    let batch = &batches(said(&client))[0];
    assert_eq!((batch.rows.len(), calls.len()), (3, 3));
    let stored = fake.stored.lock().unwrap();
    let (object, value) = stored.iter().next().unwrap();
    assert_eq!(
        (stored.len(), value.codec, value.bytes.len()),
        (1, Codec::PICKLE5_BUFFERS, 4 + INLINE_LIMIT)
    );
    assert!(value.bytes.starts_with(b"head\x05"));
    let first: Vec<ObjectId> = batch.inputs[..2].iter().map(|it| batch.object(it)).collect();
    assert_eq!(first, [*object, inner.id()], "the task needs what is inside of it, too");
}

#[test]
fn only_a_call_with_a_graph_or_a_value_to_put_may_wait() {
    let (_, client) = client();
    let mut arguments = Arguments::default();
    arguments.value(Codec::RAW, b"small");
    arguments.object(&put(&client));
    assert!(!arguments.may_wait());
    let node = Node::new(&square(), 1, Arguments::default());
    let mut whole = Arguments::default();
    whole.node(&node, 0);
    let mut inside = Arguments::default();
    inside.extra_node(&node, 0);
    let mut large = Arguments::default();
    let value = Pieces::new(vec![Bytes::from(vec![5; INLINE_LIMIT + 1])]);
    large.large(&Large::new(Codec::RAW, value, &[]));
    assert!([whole, inside, large].iter().all(Arguments::may_wait));
}

#[test]
fn a_value_that_outgrows_messages_is_put() {
    let (fake, client) = client();
    let mut arguments = Arguments::default();
    let write = |out: &mut ValueBytes| {
        out.resize(out.len() + INLINE_LIMIT + 1, 3);
        Ok::<_, ()>(Some(Codec::RAW))
    };
    assert_eq!(arguments.value_with(write), Ok(true));
    let _result = call(&client, arguments);
    assert_eq!(batches(said(&client))[0].args[..], [1, 0, 0, 0, 0]);
    assert_eq!(fake.stored.lock().unwrap().values().next().unwrap().bytes.len(), INLINE_LIMIT + 1);
}

#[test]
fn what_is_let_go_of_is_released_when_its_task_has_ended() {
    let (_, client) = client();
    let (kept, dropped) =
        (call(&client, Arguments::default()), call(&client, Arguments::default()));
    let ids = [kept.id(), dropped.id()];
    let _ = said(&client);
    kept.let_go();
    kept.let_go();
    assert!(matches!(kept.fetched(), Fetched::Gone));
    drop((kept, dropped));
    assert_eq!(released(said(&client)), ids[1..]);
    give(&client, ids[0], 1);
    assert_eq!(released(said(&client)), ids[..1]);
}

#[test]
fn what_was_let_go_of_can_be_found_again_inside_a_value() {
    let (_, client) = client();
    let object = call(&client, Arguments::default());
    let id = object.id();
    let _ = said(&client);
    object.let_go();
    let again = client.adopt(id);
    give(&client, id, 1);
    assert!(again.is_done());
    assert_eq!(released(said(&client)), []);
    drop(again);
    assert_eq!(released(said(&client)), [id]);
}

#[test]
fn of_several_results_each_is_let_go_of_alone() {
    let (_, client) = client();
    let mut results = client.submit_call(&square(), Arguments::default(), 3, None).unwrap();
    let ids: Vec<ObjectId> = results.iter().map(Object::id).collect();
    assert_eq!(ids.iter().map(|id| id.index).collect::<Vec<_>>(), [0, 1, 2]);
    let _ = said(&client);
    drop(results.remove(1));
    assert_eq!(released(said(&client)), ids[1..2]);
}

#[test]
fn what_became_of_objects_is_told_without_waiting() {
    let (fake, client) = client();
    let objects: Vec<Object> = (0..5).map(|_| call(&client, Arguments::default())).collect();
    let _ = said(&client);
    give(&client, objects[1].id(), 7);
    let bytes = Bytes::from(vec![1; 100]);
    end(&client, objects[2].id(), Outcome::Value(Value { codec: Codec::RAW, bytes }));
    let stored = Value { codec: Codec::RAW, bytes: Bytes::from(vec![2; 100_000]) };
    fake.stored.lock().unwrap().insert(objects[3].id(), stored.clone());
    let workers = vec![manyhands_proto::WorkerId(3)];
    end(&client, objects[3].id(), Outcome::Stored { codec: Codec::RAW, size: 100_000, workers });
    end(&client, objects[4].id(), Outcome::Failed(failed(objects[4].id().task)));
    let mut fetched = Vec::new();
    client.fetched_many(&objects.iter().collect::<Vec<_>>(), &mut fetched);
    let [Fetched::Pending, Fetched::Small { .. }, Fetched::Value(_), Fetched::Stored, last] =
        &fetched[..]
    else {
        panic!("{fetched:?}");
    };
    let Fetched::Failed(error) = last else { panic!("{last:?}") };
    assert!(error.to_string().contains("it raised ValueError: no"), "{error}");
    assert_eq!(client.fetch_raw(&objects[3], None).unwrap(), Some(stored));
    assert_eq!(client.fetch_raw(&objects[0], Some(Instant::now())).unwrap(), None);
    assert!(client.fetch_raw(&objects[4], None).is_err());
}

fn failed(task: TaskId) -> Failed {
    let kind = FailureKind::Raised {
        type_name: "ValueError".into(),
        message: "no".into(),
        traceback: String::new(),
        exception: None,
    };
    let (name, args, attempts) = ("square".into(), Vec::new(), Vec::new());
    Failed {
        failure: Arc::new(TaskFailure { task, name, args, kind, attempts }),
        chain: Vec::new(),
    }
}

#[test]
fn a_watch_tells_in_the_order_of_ends_and_wakes_for_what_was_there() {
    let (_, client) = drained_client();
    let objects: Vec<Object> = (0..3).map(|_| call(&client, Arguments::default())).collect();
    let watch = client.watch();
    let tokens: Vec<u64> = objects.iter().map(|object| watch.add(object)).collect();
    let twice = watch.add(&objects[2]);
    give(&client, objects[2].id(), 1);
    give(&client, objects[0].id(), 1);
    assert_eq!(watch.next(None).unwrap(), [tokens[2], twice, tokens[0]]);
    assert!(watch.next(Some(Instant::now())).unwrap().is_empty(), "one has not come");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| watch.next(Some(Instant::now() + LIMIT)).unwrap());
        let done = watch.add(&objects[0]);
        assert_eq!(waits.join().unwrap(), [done]);
        let waits = scope.spawn(|| watch.next(Some(Instant::now() + LIMIT)).unwrap());
        watch.close();
        assert!(waits.join().unwrap().is_empty());
    });
}

#[test]
fn draining_waits_for_what_nobody_refers_to() {
    let (_, client) = drained_client();
    let (first, second) =
        (call(&client, Arguments::default()), call(&client, Arguments::default()));
    let ids = [first.id(), second.id()];
    first.let_go();
    assert!(!client.drain(Some(Instant::now())).unwrap());
    give(&client, ids[1], 1);
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| client.drain(Some(Instant::now() + LIMIT)).unwrap());
        give(&client, ids[0], 1);
        assert!(drained.join().unwrap());
    });
    drop(second);
    assert!(client.drain(None).unwrap(), "there is nothing left");
}

#[test]
fn nodes_make_graphs_with_options_and_order() {
    let (_, client) = client();
    let first = Node::new(&square(), 2, Arguments::default());
    first.options(TaskOptions { retries: 3, ..TaskOptions::default() });
    let other = Node::new(&square(), 1, Arguments::default());
    let mut arguments = Arguments::default();
    arguments.node(&first, 1);
    let last = Node::new(&square(), 1, arguments);
    last.after(&other);
    let picture = dot(&[(last.clone(), 0)]);
    assert!(picture.contains("label=\"square\""), "{picture}");
    let results = client.submit_nodes(&[(last.clone(), 0)], Purpose::Submit).unwrap();
    let batch = &batches(said(&client))[0];
    assert_eq!((batch.rows.len(), batch.inputs.len()), (3, 2));
    assert!(batch.options.iter().any(|options| options.retries == 3));
    let wanted = batch.rows.iter().filter(|row| row.flags & TaskRow::WANTED != 0).count();
    assert_eq!((results.len(), wanted), (1, 1));
    let mut arguments = Arguments::default();
    arguments.node(&last, 0);
    let _further = call(&client, arguments);
    assert_eq!(batches(said(&client))[0].rows.len(), 1, "what was submitted is not run again");
}

#[test]
fn a_program_says_which_tasks_it_has() {
    let (_, client) = client();
    let program = Program::rust(std::env::current_exe().unwrap()).unwrap();
    assert!(program.names().any(|name| name.ends_with("testing::add")));
    let function = program.function("testing::add").unwrap();
    client.offer(&program).unwrap();
    let mut arguments = Arguments::default();
    arguments.value(Codec::MSGPACK, &[1]);
    arguments.value(Codec::MSGPACK, &[2]);
    let _linked = client.submit_call(&function, arguments, 1, None).unwrap();
    let _typed = add::submit(&client, 1, 2).unwrap();
    let said = said(&client);
    let described = functions(&said);
    assert_eq!(described[0].id, described[1].id, "it is the same function");
    assert_eq!(described[0].runtime, Runtime::Rust { program: program.hash() });
    let batch = &batches(said)[0];
    let (linked, typed) = batch.args.split_at(batch.rows[0].args_end as usize);
    assert_eq!(linked, typed, "and its arguments are written alike");
}

#[test]
fn a_program_without_tasks_is_not_started() {
    let error = Program::rust("/bin/false").unwrap_err().to_string();
    assert!(error.contains("no program with tasks of manyhands"), "{error}");
    let error = Program::rust("/nowhere/program").unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/program cannot be used"), "{error}");
    let program = Program::rust(std::env::current_exe().unwrap()).unwrap();
    let error = program.function("subtract").unwrap_err().to_string();
    assert!(error.contains("no task subtract, but"), "{error}");
}
