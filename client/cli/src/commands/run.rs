//! `manyhands run`

mod array;
mod files;
mod interrupt;
mod output;
mod report;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use manyhands::{Client, Handle, Lazy, Slice};

use crate::cli::{Connect, Shown};
use crate::commands::{label, named};
use crate::failure::Failure;
use crate::order::{self, Order};
use crate::units::{Bytes as Size, Span};

use array::Array;
use files::{In, Out};
use output::Output;
use report::Report;

/// Commands that are under way at one time: so many are sent ahead.
const WINDOW: usize = 1 << 14;

/// The longest command line with its environment, in bytes.
const ORDER_LIMIT: usize = 32 << 10;

/// What tasks have that say nothing else.
const CRASH_RETRIES: u32 = 2;

/// Run a command line on some worker, as if it ran here
///
/// It runs in a fresh directory that is removed afterwards; the files that it needs and makes are
/// named by --in and --out. What it prints comes back while it runs, and its exit code is ours: 128+n
/// if signal n ended it, 124 if its time was over, 125 if it could not be run, 126 and 127 if its
/// program was not to be started or found. Of an array it is the highest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    manyhands run -- hostname\n  \
    manyhands run --cpus 4 --memory 2GiB --time-limit 1h -- make -j4\n  \
    manyhands run --in data.csv --out result.csv -- sort data.csv -o result.csv\n  \
    manyhands run --array 1-1000 --out img-{}.png -- render --frame {} img-{}.png\n  \
    tar c src | manyhands run -- wc -c")]
pub(crate) struct Run {
    /// Run it once for each of these indices: A-B, A-B:STEP, or several of these with commas. {} in
    /// arguments, values and names of files stands for the index, MANYHANDS_ARRAY_INDEX too
    #[arg(long, value_name = "A-B[:STEP]")]
    array: Option<Array>,
    /// Set a variable of its environment; without a value, as it is here
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Run it in this directory of the worker, and not in a fresh one
    #[arg(long, value_name = "DIR", conflicts_with_all = ["in", "out"])]
    cwd: Option<String>,
    /// Give it a file, under this name within its directory (its own name unless set)
    #[arg(long = "in", id = "in", value_name = "LOCAL[:REMOTE]")]
    ins: Vec<In>,
    /// Bring a file back when it has ended well (to its own name unless set)
    #[arg(long = "out", id = "out", value_name = "REMOTE[:LOCAL]")]
    outs: Vec<Out>,
    /// Do not give it our standard input. It is given, up to its end, unless it is a terminal
    #[arg(long)]
    no_stdin: bool,
    /// How many cores it occupies
    #[arg(long, value_name = "N")]
    cpus: Option<f64>,
    /// How much memory it occupies
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// How much it occupies of a resource that workers have by name
    #[arg(long, value_name = "NAME=N", value_parser = named)]
    resource: Vec<(String, f64)>,
    /// A label that its worker must carry
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// How long one attempt may run
    #[arg(long, value_name = "TIME")]
    time_limit: Option<Span>,
    /// How often it runs again when its exit code is not 0, or its time is over
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// How often it runs again when it was cut off: its worker, or the process that runs it there, has
    /// died. With 0 it is never begun twice
    #[arg(long, value_name = "N", default_value_t = CRASH_RETRIES)]
    crash_retries: u32,
    /// The name of the job
    #[arg(long)]
    name: Option<String>,
    /// Begin each line of an array's output with the index
    #[arg(long)]
    tag: bool,
    /// Run it in a cluster of this machine alone, which ends with it
    #[arg(long, conflicts_with = "address")]
    local: bool,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    shown: Shown,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

impl Run {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let order = self.order()?;
        let client = self.client()?;
        let contents = self.contents(&client)?;
        let output = Output::new(self.shown.json, self.array.is_some(), self.tag);
        let first = contents.len() as u64;
        let indices: Vec<Option<u64>> = match &self.array {
            Some(array) => array.iter().map(Some).collect(),
            None => vec![None],
        };
        let indices = Arc::new(indices);
        output.listen(&client, first, indices.clone());
        let interrupted = interrupt::cancel(&client)?;
        let waiting = waiting::tell_why(&client);
        let mut report = Report::new(output.clone(), interrupted);
        let call = |place: usize| {
            let order = Order { index: indices[place], ..order.clone() };
            self.ask_for(order::command::lazy(order, contents.clone()))
        };
        let calls = client.map(0..indices.len(), call).window(WINDOW);
        for (place, result) in calls.as_completed() {
            let kept = result.map(|outs| files::bring(&client, &self.outs, indices[place], outs));
            report.ended(indices[place], kept);
        }
        drop(waiting);
        // What the tasks printed has come before their ends: it is printed now.
        client.shutdown();
        Ok(report.finish(&output))
    }

    /// The command line, as it was given.
    #[cfg(test)]
    pub(crate) fn words(&self) -> &[std::ffi::OsString] {
        &self.command
    }

    fn client(&self) -> Result<Client, Failure> {
        let name = self.command[0].to_string_lossy();
        let builder = Client::builder().name(self.name.as_deref().unwrap_or(&name));
        Ok(match self.local {
            true => builder.local()?,
            false => builder.connect(self.connect.address()?)?,
        })
    }

    fn order(&self) -> Result<Order, Failure> {
        use std::os::unix::ffi::OsStrExt;
        let words = self.command.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
        let order = Order {
            words: words.collect(),
            env: self.env.iter().map(|text| variable(text)).collect::<Result<_, _>>()?,
            dir: self.cwd.as_ref().map(|dir| Bytes::from(dir.clone())),
            index: None,
            files: self.ins.iter().map(In::file).collect::<Result<_, _>>()?,
            stdin: self.has_stdin(),
            outs: self.outs.iter().map(Out::name).collect(),
        };
        let words = order.words.iter().map(Bytes::len).sum::<usize>();
        let size =
            words + order.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if size > ORDER_LIMIT {
            let message =
                format!("{size} bytes, of {ORDER_LIMIT} at most: put it into a file, --in");
            return Err(Failure::value("the command line and its environment", message));
        }
        Ok(order)
    }

    fn has_stdin(&self) -> bool {
        use std::io::IsTerminal;
        !self.no_stdin && !std::io::stdin().is_terminal()
    }

    /// The files, then standard input, in the cluster.
    fn contents(&self, client: &Client) -> Result<Vec<Handle<Slice<u8>>>, Failure> {
        let mut contents = Vec::new();
        for file in &self.ins {
            contents.push(client.put(&file.read()?)?.slice());
        }
        if self.has_stdin() {
            contents.push(client.put(&files::stdin()?)?.slice());
        }
        Ok(contents)
    }

    fn ask_for<T>(&self, call: Lazy<T>) -> Lazy<T> {
        let mut call = call;
        if let Some(cores) = self.cpus {
            call = call.cores(cores);
        }
        if let Some(memory) = self.memory {
            call = call.memory(memory.0);
        }
        if let Some(Span(limit)) = self.time_limit {
            call = call.time_limit(limit.max(Duration::from_micros(1)));
        }
        if self.crash_retries != CRASH_RETRIES {
            call = call.crash_retries(self.crash_retries);
        }
        if self.retries > 0 {
            call = call.retries(self.retries);
        }
        for (name, amount) in &self.resource {
            call = call.resource(name, *amount);
        }
        self.label.iter().fold(call, |call, (key, value)| call.label(key, value))
    }
}

fn variable(text: &str) -> Result<(Bytes, Bytes), Failure> {
    use std::os::unix::ffi::OsStringExt;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.as_bytes().to_vec()),
        None => {
            let value = std::env::var_os(text)
                .ok_or_else(|| Failure::value("--env", format!("{text} is not set here")))?;
            (text, value.into_vec())
        }
    };
    if name.is_empty() {
        return Err(Failure::value("--env", format!("{text:?} names no variable")));
    }
    Ok((Bytes::from(name.to_owned()), value.into()))
}
