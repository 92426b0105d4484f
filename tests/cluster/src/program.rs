//! The program `manyhands` of this workspace, and places for what tests write.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names another program to be tested.
const VARIABLE: &str = "MANYHANDS_TEST_PROGRAM";

/// The program `manyhands`, built with the profile of the calling program and beside it. Cargo
/// tells the tests of other packages neither where it is nor that they need it.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os(VARIABLE) {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let profile = profile_folder();
    let target = profile.parent().expect("a profile's folder is in the target folder");
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = if name == "debug" { "dev" } else { name };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "manyhands-cli", "--profile", name])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status();
    let status = status.unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    assert!(status.success(), "cargo build --package manyhands-cli failed: {status}");
    profile.join("manyhands")
}

/// `target/debug` or its like: programs lie there, and tests in a folder of it.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let folder = own.parent().expect("a program lies in a folder");
    match folder.ends_with("deps") {
        true => folder.parent().unwrap_or(folder).to_owned(),
        false => folder.to_owned(),
    }
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one, in the target folder.
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = scratch().join(format!("{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the target folder can be written");
        Folder(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the target folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where tests may leave what the next run can use again.
pub fn scratch() -> PathBuf {
    profile_folder().with_file_name("cluster-tests")
}
