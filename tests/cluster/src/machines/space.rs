//! Network namespaces that nobody has to clean up: each is held by a descriptor of this process and
//! ends with the last process in it. The only unsafe code of this crate is here.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace of its own.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    file: Arc<OwnedFd>,
}

impl Space {
    /// Makes one, with nothing but a loopback device that is down.
    pub(crate) fn new() -> io::Result<Space> {
        // The namespace is the thread's: this one ends, and leaves a descriptor behind.
        let thread = std::thread::spawn(|| {
            // SAFETY: only the network namespace of this thread changes; no memory or descriptor
            // that others rely on becomes unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            Ok(Space { file: Arc::new(File::open("/proc/thread-self/ns/net")?.into()) })
        });
        thread.join().expect("making a namespace does not panic")
    }

    /// A name by which other processes of this machine find it while this process lives.
    pub(crate) fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// The calling thread and those that it starts from now on live in this namespace. There is no
    /// way back.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

/// The command's process will live in this namespace if one is given, and dies with the thread that
/// starts it.
pub(crate) fn prepare(command: &mut Command, space: Option<&Space>) {
    let space = space.cloned();
    // SAFETY: between fork and exec only two system calls are made; nothing is allocated, no lock
    // is taken. The descriptor is kept open by the closure.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            space.as_ref().map_or(Ok(()), Space::enter)
        });
    }
}

/// Only a process with a single thread may enter a user namespace, and a test harness has several:
/// so whoever is not root gets a user namespace of his own, in which he may make network
/// namespaces, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
pub(crate) static BEFORE_MAIN: extern "C" fn() = become_root_of_ones_own;

extern "C" fn become_root_of_ones_own() {
    // An executor is this program as well, and is what its worker makes of it.
    if geteuid().is_root() || std::env::var_os("MANYHANDS_TEMPLATE").is_some() {
        return;
    }
    let (user, group) = (geteuid(), getegid());
    // SAFETY: there is one thread, and it changes nothing but its user namespace.
    if unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }.is_err() {
        return;
    }
    // If the system refuses any of these, namespaces are refused later, in words.
    let _ = fs::write("/proc/self/setgroups", "deny");
    let _ = fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()));
    let _ = fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()));
}
