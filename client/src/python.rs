//! Python: how its interpreters are set up, and calls of its functions.

use std::path::PathBuf;
use std::sync::Arc;

use manyhands_proto::client::{Environment, Runtime};
use manyhands_proto::value::Codec;
use serde::Serialize;

use crate::args::{Args, Source};
use crate::error::Error;
use crate::foreign::{self, Callee};
use crate::handle::collect_handles;
use crate::lazy::{Lazy, Node};
use crate::value::Data;

/// How Python is set up for the functions of a client's session.
#[derive(Clone, Debug)]
pub struct PythonConfig {
    /// The interpreter of a cluster that is started in this process: its file, or its name, which
    /// is looked for in `PATH`. The workers of other clusters have one already.
    pub interpreter: PathBuf,
    /// What it imports, and with which settings, before it runs functions.
    pub environment: Environment,
    /// A cluster that is started in this process gets interpreters ready at once, and not with the
    /// first function.
    pub prestart: bool,
}

impl Default for PythonConfig {
    /// What `MANYHANDS_PYTHON` names, else `python3`; nothing imported and nothing set.
    fn default() -> PythonConfig {
        let interpreter = std::env::var_os("MANYHANDS_PYTHON").filter(|named| !named.is_empty());
        PythonConfig {
            interpreter: interpreter.map_or_else(|| "python3".into(), PathBuf::from),
            environment: Environment::default(),
            prestart: false,
        }
    }
}

/// A function of Python, which the workers' interpreters import: `module:name`, with dots in the
/// name for what is in a class. It takes and gives plain data (numbers, texts, lists, maps), and
/// runs in the environment of the client's session ([`Builder::python`](crate::Builder::python)),
/// where `module` must be found.
///
/// ```no_run
/// # fn main() -> Result<(), manyhands::Error> {
/// let client = manyhands::Client::local()?;
/// let hypot = manyhands::python::function("math:hypot");
/// let five = hypot.call::<f64>((3.0, 4.0));
/// let thirteen = hypot.call::<f64>((&five, 12)).retries(1);
/// assert_eq!(client.compute(&thirteen)?, 13.0);
/// # Ok(())
/// # }
/// ```
pub fn function(reference: &str) -> Function {
    let name = reference.rsplit_once(':').map_or(reference, |(_, name)| name);
    // As the executors of Python read it: by reference, for any version, with a result of plain
    // data.
    let code =
        rmp_serde::to_vec(&(1u8, reference, "", "", 1u8)).expect("plain data can be encoded");
    let runtime = Runtime::Python(Arc::default());
    Function { function: foreign::Function::of_runtime(name, code.into(), runtime) }
}

/// A function of Python: see [`function`].
#[derive(Clone, Debug)]
pub struct Function {
    function: foreign::Function,
}

impl Function {
    /// A call with these arguments, a tuple of values or of results of other tasks: a node of a
    /// graph, or one to be submitted alone. Structures become dictionaries.
    pub fn call<T: Data>(&self, arguments: impl Arguments) -> Lazy<T> {
        let mut args = Args::default();
        arguments.append(&mut Appending { args: &mut args, name: self.function.name(), count: 0 });
        Lazy::new(Node::new(Callee::Described(self.function.clone()), 1, args), 0)
    }
}

/// The arguments of one call, as they are collected.
#[doc(hidden)]
pub struct Appending<'a> {
    args: &'a mut Args,
    name: &'a str,
    count: usize,
}

impl Appending<'_> {
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.count += 1;
        let (encoded, met) = collect_handles(|| encode_named(value));
        let fitting = encoded.and_then(|bytes| match &met[..] {
            [] => Ok((bytes, None)),
            [handle] if encode_named(&handle.written()).as_ref() == Ok(&bytes) => {
                Ok((bytes, Some(handle.clone())))
            }
            _ => Err("Python gets no handles inside of values: give it as an argument".to_owned()),
        });
        match fitting {
            Ok((_, Some(handle))) => self.args.source(Source::Handle(handle)),
            Ok((bytes, None)) => self.args.encoded(Codec::MSGPACK, &bytes, Vec::new()),
            Err(message) => {
                let what = format!("argument {} of {}", self.count, self.name);
                let type_name = std::any::type_name::<T>();
                let error = Error::Encode { what, type_name, message };
                self.args.error.get_or_insert_with(|| Box::new(error));
            }
        }
    }

    fn node<T>(&mut self, lazy: &Lazy<T>) {
        self.count += 1;
        self.args.source(Source::Lazy(lazy.node.clone(), lazy.index));
    }
}

/// MessagePack with structures as maps, which Python reads as dictionaries.
fn encode_named<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
}

/// What can be given to a function of Python: a value, a handle, or a result of another call.
pub trait Argument {
    /// Appends it.
    #[doc(hidden)]
    fn append(self, to: &mut Appending<'_>);
}

impl<T: Serialize> Argument for T {
    fn append(self, to: &mut Appending<'_>) {
        to.value(&self);
    }
}

impl<T> Argument for Lazy<T> {
    fn append(self, to: &mut Appending<'_>) {
        to.node(&self);
    }
}

impl<T> Argument for &Lazy<T> {
    fn append(self, to: &mut Appending<'_>) {
        to.node(self);
    }
}

/// All arguments of a call: a tuple.
pub trait Arguments {
    /// Appends them in order.
    #[doc(hidden)]
    fn append(self, to: &mut Appending<'_>);
}

macro_rules! tuples {
    ($(($($x:ident $i:tt),*))*) => { $(
        impl<$($x: Argument),*> Arguments for ($($x,)*) {
            #[allow(unused_variables, reason = "there are calls without arguments")]
            fn append(self, to: &mut Appending<'_>) {
                $(self.$i.append(to);)*
            }
        }
    )* };
}
tuples! {
    ()
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

#[cfg(test)]
mod tests;
