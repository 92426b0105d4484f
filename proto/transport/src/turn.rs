//! Runs a daemon's synchronous loop as a future, beside the links that feed it.
//!
//! A daemon is a loop of turns: take what came, act, send. Its link to the other side is a future.
//! Both run on one thread (a current-thread runtime), so that what comes over the link reaches the
//! loop, and what the loop says reaches the link, without waking a thread.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use manyhands_proto::Time;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

use crate::clock::Clock;
use crate::mailbox::Waker;

/// A daemon's loop.
pub trait Turn {
    /// Takes all that has come, acts on it, sends what is to be sent. Must not block.
    fn turn(&mut self);

    /// Something has come that no turn has seen. Whoever makes it so wakes the loop's [`Waker`].
    fn has_work(&self) -> bool;

    /// When a turn is due even if nothing comes.
    fn next_tick(&self) -> Option<Time>;

    /// A descriptor that is readable while there is something for a turn to take in. Asked for once.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// There is nothing more to do, ever.
    fn is_over(&self) -> bool {
        false
    }
}

/// Takes turns until `stop` is ready or the daemon is over. `waker` is the one that the daemon's
/// mailboxes wake, and `clock` the one that its times are of.
pub async fn run(
    daemon: &mut impl Turn,
    waker: &Arc<Waker>,
    clock: Clock,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let watched = daemon.poll_fd().map(|fd| fd.try_clone_to_owned()).transpose()?;
    let watched = watched.map(watch).transpose()?;
    let mut unread = false;
    let mut stop = pin!(stop);
    let mut alarm = Alarm { clock, timer: Box::pin(tokio::time::sleep(Duration::ZERO)), due: None };
    poll_fn(|cx| {
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        waker.awake_unread();
        unread |= watched.as_ref().map_or(Ok(false), |fd| take_readiness(fd, cx))?;
        daemon.turn();
        if daemon.is_over() {
            return Poll::Ready(Ok(()));
        }
        // Whoever sends while this looks for the last time finds the waker prepared, and wakes.
        waker.prepare_task(cx.waker());
        unread = unread && watched.as_ref().is_some_and(is_readable);
        if unread || daemon.has_work() || alarm.rings(daemon.next_tick(), cx) {
            // The next turn is taken when the links have had theirs.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Has the runtime look at a descriptor.
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same descriptor, and keeps it open as long as it lives:
    // the result owns it, and takes it from the runtime before it closes it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}

/// Whether something has come since the last call. The runtime tells only changes, so the caller has
/// to see for itself whether something is left.
fn take_readiness(fd: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> io::Result<bool> {
    let mut came = false;
    while let Poll::Ready(guard) = fd.poll_read_ready(cx) {
        guard?.clear_ready();
        came = true;
    }
    Ok(came)
}

fn is_readable(fd: &AsyncFd<OwnedFd>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    // An interrupted look sees nothing wrong in one more turn.
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

/// The one timer, set anew only when the time that it is for changes.
struct Alarm {
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    due: Option<Time>,
}

impl Alarm {
    fn rings(&mut self, due: Option<Time>, cx: &mut Context<'_>) -> bool {
        let Some(at) = due else {
            self.due = None;
            return false;
        };
        if self.due != due {
            let left = at.since(self.clock.now());
            if left == 0 {
                return true;
            }
            self.timer.as_mut().reset(Instant::now() + Duration::from_micros(left));
            self.due = due;
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.due = None;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;
    use crate::mailbox::{Mailbox, Sender};

    /// Counts what it is told, reads its pipe, and is over when it has had enough.
    struct Counter {
        inbox: Mailbox<u32>,
        pipe: Option<OwnedFd>,
        clock: Clock,
        tick: Option<Time>,
        told: u32,
        read: usize,
        ticks: u32,
        enough: (u32, usize, u32),
    }

    impl Counter {
        fn new(enough: (u32, usize, u32)) -> (Counter, Sender<u32>, Arc<Waker>) {
            let waker = Waker::new().unwrap();
            let (sender, inbox) = Mailbox::new(&waker);
            let clock = Clock::start();
            let (tick, pipe) = (None, None);
            (
                Counter { inbox, pipe, clock, tick, told: 0, read: 0, ticks: 0, enough },
                sender,
                waker,
            )
        }
    }

    impl Turn for Counter {
        fn turn(&mut self) {
            self.told += self.inbox.take(Vec::new()).iter().sum::<u32>();
            if let Some(pipe) = self.pipe.as_ref().filter(|pipe| {
                let mut fds = [PollFd::new(pipe, PollFlags::IN)];
                poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
            }) {
                // One byte a turn: the rest has to be noticed.
                self.read += rustix::io::read(pipe, &mut [0; 1]).unwrap();
            }
            if self.tick.is_some_and(|due| due <= self.clock.now()) {
                self.ticks += 1;
                self.tick = Some(self.clock.now() + 1_000);
            }
        }

        fn has_work(&self) -> bool {
            !self.inbox.is_empty()
        }

        fn next_tick(&self) -> Option<Time> {
            self.tick
        }

        fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
            self.pipe.as_ref().map(AsFd::as_fd)
        }

        fn is_over(&self) -> bool {
            (self.told, self.read, self.ticks) >= self.enough
        }
    }

    #[tokio::test]
    async fn what_another_thread_sends_wakes_the_loop() {
        let (mut counter, sender, waker) = Counter::new((100, 0, 0));
        let clock = counter.clock;
        let other = std::thread::spawn(move || (0..100).for_each(|_| sender.send(1).unwrap()));
        run(&mut counter, &waker, clock, std::future::pending()).await.unwrap();
        other.join().unwrap();
        assert_eq!(counter.told, 100);
    }

    #[tokio::test]
    async fn a_descriptor_wakes_the_loop_until_it_is_empty() {
        let (mut counter, _sender, waker) = Counter::new((0, 5, 0));
        let (read, write) = pipe().unwrap();
        counter.pipe = Some(read);
        let clock = counter.clock;
        rustix::io::write(&write, b"12345").unwrap();
        run(&mut counter, &waker, clock, std::future::pending()).await.unwrap();
        assert_eq!(counter.read, 5);
    }

    #[tokio::test]
    async fn ticks_come_when_they_are_due() {
        let (mut counter, _sender, waker) = Counter::new((0, 0, 3));
        let clock = counter.clock;
        counter.tick = Some(clock.now() + 1_000);
        run(&mut counter, &waker, clock, std::future::pending()).await.unwrap();
        assert!(clock.now() >= Time(3_000));
    }

    #[tokio::test]
    async fn it_stops_when_it_is_told_to() {
        let (mut counter, _sender, waker) = Counter::new((1, 0, 0));
        let clock = counter.clock;
        run(&mut counter, &waker, clock, tokio::task::yield_now()).await.unwrap();
        assert_eq!(counter.told, 0);
    }
}
