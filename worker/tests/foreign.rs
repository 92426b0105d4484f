//! Executors of other programs than the host's own, and files that are no programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use manyhands_executor::Invocation;
use manyhands_proto::Time;
use manyhands_proto::executor::ReturnedBytes;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::Codec;
use manyhands_worker::host::{HostEvent, Program};
use manyhands_worker_core::event::ExecutorId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

mod crew;
use crew::{Crew, LIMIT, run};

tasks!(who);

/// The process id of the template, and the program.
fn who(call: &mut Invocation<'_>) -> Result<(), FailureKind> {
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let path = std::fs::read_link("/proc/self/exe").unwrap();
    let words = format!("{parent} {}", path.display());
    call.return_bytes(Codec::RAW, Vec::new(), words.as_bytes())
}

/// Files of a test's own. One test at a time: a program that is just being written by one thread
/// cannot be run while another one forks.
struct Place {
    path: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    fn new() -> Place {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::env::temp_dir().join(format!("manyhands-foreign-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).unwrap();
        Place { path, _alone: alone }
    }

    fn program(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn own() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

fn start(crew: &mut Crew, number: u32, path: &Path) -> ExecutorId {
    let id = ExecutorId(number);
    let program = Program::Rust { hash: u128::from(number), path: path.to_owned() };
    crew.host.start_executor(id, &program);
    id
}

fn failure(crew: &mut Crew) -> String {
    crew.until("that an executor does not start", |event| match event {
        HostEvent::StartFailed { message, .. } => Some(message.clone()),
        HostEvent::Started { id, .. } => panic!("{id:?} has started"),
        _ => None,
    })
}

/// The template's process id and the program, as a task tells them.
fn ask(crew: &mut Crew, id: ExecutorId, seq: u64) -> (u32, String) {
    crew.feed(id, &run("who", seq));
    let end = crew.end();
    let result = end.result.unwrap();
    let ReturnedBytes::Inline(bytes) = &result[0].bytes else { panic!("it is small") };
    let words = String::from_utf8(bytes.to_vec()).unwrap();
    let (pid, path) = words.split_once(' ').unwrap();
    (pid.parse().unwrap(), path.to_owned())
}

#[test]
fn each_program_has_a_template_that_ends_when_it_is_idle() {
    let (place, mut crew) = (Place::new(), Crew::new());
    let other = place.program("other", &[own(), b"another one".to_vec()].concat());
    let first = crew.executor();
    let second = start(&mut crew, 50, &other);
    let (own_template, own_path) = ask(&mut crew, first, 1);
    let (template, path) = ask(&mut crew, second, 2);
    assert_eq!(Some(own_template), crew.host.template_pid());
    assert_ne!(template, own_template);
    assert_eq!(Path::new(&path), other);
    assert_ne!(path, own_path);

    // The first executor may be faster than its template's word that it was forked.
    let begin = Instant::now();
    while crew.host.next_look().is_some() {
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} for a template to answer");
        crew.turn(&mut Vec::new());
    }
    let watched = pidfd_open(Pid::from_raw(template as i32).unwrap(), PidfdFlags::empty()).unwrap();
    crew.host.retire(second);
    crew.host.flush();
    crew.death();
    let due = crew.host.next_look().expect("it is not kept for ever");
    crew.host.look_after(Time(due.0 - 1));
    assert_eq!(crew.host.next_look(), Some(due));
    crew.host.look_after(due);
    assert_eq!(crew.host.next_look(), None);
    let limit = Timespec { tv_sec: LIMIT.as_secs() as _, tv_nsec: 0 };
    let died = poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&limit));
    assert_eq!(died, Ok(1), "waited {LIMIT:?} for the end of an idle template");

    assert_eq!(ask(&mut crew, first, 3), (own_template, own_path), "ours stays");
    let third = start(&mut crew, 50, &other);
    assert_eq!(Path::new(&ask(&mut crew, third, 4).1), other, "and comes again when it is needed");
}

#[test]
fn what_cannot_be_executed_is_said_in_words() {
    let (place, mut crew) = (Place::new(), Crew::new());
    let mut foreign = own();
    foreign[18..20].copy_from_slice(&22_u16.to_ne_bytes());
    let mut no_loader = own();
    let loader = no_loader.windows(4).position(|window| window == b"/ld-").unwrap();
    no_loader[loader..loader + 4].copy_from_slice(b"/no-");
    let cases = [
        ("text", b"neither a program nor a script".to_vec(), "no program for this machine"),
        ("foreign", foreign, "no program for this machine"),
        ("no-loader", no_loader, "the loader) is not here"),
    ];
    for (number, (name, bytes, words)) in (1..).zip(cases) {
        let path = place.program(name, &bytes);
        start(&mut crew, number, &path);
        let message = failure(&mut crew);
        assert!(message.contains(words), "{message}");
        assert!(message.contains(&format!("program {number:032x}")), "{message}");
    }
    start(&mut crew, 9, &place.path.join("nothing"));
    assert!(failure(&mut crew).contains("cannot be started"));
    assert!(crew.host.is_empty());
}

#[test]
fn the_words_of_the_loader_are_passed_on() {
    let (place, mut crew) = (Place::new(), Crew::new());
    let mut bytes = own();
    let versions = bytes.windows(8).enumerate().filter(|(_, window)| *window == b"GLIBC_2.");
    let versions: Vec<usize> = versions.map(|(at, _)| at + 8).collect();
    if versions.is_empty() {
        println!("skipped: this program is not linked with glibc");
        return;
    }
    for at in versions {
        bytes[at..at + 2].copy_from_slice(b"99");
    }
    start(&mut crew, 1, &place.program("too-new", &bytes));
    let message = failure(&mut crew);
    assert!(message.contains("GLIBC_2.99") && message.contains("not found"), "{message}");
    assert!(message.contains("build it on a system as old as this one"), "{message}");
}

#[test]
fn programs_that_know_nothing_of_manyhands_are_found_out() {
    let (place, mut crew) = (Place::new(), Crew::new());
    let tool = |name| std::fs::read(Path::new("/bin").join(name)).unwrap();
    // One that ends at once, and one that reads its input until it ends.
    start(&mut crew, 1, &place.program("true", &tool("true")));
    let message = failure(&mut crew);
    assert!(message.contains("exited with code 0"), "{message}");
    assert!(message.contains("it must be linked with manyhands"), "{message}");

    start(&mut crew, 2, &place.program("cat", &tool("cat")));
    let due = crew.host.next_look().expect("it is not waited for for ever");
    crew.host.look_after(due);
    let message = failure(&mut crew);
    assert!(message.contains("did not answer"), "{message}");
    assert!(crew.host.is_empty());
    let executor = crew.executor();
    ask(&mut crew, executor, 1);
}
