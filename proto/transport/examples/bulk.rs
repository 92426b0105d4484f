//! How fast a large object goes from one process to another over loopback.
//!
//! `cargo run --release -p manyhands-transport --features quic --example bulk -- [MIB] [REPEATS]
//! [MTU]`
//!
//! prints GiB/s (median, lowest to highest), and how many seconds of a processor a GiB costs on
//! either side: for large datagrams and for those of an Ethernet, unless one size is asked for.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use bytes::Bytes;
use manyhands_proto::frame::Role;
use manyhands_proto::link::{CHUNK, Key};
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::worker::Peer;
use manyhands_proto::{JobId, Lane, ObjectId, TaskId, WorkerId};
use manyhands_transport::bulk::{BoxFuture, Bulk, BulkConfig, Held, Shelves, Sink, Want};
use manyhands_transport::keys::ClusterSecret;

type Outcome<T> = Result<T, Box<dyn Error>>;

const SERVER: WorkerId = WorkerId(1);

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, size, mtu] = &args[..]
        && role == "serve"
    {
        return serve(size.parse()?, mtu.parse()?);
    }
    let mib: u64 = args.get(1).map_or(Ok(1024), |text| text.parse())?;
    let repeats: usize = args.get(2).map_or(Ok(5), |text| text.parse())?;
    let mtus = match args.get(3) {
        Some(text) => vec![text.parse()?],
        None => vec![6500, 1452],
    };
    for mtu in mtus {
        measure(mib << 20, repeats, mtu)?;
    }
    Ok(())
}

/// The process that has the object: it prints its address, and ends with its standard input.
fn serve(size: u64, mtu: u16) -> Outcome<()> {
    let bytes: Vec<u8> = (0..size).map(|i| (i >> 3) as u8).collect();
    let bulk = Bulk::start(config("server", mtu), Some(Arc::new(One(bytes.into()))))?;
    println!("{}", bulk.local_addr()?);
    // Whenever it is asked: what it has cost so far.
    for _ in io::stdin().lines() {
        println!("{}", processor_time());
    }
    Ok(())
}

fn measure(size: u64, repeats: usize, mtu: u16) -> Outcome<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &size.to_string(), &mtu.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = server.stdin.take().ok_or("no input")?;
    let mut output = BufReader::new(server.stdout.take().ok_or("no output")?).lines();
    let mut say = || output.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    let line = say()?;
    let bulk = Bulk::start(config("asker", mtu), None)?;
    let addresses = vec![line.trim().parse()?];
    bulk.peers(vec![Peer { worker: SERVER, addresses, host: String::new() }]);
    let room = Arc::new(Room::new(size));
    // The first one warms memory, and finds out what the path carries.
    fetch(&bulk, size, &room)?;
    writeln!(input)?;
    let before = [say()?.parse::<f64>()?, processor_time()];
    let mut rates = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        fetch(&bulk, size, &room)?;
        rates.push(size as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 30));
    }
    rates.sort_by(f64::total_cmp);
    let (low, high) = (rates[0], rates[rates.len() - 1]);
    writeln!(input)?;
    let gib = size as f64 / f64::from(1 << 30) * repeats as f64;
    let costs = [say()?.parse::<f64>()? - before[0], processor_time() - before[1]];
    let [gives, takes] = costs.map(|seconds| seconds / gib);
    let median = rates[rates.len() / 2];
    println!(
        "mtu {mtu}: {median:.2} GiB/s [{low:.2}-{high:.2}]; giver {gives:.3}, taker {takes:.3} s/GiB"
    );
    drop(input);
    server.wait()?;
    Ok(())
}

/// Seconds that this process has kept processors busy.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn fetch(bulk: &Bulk, size: u64, room: &Arc<Room>) -> Outcome<()> {
    let (told, ended) = mpsc::channel();
    let want = Want::new(key(), size, vec![SERVER]);
    bulk.fetch(want, room.clone(), move |result| told.send(result).unwrap_or(()));
    ended.recv()??;
    Ok(())
}

fn config(name: &str, mtu: u16) -> BulkConfig {
    let token = ClusterSecret::from_bytes([1; 32]).token(Role::Worker);
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = BulkConfig::new(Some(bind), token, name);
    config.mtu = mtu;
    config
}

fn key() -> Key {
    let task = TaskId { job: JobId(Default::default()), lane: Lane(1), seq: 0 };
    Key::Object(ObjectId { task, index: 0 })
}

/// Has one object.
struct One(Bytes);

impl Shelves for One {
    fn find(&self, _: Key) -> BoxFuture<'_, Option<Held>> {
        let meta = ObjectMeta { codec: Codec::POD, size: self.0.len() as u64, contains: vec![] };
        let held = Held { meta, bytes: self.0.clone() };
        Box::pin(async move { Some(held) })
    }

    fn accept(&self, _: Key, _: ObjectMeta) -> BoxFuture<'_, Result<Arc<dyn Sink>, String>> {
        Box::pin(async { Err("this one only gives".to_owned()) })
    }
}

/// Where the bytes go: memory that is used again.
struct Room(Vec<Mutex<Box<[u8]>>>);

impl Room {
    fn new(size: u64) -> Room {
        let chunk = || Mutex::new(vec![0; CHUNK as usize].into_boxed_slice());
        Room((0..size.div_ceil(CHUNK).max(1)).map(|_| chunk()).collect())
    }
}

impl Sink for Room {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (chunk, at) = ((offset / CHUNK) as usize, (offset % CHUNK) as usize);
        let mut room = self.0[chunk].lock().map_err(|_| io::ErrorKind::Other)?;
        room[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, _: u64, _: usize) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn finish(&self, _: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn abort(&self) {}
}
