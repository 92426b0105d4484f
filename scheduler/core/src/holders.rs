//! Which sessions hold an object, as a set: saying something twice changes nothing.

use smallvec::SmallVec;

use crate::slab::SessionIdx;

/// The session holds the object.
pub(crate) const HOLDS: u32 = 1;
/// The session wants to be told once the object is there.
pub(crate) const WANTS: u32 = 2;
/// The object belongs to a graph of the session's of which more batches follow.
pub(crate) const GRAPH: u32 = 4;

const BITS: u32 = 3;

/// Sessions with what binds them to one object. Nearly always one or none.
#[derive(Debug)]
pub(crate) enum Interests {
    None,
    One(u32),
    Many(Box<SmallVec<[u32; 4]>>),
}

impl Interests {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Interests::None)
    }

    fn entries(&self) -> &[u32] {
        match self {
            Interests::None => &[],
            Interests::One(entry) => std::slice::from_ref(entry),
            Interests::Many(entries) => entries,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionIdx, u32)> {
        self.entries().iter().map(|e| (SessionIdx(e >> BITS), e & ((1 << BITS) - 1)))
    }

    pub(crate) fn of(&self, session: SessionIdx) -> u32 {
        self.iter().find(|(s, _)| *s == session).map_or(0, |(_, bits)| bits)
    }

    pub(crate) fn any(&self, bit: u32) -> bool {
        self.iter().any(|(_, bits)| bits & bit != 0)
    }

    /// Adds bits; returns those that the session had before.
    pub(crate) fn add(&mut self, session: SessionIdx, bits: u32) -> u32 {
        let new = session.0 << BITS | bits;
        match self {
            Interests::None => *self = Interests::One(new),
            Interests::One(entry) if *entry >> BITS == session.0 => return add_bits(entry, bits),
            Interests::One(entry) => {
                *self = Interests::Many(Box::new(SmallVec::from_slice(&[*entry, new])));
            }
            Interests::Many(entries) => {
                match entries.iter_mut().find(|e| **e >> BITS == session.0) {
                    Some(entry) => return add_bits(entry, bits),
                    None => entries.push(new),
                }
            }
        }
        0
    }

    /// Takes bits away; returns those that the session had before.
    pub(crate) fn remove(&mut self, session: SessionIdx, bits: u32) -> u32 {
        let had = self.of(session);
        let left = had & !bits;
        if had == left {
            return had;
        }
        match self {
            Interests::None => {}
            Interests::One(_) if left == 0 => *self = Interests::None,
            Interests::One(entry) => *entry = session.0 << BITS | left,
            Interests::Many(entries) => {
                let at = entries.iter().position(|e| *e >> BITS == session.0);
                let at = at.expect("a session that had bits has an entry");
                match left {
                    0 => drop(entries.remove(at)),
                    _ => entries[at] = session.0 << BITS | left,
                }
                if entries.len() == 1 {
                    *self = Interests::One(entries[0]);
                }
            }
        }
        had
    }

    /// The sessions that want to be told.
    pub(crate) fn wanting(&self) -> SmallVec<[SessionIdx; 2]> {
        self.iter().filter(|(_, bits)| bits & WANTS != 0).map(|(session, _)| session).collect()
    }
}

fn add_bits(entry: &mut u32, bits: u32) -> u32 {
    let had = *entry & ((1 << BITS) - 1);
    *entry |= bits;
    had
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_several_sessions_come_and_go_apart() {
        let (a, b) = (SessionIdx(1), SessionIdx(2));
        let mut set = Interests::None;
        assert_eq!(set.add(a, HOLDS), 0);
        assert_eq!(set.add(a, HOLDS), HOLDS, "a repeated hold changes nothing");
        assert_eq!(set.add(b, HOLDS | WANTS), 0);
        assert_eq!(set.wanting().as_slice(), [b]);
        assert_eq!(set.remove(a, HOLDS), HOLDS);
        assert_eq!(set.remove(a, HOLDS), 0, "a repeated release changes nothing");
        assert_eq!(set.of(b), HOLDS | WANTS);
        set.remove(b, WANTS);
        assert!(!set.is_empty());
        set.remove(b, HOLDS);
        assert!(set.is_empty());
    }
}
