//! How a run ends: well, with something left over, or not at all.

use super::*;

/// Microseconds that news gets to reach everybody.
const SETTLE_US: u64 = 10_000_000;

impl Cluster {
    /// When clients have let go of everything the news gets time to reach everybody.
    pub(super) fn settle(&mut self) {
        if self.ending == Ending::NotYet && self.clients.iter().all(Client::is_done) {
            self.ending = Ending::Released;
            let calm_at = self.world.now.max(self.world.calm_at);
            self.world.agenda.at(calm_at + SETTLE_US, Happening::Settled);
        }
    }

    /// Nothing may be left anywhere: not when all handles are released, and not when the jobs are
    /// closed.
    pub(super) fn settled(&mut self) {
        let leaks = self.leaks();
        if !leaks.is_empty() {
            return self.world.fail(format!("leaks: {}", leaks.join("; ")));
        }
        if self.ending == Ending::Closed {
            self.ending = Ending::Over;
            return;
        }
        self.ending = Ending::Closed;
        for client in &mut self.clients {
            client.close_jobs(&mut self.world);
        }
        self.world.after(SETTLE_US, Happening::Settled);
    }

    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let known = self.scheduler.tasks_known();
        if known > 0 {
            leaks.push(format!("the scheduler still knows {known} tasks and values"));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            if self.members[number] != Member::In {
                continue;
            }
            let remains = worker.store.remains();
            let (objects, attempts) = worker.core.holdings();
            let busy = worker.busy_executors();
            if !remains.is_empty() || objects + attempts + busy > 0 {
                leaks.push(format!(
                    "worker {number} still has {objects} objects, {attempts} attempts and {busy} \
                     busy executors; in its store: {remains:?}"
                ));
            }
        }
        let drains = self.standing.iter().zip(&self.members).enumerate();
        let left = drains.filter(|(_, (it, member))| it.drains.is_some() && **member == Member::In);
        leaks.extend(left.map(|(number, _)| format!("worker {number} drains and was not let go")));
        leaks.extend(self.forgotten_goodbyes());
        leaks.truncate(5);
        leaks
    }

    /// Who still reckons with workers that are gone.
    fn forgotten_goodbyes(&self) -> Vec<String> {
        let is_gone = |it: &WorkerId| self.members[it.0 as usize] != Member::In;
        let workers = self.workers.iter().enumerate();
        let members = workers.filter(|(number, _)| self.members[*number] == Member::In);
        let mut words = Vec::new();
        for (number, worker) in members {
            let gone = worker.peers.iter().filter(|it| is_gone(it));
            words.extend(gone.map(|gone| format!("worker {number} was not told that {gone} went")));
        }
        for client in self.clients.iter().filter(|client| !client.lost) {
            let gone = client.peers.iter().filter(|it| is_gone(it));
            words.extend(gone.map(|gone| format!("a client was not told that {gone} went")));
        }
        words
    }

    pub(super) fn outline(&self) -> Outline {
        let cuts = self.workers.iter().map(|worker| u64::from(worker.link.cuts)).sum::<u64>()
            + self.clients.iter().map(|client| u64::from(client.link.cuts)).sum::<u64>();
        Outline {
            actions_hash: self.actions.hasher.finish(),
            actions: self.actions.count,
            makespan_us: self.world.record.last_end.0,
            peak_bytes: self.world.bytes.1,
            tasks: (self.world.plan.tasks.len() as u64, self.world.record.well),
            checked: self.clients.iter().map(|client| client.checked).sum(),
            spills: self.workers.iter().map(|worker| worker.store.spills).sum(),
            cuts,
            workers: (self.workers.len() as u64, u64::from(self.world.losses)),
            rerun: self.world.record.rerun,
        }
    }

    /// What running tasks have submitted and still wait for.
    pub(super) fn awaited_children(&self) -> Vec<ObjectId> {
        let (plan, record) = (&self.world.plan, &self.world.record);
        let runs = |no: &usize| record.count(*no, Fate::Running) > 0;
        let ended = |no: &usize| record.count(*no, Fate::Well) > 0;
        let children =
            (0..plan.tasks.len()).filter(|no| plan.tasks[*no].parent.is_some_and(|it| runs(&it)));
        children.filter(|no| !ended(no)).map(|no| plan.tasks[no].id.object(0)).collect()
    }

    /// What waits, and what the cores say why.
    pub(super) fn describe_hang(mut self) -> String {
        let mut text = format!("hangs since {} us", self.world.record.progress.0);
        let began = self.world.now;
        let children = self.awaited_children();
        for client in &mut self.clients {
            let mut waiting: Vec<ObjectId> = client.waits_for().take(8).collect();
            waiting.extend(children.iter().copied().take(24));
            let all = client.waits_for().count();
            let _ = write!(text, "\n  a client waits for {all} objects");
            for (query, object) in waiting.into_iter().enumerate() {
                let (query, task) = (query as u64, object.task);
                client.say(FromClient::Explain { query, task }, &mut self.world);
                let _ = write!(text, "\n  question {query}: {object}");
            }
        }
        while let Some((now, happening)) = self.world.agenda.take_next() {
            self.world.now = now;
            self.happen(happening);
            if now.since(began) > 5_000_000 {
                break;
            }
        }
        for client in &self.clients {
            for (query, explanation) in &client.explanations {
                let (state, reason) = (explanation.state, &explanation.reason);
                let _ = write!(text, "\n  answer {query}: {state:?}: {reason}");
            }
        }
        text
    }
}
