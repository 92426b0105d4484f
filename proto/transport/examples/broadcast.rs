//! How an object spreads from one node to many, each of which may only give so much a second.
//!
//! `cargo run --release -p manyhands-transport --features quic --example broadcast -- [MIB]
//! [ASKERS] [MIB_PER_SECOND]`
//!
//! prints the time against that of one copy, and how many copies the origin gave itself.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
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

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let size = args.first().unwrap_or(&128) << 20;
    let askers = *args.get(1).unwrap_or(&8) as u32;
    let rate = args.get(2).unwrap_or(&64) << 20;
    let nodes: Vec<Node> =
        (0..=askers).map(|id| Node::start(id, size, rate)).collect::<io::Result<_>>()?;
    let peers: Vec<Peer> = nodes.iter().map(Node::peer).collect::<io::Result<_>>()?;
    nodes.iter().for_each(|node| node.bulk.peers(peers.clone()));
    let one_copy = size as f64 / rate as f64;
    for repeat in 0..3 {
        let before = nodes[0].bulk.stats().given;
        let start = Instant::now();
        broadcast(&nodes, size, repeat)?;
        let took = start.elapsed().as_secs_f64();
        let copies = (nodes[0].bulk.stats().given - before) as f64 / size as f64;
        println!(
            "{askers} copies of {} MiB at {} MiB/s a node: {took:.2} s, {:.2} times one copy; \
             the origin gave {copies:.2}",
            size >> 20,
            rate >> 20,
            took / one_copy,
        );
    }
    Ok(())
}

/// Everybody but the first node, which has the object, fetches it.
fn broadcast(nodes: &[Node], size: u64, repeat: u64) -> Result<(), Box<dyn Error>> {
    let (told, ended) = mpsc::channel();
    let (origin, askers) = nodes.split_first().ok_or("no nodes")?;
    for node in askers {
        let (told, want) = (told.clone(), Want::new(key(repeat), size, vec![origin.id]));
        node.bulk.fetch(want, node.room.clone(), move |r| told.send(r).unwrap_or(()));
    }
    for _ in askers {
        ended.recv()??;
    }
    Ok(())
}

fn key(seq: u64) -> Key {
    let task = TaskId { job: JobId(Default::default()), lane: Lane(1), seq };
    Key::Object(ObjectId { task, index: 0 })
}

struct Node {
    id: WorkerId,
    bulk: Bulk,
    room: Arc<Room>,
}

impl Node {
    fn start(id: u32, size: u64, rate: u64) -> io::Result<Node> {
        let token = ClusterSecret::from_bytes([1; 32]).token(Role::Worker);
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = BulkConfig::new(Some(bind), token, format!("node {id}"));
        (config.give_limit, config.threads) = (Some(rate), 1);
        let room = Arc::new(Room::new(size));
        let bulk = Bulk::start(config, Some(room.clone()))?;
        bulk.own(WorkerId(id));
        Ok(Node { id: WorkerId(id), bulk, room })
    }

    fn peer(&self) -> io::Result<Peer> {
        let addresses = vec![self.bulk.local_addr()?];
        Ok(Peer { worker: self.id, addresses, host: String::new() })
    }
}

/// The same memory for all objects; what has come is on the shelf at once, since nobody looks at
/// it.
struct Room {
    size: u64,
    chunks: Vec<Mutex<Box<[u8]>>>,
    whole: Bytes,
}

impl Room {
    fn new(size: u64) -> Room {
        let chunk = || Mutex::new(vec![0; CHUNK as usize].into_boxed_slice());
        let chunks = (0..size.div_ceil(CHUNK).max(1)).map(|_| chunk()).collect();
        Room { size, chunks, whole: vec![1; size as usize].into() }
    }
}

impl Shelves for Room {
    fn find(&self, _: Key) -> BoxFuture<'_, Option<Held>> {
        let meta = ObjectMeta { codec: Codec::POD, size: self.size, contains: Vec::new() };
        let held = Held { meta, bytes: self.whole.clone() };
        Box::pin(async move { Some(held) })
    }

    fn accept(&self, _: Key, _: ObjectMeta) -> BoxFuture<'_, Result<Arc<dyn Sink>, String>> {
        Box::pin(async { Err("nothing is taken".to_owned()) })
    }
}

impl Sink for Room {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (chunk, at) = ((offset / CHUNK) as usize, (offset % CHUNK) as usize);
        let mut room = self.chunks[chunk].lock().map_err(|_| io::ErrorKind::Other)?;
        room[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let (chunk, at) = ((offset / CHUNK) as usize, (offset % CHUNK) as usize);
        let room = self.chunks[chunk].lock().map_err(|_| io::ErrorKind::Other)?;
        Ok(Bytes::copy_from_slice(&room[at..at + length]))
    }

    fn finish(&self, _: &ObjectMeta) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }

    fn abort(&self) {}
}
