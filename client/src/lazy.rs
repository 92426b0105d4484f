//! Nodes of a graph: calls that run when somebody asks for their results.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytemuck::Pod;
use manyhands_executor::TaskEntry;
use manyhands_proto::task::TaskOptions;
use smallvec::SmallVec;

use crate::args::{Args, Source};
use crate::error::Error;
use crate::foreign::Callee;
use crate::slice::Slice;

/// One call. Shared by whoever has a [`Lazy`] of one of its results, and by the nodes that need
/// one.
pub(crate) struct Node {
    pub(crate) callee: Callee,
    pub(crate) args: SmallVec<[u8; 32]>,
    pub(crate) sources: SmallVec<[Source; 1]>,
    pub(crate) outputs: AtomicU16,
    /// Scratch of the walk that builds a graph.
    pub(crate) mark: AtomicU64,
    /// There is something in `rare`: most nodes are never locked.
    is_rare: AtomicBool,
    rare: Mutex<Option<Box<Rare>>>,
}

/// What few nodes have.
#[derive(Default)]
pub(crate) struct Rare {
    pub(crate) options: TaskOptions,
    pub(crate) after: Vec<Arc<Node>>,
    pub(crate) error: Option<Error>,
    /// Its results in a session that it was submitted to and that holds them.
    pub(crate) submitted: Option<Submitted>,
}

/// Where a node was submitted. Does not hold the results: whoever has a handle does.
pub(crate) struct Submitted {
    pub(crate) session: std::sync::Weak<crate::session::Session>,
    pub(crate) job: u32,
    pub(crate) seq: u64,
}

impl Node {
    pub(crate) fn new(callee: Callee, outputs: u16, args: Args) -> Arc<Node> {
        let Args { bytes, sources, error } = args;
        let rare = error.map(|error| Box::new(Rare { error: Some(*error), ..Rare::default() }));
        Arc::new(Node {
            callee,
            args: bytes,
            sources,
            outputs: AtomicU16::new(outputs),
            mark: AtomicU64::new(0),
            is_rare: AtomicBool::new(rare.is_some()),
            rare: Mutex::new(rare),
        })
    }

    /// Looks at what few nodes have; `None` if it has none of it.
    pub(crate) fn with_rare<R>(&self, look: impl FnOnce(&Rare) -> R) -> Option<R> {
        if !self.is_rare.load(Ordering::Acquire) {
            return None;
        }
        self.rare.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(look)
    }

    pub(crate) fn change_rare(&self, change: impl FnOnce(&mut Rare)) {
        let mut rare = self.rare.lock().unwrap_or_else(PoisonError::into_inner);
        change(rare.get_or_insert_default());
        self.is_rare.store(true, Ordering::Release);
    }

    pub(crate) fn output_count(&self) -> u16 {
        self.outputs.load(Ordering::Relaxed)
    }
}

// A chain of a million nodes must not be dropped by a million nested calls.
impl Drop for Node {
    fn drop(&mut self) {
        fn empty(node: &mut Node, into: &mut Vec<Arc<Node>>) {
            for source in node.sources.drain(..) {
                if let Source::Lazy(node, _) = source {
                    into.push(node);
                }
            }
            let rare = node.rare.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(rare) = rare {
                into.append(&mut rare.after);
            }
        }
        if self.sources.is_empty() && !*self.is_rare.get_mut() {
            return;
        }
        let mut released = Vec::new();
        empty(self, &mut released);
        while let Some(node) = released.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                empty(&mut node, &mut released);
            }
        }
    }
}

/// A result of a call that has not run: a typed node of a graph.
///
/// Making one runs nothing; [`Client::compute`](crate::Client::compute) runs it with all that it
/// needs. A clone stands for the same call, which runs once per graph. What may be asked of a task
/// (retries, resources and so on) belongs to the call and not to the clone, and counts when it is
/// submitted.
///
/// ```
/// # #[manyhands::task]
/// # fn add(a: i64, b: i64) -> i64 { a + b }
/// let three = add::lazy(1, 2).retries(3);
/// let six = add::lazy(&three, 3);
/// let twelve = add::lazy(&six, &six);
/// assert_eq!(manyhands::graph::stats(&twelve).tasks, 3);
/// ```
pub struct Lazy<T> {
    pub(crate) node: Arc<Node>,
    pub(crate) index: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Lazy::new(self.node.clone(), self.index)
    }
}

impl<T> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lazy({})", self.node.callee.name())
    }
}

impl<T> Lazy<T> {
    pub(crate) fn new(node: Arc<Node>, index: u32) -> Lazy<T> {
        Lazy { node, index, of: PhantomData }
    }

    fn option(self, change: impl FnOnce(&mut TaskOptions)) -> Self {
        self.node.change_rare(|rare| change(&mut rare.options));
        self
    }

    /// How often it runs again after an error of its own: an `Err`, a panic, its time or memory
    /// limit. 0 unless set.
    pub fn retries(self, times: u32) -> Self {
        self.option(|options| options.retries = times)
    }

    /// How often it runs again after the death of its executor or worker. 2 unless set.
    pub fn crash_retries(self, times: u32) -> Self {
        self.option(|options| options.crash_retries = times)
    }

    /// How long one attempt may run.
    pub fn time_limit(self, limit: Duration) -> Self {
        self.option(|options| options.time_limit_us = Some(limit.as_micros() as u64))
    }

    /// The point in time by which it must have ended, attempts and waiting included.
    pub fn deadline(self, at: SystemTime) -> Self {
        let unix = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.option(|options| options.deadline_unix_us = Some(unix.as_micros() as u64))
    }

    /// Larger runs earlier, within its job. 0 unless set.
    pub fn priority(self, priority: i32) -> Self {
        self.option(|options| options.priority = priority)
    }

    /// How many cores it occupies while it runs, in steps of a thousandth. 1 unless set.
    pub fn cores(self, cores: f64) -> Self {
        self.option(|options| options.resources.millicores = thousandths(cores) as u32)
    }

    /// How much memory it needs while it runs, in bytes: no more such tasks run at one time than
    /// there is memory for.
    pub fn memory(self, bytes: u64) -> Self {
        self.option(|options| options.resources.memory = bytes)
    }

    /// How much it occupies of a resource that workers have by name, in steps of a thousandth.
    pub fn resource(self, name: &str, amount: f64) -> Self {
        self.option(|options| {
            let named = &mut options.resources.named;
            named.retain(|(other, _)| other != name);
            let place = named.partition_point(|(other, _)| other.as_str() < name);
            named.insert(place, (name.to_owned(), thousandths(amount)));
        })
    }

    /// A label that its worker must carry.
    pub fn label(self, key: &str, value: &str) -> Self {
        self.option(|options| options.labels.push((key.to_owned(), value.to_owned())))
    }

    /// Its executor is stopped when it owns more memory than this, in bytes.
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.option(|options| options.memory_limit = Some(bytes))
    }

    /// Runs only after `other` has ended well, though it takes no result of it. Two calls that are
    /// each after the other are a cycle, which is refused when the graph is built.
    pub fn after<U>(self, other: &Lazy<U>) -> Self {
        let other = other.node.clone();
        self.node.change_rare(|rare| rare.after.push(other));
        self
    }
}

fn thousandths(amount: f64) -> u64 {
    (amount.max(0.0) * 1000.0).round() as u64
}

impl<T: Pod + Send> Lazy<Vec<T>> {
    /// The same result, to be read where it lies and not copied.
    pub fn slice(&self) -> Lazy<Slice<T>> {
        Lazy::new(self.node.clone(), self.index)
    }
}

/// What the function of a task with `#[task(parts)]` returns: a number of objects that is known
/// when it is called. Never made; [`Lazy::parts`] takes the results apart.
pub struct Parts<T>(PhantomData<fn() -> T>);

impl<T> Lazy<Parts<T>> {
    /// The task's results, one object each. The function must return exactly `n` of them, 1 to
    /// 65,535, else the task fails.
    ///
    /// ```
    /// #[manyhands::task(parts)]
    /// fn split(text: String) -> Vec<String> {
    ///     text.split(' ').map(str::to_owned).collect()
    /// }
    /// let words = split::lazy("many hands").parts(2);
    /// assert_eq!(words.len(), 2);
    /// ```
    pub fn parts(self, n: usize) -> Vec<Lazy<T>> {
        match u16::try_from(n) {
            Ok(outputs @ 1..) => self.node.outputs.store(outputs, Ordering::Relaxed),
            _ => {
                let Callee::Linked(TaskEntry { name, .. }) = self.node.callee else {
                    unreachable!("a typed call is of a task that is linked")
                };
                self.node.change_rare(|rare| rare.error = Some(Error::Outputs { name, parts: n }));
            }
        }
        (0..n as u32).map(|index| Lazy::new(self.node.clone(), index)).collect()
    }
}
