//! Extents that executors were granted and have not published: those of a task that fails between
//! the two come back with its end.

use std::collections::HashMap;

use manyhands_proto::TaskId;
use manyhands_proto::executor::Extent;
use manyhands_worker_core::event::ExecutorId;

/// Grants and requests for them. Empty but while large values are being written.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    requests: HashMap<(ExecutorId, u64), TaskId>,
    granted: HashMap<(ExecutorId, u32, u64), (TaskId, Extent)>,
}

impl Grants {
    /// A task asks for an extent.
    pub(crate) fn asked(&mut self, executor: ExecutorId, request: u64, task: TaskId) {
        self.requests.insert((executor, request), task);
    }

    /// It gets one.
    pub(crate) fn granted(&mut self, executor: ExecutorId, request: u64, extent: Extent) {
        if let Some(task) = self.requests.remove(&(executor, request)) {
            self.granted.insert((executor, extent.segment, extent.offset), (task, extent));
        }
    }

    /// It has written it.
    pub(crate) fn published(&mut self, executor: ExecutorId, extent: Extent) {
        self.granted.remove(&(executor, extent.segment, extent.offset));
    }

    /// It has ended: what it was granted and did not publish.
    pub(crate) fn take(&mut self, executor: ExecutorId, task: TaskId) -> Vec<Extent> {
        if self.granted.is_empty() {
            return Vec::new();
        }

        let found = self.granted.extract_if(|key, grant| key.0 == executor && grant.0 == task);
        found.map(|(_, (_, extent))| extent).collect()
    }

    /// The executor is dead; the store knows what it had.
    pub(crate) fn forget(&mut self, executor: ExecutorId) {
        self.requests.retain(|key, _| key.0 != executor);
        self.granted.retain(|key, _| key.0 != executor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_proto::{JobId, Lane};

    #[test]
    fn what_a_task_did_not_publish_comes_back_with_its_end_and_no_other_does() {
        let task = |seq| TaskId { job: JobId(Default::default()), lane: Lane(0), seq };
        let extent = |offset| Extent { segment: 1, offset, len: 4096 };
        let (executor, mut grants) = (ExecutorId(0), Grants::default());
        for (request, of) in [(0, 7), (1, 7), (2, 8)] {
            grants.asked(executor, request, task(of));
            grants.granted(executor, request, extent(request * 4096));
        }
        grants.published(executor, extent(0));
        assert_eq!(grants.take(executor, task(7)), [extent(4096)]);
        assert_eq!(grants.take(executor, task(7)), []);
        assert_eq!(grants.take(executor, task(8)), [extent(8192)]);
    }
}
