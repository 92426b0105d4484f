//! The disk's thread: spilling and loading wait for a device, and the daemon's loop may not.

use std::io;
use std::sync::{Arc, mpsc};

use manyhands_proto::ObjectId;
use manyhands_proto::value::Value;
use manyhands_store::{Loaded, Store};
use manyhands_transport::Sender;
use manyhands_worker_core::Event;
use manyhands_worker_core::event::LocalValue;

use crate::shell::Input;

/// Something for the disk to do, in order.
pub(crate) enum DiskJob {
    Spill { object: ObjectId, value: Option<Value> },
    Load { object: ObjectId, on_disk: bool },
}

/// The thread, by its queue. It ends when this is dropped.
pub(crate) struct Disk {
    jobs: mpsc::Sender<DiskJob>,
}

impl Disk {
    pub(crate) fn start(store: Arc<Store>, answers: Sender<Input>) -> io::Result<Disk> {
        let (jobs, queue) = mpsc::channel();
        let name = "manyhands-disk".to_owned();
        std::thread::Builder::new().name(name).spawn(move || {
            for job in queue {
                // A worker that is gone needs no answer.
                let _ = answers.send(Input::Event(work(&store, job)));
            }
        })?;
        Ok(Disk { jobs })
    }

    pub(crate) fn send(&self, job: DiskJob) {
        // The thread ends only when this queue does.
        let _ = self.jobs.send(job);
    }
}

fn work(store: &Store, job: DiskJob) -> Event {
    match job {
        DiskJob::Spill { object, value } => {
            let done = match value {
                Some(value) => store.spill_value(object, &value),
                None => store.spill(object),
            };
            if let Err(error) = &done {
                eprintln!("manyhands: worker: {error}");
            }
            Event::Spilled { object, ok: done.is_ok() }
        }
        DiskJob::Load { object, on_disk } => {
            let loaded = match on_disk {
                true => store.load_in_place(object),
                false => store.load(object),
            };
            let result = loaded.map(local_value).map_err(|error| error.to_string());
            Event::Loaded { object, result }
        }
    }
}

fn local_value(loaded: Loaded) -> LocalValue {
    match loaded {
        Loaded::Inline(value) => LocalValue::Inline(value),
        Loaded::Extent { extent, codec } => LocalValue::Extent { extent, codec },
    }
}
