//! A template of another language: a program that has started as ever, and calls [`serve`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::process::Pid;

use super::Inheritance;
use super::child::{exit, settle_in};
use super::template::{Forking, Template, check_version};
use crate::executor;
use crate::foreign::{Runtime, VARIABLE, set_runtime};

/// The socket to the worker, from [`prepare`] to [`serve`].
static SOCKET: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Takes the socket to the worker from standard input, which is empty from then on. To be called
/// before anything could be read from there; nothing that the program then starts inherits it.
/// Fails where the worker that started the process speaks otherwise, or did not start it.
pub fn prepare() -> io::Result<()> {
    check_version(VARIABLE)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST)?;
    let (read, empty) = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    rustix::stdio::dup2_stdin(rustix::fs::open("/dev/null", read, empty)?)?;
    *SOCKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(socket);
    Ok(())
}

/// The lowest number for the socket: behind the standard streams.
const FIRST: i32 = 3;

/// Becomes the template: forks executors until the worker is gone. Called after [`prepare`] on the
/// main thread, when no other thread is left. The executors run their tasks on this thread.
pub fn serve(runtime: &'static dyn Runtime) -> ! {
    let socket = SOCKET.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let template = match socket {
        Some(socket) => Template::new(socket, Foreign { runtime }),
        None => Err(io::Error::other("there is no socket to a worker")),
    };
    set_runtime(runtime);
    match template {
        Ok(template) => {
            template.run();
            exit(0)
        }
        Err(error) => {
            eprintln!("manyhands: cannot become a template process: {error}");
            exit(1)
        }
    }
}

struct Foreign {
    runtime: &'static dyn Runtime,
}

impl Forking for Foreign {
    fn before(&self) {
        self.runtime.before_fork();
    }

    fn in_parent(&self) {
        self.runtime.after_fork_in_parent();
    }

    fn in_child(&self) {
        self.runtime.after_fork_in_child();
    }

    fn warm_up(&self) {
        self.runtime.warm_up();
    }

    fn become_executor(&self, inheritance: Inheritance, template: Pid) -> ! {
        executor::run(settle_in(inheritance, template))
    }
}
