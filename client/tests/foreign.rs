//! Functions that are not linked: of a Rust program by its path, and of Python. What needs Python
//! is left out where no interpreter has the package: `client/python/build-dev` builds that.

use std::path::Path;
use std::process::{Command, Stdio};

use manyhands::foreign::{Arguments, Fetched, Program};
use manyhands::python::{PythonConfig, function};
use manyhands::{Client, Error};
use manyhands_proto::client::Environment;
use manyhands_proto::value::Codec;

#[manyhands::task]
fn subtract(a: i64, b: i64) -> i64 {
    a - b
}

fn plain(values: &[i64]) -> Arguments {
    let mut arguments = Arguments::default();
    for value in values {
        arguments.value(Codec::MSGPACK, &rmp_serde::to_vec(value).unwrap());
    }
    arguments
}

#[test]
fn a_task_of_a_program_is_called_by_its_name() {
    let client = Client::builder().slots(1).local().unwrap();
    let program = Program::rust(std::env::current_exe().unwrap()).unwrap();
    client.offer(&program).unwrap();
    let linked = program.function("subtract").unwrap();
    let result = client.submit_call(&linked, plain(&[7, 2]), 1, None).unwrap().remove(0);
    let value = client.fetch_raw(&result, None).unwrap().unwrap();
    assert_eq!((value.codec, &value.bytes[..]), (Codec::MSGPACK, &[5][..]));
    let mut arguments = plain(&[1]);
    arguments.object(&result);
    let result = client.submit_call(&linked, arguments, 1, None).unwrap().remove(0);
    client.wait_objects(&[&result], 1, None).unwrap();
    let Fetched::Small { bytes, .. } = result.fetched() else { panic!("{:?}", result.fetched()) };
    assert_eq!(rmp_serde::from_slice::<i64>(&bytes).unwrap(), -4);
    assert_eq!(client.compute(subtract::lazy(3, 1)).unwrap(), 2, "and the linked way goes on");
}

#[test]
fn a_program_that_was_not_offered_is_missed_in_words() {
    let client = Client::builder().slots(1).local().unwrap();
    let program = Program::rust(std::env::current_exe().unwrap()).unwrap();
    let linked = program.function("subtract").unwrap();
    let result = client.submit_call(&linked, plain(&[7, 2]), 1, None).unwrap().remove(0);
    let error = client.fetch_raw(&result, None).unwrap_err().to_string();
    assert!(error.contains(&format!("the program {:032x}", program.hash())), "{error}");
}

/// A client whose Python finds the package in this tree.
fn python(module: Option<&Path>) -> Option<Client> {
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/python/python");
    let python = PythonConfig::default();
    let finds =
        format!("import sys; sys.path.append({package:?}); import cloudpickle, manyhands._core");
    let mut probe = Command::new(&python.interpreter);
    let status = probe.args(["-c", &finds]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("left out: {} has no package manyhands", python.interpreter.display());
        return None;
    }
    let environment = Environment { path: vec![package.to_owned()], ..Environment::default() };
    let mut builder = Client::builder().slots(1).python(PythonConfig { environment, ..python });
    if let Some(module) = module {
        builder = builder.archive(module);
    }
    Some(builder.local().unwrap())
}

#[test]
fn rust_calls_python_and_python_rust() {
    let Some(client) = python(None) else { return };
    let five = function("math:hypot").call::<f64>((3, 4.0));
    let text = function("builtins:format").call::<String>((five, "07.3f"));
    assert_eq!(client.compute(&text).unwrap(), "005.000");
    let length = function("builtins:len").call::<i64>(("x".repeat(200_000),));
    assert_eq!(client.compute(subtract::lazy(length, 1)).unwrap(), 199_999);
    let bytes = function("builtins:bytes").call::<Vec<u8>>((vec![1, 2, 3],));
    assert_eq!(client.compute(&bytes).unwrap(), [1, 2, 3]);
}

#[test]
fn what_python_raises_is_told_in_words() {
    let Some(client) = python(None) else { return };
    let error = client.compute(function("math:sqrt").call::<f64>((-1.0,))).unwrap_err();
    let Error::TaskFailed(failed) = &error else { panic!("{error}") };
    assert_eq!(failed.name(), "sqrt");
    assert!(error.to_string().contains("it raised ValueError: "), "{error}");
    let error = client.compute(function("math:no_such").call::<f64>(())).unwrap_err();
    assert!(error.to_string().contains("no_such"), "{error}");
}

#[test]
fn modules_come_with_an_archive() {
    let dir = std::env::temp_dir().join(format!("manyhands-archive-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("carried_along.py"), "def half(x):\n    return x / 2\n").unwrap();
    let zip = |python: &Path| {
        let make =
            "import shutil, sys; shutil.make_archive('carried', 'zip', '.', 'carried_along.py')";
        Command::new(python).current_dir(&dir).args(["-c", make]).status()
    };
    let made = zip(&PythonConfig::default().interpreter);
    let client = made.is_ok().then(|| python(Some(&dir.join("carried.zip")))).flatten();
    if let Some(client) = client {
        let half = function("carried_along:half").call::<f64>((5,));
        assert_eq!(client.compute(&half).unwrap(), 2.5);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
