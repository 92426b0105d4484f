use super::*;
use manyhands_proto::task::Death;
use manyhands_proto::{JobId, Lane, WorkerId};
use uuid::Uuid;

fn task(seq: u64) -> TaskId {
    TaskId { job: JobId(Uuid::from_u128(0xabcd)), lane: Lane(1), seq }
}

fn attempt(attempt: u32, kind: &FailureKind) -> AttemptFailure {
    AttemptFailure { attempt, worker: Some(WorkerId(0)), pid: Some(42), kind: kind.clone() }
}

fn error(kind: FailureKind, attempts: u32, asked: TaskId, chain: &[(TaskId, &str)]) -> String {
    let attempts = (0..attempts).map(|n| attempt(n, &kind)).collect();
    let args = vec![task(1).object(0), task(2).object(1)];
    let name = "demo::parse".to_owned();
    let failure = Arc::new(TaskFailure { task: task(5), name, args, kind, attempts });
    let chain = chain.iter().map(|(task, name)| (*task, (*name).to_owned())).collect();
    TaskError::new(asked.object(0), Failed { failure, chain }).to_string()
}

#[test]
fn an_error_of_the_task_with_its_attempts() {
    let kind = FailureKind::Error { message: "invalid digit".into() };
    assert_eq!(
        error(kind, 2, task(5), &[]),
        "task parse (job-0000abcd/1.5) failed on worker-0, executor 42: it returned an error: \
         invalid digit\n  arguments: job-0000abcd/1.1[0], job-0000abcd/1.2[1]\n  attempts: 2\n    \
         1 on worker-0, executor 42: it returned an error: invalid digit\n    \
         2 on worker-0, executor 42: it returned an error: invalid digit\n  \
         advice: if another attempt can end otherwise, set the option retries"
    );
}

#[test]
fn a_panic_with_its_backtrace_and_the_chain_that_failed_with_it() {
    let backtrace = "0: demo::parse\n1: main\n".to_owned();
    let kind = FailureKind::Panicked { message: "boom at src/main.rs:3:5".into(), backtrace };
    let chain = [(task(5), "demo::parse"), (task(6), "demo::sum"), (task(9), "demo::report")];
    assert_eq!(
        error(kind, 1, task(9), &chain),
        "task parse (job-0000abcd/1.5) failed on worker-0, executor 42: it panicked: boom at \
         src/main.rs:3:5\n  arguments: job-0000abcd/1.1[0], job-0000abcd/1.2[1]\n  \
         failed with it: -> sum (job-0000abcd/1.6) -> report (job-0000abcd/1.9)\n  \
         backtrace:\n    0: demo::parse\n    1: main\n  \
         advice: debug it as a plain call in one process"
    );
}

#[test]
fn a_death_with_its_signal_memory_and_last_words() {
    let stderr_tail = "double free\n".to_owned();
    let death = Death { signal: Some(6), exit_code: None, peak_memory: 3 << 20, stderr_tail };
    assert_eq!(
        error(FailureKind::Died(death), 1, task(5), &[]),
        "task parse (job-0000abcd/1.5) failed on worker-0, executor 42: its executor was killed by \
         SIGABRT (signal 6) (peak memory 3 MiB)\n  last lines of stderr:\n    double free\n  \
         arguments: job-0000abcd/1.1[0], job-0000abcd/1.2[1]\n  advice: it may be a bug in native \
         code: debug it as a plain call in one process"
    );
}

#[test]
fn limits_are_named_with_what_was_used() {
    let limit = FailureKind::MemoryLimit { limit: 1 << 30, used: 3 << 29 };
    let text = error(limit, 1, task(5), &[]);
    assert!(text.contains("it used 1.5 GiB of memory, more than its limit of 1 GiB"), "{text}");
    let text = error(FailureKind::TimeLimit { limit_us: 1_500_000 }, 1, task(5), &[]);
    assert!(text.contains("it ran past its time limit of 1.5 s"), "{text}");
    let cancelled = FailureKind::Cancelled { reason: "by the user".into() };
    let text = error(cancelled, 0, task(5), &[]);
    assert!(
        text.starts_with("task parse (job-0000abcd/1.5) failed: it was cancelled: by the user")
    );
}

#[test]
fn a_cycle_names_its_functions() {
    let names = ["a", "b", "a"].map(str::to_owned).to_vec();
    assert_eq!(
        Error::Cycle { names }.to_string(),
        "the graph has a cycle, so none of its tasks could ever start: a -> b -> a; take out one \
         of the dependencies that close it"
    );
}
