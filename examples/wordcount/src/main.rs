//! Prints the most frequent words of a folder of text.
//!
//! ```text
//! wordcount [--top 20] [folder...]
//! ```
//!
//! Without a folder it reads the sources of this project's own dependencies.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use manyhands::Client;
use manyhands_example_wordcount::{alone, count, text};

fn main() -> Result<(), Box<dyn Error>> {
    let (top, mut folders) = arguments()?;
    if folders.is_empty() {
        folders = text::dependencies()?;
    }
    let files = text::files_below(&folders)?;
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    println!("{} files, {:.1} MB", files.len(), bytes as f64 / 1e6);

    let start = Instant::now();
    let expected = alone(&files, top)?;
    let one_process = start.elapsed();

    let start = Instant::now();
    let client = Client::start()?;
    let answer = count(&client, &files, top)?;
    let took = start.elapsed();

    println!("{} words, {} different ones", answer.words, answer.distinct);
    for (word, count) in &answer.top {
        println!("{count:>10}  {word}");
    }
    println!(
        "manyhands {:.3} s (with its start), one process {:.3} s: {:.2} times as fast",
        took.as_secs_f64(),
        one_process.as_secs_f64(),
        one_process.as_secs_f64() / took.as_secs_f64()
    );
    if answer != expected {
        return Err("the two do not agree".into());
    }
    Ok(())
}

/// How many words to print, and the folders to read.
fn arguments() -> Result<(usize, Vec<PathBuf>), Box<dyn Error>> {
    let (mut top, mut folders) = (20, Vec::new());
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--top" {
            let count = args.next().and_then(|count| count.into_string().ok());
            top = count.ok_or("--top needs a number")?.parse()?;
        } else {
            folders.push(arg.into());
        }
    }
    Ok((top, folders))
}
