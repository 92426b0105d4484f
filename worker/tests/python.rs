//! Executors of Python interpreters, as the host starts them: with their variables, in their
//! directory, told what to import; and what is said where that does not work.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manyhands_executor::Invocation;
use manyhands_proto::client::Environment;
use manyhands_proto::executor::ReturnedBytes;
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::Codec;
use manyhands_worker::host::{HostEvent, Program, Python};
use manyhands_worker_core::event::ExecutorId;

mod crew;
use crew::{Crew, run};

tasks!(surroundings);

/// The working directory, and two variables.
fn surroundings(call: &mut Invocation<'_>) -> Result<(), FailureKind> {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| "unset".to_owned());
    let directory = std::env::current_dir().unwrap();
    let words = [directory.display().to_string(), variable("FLAVOUR"), variable("MANYHANDS_TOKEN")];
    call.return_bytes(Codec::RAW, Vec::new(), words.join("\n").as_bytes())
}

/// Files of a test's own. One test at a time: a script that is just being written by one thread
/// cannot be run while another one forks.
struct Place {
    path: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    fn new() -> Place {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::env::temp_dir().join(format!("manyhands-python-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&path).unwrap();
        Place { path: path.canonicalize().unwrap(), _alone: alone }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Something that is run in place of an interpreter.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn start(crew: &mut Crew, number: u32, interpreter: &Path, environment: Environment) -> ExecutorId {
    let id = ExecutorId(number);
    let program = Program::Python(Python {
        interpreter: interpreter.to_owned(),
        environment: Arc::new(environment),
        archive: Some("/an/archive".into()),
        cache: "/a/cache".into(),
    });
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

/// An interpreter that says what it was told, and is this program's template then.
fn stand_in(place: &Place) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let (spec, exe) = (place.path.join("spec"), exe.display());
    let text = format!(
        "printf '%s\\n' \"$1\" \"$3\" \"$MANYHANDS_PYTHON_TEMPLATE\" >> {}\n\
         MANYHANDS_TEMPLATE=1 exec {exe}",
        spec.display()
    );
    place.script("stand-in", &text)
}

fn ask(crew: &mut Crew, id: ExecutorId, seq: u64) -> Vec<String> {
    crew.feed(id, &run("surroundings", seq));
    let result = crew.end().result.unwrap();
    let ReturnedBytes::Inline(bytes) = &result[0].bytes else { panic!("it is small") };
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_interpreter_is_started_as_its_environment_says_once_for_each() {
    let (place, mut crew) = (Place::new(), Crew::new());
    let interpreter = stand_in(&place);
    let here = place.path.display().to_string();
    let plain = Environment {
        preload: vec!["numpy".into()],
        path: vec!["/my \"modules\"".into()],
        requirements: vec!["flask>=3".into()],
        ..Environment::default()
    };
    let other = Environment {
        variables: vec![("FLAVOUR".into(), "vanilla".into())],
        directory: Some(here.clone()),
        ..plain.clone()
    };
    let first = start(&mut crew, 50, &interpreter, plain.clone());
    let second = start(&mut crew, 51, &interpreter, other);
    let third = start(&mut crew, 52, &interpreter, plain);
    let own = std::env::current_dir().unwrap().display().to_string();
    let unset = "unset".to_owned();
    assert_eq!(ask(&mut crew, first, 1), [own.clone(), unset.clone(), unset.clone()]);
    assert_eq!(ask(&mut crew, second, 2), [here, "vanilla".into(), unset.clone()]);
    assert_eq!(ask(&mut crew, third, 3), [own, unset.clone(), unset]);

    let told = std::fs::read_to_string(place.path.join("spec")).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), 6, "two interpreters: {told:?}");
    assert_eq!((told[0], told[2]), ("-c", "1"));
    let spec: BTreeMap<String, serde_json::Value> = serde_json::from_str(told[1]).unwrap();
    assert_eq!(spec["preload"], serde_json::json!(["numpy"]));
    assert_eq!(spec["path"], serde_json::json!(["/my \"modules\""]));
    assert_eq!(spec["requirements"], serde_json::json!(["flask>=3"]));
    assert_eq!(spec["archive"], "/an/archive");
    assert_eq!(spec["cache"], "/a/cache");
}

#[test]
fn an_interpreter_that_is_not_there_is_said_in_words() {
    let (place, mut crew) = (Place::new(), Crew::new());
    start(&mut crew, 1, &place.path.join("python9"), Environment::default());
    let message = failure(&mut crew);
    assert!(message.contains("python9") && message.contains("--python"), "{message}");
    let directory = Some(place.path.join("nowhere").display().to_string());
    let environment = Environment { directory, ..Environment::default() };
    start(&mut crew, 2, &stand_in(&place), environment);
    let message = failure(&mut crew);
    assert!(message.contains("nowhere is not on this machine"), "{message}");
    assert!(crew.host.is_empty());
}

#[test]
fn what_an_interpreter_says_before_it_ends_is_passed_on() {
    let (place, mut crew) = (Place::new(), Crew::new());
    // Without what is installed, and so without the package.
    let bare = place.script("bare", "exec python3 -S -E \"$@\"");
    start(&mut crew, 1, &bare, Environment::default());
    let message = failure(&mut crew);
    let words = "the package manyhands cannot be imported there";
    assert!(message.contains(words) && message.contains("--python"), "{message}");

    place.write("modules/manyhands/__init__.py", "");
    place.write(
        "modules/manyhands/_template.py",
        "import sys\ndef main(spec):\n    sys.exit('cannot import ' + spec['preload'][0])\n",
    );
    let environment = |path: Vec<String>| {
        let preload = vec!["lions".into()];
        Environment { preload, path, ..Environment::default() }
    };
    let modules = place.path.join("modules").display().to_string();
    start(&mut crew, 2, &bare, environment(vec!["/nowhere".into(), modules]));
    let message = failure(&mut crew);
    assert!(message.contains("cannot import lions"), "{message}");
    assert!(!message.contains("linked with manyhands"), "{message}");
}

#[test]
fn an_interpreter_that_never_gets_ready_is_given_up() {
    let (place, mut crew) = (Place::new(), Crew::new());
    let stuck = place.script("stuck", "exec sleep 1000");
    start(&mut crew, 1, &stuck, Environment::default());
    let requirements = vec!["flask".to_owned()];
    let installs = Environment { requirements, ..Environment::default() };
    start(&mut crew, 2, &stuck, installs);
    let due = crew.host.next_look().expect("it is not waited for for ever");
    crew.host.look_after(due);
    let message = failure(&mut crew);
    assert!(message.contains("did not get ready in 180 s"), "{message}");
    assert_eq!(crew.host.len(), 1, "what installs something has more time");
    assert!(crew.host.next_look().is_some_and(|later| later > due));
}
