//! What a program holds: a client of one job.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use manyhands_proto::client::{Explanation, JobCounts, Stream};
use manyhands_proto::{JobId, TaskId};

use crate::args::encode_put;
use crate::builder::Builder;
use crate::connection::Connection;
use crate::error::Error;
use crate::graph::{self, Purpose};
use crate::handle::{Handle, Reference};
use crate::lazy::Lazy;
use crate::map::Map;
use crate::session::{Key, PutBytes, Session};
use crate::targets::{References, Targets};
use crate::value::{Data, raw_bytes};
use manyhands_proto::value::Codec;

/// A client of one job: submits tasks, gets their results. Cheap to clone; a clone is of the same
/// job, and can be used from any thread.
///
/// A cluster that was started by [`Client::local`] ends with [`Client::shutdown`], or with the last
/// client and handle of it.
#[derive(Clone)]
pub struct Client {
    pub(crate) session: Arc<Session>,
    pub(crate) job: u32,
    id: JobId,
}

impl Client {
    /// Starts a cluster in this process, with a slot for each core: the real scheduler and worker on
    /// a thread, executors as child processes. Fails if the system refuses the thread, the
    /// processes or the files.
    #[cfg(feature = "local")]
    pub fn local() -> Result<Client, Error> {
        Client::builder().local()
    }

    /// Connects to a cluster, and opens a job in it, which ends with the last client and handle of
    /// it. The address is the line that the scheduler printed for clients,
    /// `manyhands://TOKEN@HOST:PORT`; `HOST:PORT` alone takes its token from `MANYHANDS_TOKEN`, or
    /// from the file that `MANYHANDS_TOKEN_FILE` names. Workers get this program from here when they
    /// first need it.
    ///
    /// A link that breaks comes back by itself; calls wait meanwhile. Fails with
    /// [`Error::Connect`] if nobody answers there, or does not let this client in.
    #[cfg(feature = "cluster")]
    pub fn connect(address: &str) -> Result<Client, Error> {
        Client::builder().connect(address)
    }

    /// A client of the cluster that `MANYHANDS_ADDRESS` names, as [`Client::connect`] takes it; if
    /// that is not set, of one in this process, as [`Client::local`] starts it. So the same program
    /// runs on a laptop and on a cluster.
    ///
    /// ```
    /// # fn main() -> Result<(), manyhands::Error> {
    /// let client = manyhands::Client::start()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(all(feature = "cluster", feature = "local"))]
    pub fn start() -> Result<Client, Error> {
        Client::builder().start()
    }

    /// Settings of a client, or of a cluster to start.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client with a job of its own over some connection.
    pub fn over(connection: Arc<dyn Connection>, name: &str) -> Result<Client, Error> {
        Client::of(Session::open(connection), name, 1)
    }

    /// A client with a job of its own in a session.
    pub(crate) fn of(session: Arc<Session>, name: &str, weight: u32) -> Result<Client, Error> {
        let (job, id) = session.open_job(name.to_owned(), weight)?;
        Ok(Client { session, job, id })
    }

    /// A client of the running task's job.
    pub(crate) fn within(session: Arc<Session>, id: JobId) -> Client {
        let job = session.join_job(id);
        Client { session, job, id }
    }

    /// A client of another job in the same cluster. Jobs share the slots by their weights: one of
    /// weight 2 gets twice the slots of one of weight 1 while both have work.
    pub fn job(&self, name: &str, weight: u32) -> Result<Client, Error> {
        Client::of(self.session.clone(), name, weight)
    }

    /// The id of its job.
    pub fn job_id(&self) -> JobId {
        self.id
    }

    /// The job gets no more tasks: what this session holds of it is released, and what nobody else
    /// holds is cancelled and forgotten.
    pub fn close_job(&self) {
        self.session.close_job(self.job);
    }

    /// Runs a graph and waits for its results: one node, or several in a vector, array or tuple.
    ///
    /// ```
    /// # #[manyhands::task]
    /// # fn add(a: i64, b: i64) -> i64 { a + b }
    /// # fn main() -> Result<(), manyhands::Error> {
    /// let client = manyhands::Client::local()?;
    /// let three = add::lazy(1, 2);
    /// let (six, all) = client.compute((add::lazy(&three, 3), vec![add::lazy(&three, 4)]))?;
    /// assert_eq!((six, all), (6, vec![7]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn compute<X: Targets>(&self, targets: X) -> Result<X::Values, Error> {
        let references = self.send(&targets, Purpose::Compute)?;
        self.wait_all(&references)?;
        targets.values(&mut References::new(references))
    }

    /// As [`Client::compute`], and tells `tell` where the job is whenever that changes, at most ten
    /// times a second.
    pub fn compute_with_progress<X: Targets>(
        &self,
        targets: X,
        mut tell: impl FnMut(JobCounts),
    ) -> Result<X::Values, Error> {
        let references = self.send(&targets, Purpose::Compute)?;
        let keys: Vec<Key> = references.iter().map(|reference| reference.key).collect();
        self.session.wait_with_progress(self.job, &keys, &mut tell)?;
        targets.values(&mut References::new(references))
    }

    /// As [`Client::compute`], awaited. The graph is sent before this returns.
    pub fn compute_async<X: Targets>(
        &self,
        targets: X,
    ) -> impl Future<Output = Result<X::Values, Error>> + use<X> {
        let sent = self.send(&targets, Purpose::Compute);
        Computing { targets, sent: Some(sent), at: 0, waiter: None }
    }

    /// Runs a graph and keeps its results in the cluster; does not wait. A node that was persisted
    /// or submitted is not run again by a later graph of this client while its handle lives.
    pub fn persist<X: Targets>(&self, targets: X) -> Result<X::Handles, Error> {
        let references = self.send(&targets, Purpose::Persist)?;
        Ok(targets.handles(&mut References::new(references)))
    }

    /// Runs a graph whose results this client will ask for: as [`Client::persist`], but small
    /// results come here when they are there. Does not wait.
    pub fn submit<X: Targets>(&self, targets: X) -> Result<X::Handles, Error> {
        let references = self.send(&targets, Purpose::Submit)?;
        Ok(targets.handles(&mut References::new(references)))
    }

    fn send(&self, targets: &impl Targets, purpose: Purpose) -> Result<Vec<Reference>, Error> {
        let mut roots = Vec::new();
        targets.roots(&mut roots);
        graph::submit(&self.session, self.job, &roots, purpose)
    }

    fn wait_all(&self, references: &[Reference]) -> Result<(), Error> {
        let keys: Vec<Key> = references.iter().map(|reference| reference.key).collect();
        self.session.wait(&keys, keys.len(), None).map(drop)
    }

    /// Waits for a value. Fails with [`Error::TaskFailed`] if its task failed.
    pub fn get<T: Data>(&self, handle: &Handle<T>) -> Result<T, Error> {
        let key = self.session.own_key(&handle.reference)?;
        self.session.fetch(key)
    }

    /// Waits for all of these values. Fails with the first that failed, when all have ended.
    pub fn gather<'a, T: Data>(
        &self,
        handles: impl IntoIterator<Item = &'a Handle<T>>,
    ) -> Result<Vec<T>, Error> {
        let handles: Vec<&Handle<T>> = handles.into_iter().collect();
        let keys = self.keys(handles.iter().copied())?;
        self.session.wait(&keys, keys.len(), None)?;
        keys.into_iter().map(|key| self.session.fetch(key)).collect()
    }

    fn keys<'a, T: 'a>(
        &self,
        handles: impl IntoIterator<Item = &'a Handle<T>>,
    ) -> Result<Vec<Key>, Error> {
        handles.into_iter().map(|handle| self.session.own_key(&handle.reference)).collect()
    }

    /// Puts a value into the cluster, once, to be an argument of many tasks. It lives as long as its
    /// handle, or a task or object that needs it.
    pub fn put<T: Data>(&self, value: &T) -> Result<Handle<T>, Error> {
        let reference = match raw_bytes(value) {
            Some(bytes) => {
                self.session.put(self.job, Codec::POD, PutBytes::Borrowed(bytes), &[])?
            }
            None => {
                let (codec, bytes, contains) = encode_put(value)?;
                self.session.put(self.job, codec, PutBytes::Owned(bytes.into()), &contains)?
            }
        };
        Ok(Handle::new(reference))
    }

    /// Waits until `first` of these have ended, well or badly, or the time is over: the places of
    /// those that have, and of those that have not. Never fails because a task failed.
    pub fn wait<T>(
        &self,
        handles: &[Handle<T>],
        first: usize,
        timeout: Option<Duration>,
    ) -> Result<(Vec<usize>, Vec<usize>), Error> {
        let keys = self.keys(handles)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.session.wait(&keys, first, deadline)?;
        Ok((0..keys.len()).partition(|i| self.session.is_done(keys[*i])))
    }

    /// Waits for a value, but not longer than this.
    pub fn get_timeout<T: Data>(&self, handle: &Handle<T>, timeout: Duration) -> Result<T, Error> {
        let key = self.session.own_key(&handle.reference)?;
        let deadline = Instant::now().checked_add(timeout);
        match self.session.wait(&[key], 1, deadline)? {
            0 => Err(Error::Timeout { pending: 1 }),
            _ => self.session.fetch(key),
        }
    }

    /// Stops a task: it never starts, or is interrupted and then killed. It, and what needs it,
    /// fails with the reason. One that has ended stays as it is. Does not wait.
    pub fn cancel<T>(&self, handle: &Handle<T>, reason: &str) -> Result<(), Error> {
        self.cancel_all(std::slice::from_ref(handle), reason)
    }

    /// Stops several tasks.
    pub fn cancel_all<T>(&self, handles: &[Handle<T>], reason: &str) -> Result<(), Error> {
        let keys = self.keys(handles)?;
        let tasks: Vec<TaskId> =
            keys.into_iter().map(|key| self.session.object(key).task).collect();
        self.session.cancel(tasks, reason.to_owned())
    }

    /// Why a task is where it is: its state, and the reason in words.
    pub fn explain<T>(&self, handle: &Handle<T>) -> Result<Explanation, Error> {
        let key = self.session.own_key(&handle.reference)?;
        self.explain_task(self.session.object(key).task)
    }

    /// As [`Client::explain`], of a task that is known by its id only.
    pub fn explain_task(&self, task: TaskId) -> Result<Explanation, Error> {
        self.session.explain(task)
    }

    /// A task for each item: `call` makes it. Results come in the order of the items, and only so
    /// many tasks are under way at one time as the window allows.
    ///
    /// ```
    /// # #[manyhands::task]
    /// # fn double(x: u64) -> u64 { 2 * x }
    /// # fn main() -> Result<(), manyhands::Error> {
    /// let client = manyhands::Client::local()?;
    /// let sum: u64 = client.map(0..1000, double::lazy).sum::<Result<u64, _>>()?;
    /// for result in client.map(0..10, double::lazy).as_completed() {
    ///     let (i, doubled) = result;
    ///     assert_eq!(doubled?, 2 * i as u64);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map<I, T, F>(&self, items: I, call: F) -> Map<I::IntoIter, F, T>
    where
        I: IntoIterator,
        T: Data,
        F: FnMut(I::Item) -> Lazy<T>,
    {
        Map::new(self.clone(), items.into_iter(), call)
    }

    /// How many tasks of the job are where.
    pub fn progress(&self) -> Result<JobCounts, Error> {
        self.session.progress(self.job)
    }

    /// From now on `listener` gets what tasks print: task, function, stream, and bytes as they come.
    /// Without one it goes to this program's own output, each line behind `[function #number]`. It
    /// is called on a thread of its own, for all jobs of the session.
    pub fn on_output(&self, listener: impl FnMut(TaskId, &str, Stream, &[u8]) + Send + 'static) {
        self.session.printer.listen(Box::new(listener));
    }

    /// From now on `listener` gets what there is to say of the connection with the cluster: that it
    /// is lost, for how long it is tried again, and that it is back. Without one that goes to this
    /// program's standard error. It is called on the thread of [`Client::on_output`].
    pub fn on_notice(&self, listener: impl FnMut(&str) + Send + 'static) {
        self.session.printer.listen_to_notices(Box::new(listener));
    }

    /// How full the cluster is, if it is in this process ([`Client::local`]).
    pub fn local_stats(&self) -> Option<crate::LocalStats> {
        self.session.local_stats()
    }

    /// Ends the session now, and a cluster that was started for it with all its processes. Whoever
    /// waits gets [`Error::Closed`].
    pub fn shutdown(&self) {
        self.session.shut_down();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.job_id())
    }
}

/// A graph whose results are awaited.
struct Computing<X> {
    targets: X,
    sent: Option<Result<Vec<Reference>, Error>>,
    /// The first reference that may not have come.
    at: usize,
    waiter: Option<u32>,
}

impl<X> Unpin for Computing<X> {}

impl<X: Targets> Future for Computing<X> {
    type Output = Result<X::Values, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(Ok(references)) = &this.sent {
            while let Some(Reference { session, key }) = references.get(this.at) {
                if !session.is_pumped()
                    && !session.poll_done(*key, &mut this.waiter, context.waker())
                {
                    return Poll::Pending;
                }
                this.at += 1;
            }
        }
        let references = this.sent.take().expect("a future is not polled after its end");
        Poll::Ready(references.and_then(|all| this.targets.values(&mut References::new(all))))
    }
}

impl<X> Drop for Computing<X> {
    fn drop(&mut self) {
        if let (Some(Ok(references)), Some(waiter)) = (&self.sent, self.waiter)
            && let Some(Reference { session, key }) = references.get(self.at)
        {
            session.forget_waiter(waiter, &[*key]);
        }
    }
}
