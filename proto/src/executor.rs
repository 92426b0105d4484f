//! The protocol between a worker and its executors.
//!
//! It is small and neutral to languages, so that anyone can write another runtime. An executor is a
//! process with two links to its worker, both inherited:
//!
//! - a **control socket** (Unix, stream): [`ToExecutor`] and [`FromExecutor`] in frames as
//!   [`crate::frame`] lays them out; descriptors travel beside the frame that announces them
//!   (`SCM_RIGHTS`);
//! - a **ring file** (memfd, mapped by both) with two rings of bytes, tasks down and ends up
//!   ([`Run`] and [`End`] as MessagePack arrays). A task in the ring is the worker's until the
//!   executor claims it by a compare-and-swap on the entry's first word, so that it can be taken
//!   back. The layout is in the documentation of `manyhands-executor`'s module `ring`.
//!
//! # A task's encoded arguments
//!
//! One after the other, in the order of the function's parameters, each by its first byte:
//!
//! | first byte | then |
//! | --- | --- |
//! | 0 | a value: codec (`u8`), length (`u32`, little endian), the bytes |
//! | 1 | an input: its number (`u32`) |
//! | 2 | a list of inputs: first number (`u32`), count (`u32`) |
//!
//! Inputs beyond those named so are handles inside values: the task gets them as handles.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::client::{FromClient, ToClient};
use crate::ids::{FunctionId, ObjectId, TaskId};
use crate::task::FailureKind;
use crate::value::{Codec, Value};

/// The version of this protocol. An executor says it in its hello; unequal ones are refused.
pub const EXECUTOR_PROTOCOL: u32 = 3;

/// A task, for an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The task.
    pub task: TaskId,
    /// Which attempt of it.
    pub attempt: u32,
    /// Its function.
    pub function: FunctionId,
    /// How many objects it returns.
    pub outputs: u16,
    /// Encoded arguments.
    pub args: Bytes,
    /// The inputs that arguments refer to.
    pub inputs: Vec<Place>,
}

/// Where an executor finds an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// Here.
    Inline(Value),
    /// In a segment.
    Extent {
        /// Where exactly.
        extent: Extent,
        /// How to read it.
        codec: Codec,
    },
}

/// A range of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// The segment's number, unique within its worker's life.
    pub segment: u32,
    /// Bytes from its start; a multiple of the page size.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// The end of an attempt, from an executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The task.
    pub task: TaskId,
    /// Which attempt of it.
    pub attempt: u32,
    /// How long the function ran, in microseconds.
    pub duration_us: u32,
    /// Sizes of the executor's files of standard output and error at the end of the task, when the
    /// executor looked.
    pub printed: Option<(u64, u64)>,
    /// The executor claims nothing more: what else lies in its ring is the worker's again, and it
    /// waits for [`ToExecutor::Exit`].
    pub leaves: bool,
    /// What came of it.
    pub result: Result<SmallVec<[Returned; 1]>, Box<FailureKind>>,
}

/// An object that a task returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Returned {
    /// How to read it.
    pub codec: Codec,
    /// Where its bytes are: inside this message, or in an extent that was granted for writing.
    pub bytes: ReturnedBytes,
    /// Handles that it contains.
    pub contains: Vec<ObjectId>,
}

/// Where the bytes of a returned object are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReturnedBytes {
    /// Here.
    Inline(Bytes),
    /// In an extent; `len` is what was used of it.
    Extent(Extent),
}

/// From a worker to an executor, over the control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToExecutor {
    /// A function that is not part of the executor's program. Sent once, before the first task of it.
    Function {
        /// Its id.
        id: FunctionId,
        /// Its name, for people.
        name: String,
        /// As in [`FunctionSpec`](crate::client::FunctionSpec).
        code: Bytes,
    },
    /// A segment; its descriptor comes beside this frame. Sent once before the first extent of it.
    /// Readers get a descriptor that cannot be mapped for writing.
    Segment {
        /// Its number.
        segment: u32,
        /// For writing the extents that are granted to this executor.
        writable: bool,
        /// Its size in bytes.
        size: u64,
    },
    /// This segment is no more: unmap it.
    DropSegment {
        /// Its number.
        segment: u32,
    },
    /// Answer to [`FromExecutor::Alloc`].
    Granted {
        /// As asked.
        request: u64,
        /// The extent, or why there is none.
        extent: Result<Extent, String>,
    },
    /// Answer to [`FromExecutor::Read`].
    Readable {
        /// The object.
        object: ObjectId,
        /// Where it is, or why it cannot be had.
        place: Result<Place, String>,
    },
    /// For the running task, as a client.
    Client {
        /// The task.
        task: TaskId,
        /// What it is told.
        message: ToClient,
    },
    /// A task to run now, on top of the blocked one, which waits for it.
    Run(Run),
    /// A task too large for the ring: it runs when its place in the ring is claimed.
    Ahead(Run),
    /// Ends the process, with exit code 0.
    Exit,
}

/// From an executor to its worker, over the control socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromExecutor {
    /// First of all.
    Hello {
        /// [`EXECUTOR_PROTOCOL`].
        protocol: u32,
        /// Its process id.
        pid: u32,
        /// Its runtime's name and version, for people.
        runtime: String,
    },
    /// Asks for an extent to write a large value to.
    Alloc {
        /// Chosen by the executor, repeated in the answer.
        request: u64,
        /// The task that will return or put it.
        task: TaskId,
        /// Bytes.
        size: u64,
    },
    /// The running task put a large value, in an extent granted before. The name comes by
    /// [`FromExecutor::Client`] with [`FromClient::Put`] right after.
    Stored {
        /// Its id.
        object: ObjectId,
        /// How to read it.
        codec: Codec,
        /// Where it is.
        extent: Extent,
    },
    /// Asks for an object that lies in a store.
    Read {
        /// The task.
        task: TaskId,
        /// The object.
        object: ObjectId,
    },
    /// What the running task says as a client.
    Client {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it says.
        message: FromClient,
    },
    /// The running task waits for objects.
    Blocked {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
        /// What it waits for.
        waits_for: Vec<ObjectId>,
    },
    /// It goes on.
    Unblocked {
        /// The task.
        task: TaskId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// An end too large for the ring.
    End(End),
}
