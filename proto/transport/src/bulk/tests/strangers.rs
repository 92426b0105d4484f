//! Peers that do not keep to the rules: they get an error, and nothing else comes of it.

use std::sync::Arc;

use bytes::Bytes;
use manyhands_proto::WorkerId;
use manyhands_proto::frame::{Hello, Role};
use manyhands_proto::link::{CHUNK, Key, Reply, Request, Wanted};
use manyhands_proto::value::ObjectMeta;
use manyhands_proto::worker::Peer;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::runtime::{Builder, Runtime};

use super::support::*;
use crate::bulk::wire::{self, META_FRAME};
use crate::bulk::{FetchError, SourceError, Want};
use crate::keys::{ClusterSecret, Token};
use crate::quic::{self, Settings};

/// Speaks to a worker byte by byte.
struct Stranger {
    runtime: Runtime,
    connection: Connection,
}

impl Stranger {
    fn dial(worker: &Worker, token: &Token, hello: &Hello) -> Result<Stranger, String> {
        let runtime = runtime();
        let address = worker.bulk.local_addr().unwrap();
        let settings = Settings { streams: 8, ..Settings::default() };
        let connection = runtime.block_on(async {
            let endpoint = quic::bind(loopback(), None, &settings).unwrap();
            let config = quic::client_config(token, Role::Worker, &settings);
            let connecting = endpoint.connect_with(config, address, quic::SERVER_NAME).unwrap();
            let connection = connecting.await.map_err(|error| error.to_string())?;
            wire::greet(&connection, hello).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(connection)
        })?;
        Ok(Stranger { runtime, connection })
    }

    fn client(worker: &Worker) -> Stranger {
        let hello = Hello::own("stranger", Role::Client);
        Stranger::dial(worker, &secret().token(Role::Client), &hello).unwrap()
    }

    /// Sends these bytes as a request; the answer, if there is one.
    fn say(&self, bytes: &[u8]) -> Result<Reply, String> {
        self.runtime.block_on(async {
            let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
            send.write_all(bytes).await.map_err(|error| error.to_string())?;
            send.finish().map_err(|error| error.to_string())?;
            answer(&mut recv).await
        })
    }

    fn ask(&self, request: &Request) -> Result<Reply, String> {
        self.say(&framed(request))
    }

    /// Puts these bytes as an object of that size.
    fn put(&self, key: Key, meta: ObjectMeta, bytes: &[u8]) -> Result<Reply, String> {
        self.runtime.block_on(async {
            let (mut send, mut recv) = self.connection.open_bi().await.unwrap();
            send.write_all(&framed(&Request::Put { key, meta })).await.unwrap();
            match answer(&mut recv).await? {
                Reply::Go => {}
                other => return Ok(other),
            }
            // It may be stopped before all has been said.
            let _ = send.write_all(bytes).await;
            let _ = send.finish();
            answer(&mut recv).await
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn answer(recv: &mut RecvStream) -> Result<Reply, String> {
    wire::receive(recv, META_FRAME).await.map_err(|error| error.to_string())
}

fn framed(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    manyhands_proto::frame::encode(request, &mut bytes).unwrap();
    bytes
}

fn get(key: Key, wanted: Wanted) -> Request {
    Request::Get { key, asker: Some(WorkerId(5)), meta: true, wanted }
}

fn first_chunk() -> Wanted {
    Wanted { first: 0, bits: vec![1].into(), prefer: 0 }
}

#[test]
fn nonsense_gets_no_answer_and_the_next_request_does() {
    let worker = Worker::start(1);
    worker.shelf.place(object(1), content(10));
    let stranger = Stranger::client(&worker);
    let four_gib = u32::MAX.to_le_bytes();
    let cut = &framed(&get(object(1), first_chunk()))[..9];
    for nonsense in [&b"\x05\0\0\0hello"[..], &four_gib, cut, b"", &[0; 100]] {
        stranger.say(nonsense).unwrap_err();
    }
    let reply = stranger.ask(&get(object(1), first_chunk())).unwrap();
    assert!(matches!(reply, Reply::Bytes { chunk: 0, size: 10, .. }), "{reply:?}");
}

#[test]
fn chunks_beyond_the_end_and_unknown_objects_are_refused() {
    let worker = Worker::start(1);
    worker.shelf.place(object(1), content(10));
    let stranger = Stranger::client(&worker);
    for wanted in [
        Wanted { first: 1, bits: vec![0xff; 100].into(), prefer: 3 },
        Wanted { first: u32::MAX, bits: vec![0xff; 4096].into(), prefer: u32::MAX },
        Wanted { first: 0, bits: Bytes::new(), prefer: 0 },
    ] {
        let reply = stranger.ask(&get(object(1), wanted)).unwrap();
        assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    }
    let reply = stranger.ask(&get(object(2), first_chunk())).unwrap();
    assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
}

#[test]
fn a_client_is_not_named_to_others_as_one_who_has_something() {
    let worker = Worker::start(1);
    worker.shelf.place(object(1), content(10));
    let stranger = Stranger::client(&worker);
    for _ in 0..2 {
        let reply = stranger.ask(&get(object(1), first_chunk())).unwrap();
        let Reply::Bytes { others, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(others, []);
    }
}

#[test]
fn puts_of_more_or_fewer_bytes_than_announced_are_refused() {
    let worker = Worker::start(1);
    let stranger = Stranger::client(&worker);
    for bytes in [9, 11, 3 * CHUNK as usize] {
        let reply = stranger.put(object(1), meta(10), &content(bytes)).unwrap();
        assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
        assert!(worker.shelf.get(object(1)).is_none());
    }
    assert_eq!(stranger.put(object(1), meta(10), &content(10)), Ok(Reply::Done));
}

#[test]
fn without_a_key_of_the_cluster_or_with_another_version_nothing_is_said() {
    let worker = Worker::start(1);
    let hello = Hello::own("stranger", Role::Client);
    let other = ClusterSecret::from_bytes([8; 32]).token(Role::Client);
    assert!(Stranger::dial(&worker, &other, &hello).is_err());
    // The scheduler has no business with data links.
    assert!(Stranger::dial(&worker, &secret().token(Role::Scheduler), &hello).is_err());
    let newer = Hello { protocol: hello.protocol + 1, ..hello };
    if let Ok(stranger) = Stranger::dial(&worker, &secret().token(Role::Client), &newer) {
        stranger.ask(&get(object(1), first_chunk())).unwrap_err();
        let reason = stranger.runtime.block_on(stranger.connection.closed()).to_string();
        assert!(reason.contains("speaks protocol"), "{reason}");
    }
}

/// A worker that answers each request as it is told to.
struct Liar {
    _runtime: Runtime,
    endpoint: Endpoint,
}

type Lie = dyn Fn(&Request) -> (Reply, usize) + Send + Sync;

impl Liar {
    fn start(lie: Arc<Lie>) -> Liar {
        let runtime = runtime();
        let settings = Settings { streams: 64, ..Settings::default() };
        let config = quic::server_config(&secret().token(Role::Worker), &[Role::Worker], &settings);
        let endpoint =
            runtime.block_on(async { quic::bind(loopback(), Some(config), &settings) }).unwrap();
        let accepting = endpoint.clone();
        runtime.spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let Ok(connection) = incoming.await else { continue };
                tokio::spawn(lies(connection, lie.clone()));
            }
        });
        Liar { _runtime: runtime, endpoint }
    }

    fn peer(&self) -> Peer {
        let addresses = vec![self.endpoint.local_addr().unwrap()];
        Peer { worker: WorkerId(66), addresses, host: String::new() }
    }
}

async fn lies(connection: Connection, lie: Arc<Lie>) {
    let hello = Hello::own("liar", Role::Worker);
    wire::be_greeted(&connection, &hello).await.unwrap();
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(tell(send, recv, lie.clone()));
    }
}

async fn tell(mut send: SendStream, mut recv: RecvStream, lie: Arc<Lie>) {
    let Ok(request) = wire::receive(&mut recv, META_FRAME).await else { return };
    let (reply, bytes) = lie(&request);
    let _ = wire::send(&mut send, &reply).await;
    let _ = send.write_all(&vec![7; bytes]).await;
    let _ = send.finish();
}

fn bytes_of(chunk: u32, size: u64, meta_size: u64) -> Reply {
    Reply::Bytes { chunk, size, meta: Some(meta(meta_size)), others: vec![WorkerId(66); 1000] }
}

#[test]
fn what_cannot_be_is_not_believed() {
    let size = 2 * CHUNK + 5;
    let lies: [(&str, Arc<Lie>); 8] = [
        ("another size", Arc::new(move |_| (bytes_of(0, size + 1, size + 1), 10))),
        ("two sizes", Arc::new(move |_| (bytes_of(0, size, 1), 10))),
        ("a chunk that was not asked for", Arc::new(move |_| (bytes_of(3, size, size), 10))),
        ("too few bytes", Arc::new(move |_| (bytes_of(2, size, size), 4))),
        ("too many bytes", Arc::new(move |_| (bytes_of(2, size, size), 6))),
        (
            "no codec",
            Arc::new(move |_| {
                (Reply::Bytes { chunk: 0, size, meta: None, others: Vec::new() }, CHUNK as usize)
            }),
        ),
        ("an answer to nothing", Arc::new(|_| (Reply::Go, 0))),
        ("endless bytes", Arc::new(move |_| (bytes_of(0, size, size), 3 * CHUNK as usize))),
    ];
    for (name, lie) in lies {
        let (liar, asker) = (Liar::start(lie), Worker::start(1));
        asker.bulk.peers(vec![liar.peer()]);
        let fetch = asker.fetch(Want::new(object(1), size, vec![WorkerId(66)]));
        let Err(FetchError::Unavailable { sources, .. }) = fetch.wait() else {
            panic!("{name} was believed")
        };
        assert!(matches!(&sources[..], [(_, SourceError::Corrupt(_))]), "{name}: {sources:?}");
    }
}

#[test]
fn a_liar_does_not_spoil_what_an_honest_worker_gives() {
    let bytes = content(3 * CHUNK as usize);
    let size = bytes.len() as u64;
    let honest = Worker::start(2);
    honest.shelf.place(object(1), bytes.clone());
    let liar = Liar::start(Arc::new(move |_| (bytes_of(1, size, size), 100)));
    let asker = Worker::start(1);
    asker.bulk.peers(vec![liar.peer(), honest.peer()]);
    let fetch = asker.fetch(Want::new(object(1), size, vec![WorkerId(66), honest.id]));
    assert_eq!(fetch.wait(), Ok(meta(size)));
    assert!(fetch.basin.bytes() == bytes);
}
