//! What quinn alone does with the settings of the transfers, to compare the example `bulk` with:
//! one stream, from memory into memory, no requests, no chunks.
//!
//! `cargo run --release -p manyhands-transport --features quic --example quinn -- [MIB] [REPEATS]
//! [MTU]`

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Instant;

use bytes::Bytes;
use manyhands_proto::frame::Role;
use manyhands_transport::keys::{ClusterSecret, Token};
use manyhands_transport::quic::{self, Settings};
use quinn::{Connection, Endpoint};
use tokio::runtime::{Builder, Runtime};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if let [_, role, size, mtu] = &args[..]
        && role == "serve"
    {
        return serve(&runtime, size.parse()?, mtu.parse()?);
    }
    let mib: usize = args.get(1).map_or(Ok(1024), |text| text.parse())?;
    let repeats: usize = args.get(2).map_or(Ok(5), |text| text.parse())?;
    let mtus = match args.get(3) {
        Some(text) => vec![text.parse()?],
        None => vec![6500, 1452],
    };
    for mtu in mtus {
        measure(&runtime, mib << 20, repeats, mtu)?;
    }
    Ok(())
}

fn settings(mtu: u16) -> Settings {
    let (stream_window, window) = (16 << 20, 64 << 20);
    Settings {
        mtu,
        streams: 64,
        stream_window,
        window,
        initial_window: 1 << 20,
        ..Settings::default()
    }
}

fn token() -> Token {
    ClusterSecret::from_bytes([1; 32]).token(Role::Worker)
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn serve(runtime: &Runtime, size: usize, mtu: u16) -> Outcome<()> {
    let _context = runtime.enter();
    let config = quic::server_config(&token(), &[Role::Worker], &settings(mtu));
    let endpoint = quic::bind(loopback(), Some(config), &settings(mtu))?;
    println!("{}", endpoint.local_addr()?);
    runtime.spawn(give(endpoint, vec![5; size].into()));
    for _ in io::stdin().lines() {
        println!("{}", processor_time());
    }
    Ok(())
}

/// All of it to whoever says a byte.
async fn give(endpoint: Endpoint, bytes: Bytes) -> Outcome<()> {
    let connection = endpoint.accept().await.ok_or("closed")?.await?;
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        recv.read_exact(&mut [0]).await?;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            send.write_chunk(rest.split_to(rest.len().min(256 << 10))).await?;
        }
        send.finish()?;
    }
    Ok(())
}

async fn take(connection: Connection, mut room: Vec<u8>) -> Outcome<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&[1]).await?;
    let mut pieces: [Bytes; 64] = std::array::from_fn(|_| Bytes::new());
    let mut at = 0;
    while let Some(count) = recv.read_chunks(&mut pieces).await? {
        for piece in &mut pieces[..count] {
            let piece = std::mem::take(piece);
            room[at..at + piece.len()].copy_from_slice(&piece);
            at += piece.len();
        }
    }
    Ok(room)
}

fn measure(runtime: &Runtime, size: usize, repeats: usize, mtu: u16) -> Outcome<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &size.to_string(), &mtu.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = server.stdin.take().ok_or("no input")?;
    let mut output = BufReader::new(server.stdout.take().ok_or("no output")?).lines();
    let mut say = || output.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    let address = say()?.parse()?;
    let connection = runtime.block_on(async {
        let endpoint = quic::bind(loopback(), None, &settings(mtu))?;
        let config = quic::client_config(&token(), Role::Worker, &settings(mtu));
        Outcome::Ok(endpoint.connect_with(config, address, quic::SERVER_NAME)?.await?)
    })?;
    let once = |room| runtime.block_on(runtime.spawn(take(connection.clone(), room)));
    let mut room = once(vec![0; size])??;
    writeln!(input)?;
    let before = [say()?.parse::<f64>()?, processor_time()];
    let mut rates = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        room = once(room)??;
        rates.push(size as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 30));
    }
    rates.sort_by(f64::total_cmp);
    writeln!(input)?;
    let gib = size as f64 / f64::from(1 << 30) * repeats as f64;
    let costs = [say()?.parse::<f64>()? - before[0], processor_time() - before[1]];
    let [gives, takes] = costs.map(|seconds| seconds / gib);
    let (low, median, high) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    println!(
        "quinn alone, mtu {mtu}: {median:.2} GiB/s [{low:.2}-{high:.2}]; giver {gives:.3}, taker \
         {takes:.3} s/GiB"
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
