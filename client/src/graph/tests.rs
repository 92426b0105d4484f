use std::sync::Arc;

use manyhands_proto::graph::{GraphBatch, TaskRow};
use manyhands_proto::value::Codec;

use super::*;
use crate::error::Error;
use crate::lazy::Lazy;
use crate::testing::{add, batches, client, divide, drained_client, said, sum};

fn graph(targets: impl Targets) -> (Collected, Order) {
    let graph = Collected::to_draw(&roots(&targets));
    let order = Order::new(&graph).unwrap();
    (graph, order)
}

/// The calls' second arguments, which tell the nodes of these tests apart, in the graph's order.
fn names(targets: impl Targets) -> Vec<u8> {
    let (graph, order) = graph(targets);
    order.nodes.iter().map(|node| *graph.nodes[*node as usize].args.last().unwrap()).collect()
}

fn chain(from: Lazy<i64>, links: i64) -> Lazy<i64> {
    (0..links).fold(from, |before, _| add::lazy(before, 1))
}

#[test]
fn a_tree_is_walked_depth_first_so_that_little_is_held() {
    let leaf = |i: i64| add::lazy(0, i);
    let left = add::lazy(sum::lazy([leaf(1), leaf(2)]), 10);
    let right = add::lazy(sum::lazy([leaf(3), leaf(4)]), 20);
    let order = names(sum::lazy([left, right]));
    // A sum's arguments end with the count of its list, in four bytes.
    assert_eq!(order, [1, 2, 0, 10, 3, 4, 0, 20, 0]);
}

#[test]
fn the_critical_path_comes_first() {
    let short = add::lazy(0, 50);
    let long = chain(add::lazy(0, 60), 3);
    assert_eq!(names(sum::lazy([short, long])), [60, 1, 1, 1, 50, 0]);
}

#[test]
fn an_order_that_is_given_is_kept_if_it_can_be() {
    let (one, two) = (add::lazy(0, 1), add::lazy(0, 2));
    let both = add::lazy(&one, &two);
    let (graph, _) = graph(&both);
    let given = |order: &[&Lazy<i64>]| {
        let nodes: Vec<_> = order.iter().map(|lazy| lazy.node.clone()).collect();
        Order::given(&graph, &nodes).map(|order| order.nodes)
    };
    let number = |lazy: &Lazy<i64>| {
        graph.nodes.iter().position(|node| Arc::ptr_eq(node, &lazy.node)).unwrap() as u32
    };
    let other = add::lazy(0, 3);
    let expected = [number(&two), number(&one), number(&both)];
    assert_eq!(given(&[&two, &other, &one, &two, &both]).unwrap(), expected);
    assert_eq!(given(&[&two, &both, &one]), None, "it comes before what it needs");
    assert_eq!(given(&[&two, &one]), None, "one is missing");
}

#[test]
fn shared_nodes_run_once() {
    let shared = add::lazy(1, 2);
    let twice = add::lazy(&shared, &shared);
    let stats = stats((&twice, &shared, &twice));
    assert_eq!(stats, Stats { tasks: 2, edges: 2, critical_path: Some(2) });
}

#[test]
fn a_long_chain_is_built_drawn_and_dropped() {
    let (_, client) = drained_client();
    let last = chain(add::lazy(0, 0), 200_000);
    assert_eq!(stats(&last).critical_path, Some(200_001));
    assert!(svg(&last).contains("2000 of 200001 tasks are shown"));
    let handle = client.persist(&last).unwrap();
    assert_eq!(handle.id().task.seq, 200_000);
}

#[test]
fn cycles_are_refused_with_the_functions_on_them() {
    let (_, client) = client();
    let first = add::lazy(1, 2);
    let second = sum::lazy([first.clone()]);
    let _ = first.clone().after(&second);
    let outside = chain(second, 3);
    let Err(Error::Cycle { names }) = client.compute(&outside) else { panic!("a cycle") };
    assert_eq!(names, ["sum", "add", "sum"]);
    assert!(svg(&outside).contains("has a cycle"));
    assert_eq!(stats(&outside).critical_path, None);
    let alone = add::lazy(1, 2);
    let alone = alone.clone().after(&alone);
    let Err(Error::Cycle { names }) = client.compute(alone) else { panic!("a cycle") };
    assert_eq!(names, ["add", "add"]);
    assert!(batches(said(&client)).is_empty(), "nothing was sent");
}

#[test]
fn after_is_an_input_that_no_argument_names() {
    let (_, client) = client();
    let before = add::lazy(1, 2);
    let later = add::lazy(3, 4).after(&before);
    let _handle = client.persist(&later).unwrap();
    let [batch] = &batches(said(&client))[..] else { panic!("one batch") };
    assert_eq!(batch.rows.len(), 2);
    assert_eq!((batch.inputs[0].seq, batch.rows[1].inputs_end), (0, 1));
}

fn sent(client: &crate::client::Client) -> Vec<GraphBatch> {
    batches(said(client))
}

#[test]
fn a_graph_leaves_in_batches_and_only_its_results_are_held() {
    let (fake, client) = drained_client();
    let leaves: Vec<Lazy<i64>> = (0..10_000).map(|i| add::lazy(i, 1)).collect();
    let all = sum::lazy(&leaves);
    let handle = client.persist((&all, &leaves[0])).unwrap();
    let batches = batches(fake.drained.lock().unwrap().clone());
    let more: Vec<bool> = batches.iter().map(|batch| batch.more).collect();
    assert_eq!(more, [true, true, false]);
    let rows: Vec<&TaskRow> = batches.iter().flat_map(|batch| &batch.rows).collect();
    assert_eq!(rows.len(), 10_001);
    assert!(rows.iter().enumerate().all(|(i, row)| row.rank == i as u32));
    let held: Vec<usize> = (0..rows.len()).filter(|i| rows[*i].flags == TaskRow::HELD).collect();
    assert_eq!(held, [0, 10_000]);
    assert_eq!(handle.0.id().task.seq, 10_000);
    assert_eq!(batches[2].inputs.len(), 10_000);
}

#[test]
fn what_was_persisted_is_not_run_again_while_its_handle_lives() {
    let (_, client) = client();
    let base = add::lazy(add::lazy(1, 2), 3);
    let handle = client.persist(&base).unwrap();
    let _ = sent(&client);
    let next = client.persist(add::lazy(&base, 4)).unwrap();
    let [batch] = &sent(&client)[..] else { panic!("one batch") };
    assert_eq!((batch.rows.len(), batch.inputs[0].seq), (1, handle.id().task.seq));
    let same = client.persist(&base).unwrap();
    assert_eq!(same.id(), handle.id());
    assert!(sent(&client).is_empty());
    drop((handle, same));
    let again = client.persist(add::lazy(&base, 4)).unwrap();
    let [batch] = &sent(&client)[..] else { panic!("one batch") };
    assert_eq!(batch.rows.len(), 3, "its results are gone");
    drop((next, again));
}

#[test]
fn results_that_nobody_asked_for_are_released() {
    let (_, client) = client();
    let (quotient, _) = divide::lazy(add::lazy(6, 1), 2);
    let handle = client.persist(&quotient).unwrap();
    let said = said(&client);
    let other = handle.id().task.object(1);
    let release = manyhands_proto::client::FromClient::Release { objects: vec![other] };
    assert_eq!(said.last(), Some(&release));
}

#[test]
fn large_arguments_are_put_once() {
    let (fake, client) = client();
    let large = sum::lazy(vec![1i64; 100_000]);
    let one = client.persist(add::lazy(&large, 1)).unwrap();
    let two = client.persist(add::lazy(&large, 2)).unwrap();
    assert_eq!(fake.stored.lock().unwrap().len(), 1);
    let value = fake.stored.lock().unwrap().values().next().cloned().unwrap();
    assert_eq!((value.codec, value.bytes.len()), (Codec::POD, 800_000));
    let batches = sent(&client);
    assert_eq!(&batches[0].args[..], [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1]);
    drop((one, two));
}

#[test]
fn options_are_shared_by_the_rows_of_a_batch() {
    let (_, client) = client();
    let nodes: Vec<_> = (0..9i64)
        .map(|i| {
            let node = add::lazy(i, 1);
            if i % 2 == 0 { node } else { node.retries(3).resource("gpu", 0.5).label("zone", "a") }
        })
        .collect();
    let _handles = client.persist(&nodes).unwrap();
    let [batch] = &sent(&client)[..] else { panic!("one batch") };
    assert_eq!(batch.options.len(), 2);
    assert_eq!((batch.options[1].retries, batch.options[0].retries), (3, 0));
    assert_eq!(batch.options[1].resources.named, [("gpu".to_owned(), 500)]);
}

#[test]
fn a_bad_argument_is_refused_when_the_graph_is_built() {
    let (_, client) = client();
    #[derive(serde::Deserialize)]
    struct Bad;
    impl serde::Serialize for Bad {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is bad"))
        }
    }
    #[manyhands::task]
    fn take(_bad: Bad) {}
    let error = client.compute(take::lazy(Bad)).unwrap_err().to_string();
    assert!(error.starts_with("an argument of take of type"), "{error}");
    assert!(error.ends_with("cannot be encoded: it is bad"), "{error}");
    assert!(matches!(take::submit(&client, Bad), Err(Error::Encode { .. })));
}

#[test]
fn drawings_escape_names_and_are_whole() {
    let six = add::lazy(add::lazy(1, 2), sum::lazy([add::lazy(3, 4)]));
    let dot = dot(&six);
    assert_eq!(dot.matches(" -> ").count(), 3);
    assert_eq!(dot.matches("[label=\"add\"]").count(), 3);
    let svg = svg(&six);
    assert_eq!((svg.matches("<rect ").count(), svg.matches("<path ").count()), (4, 3));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}
