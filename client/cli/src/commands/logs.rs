//! `manyhands logs`

use std::io::Write;

use clap::Args;
use manyhands::Stream;
use serde_json::json;

use crate::cli::{Connect, Shown};
use crate::failure::Failure;
use crate::names;
use crate::table::print_json;

/// Print what a task has printed: its standard output here to ours, its standard error to ours
///
/// The scheduler keeps the last of it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  manyhands logs job-1f3a09bc/1.42")]
pub(crate) struct Logs {
    /// The task, as `manyhands tasks` shows it
    task: String,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
}

impl Logs {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let cluster = self.connect.cluster()?;
        let task = names::task(&cluster, &self.task)?;
        let logs = cluster.logs(task)?;
        if self.shown.json {
            let piece = |(stream, bytes): &(Stream, bytes::Bytes)| {
                let stream = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                json!({ "stream": stream, "text": String::from_utf8_lossy(bytes) })
            };
            return print_json(&json!({
                "task": task.to_string(),
                "dropped": logs.dropped,
                "pieces": logs.pieces.iter().map(piece).collect::<Vec<_>>(),
            }));
        }
        if logs.dropped > 0 {
            eprintln!("[{} bytes before this are no longer kept]", logs.dropped);
        }
        for (stream, bytes) in &logs.pieces {
            write(*stream, bytes).map_err(Failure::Print)?;
        }
        Ok(())
    }
}

/// Writes to the stream of ours that has the same name.
pub(crate) fn write(stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => std::io::stderr().write_all(bytes),
    }
}
