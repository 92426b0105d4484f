use std::sync::Mutex;

use manyhands_proto::client::{FromClient, ToClient};
use manyhands_proto::inspect::{Answer, Question};
use manyhands_proto::link::{Join, Opened};
use manyhands_proto::worker::{FromWorker, ToWorker, WorkerSpec};
use manyhands_transport::Receive;
use manyhands_transport::link::{Dial, Link, Outbox};
use tokio::sync::{mpsc, oneshot};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

struct Ear<M>(mpsc::UnboundedSender<Result<M, String>>);

impl<M: Send> Receive<M> for Ear<M> {
    fn receive(&self, messages: Vec<M>) {
        messages.into_iter().for_each(|message| drop(self.0.send(Ok(message))));
    }

    fn closed(&self, reason: &str) {
        let _ = self.0.send(Err(reason.to_owned()));
    }
}

/// Starts a scheduler; `stop` ends it.
async fn start(config: ServeConfig) -> (Ready, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let (told, ready) = oneshot::channel();
    let told = Mutex::new(Some(told));
    let task = tokio::spawn(async move {
        let ready = |ready: &Ready| {
            let told = told.lock().unwrap().take().unwrap();
            told.send(ready.clone()).unwrap();
        };
        let stop = async { drop(stopped.await) };
        serve(config, ready, stop).await.unwrap();
    });
    let ready = timeout(LIMIT, ready).await.expect("the scheduler gets ready").unwrap();
    (ready, stop, task)
}

fn local() -> ServeConfig {
    ServeConfig { bind: (Ipv4Addr::LOCALHOST, 0).into(), ..ServeConfig::default() }
}

async fn next<M>(heard: &mut mpsc::UnboundedReceiver<Result<M, String>>) -> Result<M, String> {
    timeout(LIMIT, heard.recv()).await.expect("something is said").unwrap()
}

#[tokio::test]
async fn a_worker_joins_and_a_client_sees_it() {
    let (ready, stop, task) = start(local()).await;
    let (told, mut worker_heard) = mpsc::unbounded_channel();
    let spec = WorkerSpec { name: "hand".to_owned(), ..WorkerSpec::default() };
    let dial = Dial::new(ready.worker.clone(), "hand", Join::Worker(spec));
    let outbox = Outbox::<FromWorker>::new();
    let (worker, opened) =
        Link::open::<_, ToWorker>(dial, outbox, Arc::new(Ear(told))).await.unwrap();
    assert!(matches!(opened, Opened::Worker { .. }));

    let (told, mut heard) = mpsc::unbounded_channel();
    let join = Join::Client { name: "head".to_owned() };
    let dial = Dial::new(ready.client.clone(), "head", join);
    let outbox = Outbox::<FromClient>::new();
    let (client, _) =
        Link::open::<_, ToClient>(dial, outbox.clone(), Arc::new(Ear(told))).await.unwrap();
    outbox.bind(client.bell());
    let ask = |query, question| outbox.send(FromClient::Ask { query, question });

    ask(1, Question::Workers);
    let workers = loop {
        if let ToClient::Answer { query: 1, answer: Answer::Workers(workers) } =
            next(&mut heard).await.unwrap()
        {
            break workers;
        }
    };
    assert_eq!(workers.len(), 1);
    assert_eq!(workers[0].spec.name, "hand");

    // One that says goodbye is gone at once, and not after its grace.
    worker.close("enough").await;
    assert_eq!(until_closed(&mut worker_heard).await, "enough");
    let mut query = 2;
    loop {
        ask(query, Question::Cluster);
        let answer = next(&mut heard).await.unwrap();
        match answer {
            ToClient::Answer { answer: Answer::Cluster(info), .. } if info.workers == 0 => break,
            _ => query += 1,
        }
    }

    stop.send(()).unwrap();
    assert_eq!(until_closed(&mut heard).await, "the scheduler has stopped");
    timeout(LIMIT, task).await.expect("the scheduler stops").unwrap();
}

async fn until_closed<M>(heard: &mut mpsc::UnboundedReceiver<Result<M, String>>) -> String {
    loop {
        if let Err(words) = next(heard).await {
            return words;
        }
    }
}

#[tokio::test]
async fn a_bind_beyond_loopback_needs_a_secret_that_lasts() {
    let beyond = ServeConfig { bind: (Ipv4Addr::UNSPECIFIED, 0).into(), ..ServeConfig::default() };
    let unwritable = Some(PathBuf::from("/proc/manyhands"));
    for state_dir in [None, unwritable] {
        let config = ServeConfig { state_dir, ..beyond.clone() };
        let error = serve(config, |_| panic!("it listens"), async {}).await.unwrap_err();
        assert!(matches!(error, ServeError::NoSecret { .. }), "{error}");
        assert!(error.to_string().contains("give a state directory"), "{error}");
    }
    let config = ServeConfig { secret: Some(ClusterSecret::generate().unwrap()), ..beyond };
    serve(config, |ready| assert!(!ready.worker.host.is_empty()), async {}).await.unwrap();
}

#[tokio::test]
async fn the_secret_outlives_the_scheduler() {
    let dir = std::env::temp_dir().join(format!("manyhands-server-{}", std::process::id()));
    let mut lines = Vec::new();
    for _ in 0..2 {
        let config = ServeConfig { state_dir: Some(dir.clone()), ..local() };
        serve(config, |ready| lines.push(ready.worker.token.clone()), async {}).await.unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(lines[0], lines[1]);
}

#[tokio::test]
async fn a_taken_port_is_told_in_words() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = ServeConfig { bind: taken.local_addr().unwrap(), ..ServeConfig::default() };
    let error = serve(config, |_| panic!("it listens"), async {}).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1"), "{error}");
}
