//! Compares the graph's answer with a count in one process, on a folder made for the purpose.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use manyhands::Client;
use manyhands_example_wordcount::text::files_below;
use manyhands_example_wordcount::{alone, count};

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes `files` files of some hundred words each, with a few words that are frequent.
fn generated(name: &str, files: u64) -> Folder {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    for file in 0..files {
        let inner = folder.join(format!("chapter-{}", file % 7));
        std::fs::create_dir_all(&inner).unwrap();
        let words = (0..200 + file * 3).map(|n| {
            let x = (file * 1_000_003 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            match x % 5 {
                0 => "Hands".to_owned(),
                1 => format!("many_{}", x % 11),
                _ => format!("w{}", x % 5000),
            }
        });
        let text: Vec<_> = words.collect();
        std::fs::write(inner.join(format!("{file}.txt")), text.join(", ")).unwrap();
    }
    Folder(folder)
}

/// Runs a test's work, but no longer than two minutes.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    end.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[test]
fn the_graph_agrees_with_one_process_in_every_count() {
    let folder = generated("words", 150);
    let files = files_below(std::slice::from_ref(&folder.0)).unwrap();
    assert_eq!(files.len(), 150);
    let every_word = 10_000;
    let expected = alone(&files, every_word).unwrap();
    assert_eq!(expected.top.len() as u64, expected.distinct, "all of them are compared");
    assert_eq!(expected.top[0].0, "hands");
    let work = move || count(&Client::local().unwrap(), &files, every_word).unwrap();
    assert_eq!(in_time("the words", work), expected);
}

#[test]
fn a_folder_without_text_has_no_words() {
    let folder = generated("nothing", 0);
    std::fs::create_dir_all(&folder.0).unwrap();
    let files = files_below(std::slice::from_ref(&folder.0)).unwrap();
    let work = move || count(&Client::local().unwrap(), &files, 20).unwrap();
    assert_eq!(in_time("no words", work).words, 0);
}
