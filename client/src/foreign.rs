//! What clients in other languages stand on: values are bytes with a codec, and functions are
//! described, not linked.
//!
//! It is the same session as the typed client's, and the same graphs; what the types do there, the
//! caller does here: encode, decode, and count references ([`Object`]).
//!
//! # Layout
//! - `function`: what a function is called and what its runtime needs to make it.
//! - `arguments`: the encoded arguments of a call; large ones, in pieces.
//! - `object`: counted references, and what became of them.
//! - `program`: files that functions need: Rust programs, archives of modules.
//! - `watch`: objects in the order in which they come.
//! - here: calls, graphs, values that are put, and waiting, as methods of [`Client`].

mod arguments;
mod function;
mod object;
mod program;
mod watch;

use std::time::Instant;

use bytes::Bytes;
use manyhands_proto::client::Runtime;
use manyhands_proto::task::TaskOptions;
use manyhands_proto::value::{Codec, Value};
use manyhands_proto::{ObjectId, TaskId};
use smallvec::SmallVec;

pub use arguments::{Arguments, Large, Pieces, ValueBytes};
pub use function::Function;
pub use object::{Fetched, Object};
pub use program::Program;
pub use watch::Watch;

pub(crate) use function::Callee;

use crate::client::Client;
use crate::error::Error;
use crate::graph;
pub use crate::graph::Purpose;
use crate::lazy;
use crate::session::{Key, PutBytes};
use crate::targets::Root;

/// A call that runs when somebody asks for its results. A clone stands for the same call.
#[derive(Clone)]
pub struct Node(std::sync::Arc<lazy::Node>);

impl Node {
    /// A call with so many results, at least one.
    pub fn new(function: &Function, outputs: u16, arguments: Arguments) -> Node {
        let callee = Callee::Described(function.clone());
        Node(lazy::Node::new(callee, outputs.max(1), arguments.args))
    }

    /// What is asked of its task; counts when it is submitted.
    pub fn options(&self, options: TaskOptions) {
        self.0.change_rare(|rare| rare.options = options);
    }

    /// Its task runs only after that of `other` has ended well.
    pub fn after(&self, other: &Node) {
        let other = other.0.clone();
        self.0.change_rare(|rare| rare.after.push(other));
    }

    fn root(&self, index: u32) -> Root {
        Root { node: self.0.clone(), index }
    }
}

fn roots(nodes: &[(Node, u32)]) -> Vec<Root> {
    nodes.iter().map(|(node, index)| node.root(*index)).collect()
}

/// The graph of these results in the language of Graphviz: see [`graph::dot`].
pub fn dot(nodes: &[(Node, u32)]) -> String {
    graph::dot_of(&roots(nodes))
}

/// A picture of the graph of these results: see [`graph::svg`].
pub fn svg(nodes: &[(Node, u32)]) -> String {
    graph::svg_of(&roots(nodes))
}

impl Client {
    /// What runs the described functions of this client's session from now on. Within a task that
    /// is the task's own runtime, unless this says otherwise.
    pub fn set_runtime(&self, runtime: Runtime) {
        self.session.set_runtime(runtime);
    }

    /// Submits a call, and wants its results; references to them. Waits while there is no room: see
    /// [`Client::has_room`].
    pub fn submit_call(
        &self,
        function: &Function,
        arguments: Arguments,
        outputs: u16,
        options: Option<&TaskOptions>,
    ) -> Result<SmallVec<[Object; 1]>, Error> {
        let outputs = outputs.max(1);
        if arguments.has_nodes() {
            let node = Node::new(function, outputs, arguments);
            if let Some(options) = options {
                node.options(options.clone());
            }
            let nodes: Vec<(Node, u32)> =
                (0..u32::from(outputs)).map(|index| (node.clone(), index)).collect();
            return Ok(self.submit_nodes(&nodes, Purpose::Submit)?.into());
        }
        let lazy_args = arguments.args;
        if let Some(error) = lazy_args.error {
            return Err(*error);
        }
        let callee = Callee::Described(function.clone());
        let (bytes, sources) = (&lazy_args.bytes, &lazy_args.sources);
        let first = graph::call_parts(
            &self.session,
            self.job,
            &callee,
            outputs,
            bytes,
            sources,
            options,
            true,
        )?;
        let mut objects = SmallVec::new();
        if outputs > 1 {
            objects.extend(self.session.further(&first, outputs).into_iter().map(Object::of));
        }
        objects.insert(0, Object::of(first));
        Ok(objects)
    }

    /// Whether what is submitted leaves fast enough: if not, [`Client::wait_room`] before the next
    /// call, without whatever lock other threads need.
    pub fn has_room(&self) -> bool {
        self.session.has_room()
    }

    /// Waits until there is room, or the deadline has passed: whether there is.
    pub fn wait_room(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        self.session.wait_room(deadline)
    }

    /// Submits a graph; references to these results, in order.
    pub fn submit_nodes(
        &self,
        nodes: &[(Node, u32)],
        purpose: Purpose,
    ) -> Result<Vec<Object>, Error> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let references = graph::submit(&self.session, self.job, &roots(nodes), purpose)?;
        Ok(references.into_iter().map(Object::of).collect())
    }

    /// As [`Client::submit_nodes`], to run in the order of these nodes where tasks are free to
    /// choose. It must have all nodes of the graph, each after those that it needs; otherwise the
    /// order is that of `submit_nodes`.
    pub fn submit_nodes_in_order(
        &self,
        nodes: &[(Node, u32)],
        order: &[Node],
        purpose: Purpose,
    ) -> Result<Vec<Object>, Error> {
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let order: Vec<_> = order.iter().map(|node| node.0.clone()).collect();
        let roots = roots(nodes);
        let sent = graph::submit_in_order(&self.session, self.job, &roots, &order, purpose)?;
        Ok(sent.into_iter().map(Object::of).collect())
    }

    /// Puts an encoded value. Where the store is in this process, its pieces are written to where
    /// they are to lie; for another cluster they are joined in memory, and sent from there.
    /// `contains` are the objects that the value holds references to.
    pub fn put_pieces(
        &self,
        codec: Codec,
        pieces: &Pieces,
        contains: &[Object],
    ) -> Result<Object, Error> {
        let contains: Vec<_> = contains.iter().map(Object::to_reference).collect();
        let bytes = PutBytes::Pieces(pieces);
        self.session.put(self.job, codec, bytes, &contains).map(Object::of)
    }

    /// Waits until `need` of these have ended, well or badly, or the deadline has passed; how many
    /// have.
    pub fn wait_objects(
        &self,
        objects: &[&Object],
        need: usize,
        deadline: Option<Instant>,
    ) -> Result<usize, Error> {
        let keys: Vec<Key> = objects.iter().map(|object| object.key()).collect();
        self.session.wait(&keys, need, deadline)
    }

    /// Appends what became of each of these, under one lock and without waiting.
    pub fn fetched_many(&self, objects: &[&Object], into: &mut Vec<Fetched>) {
        let keys = objects.iter().map(|object| (object.key(), object.is_let_go()));
        self.session.look_at(keys, &mut |fetched| into.push(fetched));
    }

    /// Waits for a value and reads it, from the store where it lies there; `None` when the deadline
    /// has passed first. Bytes that lie in a store on this machine are mapped and not copied. Fails
    /// if its task failed.
    pub fn fetch_raw(
        &self,
        object: &Object,
        deadline: Option<Instant>,
    ) -> Result<Option<Value>, Error> {
        self.session.fetch_value(object.key(), deadline)
    }

    /// Whether a reference is of this client's session.
    pub fn is_own(&self, object: &Object) -> bool {
        std::sync::Arc::ptr_eq(&self.session, object.session())
    }

    /// A reference to an object whose id was found inside a value that this session has read.
    pub fn adopt(&self, id: ObjectId) -> Object {
        Object::of(self.session.adopt(id, false))
    }

    /// As [`Client::adopt`], found in what the running task was given: the cluster keeps that
    /// alive.
    pub fn borrow(&self, id: ObjectId) -> Object {
        Object::of(self.session.adopt(id, true))
    }

    /// Objects in the order in which they come.
    pub fn watch(&self) -> Watch {
        Watch::new(self.session.clone())
    }

    /// Waits until all that this client has submitted has ended, also what nobody refers to any
    /// more, or the deadline has passed: whether it has.
    pub fn drain(&self, deadline: Option<Instant>) -> Result<bool, Error> {
        self.session.drain_job(self.job, deadline)
    }

    /// How many tasks of what this client has submitted have not ended, as far as is known here.
    pub fn unended(&self) -> usize {
        self.session.unended(self.job)
    }

    /// Stops the tasks of these.
    pub fn cancel_objects(&self, objects: &[&Object], reason: &str) -> Result<(), Error> {
        let tasks: Vec<TaskId> = objects.iter().map(|object| object.id().task).collect();
        self.session.cancel(tasks, reason.to_owned())
    }

    /// Stops everything of the job that has not ended.
    pub fn cancel_job(&self, reason: &str) -> Result<(), Error> {
        self.session.cancel_job(self.job, reason.to_owned())
    }

    /// Gives the task that makes a stream room for some of its items; references to these, held and
    /// wanted. `end` is the task's result: how many items there were.
    pub fn give_room(&self, end: &Object, from: u64, upto: u64) -> Result<Vec<Object>, Error> {
        let items = self.session.give_room(&end.to_reference(), from, upto)?;
        Ok(items.into_iter().map(Object::of).collect())
    }
}

/// Bytes that lie behind each other, each in its own memory.
pub(crate) fn joined(pieces: &[&[u8]]) -> Bytes {
    match pieces {
        [one] => Bytes::copy_from_slice(one),
        many => Bytes::from(many.concat()),
    }
}

/// A client of the running task's job: see [`current`](crate::current).
pub use crate::nested::current;

/// The part of a running task in which it may use [`current`]. A runtime makes one before it calls
/// the task's function, says [`TaskScope::retire`] when that has returned, and drops it at the end.
pub struct TaskScope {
    _end: crate::nested::EndOfTask,
}

impl TaskScope {
    /// Of the task that begins now.
    pub fn begin() -> TaskScope {
        TaskScope { _end: crate::nested::EndOfTask::new() }
    }

    /// The function has returned: references that its result contains outlive those of the task.
    pub fn retire(&self) {
        crate::nested::retire();
    }
}

#[cfg(test)]
mod tests;
