//! Sends a graph: in batches, in the order in which it is to run.

use std::sync::Arc;

use manyhands_proto::ObjectId;
use manyhands_proto::task::TaskOptions;
use rustc_hash::{FxHashMap, FxHashSet};

use super::collect::Collected;
use super::lazy_sources;
use super::order::Order;
use crate::args::Source;
use crate::error::Error;
use crate::foreign::Callee;
use crate::handle::Reference;
use crate::lazy::{Node, Submitted};
use crate::session::{Call, Forming, Key, Row, Session, held};
use crate::targets::Root;

/// What becomes of a graph's roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The values are fetched at once, and the results forgotten.
    Compute,
    /// The results stay in the cluster while their handles live.
    Persist,
    /// As before, and the session is told of their end.
    Submit,
}

/// Builds and sends the graph of these roots; a reference for each of them.
pub(crate) fn submit(
    session: &Arc<Session>,
    job: u32,
    roots: &[Root],
    purpose: Purpose,
) -> Result<Vec<Reference>, Error> {
    if let [root] = roots
        && let Some(reference) = submit_alone(session, job, root, purpose)?
    {
        return Ok(vec![reference]);
    }
    let graph = Collected::new(roots, session)?;
    let order = Order::new(&graph)?;
    send(session, job, (&graph, &order), roots, purpose)
}

/// As [`submit`], in the order of these nodes; in our own if the graph cannot run in theirs.
pub(crate) fn submit_in_order(
    session: &Arc<Session>,
    job: u32,
    roots: &[Root],
    order: &[Arc<Node>],
    purpose: Purpose,
) -> Result<Vec<Reference>, Error> {
    let graph = Collected::new(roots, session)?;
    let order = match Order::given(&graph, order) {
        Some(order) => order,
        None => Order::new(&graph)?,
    };
    send(session, job, (&graph, &order), roots, purpose)
}

fn send(
    session: &Arc<Session>,
    job: u32,
    (graph, order): (&Collected, &Order),
    roots: &[Root],
    purpose: Purpose,
) -> Result<Vec<Reference>, Error> {
    let mut sending = Sending::new(session, job, graph, &order.nodes)?;
    let references = sending.roots(roots, purpose);
    let sent = sending.send();
    session.end_graph();
    sent?;
    Ok(references)
}

/// A node that needs no other goes the short way.
fn submit_alone(
    session: &Arc<Session>,
    job: u32,
    root: &Root,
    purpose: Purpose,
) -> Result<Option<Reference>, Error> {
    let node = &root.node;
    let needs_others = lazy_sources(&node.sources);
    let looked = node.with_rare(|rare| match &rare.error {
        Some(error) => Err(error.clone()),
        None => Ok((rare.options.clone(), rare.after.is_empty() && rare.submitted.is_none())),
    });
    let (options, plain) = match looked.transpose()? {
        Some((options, plain)) => (Some(options), plain),
        None => (None, true),
    };
    if needs_others || !plain || node.output_count() != 1 {
        return Ok(None);
    }
    let wanted = purpose != Purpose::Persist;
    let reference = call(session, job, node, options.as_ref(), wanted)?;
    if purpose != Purpose::Compute {
        remember(node, session, reference.key);
    }
    Ok(Some(reference))
}

/// Submits one node whose arguments are all there or on their way.
pub(crate) fn call(
    session: &Arc<Session>,
    job: u32,
    node: &Node,
    options: Option<&TaskOptions>,
    wanted: bool,
) -> Result<Reference, Error> {
    let outputs = node.output_count();
    call_parts(session, job, &node.callee, outputs, &node.args, &node.sources, options, wanted)
}

/// Submits one call whose arguments are all there or on their way.
#[allow(clippy::too_many_arguments, reason = "the parts of a node, without the node")]
pub(crate) fn call_parts(
    session: &Arc<Session>,
    job: u32,
    callee: &Callee,
    outputs: u16,
    args: &[u8],
    sources: &[Source],
    options: Option<&TaskOptions>,
    wanted: bool,
) -> Result<Reference, Error> {
    let mut inputs = smallvec::SmallVec::<[Key; 8]>::new();
    let mut kept = Vec::new();
    for source in sources {
        match source {
            Source::Handle(reference) => inputs.push(session.own_key(reference)?),
            Source::Large(large) => {
                let reference = large.put(session, job)?;
                inputs.push(reference.key);
                kept.push(reference);
            }
            Source::Lazy(..) => unreachable!("a node that needs others is sent as a graph"),
        }
    }
    session.submit(job, Call { callee, outputs, args, inputs: &inputs, options, wanted })
}

/// A later graph of the session uses the results instead of making them again.
fn remember(node: &Node, session: &Arc<Session>, key: Key) {
    let submitted = Submitted { session: Arc::downgrade(session), job: key.job, seq: key.seq };
    node.change_rare(|rare| rare.submitted = Some(submitted));
}

struct Sending<'a> {
    session: &'a Arc<Session>,
    job: u32,
    graph: &'a Collected,
    order: &'a [u32],
    /// Sequence number of the first node of the order.
    first: u64,
    /// By node: its place in the order.
    places: Vec<u32>,
    /// By place in the order: flags of the rows.
    flags: Vec<u8>,
    /// By node and argument: where large arguments were put.
    put: FxHashMap<(u32, u32), Reference>,
}

impl<'a> Sending<'a> {
    fn new(
        session: &'a Arc<Session>,
        job: u32,
        graph: &'a Collected,
        order: &'a [u32],
    ) -> Result<Sending<'a>, Error> {
        let mut places = vec![u32::MAX; graph.len()];
        let mut put = FxHashMap::default();
        for (place, &node) in order.iter().enumerate() {
            places[node as usize] = place as u32;
            for (i, source) in graph.nodes[node as usize].sources.iter().enumerate() {
                match source {
                    Source::Large(large) => {
                        put.insert((node, i as u32), large.put(session, job)?);
                    }
                    // Found out before anything is sent.
                    Source::Handle(reference) => {
                        session.own_key(reference)?;
                    }
                    Source::Lazy(..) => {}
                }
            }
        }
        let first = session.begin_graph(job, order.len() as u64)?;
        let flags = vec![0; order.len()];
        Ok(Sending { session, job, graph, order, first, places, flags, put })
    }

    /// A reference for each root, and from now on the session holds them.
    fn roots(&mut self, roots: &[Root], purpose: Purpose) -> Vec<Reference> {
        let wanted = purpose != Purpose::Persist;
        let mut asked: FxHashSet<(u32, u32)> = FxHashSet::default();
        let mut several = Vec::new();
        let mut references = Vec::with_capacity(roots.len());
        for (root, &number) in roots.iter().zip(&self.graph.roots) {
            let index = root.index;
            if let Some(known) = self.graph.known.get(&number) {
                let key = Key { index, ..*known };
                self.session.retain(key);
                references.push(Reference { session: self.session.clone(), key });
                continue;
            }
            let place = self.places[number as usize];
            let seq = self.first + u64::from(place);
            references.push(self.session.expect(self.job, seq, index, wanted));
            let flags = std::mem::replace(&mut self.flags[place as usize], held(wanted));
            let outputs = root.node.output_count();
            if outputs > 1 {
                asked.insert((place, index));
                if flags == 0 {
                    several.push((place, outputs));
                }
            }
            if purpose != Purpose::Compute && flags == 0 {
                remember(&root.node, self.session, Key { job: self.job, seq, index: 0 });
            }
        }
        // A session holds all of a task's results at first: those that nobody asked for go at once.
        for (place, outputs) in several {
            for index in (0..u32::from(outputs)).filter(|index| !asked.contains(&(place, *index))) {
                let seq = self.first + u64::from(place);
                drop(self.session.expect(self.job, seq, index, wanted));
            }
        }
        references
    }

    fn send(&mut self) -> Result<(), Error> {
        let job = self.session.job_id(self.job);
        let lane = self.session.connection.lane();
        let nodes = self.order.iter().map(|node| &self.graph.nodes[*node as usize].callee);
        let functions = self.session.function_slots(nodes);
        let mut batch = Forming::default();
        batch.first_seq = self.first;
        for (place, &node) in self.order.iter().enumerate() {
            self.append(&mut batch, place as u32, node, functions[place], (job, lane));
            let last = place + 1 == self.order.len();
            if batch.is_full() || last {
                self.session.send_graph(batch.take(job, lane, !last))?;
            }
        }
        Ok(())
    }

    fn append(
        &self,
        batch: &mut Forming,
        place: u32,
        number: u32,
        function: u32,
        (job, lane): (manyhands_proto::JobId, manyhands_proto::Lane),
    ) {
        let node = &self.graph.nodes[number as usize];
        let mut needs = self.graph.needs(number).iter();
        let needed = |needed: u32, index: u32| -> ObjectId {
            match self.graph.known.get(&needed) {
                Some(known) => self.session.object(Key { index, ..*known }),
                None => {
                    let seq = self.first + u64::from(self.places[needed as usize]);
                    manyhands_proto::TaskId { job, lane, seq }.object(index)
                }
            }
        };
        for (i, source) in node.sources.iter().enumerate() {
            batch.input(match source {
                Source::Lazy(_, index) => {
                    needed(*needs.next().expect("a node was walked with all it needs"), *index)
                }
                Source::Handle(reference) => reference.object(),
                Source::Large(_) => self.put[&(number, i as u32)].object(),
            });
        }
        for &after in needs {
            batch.input(needed(after, 0));
        }
        let flags = self.flags[place as usize];
        let mut push = |options: Option<&TaskOptions>| {
            batch.push(Row {
                function,
                outputs: node.output_count(),
                rank: place,
                flags,
                args: &node.args,
                options,
            });
        };
        if node.with_rare(|rare| push(Some(&rare.options))).is_none() {
            push(None);
        }
    }
}
