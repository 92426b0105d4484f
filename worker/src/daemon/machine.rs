//! What a daemon finds out about its machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// Its name for people.
pub(super) fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "worker".to_owned(),
        name => name.to_owned(),
    }
}

/// Cores that this process may use.
pub(super) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// Bytes of memory that this process may use: the machine's, or its control group's if that is
/// less.
pub(super) fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    let physical = info.totalram as u64 * u64::from(info.mem_unit.max(1));
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let limits = limits.filter_map(|text| text.trim().parse::<u64>().ok());
    limits.fold(physical, u64::min)
}

/// GPUs that NVIDIA's driver shows in `dev`.
pub(super) fn gpus(dev: &Path) -> u32 {
    let entries = std::fs::read_dir(dev).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("nvidia")?.parse::<u32>().ok()
    });
    numbers.count() as u32
}

/// Where a user's daemons keep what lasts.
pub(super) fn state_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_STATE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".local/state")));
    base.unwrap_or_else(std::env::temp_dir).join("manyhands")
}

/// What programs run here, for people.
pub(super) fn platform() -> String {
    let (arch, system) = (std::env::consts::ARCH, std::env::consts::OS);
    format!("{arch} {system}{}", c_library())
}

#[cfg(target_env = "gnu")]
fn c_library() -> String {
    // SAFETY: the function has no arguments and gives a string that lives as long as the process.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!(" glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn c_library() -> String {
    String::new()
}

/// Where others reach what is bound to `bound`: there, or, if that is all addresses, at the one
/// from which this machine reaches the scheduler. Nothing is sent to find that out.
pub(super) fn reached_at(bound: SocketAddr, scheduler: &[SocketAddr]) -> Vec<SocketAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for place in scheduler.iter().filter(|place| bound.is_ipv6() || place.is_ipv4()) {
        if let Some(ip) = route(*place).filter(|ip| !found.contains(ip)) {
            found.push(ip);
        }
    }
    found.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

fn route(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_counted_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("manyhands-dev-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        for name in ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "tty0"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(gpus(&dir), 3);
        assert_eq!(gpus(&dir.join("none")), 0);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn others_are_told_the_address_from_which_the_scheduler_is_reached() {
        let port = 4711;
        let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let scheduler = [SocketAddr::from((Ipv4Addr::LOCALHOST, 7470)); 2];
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(reached_at(all, &scheduler), [local], "once");
        let one = SocketAddr::from(([127, 0, 0, 5], port));
        assert_eq!(reached_at(one, &scheduler), [one]);
        assert_eq!(reached_at(all, &[]), []);
    }

    #[test]
    fn a_platform_is_named() {
        assert!(platform().contains(std::env::consts::ARCH), "{}", platform());
        assert!(memory() > 0 && cores() > 0 && !name().is_empty());
    }
}
