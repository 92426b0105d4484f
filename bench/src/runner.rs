//! Runs cases as `peers/bench.py` does: each in fresh processes, some repeats in each; a failure or
//! a time-out is recorded and ends nothing else.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use manyhands::Client;
use rustix::process::{Pid, Signal};

use crate::cases::{Case, Run, SLOTS};
use crate::record::{Metrics, Record};

/// The name under which our figures are recorded.
pub(crate) const SYSTEM: &str = "manyhands-rust";

/// What begins a line of a child's output that is a record.
const MARK: &str = "@@bench ";

/// What a child is told to do, before the case and the scale.
pub(crate) const CHILD: &str = "child";

/// Runs a case in fresh processes and hands out its records as they come.
pub(crate) fn run(
    case: &Case,
    scale: f64,
    processes: Option<u32>,
    mut each: impl FnMut(Record) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..processes.unwrap_or(case.processes) {
        spawn(case, scale, &mut each)?;
    }
    Ok(())
}

fn spawn(
    case: &Case,
    scale: f64,
    each: &mut impl FnMut(Record) -> io::Result<()>,
) -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([CHILD, case.name, &scale.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(case.limit_s);
    let (lines, received) = mpsc::channel();
    let stdout = child.stdout.take().expect("its output is piped");
    std::thread::spawn(move || {
        let whole = BufReader::new(stdout).lines().map_while(Result::ok);
        // The runner stops listening when the time is up.
        whole.for_each(|line| drop(lines.send(line)));
    });
    let mut stderr = child.stderr.take().expect("its errors are piped");
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read is all that there is to show.
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let failure = loop {
        match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(json) = line.strip_prefix(MARK) {
                    each(serde_json::from_str(json)?)?;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break Some(format!("over {} s", case.limit_s)),
            Err(mpsc::RecvTimeoutError::Disconnected) => break None,
        }
    };
    let status = end(&mut child, failure.is_some())?;
    let failure = failure.or_else(|| (!status.success()).then(|| status.to_string()));
    if let Some(failure) = failure {
        let errors = errors.join().unwrap_or_default();
        let mut record = Record::new(SYSTEM, case.name);
        record.failed = Some(failure);
        record.stderr = errors.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
        each(record)?;
    }
    Ok(())
}

/// Waits for a child that is at its end, or makes an end of it and its group.
fn end(child: &mut Child, kill: bool) -> io::Result<std::process::ExitStatus> {
    if kill && let Some(group) = Pid::from_raw(child.id() as i32) {
        // It may have just ended by itself.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    child.wait()
}

/// What a child does: the case's repeats in this process.
pub(crate) fn child(case: &Case, scale: f64) -> Result<(), Box<dyn Error>> {
    let mut template = Record::new(SYSTEM, case.name);
    template.scale = Some(scale);
    template.calib_ms = Some(calibrate());
    template.load1 = load();
    let emit = |metrics: Metrics| -> Result<(), Box<dyn Error>> {
        let record = Record { metrics, ..template.clone() };
        let mut out = io::stdout().lock();
        write!(out, "{MARK}")?;
        record.write(&mut out)?;
        Ok(out.flush()?)
    };
    match case.run {
        Run::Alone(run) => {
            for _ in 0..case.repeats {
                emit(run(scale)?)?;
            }
        }
        Run::WithClient(run) => {
            let client = Client::builder().slots(SLOTS).local()?;
            crate::cases::warm(&client)?;
            for _ in 0..case.repeats {
                emit(run(&client, scale)?)?;
            }
        }
    }
    Ok(())
}

/// Milliseconds for a fixed loop: the machine's speed at this moment. (The peers' is a loop of
/// Python: not the same figure.)
fn calibrate() -> f64 {
    let start = Instant::now();
    let mut x = 1u64;
    for i in 0..20_000_000u64 {
        x = std::hint::black_box(x.wrapping_mul(6364136223846793005) ^ i);
    }
    (start.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
