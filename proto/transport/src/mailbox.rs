//! A queue that a loop sleeps on.
//!
//! A daemon is one thread that takes what has come, all at once, acts on it, and sleeps when there
//! is nothing. What sends to it pays for a wake-up only when it sleeps: [`Waker`] is an eventfd with
//! a flag, shared by all the mailboxes of a loop. A loop that is a future is woken as futures are: by
//! whoever runs on its own thread that costs no system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::event::{EventfdFlags, eventfd};

/// The other end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Somebody who can be told things, from any thread. Called with batches in order; must not block.
pub trait Receive<M>: Send + Sync {
    /// These came.
    fn receive(&self, messages: Vec<M>);
    /// No more will come.
    fn closed(&self, reason: &str);
}

/// Somebody who has things to say, and is asked for them when the other side can take them: so what
/// gathers while the other side is busy crosses in one batch. Called from the other side's thread.
pub trait Source<M>: Send + Sync {
    /// Appends all that there is to say.
    fn drain(&self, out: &mut Vec<M>);
}

/// Wakes one loop.
#[derive(Debug)]
pub struct Waker {
    event: OwnedFd,
    asleep: AtomicBool,
    /// Set if the loop is a future: wakes it, in place of the eventfd.
    task: Mutex<Option<std::task::Waker>>,
}

impl Waker {
    /// A new eventfd; fails when the process may open no more files.
    pub fn new() -> io::Result<Arc<Waker>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Arc::new(Waker { event, asleep: AtomicBool::new(false), task: Mutex::default() }))
    }

    /// Wakes the loop if it sleeps or is about to.
    pub fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            match &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(task) => task.wake_by_ref(),
                // The only errors are an overflow of 2⁶⁴ and a closed descriptor, which cannot be.
                None => drop(rustix::io::write(&self.event, &1u64.to_ne_bytes())),
            }
        }
    }

    /// The loop is about to sleep: from now on [`Waker::wake`] writes to the eventfd. The loop must
    /// look at its mailboxes once more after this call and before it sleeps.
    pub fn prepare(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// [`Waker::prepare`] for a loop that is a future: from now on [`Waker::wake`] wakes it.
    pub fn prepare_task(&self, task: &std::task::Waker) {
        let mut current = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !current.as_ref().is_some_and(|it| it.will_wake(task)) {
            *current = Some(task.clone());
        }
        drop(current);
        self.prepare();
    }

    /// [`Waker::awake`] for a loop that is a future, or that is told of each write to the eventfd
    /// (by an edge-triggered epoll) and need not read it.
    pub fn awake_unread(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// The loop is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Mailbox<M> {
    shared: Arc<Shared<M>>,
}

/// A sending end. Can be cloned and sent to other threads.
#[derive(Debug)]
pub struct Sender<M> {
    shared: Weak<Shared<M>>,
    waker: Arc<Waker>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Sender { shared: self.shared.clone(), waker: self.waker.clone() }
    }
}

#[derive(Debug)]
struct Shared<M> {
    queue: Mutex<Vec<M>>,
    filled: AtomicBool,
}

impl<M> Mailbox<M> {
    /// An empty mailbox of the loop that `waker` wakes.
    pub fn new(waker: &Arc<Waker>) -> (Sender<M>, Mailbox<M>) {
        let shared =
            Arc::new(Shared { queue: Mutex::new(Vec::new()), filled: AtomicBool::new(false) });
        let sender = Sender { shared: Arc::downgrade(&shared), waker: waker.clone() };
        (sender, Mailbox { shared })
    }

    /// Whether something has come.
    pub fn is_empty(&self) -> bool {
        !self.shared.filled.load(Ordering::SeqCst)
    }

    /// Takes all that has come, in exchange for `spare`, whose capacity is used again.
    pub fn take(&self, spare: Vec<M>) -> Vec<M> {
        if self.is_empty() {
            return spare;
        }
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.filled.store(false, Ordering::SeqCst);
        std::mem::replace(&mut *queue, spare)
    }
}

impl<M> Sender<M> {
    /// Puts a message into the mailbox and wakes its loop.
    pub fn send(&self, message: M) -> Result<(), Closed> {
        let shared = self.shared.upgrade().ok_or(Closed)?;
        shared.queue.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        shared.filled.store(true, Ordering::SeqCst);
        self.waker.wake();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    #[test]
    fn a_sleeping_loop_is_woken_and_finds_all_in_order() {
        let waker = Waker::new().unwrap();
        let (sender, mailbox) = Mailbox::new(&waker);
        waker.prepare();
        let other = std::thread::spawn(move || (0..100).for_each(|i| sender.send(i).unwrap()));
        let mut seen = Vec::new();
        while seen.len() < 100 {
            waker.prepare();
            if mailbox.is_empty() {
                poll(&mut [PollFd::new(&*waker, PollFlags::IN)], None).unwrap();
            }
            waker.awake();
            seen.extend(mailbox.take(Vec::new()));
        }
        other.join().unwrap();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn sending_to_a_dropped_mailbox_says_so() {
        let waker = Waker::new().unwrap();
        let (sender, mailbox) = Mailbox::new(&waker);
        drop(mailbox);
        assert_eq!(sender.send(1), Err(Closed));
    }
}
