//! Several machines on one: network namespaces with an address each, joined by a bridge.
//!
//! ```text
//!  ┌ machine 0 ┐   ┌ machine 1 ┐   ┌ machine 2 ┐
//!  │ 10.77.0.1 │   │ 10.77.0.2 │   │ 10.77.0.3 │
//!  └── eth0 ───┘   └── eth0 ───┘   └── eth0 ───┘
//!       └───────┐        │       ┌──────┘
//!           ┌ port0 ─ port1 ─ port2 ┐
//!           └──────── hub ──────────┘
//! ```
//!
//! None of it has a name that another test could meet, and nothing is left behind: the namespaces
//! are held by descriptors of this process. Where the machine refuses namespaces, the machines are
//! addresses in 127.0.0.0/8, and say so once.

mod space;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

pub(crate) use space::{Space, prepare};

/// At most so many, so that their addresses differ in the last byte.
pub const MACHINES_LIMIT: usize = 200;

/// When this variable is set, machines are addresses in 127.0.0.0/8 even where namespaces are
/// granted.
pub const LOOPBACK: &str = "MANYHANDS_TEST_LOOPBACK";

/// Machines that reach each other and nobody else.
pub struct Machines {
    machines: Vec<Machine>,
    /// Where the bridge is; none on 127.0.0.x.
    hub: Option<Space>,
}

/// One of them: an address, and a namespace to be in.
#[derive(Clone, Debug)]
pub struct Machine {
    number: usize,
    address: Ipv4Addr,
    space: Option<Space>,
}

impl Machines {
    /// So many machines, in namespaces if possible.
    pub fn new(count: usize) -> Machines {
        assert!(count <= MACHINES_LIMIT, "{count} machines, but at most {MACHINES_LIMIT}");
        std::hint::black_box(space::BEFORE_MAIN);
        if std::env::var_os(LOOPBACK).is_some() {
            return Machines::on_loopback(count);
        }
        match Machines::joined(count) {
            Ok(machines) => machines,
            Err(error) => {
                static SAID: OnceLock<()> = OnceLock::new();
                SAID.get_or_init(|| {
                    eprintln!(
                        "this machine refuses network namespaces ({error}): machines are \
                         addresses in 127.0.0.0/8 instead"
                    );
                });
                Machines::on_loopback(count)
            }
        }
    }

    /// Machines in namespaces, or why there are none.
    fn joined(count: usize) -> io::Result<Machines> {
        let hub = Space::new()?;
        let machine = |number| {
            let address = Ipv4Addr::new(10, 77, 0, number as u8 + 1);
            Ok(Machine { number, address, space: Some(Space::new()?) })
        };
        let machines = (0..count).map(machine).collect::<io::Result<Vec<_>>>()?;
        let mut script = "link set lo up\nlink add hub type bridge\nlink set hub up\n".to_owned();
        for (number, space) in machines.iter().enumerate().filter_map(Machine::numbered) {
            let path = space.path();
            script += &format!(
                "link add port{number} type veth peer name eth0 netns {path}\n\
                 link set port{number} master hub up\n"
            );
        }
        run("ip", &["-batch", "-"], &script, Some(&hub))?;
        for machine in &machines {
            let address = machine.address;
            let script =
                format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n");
            run("ip", &["-batch", "-"], &script, machine.space.as_ref())?;
        }
        Ok(Machines { machines, hub: Some(hub) })
    }

    /// Machines that are addresses in 127.0.0.0/8, others than those of other tests.
    pub fn on_loopback(count: usize) -> Machines {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let net = std::process::id().wrapping_mul(31) + NEXT.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = net.to_be_bytes();
        let address = |number| Ipv4Addr::new(127, high.max(1), low, number as u8 + 1);
        let machine = |number| Machine { number, address: address(number), space: None };
        Machines { machines: (0..count).map(machine).collect(), hub: None }
    }

    /// Whether they are in namespaces, and not on 127.0.0.x.
    pub fn are_apart(&self) -> bool {
        self.hub.is_some()
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Machine> {
        self.machines.iter()
    }

    /// Lets no machine send or receive more than so many bytes a second. The error says why the
    /// machine cannot.
    pub fn limit_rate(&self, bytes_per_s: u64) -> io::Result<()> {
        let Some(hub) = &self.hub else {
            return Err(io::Error::other("rates are limited in network namespaces only"));
        };
        let limit = |device: &str, space| {
            // A bucket of 4 ms, and a queue of 20 ms behind it.
            let burst = (bytes_per_s / 250).max(32 << 10);
            let script = format!(
                "qdisc replace dev {device} root tbf rate {bytes_per_s}bps burst {burst} latency 20ms\n"
            );
            run("tc", &["-batch", "-"], &script, Some(space))
        };
        for (number, space) in self.machines.iter().enumerate().filter_map(Machine::numbered) {
            limit("eth0", space)?;
            limit(&format!("port{number}"), hub)?;
        }
        Ok(())
    }
}

impl Index<usize> for Machines {
    type Output = Machine;

    fn index(&self, number: usize) -> &Machine {
        &self.machines[number]
    }
}

impl IndexMut<usize> for Machines {
    fn index_mut(&mut self, number: usize) -> &mut Machine {
        &mut self.machines[number]
    }
}

impl Machine {
    fn numbered((number, machine): (usize, &Machine)) -> Option<(usize, &Space)> {
        Some((number, machine.space.as_ref()?))
    }

    /// Its address. Nothing else of these machines has it.
    pub fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// Its address with a port; 0 stands for any that is free.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Runs `work` on a thread in this machine: its sockets, and those of threads that it starts,
    /// are the machine's.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = thread::Builder::new().name(format!("machine {}", self.number));
            let thread = inside.spawn_scoped(scope, || {
                self.settle();
                work()
            });
            match thread.expect("a thread can be started").join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// The calling thread, and those that it starts from now on, are on this machine. One that
    /// calls this has to be a test's own.
    pub fn settle(&self) {
        if let Some(space) = &self.space {
            space.enter().expect("a namespace of our own can be entered");
        }
    }

    /// A program to be run in this machine. Whoever starts it must be a thread that outlives it:
    /// see [`Daemon`](crate::Daemon) and [`output`](crate::output).
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        prepare(&mut command, self.space.as_ref());
        command
    }

    /// Gives the machine another address in place of its own, as a laptop gets one that is carried
    /// from one network into another. Sockets that are bound to any address go on with the new one.
    pub fn readdress(&mut self, last_byte: u8) -> io::Result<()> {
        let [a, b, c, _] = self.address.octets();
        let (old, new) = (self.address, Ipv4Addr::new(a, b, c, last_byte));
        if self.space.is_some() {
            let script = format!("addr del {old}/24 dev eth0\naddr add {new}/24 dev eth0\n");
            run("ip", &["-batch", "-"], &script, self.space.as_ref())?;
        }
        self.address = new;
        Ok(())
    }
}

/// Runs a program of the system, with `input` for its standard input, in a namespace.
fn run(program: &str, args: &[&str], input: &str, space: Option<&Space>) -> io::Result<()> {
    let mut command = Command::new(program);
    prepare(&mut command, space);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.map_err(|error| io::Error::other(format!("{program}: {error}")))?;
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", errors.trim())))
}
