//! A client by hand, whose program the cluster's machines cannot run.

use std::time::Duration;

use bytes::Bytes;
use manyhands_cluster_tests::{Cluster, LIMIT, Plan, in_time};
use manyhands_proto::client::{FromClient, FunctionSpec, Outcome, ToClient};
use manyhands_proto::graph::{GraphBatch, TaskRow};
use manyhands_proto::link::{Join, Key, Opened};
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::{Codec, ObjectMeta};
use manyhands_proto::{FunctionId, JobId, Lane};
use manyhands_transport::Receive;
use manyhands_transport::address::Address;
use manyhands_transport::bulk::{Bulk, BulkConfig};
use manyhands_transport::link::{Dial, Link, Outbox};
use manyhands_transport::machine::program_hash_of;
use tokio::sync::mpsc;

use crate::work::{check_all, many_slowly};

/// Passes on what the scheduler says.
struct Heard(mpsc::UnboundedSender<ToClient>);

impl Receive<ToClient> for Heard {
    fn receive(&self, messages: Vec<ToClient>) {
        // A test that has failed does not listen.
        messages.into_iter().for_each(|message| drop(self.0.send(message)));
    }

    fn closed(&self, _reason: &str) {}
}

/// The program of this test, as it would begin if it were made for ARM.
fn for_another_machine() -> Bytes {
    const AARCH64: u16 = 183;
    let mut bytes = std::fs::read("/proc/self/exe").unwrap();
    bytes.truncate(1 << 20);
    bytes[18..20].copy_from_slice(&AARCH64.to_le_bytes());
    bytes.into()
}

/// One task of a program.
fn one_task(lane: Lane, program: u128) -> Vec<FromClient> {
    let job = JobId(uuid::Uuid::now_v7());
    let spec = FunctionSpec::rust(FunctionId(1), "elsewhere", program);
    let flags = TaskRow::HELD | TaskRow::WANTED;
    // The only function, with the only options, and without arguments.
    let (function, options, rank, inputs_end, args_end) = (0, 0, 0, 0, 0);
    let row = TaskRow { function, options, outputs: 1, rank, inputs_end, args_end, flags };
    let batch = GraphBatch {
        job,
        lane,
        first_seq: 0,
        options: vec![TaskOptions::default()],
        sources: Vec::new(),
        rows: vec![row],
        inputs: Vec::new(),
        args: Bytes::new(),
        more: false,
    };
    vec![
        FromClient::OpenJob { job, name: "foreign".to_owned(), weight: 1 },
        FromClient::Functions { first_slot: 0, functions: vec![spec] },
        FromClient::Submit(batch),
    ]
}

/// Submits the task, sends the program when it is asked for, and says how the task ended.
async fn outcome(line: &str, program: Bytes) -> Outcome {
    let address: Address = line.parse().unwrap();
    let token = address.token.clone().unwrap();
    let (told, mut heard) = mpsc::unbounded_channel();
    let outbox = Outbox::<FromClient>::new();
    let dial = Dial::new(address, "foreign", Join::Client { name: "foreign".to_owned() });
    let heard_by = std::sync::Arc::new(Heard(told));
    let (link, opened) = Link::open(dial, outbox.clone(), heard_by).await.unwrap();
    outbox.bind(link.bell());
    let Opened::Client { lane, .. } = opened else { panic!("a client got {opened:?}") };
    let hash = program_hash_of(&program);
    one_task(lane, hash).into_iter().for_each(|message| outbox.send(message));
    let bulk = Bulk::start(BulkConfig::new(None, token, "foreign"), None).unwrap();
    loop {
        match heard.recv().await.expect("the session goes on") {
            ToClient::Workers { peers, .. } => bulk.peers(peers),
            ToClient::SendProgram { program: wanted, worker } => {
                assert_eq!(wanted, hash);
                let (codec, size) = (Codec::RAW, program.len() as u64);
                let meta = ObjectMeta { codec, size, contains: Vec::new() };
                let key = Key::Program(hash);
                let put = bulk.put(worker, key, meta, program.clone(), LIMIT).await;
                if let Err(error) = put {
                    let message = error.to_string();
                    outbox.send(FromClient::ProgramFailed { program: hash, message });
                }
            }
            ToClient::Ended { ends } => return ends.into_iter().next().unwrap().1,
            _ => {}
        }
    }
}

#[test]
fn a_program_for_another_machine_is_refused_in_words() {
    in_time("a foreign program", Duration::from_secs(90), || {
        let cluster = Cluster::start(Plan { machines: 1, workers: 1, ..Plan::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let ended = outcome(&cluster.for_clients, for_another_machine());
            tokio::time::timeout(LIMIT, ended).await.expect("the task ends")
        });
        let Outcome::Failed(failed) = outcome else { panic!("it ran: {outcome:?}") };
        let words = format!("{:?}", failed.failure);
        assert!(words.contains("was built for"), "{words}");
        // The worker is none the worse for it.
        let client = cluster.client();
        check_all(&client, &many_slowly(&client, 10, 0));
    });
}
