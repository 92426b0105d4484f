//! Compares every figure of the graph with the same computed in one process, twice: with the
//! functions of the example, and with a plain pass over the table that shares no code with them.

use std::collections::{BTreeMap, HashMap};
use std::fs::read_to_string;
use std::sync::mpsc;
use std::time::Duration;

use manyhands::Client;
use manyhands_example_flights::delays::{Delays, Groups};
use manyhands_example_flights::{Data, alone, analyse};

fn data() -> Data {
    Data::open(&Data::default_folder()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a test's work, but no longer than two minutes.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    end.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[test]
fn the_graph_agrees_with_one_process_in_every_figure() {
    let data = data();
    let expected = alone(&data).unwrap();
    let work = move || {
        let client = Client::local().unwrap();
        [(); 2].map(|()| analyse(&client, &data, |_, _| {}).unwrap())
    };
    let [first, second] = in_time("the graph", work);
    assert_eq!(first, expected);
    assert_eq!(second, expected, "a second time in the same cluster");
}

#[test]
fn the_figures_agree_with_a_plain_pass_over_the_table() {
    let data = data();
    let report = alone(&data).unwrap();
    let plain = plain_pass(&data);
    assert_eq!(report.total.scheduled, 336_776);
    assert_eq!(report.total.cancelled, 8_255);
    assert_eq!(report.carriers.len(), 16);
    assert_eq!(report.carriers, plain["carrier"]);
    assert_eq!(report.hours, plain["hour"]);
    assert_eq!(report.routes, plain["route"]);
    assert_eq!(report.ages, plain["age"]);
    assert_eq!(report.weather, plain["weather"]);
}

/// All groups by what they are grouped by, from fields that are split at commas.
fn plain_pass(data: &Data) -> BTreeMap<&'static str, Groups> {
    let airlines = column(data, "airlines", &[0], 1);
    let airports = column(data, "airports", &[0], 1);
    let years = column(data, "planes", &[0], 1);
    let weather = weather(data);
    let named = |code: &str, names: &HashMap<String, String>| match names.get(code) {
        Some(name) => format!("{name} ({code})"),
        None => code.to_owned(),
    };
    let mut all = BTreeMap::<&'static str, Groups>::new();
    for path in &data.parts {
        for line in read_to_string(path).unwrap().lines().skip(1) {
            let field: Vec<&str> = line.split(',').collect();
            let route = format!("{} to {}", field[12], named(field[13], &airports));
            let hour: u32 = field[16].parse().unwrap();
            let at = format!("{},{}", field[12], field[18]);
            let groups = [
                ("carrier", named(field[9], &airlines)),
                ("hour", format!("{hour:02}")),
                ("route", route),
                ("age", age(years.get(field[11]))),
                ("weather", weather.get(&at).unwrap_or(&"weather not known").to_string()),
            ];
            for (by, group) in groups {
                count(all.entry(by).or_default().entry(group).or_default(), &field);
            }
        }
    }
    all
}

fn count(delays: &mut Delays, field: &[&str]) {
    delays.scheduled += 1;
    match field[5].parse::<i64>() {
        Err(_) => delays.cancelled += 1,
        Ok(late) => {
            delays.late += if late >= 15 { 1 } else { 0 };
            delays.dep_minutes += late;
            delays.worst = delays.worst.max(late);
        }
    }
    if let Ok(late) = field[8].parse::<i64>() {
        delays.arrived += 1;
        delays.arr_minutes += late;
        delays.miles += field[15].parse::<u64>().unwrap();
    }
}

fn age(year: Option<&String>) -> String {
    let name = match year.and_then(|year| year.parse::<u32>().ok()) {
        None => "age not known",
        Some(2009..) => "under 5 years",
        Some(2004..) => "5 to 9 years",
        Some(1999..) => "10 to 14 years",
        Some(1994..) => "15 to 19 years",
        Some(_) => "20 years and more",
    };
    name.to_owned()
}

/// The kind of weather by `airport,hour`.
fn weather(data: &Data) -> HashMap<String, &'static str> {
    let precipitation = column(data, "weather", &[0, 14], 11);
    let visibility = column(data, "weather", &[0, 14], 13);
    let wind = column(data, "weather", &[0, 14], 9);
    let number = |text: &str, unknown: f64| text.parse().unwrap_or(unknown);
    let kind = |at: &String, rain: f64| {
        if rain >= 0.1 {
            "heavy rain or snow"
        } else if number(&visibility[at], 10.0) < 3.0 {
            "fog"
        } else if rain > 0.0 {
            "rain or snow"
        } else if number(&wind[at], 0.0) >= 20.0 {
            "strong wind"
        } else {
            "fair"
        }
    };
    precipitation.iter().map(|(at, rain)| (at.clone(), kind(at, number(rain, 0.0)))).collect()
}

/// A column of a table by the columns that name its rows.
fn column(data: &Data, table: &str, names: &[usize], value: usize) -> HashMap<String, String> {
    let text = read_to_string(data.table(table)).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let field: Vec<&str> = line.split(',').collect();
        let name: Vec<&str> = names.iter().map(|at| field[*at]).collect();
        (name.join(","), field[value].to_owned())
    });
    rows.collect()
}
