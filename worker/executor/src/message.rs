//! The messages of `manyhands_proto::executor` that are hot, with their bytes where they lie: the
//! same encoding, no copies.

use manyhands_proto::executor::{Extent, Place, Run};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::Codec;
use manyhands_proto::{FunctionId, ObjectId, TaskId};
use serde::{Deserialize, Serialize, Serializer};
use smallvec::SmallVec;

/// [`Run`], borrowed.
#[derive(Debug, Deserialize)]
pub(crate) struct RunRef<'a> {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) function: FunctionId,
    pub(crate) outputs: u16,
    #[serde(borrow)]
    pub(crate) args: &'a [u8],
    #[serde(borrow)]
    pub(crate) inputs: Vec<PlaceRef<'a>>,
}

/// [`Place`], borrowed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) enum PlaceRef<'a> {
    #[serde(borrow)]
    Inline(ValueRef<'a>),
    Extent {
        extent: Extent,
        codec: Codec,
    },
}

/// [`manyhands_proto::value::Value`], borrowed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct ValueRef<'a> {
    pub(crate) codec: Codec,
    #[serde(borrow)]
    pub(crate) bytes: &'a [u8],
}

impl<'a> RunRef<'a> {
    pub(crate) fn of(run: &'a Run) -> RunRef<'a> {
        let place = |place: &'a Place| match place {
            Place::Inline(value) => {
                PlaceRef::Inline(ValueRef { codec: value.codec, bytes: &value.bytes })
            }
            &Place::Extent { extent, codec } => PlaceRef::Extent { extent, codec },
        };
        RunRef {
            task: run.task,
            attempt: run.attempt,
            function: run.function,
            outputs: run.outputs,
            args: &run.args,
            inputs: run.inputs.iter().map(place).collect(),
        }
    }
}

/// [`manyhands_proto::executor::End`], borrowed.
#[derive(Debug, Serialize)]
pub(crate) struct EndRef<'a> {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) duration_us: u32,
    pub(crate) printed: Option<(u64, u64)>,
    pub(crate) leaves: bool,
    pub(crate) result: Result<SmallVec<[ReturnedRef<'a>; 1]>, FailureKind>,
}

/// [`manyhands_proto::executor::Returned`], borrowed.
#[derive(Debug, Serialize)]
pub(crate) struct ReturnedRef<'a> {
    pub(crate) codec: Codec,
    pub(crate) bytes: ReturnedBytesRef<'a>,
    pub(crate) contains: Vec<ObjectId>,
}

/// [`manyhands_proto::executor::ReturnedBytes`], borrowed.
#[derive(Debug, Serialize)]
pub(crate) enum ReturnedBytesRef<'a> {
    #[serde(serialize_with = "as_bytes")]
    Inline(&'a [u8]),
    Extent(Extent),
}

fn as_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// What takes the place of [`manyhands_proto::executor::FromExecutor::End`] when it is written.
#[derive(Debug, Serialize)]
pub(crate) enum FromExecutorRef<'m, 'a> {
    End(&'m EndRef<'a>),
}
