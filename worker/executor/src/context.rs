//! What code inside a running task can ask for.

use bytes::Bytes;
use manyhands_proto::TaskId;
use manyhands_proto::executor::Extent;

/// The bytes of an extent, mapped.
pub(crate) fn map(_extent: Extent) -> Result<Bytes, String> {
    Err("there is no object store here: this is not an executor".into())
}

/// Writes bytes to the object store.
pub(crate) fn store(
    _task: TaskId,
    _grant: Option<Extent>,
    _bytes: &[u8],
) -> Result<Extent, String> {
    Err("there is no object store here: this is not an executor".into())
}
