//! Every command, as people call it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::FlockOperation;

use crate::machine::Cluster;

#[test]
fn commands_run_as_if_they_ran_here() {
    let cluster = Cluster::start(1);
    assert_eq!(cluster.prints(&["run", "--", "echo", "many", "hands"]), "many hands\n");
    let output = cluster.run(&["run", "--", "sh", "-c", "cat; echo oh >&2; exit 3"], "text");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"text"[..], &b"oh\n"[..]));
    let code = |args: &[&str]| cluster.run(args, "").status.code();
    assert_eq!(code(&["run", "--", "sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["run", "--", "no-such-program"]), Some(127));
    assert_eq!(code(&["run", "--time-limit", "100ms", "--", "sleep", "60"]), Some(124));
}

#[test]
fn files_go_with_a_command_and_come_back() {
    let cluster = Cluster::start(1);
    let large: String = (0..50_000).map(|i| format!("{i}\n")).collect();
    fs::write(cluster.dir().join("numbers"), &large).unwrap();
    let script = "sort -nr in/numbers > out && ls";
    let args = ["run", "--in", "numbers:in/numbers", "--out", "out:back", "--", "sh", "-c", script];
    assert_eq!(cluster.prints(&args), "in\nout\n", "nothing else is there");
    let back = fs::read_to_string(cluster.dir().join("back")).unwrap();
    assert!(back.len() == large.len() && back.starts_with("49999\n49998\n"));
    let missing = cluster.run(&["run", "--out", "nothing", "--", "true"], "");
    assert_eq!(missing.status.code(), Some(125));
    let words = String::from_utf8(missing.stderr).unwrap();
    assert!(words.contains("the command left no nothing"), "{words}");
}

#[test]
fn output_that_floods_is_not_lost() {
    let cluster = Cluster::start(1);
    let output = cluster.run(&["run", "--", "seq", "1000000"], "");
    let expected: String = (1..=1_000_000).map(|i| format!("{i}\n")).collect();
    assert!(output.stdout == expected.as_bytes(), "{} bytes came", output.stdout.len());
}

#[test]
fn arrays_run_each_index_and_tell_of_those_that_failed() {
    let cluster = Cluster::start(2);
    let args = ["run", "--array", "1-100", "--out", "o{}", "--", "sh", "-c", "echo {} > o{}"];
    cluster.prints(&args);
    for index in 1..=100 {
        let text = fs::read_to_string(cluster.dir().join(format!("o{index}"))).unwrap();
        assert_eq!(text, format!("{index}\n"));
    }
    let args = ["run", "--array", "0-4", "--", "sh", "-c", "exit $MANYHANDS_ARRAY_INDEX"];
    let output = cluster.run(&args, "");
    assert_eq!(output.status.code(), Some(4), "the highest");
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("4 of 5 commands failed"), "{words}");
}

#[test]
fn a_cluster_is_asked_and_ordered() {
    let cluster = Cluster::start(2);
    assert_eq!(cluster.prints(&["run", "--array", "1-2", "--", "true"]), "");
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&cluster.prints(args)).unwrap()
    };
    assert_eq!(json(&["status", "--json"])["ended"], 2);
    assert!(cluster.prints(&["status"]).contains("clients"));
    assert_eq!(cluster.prints(&["jobs"]), "no jobs\n", "a job ends with its command");
    assert_eq!(json(&["objects", "--json"])["total"], 0);
    let mut long = cluster.command(&["run", "--", "sh", "-c", "echo begun; exec sleep 600"]);
    let mut long = long.stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = String::new();
    let mut printed = BufReader::new(long.stdout.take().unwrap());
    printed.read_line(&mut begun).unwrap();
    assert_eq!(begun, "begun\n");
    let tasks = json(&["tasks", "--json"]);
    let task = tasks["tasks"][0]["task"].as_str().unwrap();
    assert!(cluster.prints(&["explain", task]).starts_with("running: "));
    assert_eq!(cluster.prints(&["logs", task]), "begun\n");
    let job = task.split('/').next().unwrap();
    assert!(cluster.prints(&["graph", job]).contains("command ("));
    assert!(cluster.prints(&["cancel", job]).contains("are being stopped"));
    assert_eq!(long.wait().unwrap().code(), Some(130));
    let workers = json(&["workers", "--json"]);
    let names: Vec<_> = workers.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names.len(), 2);
    assert!(cluster.prints(&["drain", "w1", "--wait"]).contains("is gone"));
    let workers = json(&["workers", "--json"]);
    assert_eq!(workers.as_array().unwrap().len(), 1);
    assert_eq!(workers[0]["name"], "w0");
}

#[test]
fn directories_of_commands_that_a_killed_worker_left_are_removed_by_the_next() {
    let mut cluster = Cluster::start(1);
    let mut long = cluster.command(&["run", "--", "sh", "-c", "touch left; pwd; exec sleep 600"]);
    let mut long = long.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut place = String::new();
    BufReader::new(long.stdout.take().unwrap()).read_line(&mut place).unwrap();
    let place = Path::new(place.trim_end());
    assert!(place.starts_with(cluster.dir().canonicalize().unwrap()), "{}", place.display());
    let executors = File::open(place.parent().unwrap()).unwrap();
    cluster.kill_worker(0);
    // Its executors end after it, and have let go of the directory then.
    rustix::fs::flock(&executors, FlockOperation::LockExclusive).unwrap();
    drop(executors);
    assert!(place.join("left").exists());
    long.kill().unwrap();
    long.wait().unwrap();
    cluster.add_worker("next");
    cluster.prints(&["run", "--label", "worker=next", "--cwd", "/", "--", "true"]);
    assert!(!place.exists(), "{} is still there", place.display());
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let cluster = Cluster::start(0);
    let fails = |args: &[&str], env: Option<&str>, words: &[&str]| {
        let mut command = cluster.command(args);
        match env {
            Some(address) => command.env("MANYHANDS_ADDRESS", address),
            None => command.env_remove("MANYHANDS_ADDRESS"),
        };
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        words.iter().for_each(|word| assert!(stderr.contains(word), "{word:?}: {stderr}"));
    };
    let here = Some(cluster.address.as_str());
    fails(&["status"], None, &["no cluster is named", "set MANYHANDS_ADDRESS"]);
    fails(&["explain", "job-00000000/1.1"], here, &["no open job", "manyhands jobs"]);
    fails(&["explain", "nonsense"], here, &["there is no task", "job-0123abcd/1.42"]);
    fails(&["drain", "w9"], here, &["no worker \"w9\"", "manyhands workers"]);
    fails(&["status"], Some(&cluster.worker_address), &["the token is for a worker"]);
    fails(&["status"], Some("manyhands://xx@localhost"), &["the token"]);
    fails(&["worker"], None, &["no scheduler is named", "manyhands worker manyhands://"]);
}
