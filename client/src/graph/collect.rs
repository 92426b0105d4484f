//! From nodes that point at each other to a table with numbers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustc_hash::FxHashMap;

use crate::args::Source;
use crate::error::Error;
use crate::lazy::Node;
use crate::session::{Key, Session};
use crate::targets::Root;

/// A graph: its nodes by number, the roots first, and what each one needs.
pub(crate) struct Collected {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The number of each root; a root that was given twice has one number.
    pub(crate) roots: Vec<u32>,
    /// Where each node's part of `needs` ends.
    needs_end: Vec<u32>,
    /// What each node needs, in the order of its arguments, then what it comes after.
    needs: Vec<u32>,
    /// Nodes whose results a session has already: they are not run again.
    pub(crate) known: FxHashMap<u32, Key>,
}

/// Numbers of walks; held during one, since all walks write the same marks.
static WALK: Mutex<u32> = Mutex::new(0);

impl Collected {
    /// Walks from the roots to all that they need. Nodes whose results the session holds are
    /// leaves.
    pub(crate) fn new(roots: &[Root], session: &Arc<Session>) -> Result<Collected, Error> {
        Collected::walk(roots, Some(session))
    }

    /// The whole graph of these roots, also what is wrong with it.
    pub(crate) fn to_draw(roots: &[Root]) -> Collected {
        Collected::walk(roots, None).expect("only a walk that is to be submitted refuses nodes")
    }

    fn walk(roots: &[Root], session: Option<&Arc<Session>>) -> Result<Collected, Error> {
        let mut walk = WALK.lock().unwrap_or_else(PoisonError::into_inner);
        *walk = walk.wrapping_add(1).max(1);
        let mut walk = Walk {
            number: u64::from(*walk) << 32,
            session,
            found: Collected {
                nodes: Vec::with_capacity(roots.len()),
                roots: Vec::with_capacity(roots.len()),
                needs_end: Vec::new(),
                needs: Vec::new(),
                known: FxHashMap::default(),
            },
        };
        for root in roots {
            let number = walk.number(&root.node);
            walk.found.roots.push(number);
        }
        let mut next = 0;
        while let Some(node) = walk.found.nodes.get(next).cloned() {
            walk.visit(next as u32, &node)?;
            next += 1;
        }
        Ok(walk.found)
    }

    /// What a node needs.
    pub(crate) fn needs(&self, node: u32) -> &[u32] {
        let start = match node.checked_sub(1) {
            None => 0,
            Some(before) => self.needs_end[before as usize],
        };
        &self.needs[start as usize..self.needs_end[node as usize] as usize]
    }

    pub(crate) fn edges(&self) -> usize {
        self.needs.len()
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}

struct Walk<'a> {
    number: u64,
    session: Option<&'a Arc<Session>>,
    found: Collected,
}

impl Walk<'_> {
    /// The number of a node, given to it if it has none in this walk.
    fn number(&mut self, node: &Arc<Node>) -> u32 {
        let mark = node.mark.load(Ordering::Relaxed);
        if mark & !u64::from(u32::MAX) == self.number {
            return mark as u32;
        }
        let number = self.found.nodes.len() as u32;
        node.mark.store(self.number | u64::from(number), Ordering::Relaxed);
        self.found.nodes.push(node.clone());
        number
    }

    fn visit(&mut self, number: u32, node: &Arc<Node>) -> Result<(), Error> {
        let refuses = self.session.is_some();
        let rare = node.with_rare(|rare| match &rare.error {
            Some(error) if refuses => Err(error.clone()),
            _ => Ok((rare.after.clone(), rare.submitted.is_some())),
        });
        let (after, maybe_submitted) = rare.transpose()?.unwrap_or_default();
        let key = match self.session {
            Some(session) if maybe_submitted => submitted(node, session),
            _ => None,
        };
        if let Some(key) = key {
            self.found.known.insert(number, key);
        } else {
            for source in &node.sources {
                if let Source::Lazy(needed, _) = source {
                    let needed = self.number(needed);
                    self.found.needs.push(needed);
                }
            }
            for needed in &after {
                let needed = self.number(needed);
                self.found.needs.push(needed);
            }
        }
        self.found.needs_end.push(self.found.needs.len() as u32);
        Ok(())
    }
}

/// The first result of a node in this session, if the session still holds all of its results.
fn submitted(node: &Node, session: &Arc<Session>) -> Option<Key> {
    let key = node.with_rare(|rare| {
        let submitted = rare.submitted.as_ref()?;
        let same = Weak::as_ptr(&submitted.session) == Arc::as_ptr(session);
        same.then_some(Key { job: submitted.job, seq: submitted.seq, index: 0 })
    });
    let key = key.flatten()?;
    session.holds_all(key, node.output_count()).then_some(key)
}
