//! What can be computed in one graph: one node, or several in a vector, an array or a tuple.

use std::sync::Arc;
use std::vec;

use crate::error::Error;
use crate::handle::{Handle, Reference};
use crate::lazy::{Lazy, Node};
use crate::value::Data;

/// The nodes that a graph is built for: a [`Lazy`], a reference to one, and vectors, slices, arrays
/// and tuples of such.
pub trait Targets {
    /// What [`Client::compute`](crate::Client::compute) gives: a value for each node.
    type Values;
    /// What [`Client::persist`](crate::Client::persist) gives: a handle for each node.
    type Handles;

    /// Appends the nodes, in order.
    #[doc(hidden)]
    fn roots(&self, into: &mut Vec<Root>);

    /// The values of what was submitted for the nodes, in the same order.
    #[doc(hidden)]
    fn values(&self, of: &mut References) -> Result<Self::Values, Error>;

    /// Handles to what was submitted for the nodes, in the same order.
    #[doc(hidden)]
    fn handles(&self, of: &mut References) -> Self::Handles;
}

/// A result that is asked for.
#[doc(hidden)]
#[derive(Clone)]
pub struct Root {
    pub(crate) node: Arc<Node>,
    pub(crate) index: u32,
}

/// References for roots, in their order.
#[doc(hidden)]
pub struct References(vec::IntoIter<Reference>);

impl References {
    pub(crate) fn new(references: Vec<Reference>) -> References {
        References(references.into_iter())
    }

    fn next(&mut self) -> Reference {
        self.0.next().expect("there is a reference for every root")
    }
}

impl<T: Data> Targets for Lazy<T> {
    type Values = T;
    type Handles = Handle<T>;

    fn roots(&self, into: &mut Vec<Root>) {
        into.push(Root { node: self.node.clone(), index: self.index });
    }

    fn values(&self, of: &mut References) -> Result<T, Error> {
        let reference = of.next();
        reference.session.fetch(reference.key)
    }

    fn handles(&self, of: &mut References) -> Handle<T> {
        Handle::new(of.next())
    }
}

impl<X: Targets + ?Sized> Targets for &X {
    type Values = X::Values;
    type Handles = X::Handles;

    fn roots(&self, into: &mut Vec<Root>) {
        (**self).roots(into);
    }

    fn values(&self, of: &mut References) -> Result<X::Values, Error> {
        (**self).values(of)
    }

    fn handles(&self, of: &mut References) -> X::Handles {
        (**self).handles(of)
    }
}

impl<X: Targets> Targets for [X] {
    type Values = Vec<X::Values>;
    type Handles = Vec<X::Handles>;

    fn roots(&self, into: &mut Vec<Root>) {
        self.iter().for_each(|target| target.roots(into));
    }

    fn values(&self, of: &mut References) -> Result<Self::Values, Error> {
        self.iter().map(|target| target.values(of)).collect()
    }

    fn handles(&self, of: &mut References) -> Self::Handles {
        self.iter().map(|target| target.handles(of)).collect()
    }
}

impl<X: Targets> Targets for Vec<X> {
    type Values = Vec<X::Values>;
    type Handles = Vec<X::Handles>;

    fn roots(&self, into: &mut Vec<Root>) {
        self.as_slice().roots(into);
    }

    fn values(&self, of: &mut References) -> Result<Self::Values, Error> {
        self.as_slice().values(of)
    }

    fn handles(&self, of: &mut References) -> Self::Handles {
        self.as_slice().handles(of)
    }
}

impl<X: Targets, const N: usize> Targets for [X; N] {
    type Values = Vec<X::Values>;
    type Handles = Vec<X::Handles>;

    fn roots(&self, into: &mut Vec<Root>) {
        self.as_slice().roots(into);
    }

    fn values(&self, of: &mut References) -> Result<Self::Values, Error> {
        self.as_slice().values(of)
    }

    fn handles(&self, of: &mut References) -> Self::Handles {
        self.as_slice().handles(of)
    }
}

macro_rules! tuples {
    ($(($($x:ident $i:tt),+))*) => { $(
        impl<$($x: Targets),+> Targets for ($($x,)+) {
            type Values = ($($x::Values,)+);
            type Handles = ($($x::Handles,)+);

            fn roots(&self, into: &mut Vec<Root>) {
                $(self.$i.roots(into);)+
            }

            fn values(&self, of: &mut References) -> Result<Self::Values, Error> {
                Ok(($(self.$i.values(of)?,)+))
            }

            fn handles(&self, of: &mut References) -> Self::Handles {
                ($(self.$i.handles(of),)+)
            }
        }
    )* };
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
