//! What others have of this worker: copies that the scheduler wants here, values that peers and
//! clients want to have, and what tasks say in names that only mean something here.

use manyhands_proto::client::{FromClient, PutPlace, Runtime};
use manyhands_proto::value::Codec;
use manyhands_proto::worker::FromWorker;
use manyhands_proto::{ObjectId, WorkerId};

use crate::action::Action;
use crate::attempts::AttemptIx;
use crate::core::Core;
use crate::objects::{ObjectIx, Residence, Waiter, pages};

/// Objects on their way here at one time, for further copies to be begun. Each takes its room in
/// the store from the beginning.
const ARRIVALS_LIMIT: u32 = 16;

impl Core {
    /// The scheduler wants a copy to be here.
    pub(crate) fn on_copy(&mut self, id: ObjectId, size: u64, workers: Vec<WorkerId>) {
        if self.objects.small(id).is_some() {
            return self.copied.push(id);
        }
        let remote = Residence::Remote { workers };
        let ix = match self.objects.find(id) {
            None => self.objects.insert(id, Codec::RAW, size, remote),
            Some(ix) => {
                self.objects.revive(ix);
                if let Residence::Gone | Residence::Remote { .. } = self.objects[ix].residence {
                    self.objects[ix].size = size;
                    self.objects.set(ix, remote);
                }
                ix
            }
        };
        match self.objects[ix].residence {
            Residence::Remote { .. } if !self.is_copy_wanted(ix) => {
                self.objects[ix].waiters.push(Waiter::Copy);
                self.copies.push_back(id);
            }
            Residence::Fetching { .. } if !self.is_copy_wanted(ix) => {
                self.objects[ix].waiters.push(Waiter::Copy);
            }
            Residence::Remote { .. } | Residence::Fetching { .. } => {}
            _ => self.copied.push(id),
        }
    }

    /// Fetches what copies are wanted of, some at a time. Where memory is full they go to disk:
    /// they are kept, and not needed here now.
    pub(crate) fn serve_copies(&mut self, out: &mut Vec<Action>) {
        while self.objects.arrivals < ARRIVALS_LIMIT {
            let Some(id) = self.copies.pop_front() else { return };
            // It may have come for a task's sake, or failed to come.
            let Some(ix) = self.objects.find(id).filter(|ix| self.is_copy_wanted(*ix)) else {
                continue;
            };
            match self.objects[ix].residence {
                Residence::Remote { .. } => {
                    let on_disk = !self.fits(pages(self.objects[ix].size));
                    self.bring(ix, on_disk, out);
                }
                Residence::Gone => self.drop_copy(ix),
                _ => {}
            }
        }
    }

    pub(crate) fn is_copy_wanted(&self, ix: ObjectIx) -> bool {
        self.objects[ix].waiters.iter().any(|waiter| matches!(waiter, Waiter::Copy))
    }

    /// It was freed before it came.
    pub(crate) fn drop_copy(&mut self, ix: ObjectIx) {
        let id = self.objects[ix].id;
        self.objects[ix].waiters.retain(|waiter| !matches!(waiter, Waiter::Copy));
        self.copy_failed(id, "nobody needs it any more".to_owned());
        self.objects.forget_if_gone(ix);
    }

    /// No copy was made; said with the next round.
    pub(crate) fn copy_failed(&mut self, object: ObjectId, message: String) {
        let failed = FromWorker::CopyFailed { object, message };
        self.later.push(Action::ToScheduler(failed));
    }

    /// A peer or a client wants an object that the shell does not find in the store.
    pub(crate) fn on_wanted(&mut self, ticket: u64, id: ObjectId, out: &mut Vec<Action>) {
        let on_its_way = |residence: &Residence| {
            matches!(residence, Residence::Loading { .. } | Residence::Fetching { .. })
        };
        let known = self.objects.recorded(id).is_some_and(|o| on_its_way(&o.residence));
        match self.objects.find(id).filter(|_| known) {
            Some(ix) => self.objects[ix].waiters.push(Waiter::Serve(ticket)),
            None => out.push(Action::Serve { ticket, value: self.value(id) }),
        }
    }

    /// What a task says as a client may name this worker and its program as it knows them: not at
    /// all. The scheduler is told their names.
    pub(crate) fn translate(&self, ix: AttemptIx, mut message: FromClient) -> FromClient {
        match &mut message {
            FromClient::Put { place: PutPlace::Stored(worker), .. } => *worker = self.worker,
            FromClient::Functions { functions, .. } => {
                let runtime = self.public_runtime(self.attempts[ix].pool);
                for function in functions {
                    if function.runtime == (Runtime::Rust { program: 0 }) {
                        function.runtime = runtime.clone();
                    }
                }
            }
            _ => {}
        }
        message
    }
}
