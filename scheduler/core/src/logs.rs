//! What tasks have printed, as much of it as is kept: the last of each task, and of all tasks what
//! was printed last. A task that prints nothing has no record here.

use std::collections::VecDeque;

use bytes::Bytes;
use manyhands_proto::TaskId;
use manyhands_proto::client::Stream;
use rustc_hash::FxHashMap;

/// Bytes that are kept of one task.
const A_TASK: u64 = 256 << 10;

/// What a piece takes besides its bytes.
const A_PIECE: u64 = 96;

/// A piece that was printed at one time.
struct Piece {
    /// Counted over all tasks.
    number: u64,
    stream: Stream,
    bytes: Bytes,
}

#[derive(Default)]
struct Log {
    pieces: VecDeque<Piece>,
    /// What the pieces take up.
    kept: u64,
    /// Bytes before them that are no longer kept.
    dropped: u64,
}

/// The logs of all tasks.
#[derive(Default)]
pub(crate) struct Logs {
    tasks: FxHashMap<TaskId, Log>,
    /// All pieces, the oldest first. Some are gone by now.
    order: VecDeque<(u64, TaskId)>,
    pieces: usize,
    kept: u64,
    next: u64,
}

impl Piece {
    fn cost(&self) -> u64 {
        self.bytes.len() as u64 + A_PIECE
    }
}

impl Logs {
    /// Keeps what a task has printed; forgets what is oldest beyond `limit` bytes in all.
    pub(crate) fn push(&mut self, task: TaskId, stream: Stream, bytes: &Bytes, limit: u64) {
        let most = A_TASK.min(limit).saturating_sub(A_PIECE) as usize;
        let cut = bytes.len().saturating_sub(most);
        // A copy: what is printed comes in messages that have much more in them.
        let kept = Bytes::copy_from_slice(&bytes[cut..]);
        let piece = Piece { number: self.next, stream, bytes: kept };
        self.next += 1;
        self.order.push_back((piece.number, task));
        self.pieces += 1;
        self.kept += piece.cost();
        let log = self.tasks.entry(task).or_default();
        log.dropped += cut as u64;
        log.kept += piece.cost();
        log.pieces.push_back(piece);
        while self.tasks[&task].kept > A_TASK {
            self.drop_first(task);
        }
        while self.kept > limit
            && let Some((number, task)) = self.order.pop_front()
        {
            let first = self.tasks.get(&task).and_then(|log| log.pieces.front());
            if first.is_some_and(|piece| piece.number == number) {
                self.drop_first(task);
            }
        }
        self.tidy();
    }

    fn drop_first(&mut self, task: TaskId) {
        let Some(log) = self.tasks.get_mut(&task) else { return };
        let Some(piece) = log.pieces.pop_front() else { return };
        self.pieces -= 1;
        self.kept -= piece.cost();
        log.kept -= piece.cost();
        log.dropped += piece.bytes.len() as u64;
        if log.pieces.is_empty() {
            self.tasks.remove(&task);
        }
    }

    /// Strikes pieces that are gone out of the order, once that is most of them.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.pieces + 1024 {
            let tasks = &self.tasks;
            self.order.retain(|(number, task)| {
                let first = tasks.get(task).and_then(|log| log.pieces.front());
                first.is_some_and(|first| first.number <= *number)
            });
        }
    }

    /// What is kept of a task, and how many bytes before that are not.
    pub(crate) fn of(&self, task: TaskId) -> Option<(Vec<(Stream, Bytes)>, u64)> {
        let log = self.tasks.get(&task)?;
        let pieces = log.pieces.iter().map(|piece| (piece.stream, piece.bytes.clone()));
        Some((pieces.collect(), log.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_proto::{JobId, Lane};

    fn task(seq: u64) -> TaskId {
        TaskId { job: JobId(uuid::Uuid::from_u128(1)), lane: Lane(1), seq }
    }

    fn print(logs: &mut Logs, seq: u64, bytes: &[u8], limit: u64) {
        logs.push(task(seq), Stream::Stdout, &Bytes::copy_from_slice(bytes), limit);
        let kept: u64 = logs.tasks.values().map(|log| log.kept).sum();
        assert_eq!(kept, logs.kept);
        assert!(kept <= limit);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut logs = Logs::default();
        let limit = 10 * (A_PIECE + 4);
        (0..15).for_each(|seq| print(&mut logs, seq % 5, b"abcd", limit));
        for seq in 0..5 {
            let (pieces, dropped) = logs.of(task(seq)).expect("two pieces of each are kept");
            assert_eq!((pieces.len(), dropped), (2, 4));
        }
        (0..10).for_each(|_| print(&mut logs, 7, b"abcd", limit));
        assert_eq!(logs.tasks.len(), 1, "what has nothing left has no record");
    }

    #[test]
    fn a_task_that_prints_for_ever_keeps_its_last_words() {
        let mut logs = Logs::default();
        print(&mut logs, 1, b"other", 1 << 30);
        let line = [b'x'; 1000];
        (0..5000).for_each(|_| print(&mut logs, 0, &line, 1 << 30));
        let (pieces, dropped) = logs.of(task(0)).expect("its last lines are kept");
        assert_eq!(pieces.len() as u64, A_TASK / (1000 + A_PIECE));
        assert_eq!(dropped + 1000 * pieces.len() as u64, 5_000_000);
        assert!(logs.order.len() < 2000, "nor does the order of pieces grow");
        print(&mut logs, 2, &vec![b'y'; 1 << 20], 1 << 30);
        let (pieces, dropped) = logs.of(task(2)).expect("the end of a long one");
        assert_eq!(pieces[0].1.len() as u64 + dropped, 1 << 20);
    }
}
