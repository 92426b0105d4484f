//! What the scheduler wants done. Its shell does it, in order.

use manyhands_proto::client::ToClient;
use manyhands_proto::worker::ToWorker;
use manyhands_proto::{SessionId, WorkerId};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell a client something.
    ToClient {
        /// Whom.
        session: SessionId,
        /// What.
        message: ToClient,
    },
    /// Tell a worker something.
    ToWorker {
        /// Whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
}
