//! Questions that the scheduler answers one by one: why a task is where it is, and about the
//! cluster.

use std::sync::Arc;

use manyhands_proto::TaskId;
use manyhands_proto::client::{Explanation, FromClient};
use manyhands_proto::inspect::{Answer, Question};
use rustc_hash::FxHashMap;

use super::Session;
use super::waiting::Signal;
use crate::error::Error;

/// What was asked and not yet answered.
#[derive(Default)]
pub(super) struct Questions {
    open: FxHashMap<u64, (Arc<Signal>, Option<Reply>)>,
    next: u64,
}

/// What the scheduler says to a question.
pub(super) enum Reply {
    Explained(Explanation),
    Answer(Answer),
}

impl Questions {
    fn open(&mut self, signal: Arc<Signal>) -> u64 {
        let query = self.next;
        self.next += 1;
        self.open.insert(query, (signal, None));
        query
    }

    /// An answer came. One that nobody asked for changes nothing.
    pub(super) fn answer(&mut self, query: u64, reply: Reply) {
        if let Some((signal, answer)) = self.open.get_mut(&query) {
            *answer = Some(reply);
            signal.set();
        }
    }

    /// No more answers will come.
    pub(super) fn wake_all(&self) {
        self.open.values().for_each(|(signal, _)| signal.set());
    }
}

impl Session {
    /// Asks why a task is where it is, and waits for the answer.
    pub(crate) fn explain(&self, task: TaskId) -> Result<Explanation, Error> {
        match self.put_question(|query| FromClient::Explain { query, task })? {
            Reply::Explained(explanation) => Ok(explanation),
            Reply::Answer(_) => Err(Error::Answer),
        }
    }

    /// Asks about the cluster, and waits for the answer.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer, Error> {
        match self.put_question(|query| FromClient::Ask { query, question })? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Explained(_) => Err(Error::Answer),
        }
    }

    fn put_question(&self, question: impl FnOnce(u64) -> FromClient) -> Result<Reply, Error> {
        let signal = Signal::here();
        let mut state = self.lock();
        state.check_open()?;
        state.flush();
        let query = state.questions.open(signal.clone());
        state.outbox.push(question(query));
        self.poke(state);
        let blocked = self.block(&[], &signal, None);
        let mut state = self.lock();
        match state.questions.open.remove(&query) {
            Some((_, Some(reply))) => Ok(reply),
            _ => {
                Err(state.check_open().and(blocked).err().unwrap_or(Error::Timeout { pending: 0 }))
            }
        }
    }

    /// Says something that has no answer, and waits for the answer to a question that was asked
    /// after it: by then it has been done, or refused.
    pub(crate) fn order(&self, order: FromClient) -> Result<(), Error> {
        let mut state = self.lock();
        state.check_open()?;
        state.flush();
        let earlier = state.refused.take();
        state.outbox.push(order);
        self.poke(state);
        self.ask(Question::Cluster)?;
        let refused = std::mem::replace(&mut self.lock().refused, earlier);
        refused.map_or(Ok(()), |message| Err(Error::Refused { message }))
    }
}

#[cfg(test)]
mod tests {
    use manyhands_proto::client::ToClient;
    use manyhands_proto::inspect::ClusterInfo;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::client::Client;
    use crate::testing::{Fake, drained_client};

    /// Answers the first question about the cluster that is asked, after saying something else.
    fn answer(fake: &Fake, client: &Client, first: Option<ToClient>) {
        let limit = Instant::now() + Duration::from_secs(60);
        let query = loop {
            assert!(Instant::now() < limit, "waited for a question");
            let asked = fake.drained.lock().unwrap().iter().find_map(|said| match said {
                FromClient::Ask { query, question: Question::Cluster } => Some(*query),
                _ => None,
            });
            match asked {
                Some(query) => break query,
                None => std::thread::yield_now(),
            }
        };
        client.session.receive(first.into_iter().collect());
        let answer = Answer::Cluster(ClusterInfo { jobs: 7, ..ClusterInfo::default() });
        client.session.receive(vec![ToClient::Answer { query, answer }]);
    }

    #[test]
    fn an_answer_reaches_whoever_asked() {
        let (fake, client) = drained_client();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| client.cluster().info());
            answer(&fake, &client, None);
            assert_eq!(asked.join().unwrap().unwrap().jobs, 7);
        });
    }

    #[test]
    fn what_is_refused_is_told_to_whoever_ordered_it() {
        let (fake, client) = drained_client();
        std::thread::scope(|scope| {
            let ordered = scope.spawn(|| client.cluster().drain(manyhands_proto::WorkerId(9)));
            answer(&fake, &client, Some(ToClient::Refused { message: "no such worker".into() }));
            let refused = ordered.join().unwrap().unwrap_err();
            assert!(refused.to_string().contains("no such worker"), "{refused}");
        });
        let drained = fake.drained.lock().unwrap();
        assert!(matches!(drained[..], [FromClient::Drain { .. }, FromClient::Ask { .. }]));
    }

    #[test]
    fn whoever_asks_is_told_of_the_end() {
        let (_, client) = drained_client();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| client.cluster().info());
            client.session.end("the scheduler is gone");
            let error = asked.join().unwrap().unwrap_err();
            assert!(error.to_string().contains("the scheduler is gone"), "{error}");
        });
    }
}
