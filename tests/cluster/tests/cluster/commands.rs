//! The command line against a cluster.

use std::process::Output;
use std::time::Duration;

use manyhands_cluster_tests::{Cluster, Plan, in_time};
use serde_json::Value;

use crate::work::{check_all, many_slowly, slowly, until_info};

const LIMIT: Duration = Duration::from_secs(90);

fn small() -> Cluster {
    Cluster::start(Plan { machines: 1, workers: 1, ..Plan::default() })
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn run_prints_what_the_command_prints_and_ends_as_it_ended() {
    in_time("run", LIMIT, || {
        let cluster = small();
        let output = cluster.run(&["run", "--", "sh", "-c", "echo hi; echo no >&2; exit 3"]);
        assert_eq!(output.status.code(), Some(3), "{}", err(&output));
        assert_eq!(out(&output), "hi\n");
        assert!(err(&output).contains("no\n"), "{}", err(&output));
        let output = cluster.run(&["run", "--", "manyhands-has-no-such-program"]);
        assert_eq!(output.status.code(), Some(127), "{}", err(&output));
    });
}

#[test]
fn run_takes_files_there_and_back() {
    in_time("files", LIMIT, || {
        let cluster = small();
        let folder = cluster.folder();
        // Large enough not to travel inside a message.
        let lines: Vec<String> = (0..40_000).rev().map(|line| format!("{line:06}")).collect();
        std::fs::write(folder.join("data.txt"), lines.join("\n") + "\n").unwrap();
        let words =
            ["run", "--in", "data.txt", "--out", "sorted.txt", "--", "sort", "data.txt", "-o"];
        let output = cluster.run(&[&words[..], &["sorted.txt"]].concat());
        assert!(output.status.success(), "{}", err(&output));
        let sorted = std::fs::read_to_string(folder.join("sorted.txt")).unwrap();
        let expected: Vec<String> = lines.into_iter().rev().collect();
        assert!(sorted.lines().eq(expected.iter()), "the file came back in another order");
    });
}

#[test]
fn run_takes_an_array() {
    in_time("an array", LIMIT, || {
        let cluster = small();
        let command = "echo $MANYHANDS_ARRAY_INDEX; test {} != 7";
        let output = cluster.run(&["run", "--array", "1-20", "--", "sh", "-c", command]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        let mut seen: Vec<u32> = out(&output).lines().map(|line| line.parse().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (1..=20).collect::<Vec<_>>());
        assert!(err(&output).contains("7: exit code 1"), "{}", err(&output));
    });
}

#[test]
fn every_command_says_its_answer_as_json() {
    in_time("commands with --json", LIMIT, || {
        let cluster = small();
        let client = cluster.client();
        check_all(&client, &many_slowly(&client, 5, 0));
        let slow = slowly::submit(&client, 0, 3_600_000).unwrap();
        let waiting = slowly::submit(&client, &slow, 0).unwrap();
        until_info(&cluster, "one task is with the worker", |info| info.assigned == 1);

        let list = |words: &[&str]| -> Value { cluster.json(words) };
        assert_eq!(list(&["status"])["workers"], 1);
        assert_eq!(list(&["workers"])[0]["name"], "w0");
        let jobs = list(&["jobs"]);
        let job = jobs[0]["job"].as_str().unwrap_or_else(|| panic!("{jobs}")).to_owned();
        let tasks = list(&["tasks"]).to_string();
        assert!(tasks.contains("slowly"), "{tasks}");
        assert!(!list(&["objects"]).is_null());
        let graph = list(&["graph", &job]).to_string();
        assert!(graph.contains("slowly"), "{graph}");
        let task = slow.id().task.to_string();
        let why = list(&["explain", &task]).to_string();
        assert!(why.to_lowercase().contains("run"), "{why}");
        assert!(!list(&["logs", &task]).is_null());
        list(&["cancel", &waiting.id().task.to_string()]);
        assert!(client.get(&waiting).is_err());
        list(&["cancel", &job]);
        assert!(client.get(&slow).is_err());
        list(&["drain", "w0"]);
        until_info(&cluster, "no worker", |info| info.workers == 0);
        let lines = cluster.run(&["completions", "bash"]);
        assert!(out(&lines).contains("manyhands"), "{}", err(&lines));
    });
}

#[test]
fn errors_say_what_to_do() {
    in_time("errors", LIMIT, || {
        let cluster = small();
        let output = cluster.run(&["explain", "job-00000000/1.42"]);
        assert!(!output.status.success());
        assert!(err(&output).contains("manyhands jobs"), "{}", err(&output));
        let mut command = cluster.command(&["status"]);
        command.env_remove("MANYHANDS_ADDRESS");
        let output = manyhands_cluster_tests::output(command);
        assert!(!output.status.success());
        assert!(err(&output).contains("MANYHANDS_ADDRESS"), "{}", err(&output));
    });
}
