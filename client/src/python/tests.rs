//! What calls of Python look like to a scheduler.

use manyhands_proto::client::FromClient;
use manyhands_proto::client::Runtime;

use super::*;
use crate::testing::{add, batches, client, said};

#[derive(Serialize)]
struct Point {
    x: u8,
}

#[test]
fn arguments_are_plain_data_and_structures_are_maps() {
    let (_, client) = client();
    let handle = client.persist(add::lazy(1, 2)).unwrap();
    let _ = said(&client);
    let call = function("numbers:Tools.mix").call::<u8>((1.5, Point { x: 7 }, &handle, "text"));
    let _result = client.submit(call).unwrap();
    let said = said(&client);
    let FromClient::Functions { functions, .. } = &said[0] else { panic!("{said:?}") };
    assert_eq!((&*functions[0].name, &functions[0].runtime), ("Tools.mix", &of_nothing()));
    let code: (u8, &str, &str, &str, u8) = rmp_serde::from_slice(&functions[0].code).unwrap();
    assert_eq!(code, (1, "numbers:Tools.mix", "", "", 1));
    let batch = &batches(said)[0];
    let point = [&[0, 1, 4, 0, 0, 0, 0x81, 0xa1, b'x'][..], &[7]].concat();
    assert_eq!(batch.args[15..25], point);
    assert_eq!(batch.args[25..30], [1, 0, 0, 0, 0], "the handle is an input");
    assert_eq!(batch.object(&batch.inputs[0]), handle.id());
}

fn of_nothing() -> Runtime {
    Runtime::Python(Arc::default())
}

#[test]
fn the_session_says_how_python_is_set_up() {
    let (_, client) = client();
    let environment = Environment { preload: vec!["math".into()], ..Environment::default() };
    let runtime = Runtime::Python(Arc::new(environment));
    client.set_runtime(runtime.clone());
    let _results = client.submit((function("m:f").call::<u8>(()), add::lazy(1, 2))).unwrap();
    let runtimes = said(&client).into_iter().filter_map(|said| match said {
        FromClient::Functions { functions, .. } => Some(functions[0].runtime.clone()),
        _ => None,
    });
    assert_eq!(runtimes.collect::<Vec<_>>(), [runtime, Runtime::Rust { program: 0 }]);
}

#[test]
fn results_of_other_calls_are_arguments() {
    let (_, client) = client();
    let outer = function("m:outer").call::<u8>((function("m:inner").call::<u8>((1,)),));
    let _result = client.submit(&outer).unwrap();
    let batch = &batches(said(&client))[0];
    assert_eq!((batch.rows.len(), batch.inputs.len()), (2, 1));
}

#[test]
fn handles_inside_of_values_are_refused_in_words() {
    let (_, client) = client();
    let handle = client.persist(add::lazy(1, 2)).unwrap();
    let error = client.submit(function("m:f").call::<u8>((0, vec![handle]))).unwrap_err();
    assert!(error.to_string().starts_with("argument 2 of f"), "{error}");
}
