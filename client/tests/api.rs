//! Every item of the public API in local mode, at least once.

use manyhands::{Client, Error, Handle, Lazy, Slice};
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
fn mean(all: Slice<f64>) -> f64 {
    all.iter().sum::<f64>() / all.len() as f64
}

#[manyhands::task]
fn ramp(n: usize) -> Vec<f64> {
    (0..n).map(|i| i as f64).collect()
}

#[test]
fn functions_stay_callable() {
    assert_eq!(add(1, 2), 3);
    assert_eq!(parse("7".into()).unwrap(), 7);
    assert_eq!(words("a b".into()), ["a", "b"]);
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
    Ok(())
}
