//! Plants bugs in a copy of the workspace, one at a time, and sees that each is found.
//!
//! A mutant is a file in `scheduler/sim/mutants`: a line that says what is wrong, a line
//! `file: PATH`, and the exact text that is replaced and what replaces it, between marks:
//!
//! ```text
//! A task's hold on its inputs is never released.
//! file: scheduler/core/src/ends.rs
//! <<<<
//! the text as it is
//! ====
//! the text as it shall be
//! >>>>
//! ```
//!
//! The seeds are played first, then two jobs that share the slots; a mutant that survives them may
//! still be found by the unit tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long the seeds, or the tests, may take. A mutant that makes them hang is found.
const LIMIT: Duration = Duration::from_secs(300);

/// Seeds that are played on each mutant.
const SEEDS: u32 = 300;

struct Mutant {
    name: String,
    what: String,
    file: String,
    old: String,
    new: String,
}

enum Verdict {
    Seed(String),
    Fairness,
    UnitTests,
    Survived,
    Rotten(String),
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let only: Vec<String> = std::env::args().skip(1).collect();
    match run(&root, &only) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, only: &[String]) -> Result<bool, String> {
    let mut mutants = read_all(&root.join("scheduler/sim/mutants"))?;
    mutants.retain(|mutant| only.is_empty() || only.contains(&mutant.name));
    let copy = root.join("target/mutants");
    copy_sources(root, &copy.join("source"))?;
    check_clean(&copy)?;
    let mut survivors = 0;
    for mutant in &mutants {
        let verdict = try_mutant(&copy, mutant);
        let words = match &verdict {
            Verdict::Seed(line) => format!("found by {line}"),
            Verdict::Fairness => "found by the two jobs that share the slots".to_owned(),
            Verdict::UnitTests => "found by the unit tests".to_owned(),
            Verdict::Survived => "SURVIVED".to_owned(),
            Verdict::Rotten(why) => format!("ROTTEN: {why}"),
        };
        println!("{}: {}\n    {words}", mutant.name, mutant.what);
        survivors += u32::from(matches!(verdict, Verdict::Survived | Verdict::Rotten(_)));
    }
    println!("{} mutants, {survivors} not found", mutants.len());
    Ok(survivors == 0)
}

fn read_all(folder: &Path) -> Result<Vec<Mutant>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "mutant")).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Mutant, String> {
    let wrong = || format!("{} is not laid out as a mutant", path.display());
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (head, rest) = text.split_once("\n<<<<\n").ok_or_else(wrong)?;
    let (old, rest) = rest.split_once("\n====\n").ok_or_else(wrong)?;
    let (new, _) = rest.split_once(">>>>").ok_or_else(wrong)?;
    let (what, file) = head.split_once("\nfile: ").ok_or_else(wrong)?;
    let name = path.file_stem().ok_or_else(wrong)?.to_string_lossy().into_owned();
    let new = new.strip_suffix('\n').unwrap_or(new);
    let (what, file) = (what.to_owned(), file.trim().to_owned());
    Ok(Mutant { name, what, file, old: old.to_owned(), new: new.to_owned() })
}

/// Copies what the workspace is built from. Files that are the same already keep their time, so
/// that little is built again.
fn copy_sources(from: &Path, to: &Path) -> Result<(), String> {
    let error = |error: std::io::Error| format!("copying {}: {error}", from.display());
    fs::create_dir_all(to).map_err(error)?;
    for entry in fs::read_dir(from).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (name, path) = (entry.file_name(), entry.path());
        let left_out = ["target", ".git", "data", "mutants", "peers", ".venv"];
        if left_out.iter().any(|out| name.to_str() == Some(out)) {
            continue;
        }
        if path.is_dir() {
            copy_sources(&path, &to.join(&name))?;
        } else {
            write_changed(&to.join(&name), &fs::read(&path).map_err(error)?)?;
        }
    }
    Ok(())
}

fn write_changed(path: &Path, content: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// Without a mutant the seeds must pass, or nothing is shown by their failing.
fn check_clean(copy: &Path) -> Result<(), String> {
    build(copy)?;
    match play(copy) {
        None => Ok(()),
        Some(line) => Err(format!("without any mutant: {line}")),
    }
}

fn try_mutant(copy: &Path, mutant: &Mutant) -> Verdict {
    let path = copy.join("source").join(&mutant.file);
    let Ok(source) = fs::read_to_string(&path) else {
        return Verdict::Rotten(format!("there is no {}", mutant.file));
    };
    let times = source.matches(&mutant.old).count();
    if times != 1 {
        return Verdict::Rotten(format!("its text occurs {times} times in {}", mutant.file));
    }
    let verdict = match fs::write(&path, source.replace(&mutant.old, &mutant.new)) {
        Err(error) => Verdict::Rotten(error.to_string()),
        Ok(()) => judge(copy),
    };
    match fs::write(&path, source) {
        Ok(()) => verdict,
        Err(error) => Verdict::Rotten(format!("the source could not be restored: {error}")),
    }
}

fn judge(copy: &Path) -> Verdict {
    if let Err(why) = build(copy) {
        return Verdict::Rotten(why);
    }
    if let Some(line) = play(copy) {
        return Verdict::Seed(line);
    }
    if finish(sim(copy, &["fairness"])) != Some(true) {
        return Verdict::Fairness;
    }
    let crates = ["-p", "manyhands-proto", "-p", "manyhands-scheduler-core"];
    let mut tests = cargo(copy, &["test", "--quiet", "--lib"]);
    tests.args(crates).args(["-p", "manyhands-worker-core"]).stdout(Stdio::null());
    match finish(tests) {
        Some(true) => Verdict::Survived,
        _ => Verdict::UnitTests,
    }
}

fn cargo(copy: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args).current_dir(copy.join("source"));
    command.env("CARGO_TARGET_DIR", copy.join("build"));
    command
}

fn sim(copy: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(copy.join("build/debug/manyhands-sim"));
    command.args(args).stdout(Stdio::null());
    command
}

fn build(copy: &Path) -> Result<(), String> {
    let mut build = cargo(copy, &["build", "--quiet", "-p", "manyhands-sim"]);
    let output = build.output().map_err(|error| format!("cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let errors = text.lines().filter(|line| line.starts_with("error"));
    Err(format!("does not build: {}", errors.collect::<Vec<_>>().join("; ")))
}

/// Plays the seeds up to the first that fails, and says which that is.
fn play(copy: &Path) -> Option<String> {
    let mut command = sim(copy, &["--seeds", &format!("0..{SEEDS}"), "--first"]);
    let out = copy.join("played");
    let file = fs::File::create(&out).ok()?;
    command.stdout(file).stderr(Stdio::null());
    match finish(command) {
        Some(true) => None,
        None => Some("a seed that does not end".to_owned()),
        Some(false) => {
            let text = fs::read_to_string(&out).unwrap_or_default();
            let line = text.lines().next().unwrap_or("a crash of the simulator");
            Some(line.chars().take(200).collect())
        }
    }
}

/// Whether a command succeeds; `None` when it had to be stopped.
fn finish(mut command: Command) -> Option<bool> {
    let mut child = command.stderr(Stdio::null()).spawn().ok()?;
    let began = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status.success());
        }
        if began.elapsed() > LIMIT {
            // Whether it can be killed or not, it is not waited for.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
