//! One call of a function as a task: its arguments where they lie, and what it returns.

use bytes::Bytes;
use manyhands_proto::executor::{Extent, Run};
use manyhands_proto::task::FailureKind;
use manyhands_proto::value::{Codec, INLINE_LIMIT};
use manyhands_proto::{ObjectId, TaskId};
use smallvec::SmallVec;

use crate::context;
use crate::message::{PlaceRef, ReturnedBytesRef, ReturnedRef, RunRef};

/// An encoded argument, or one of a list of them.
#[derive(Clone, Debug)]
pub struct Loaded<'a> {
    /// How to read it.
    pub codec: Codec,
    data: Data<'a>,
}

#[derive(Clone, Debug)]
enum Data<'a> {
    Message(&'a [u8]),
    Mapped(Bytes),
}

impl Loaded<'_> {
    /// The encoded bytes, where they lie.
    pub fn as_slice(&self) -> &[u8] {
        match &self.data {
            Data::Message(bytes) => bytes,
            Data::Mapped(bytes) => bytes,
        }
    }

    /// The encoded bytes to keep: not copied if they lie in the object store, unless they are kept
    /// beyond the end of the task.
    pub fn to_bytes(&self) -> Bytes {
        match &self.data {
            Data::Message(bytes) => Bytes::copy_from_slice(bytes),
            Data::Mapped(bytes) => bytes.clone(),
        }
    }
}

/// An argument.
#[derive(Clone, Debug)]
pub enum Arg<'a> {
    /// A value, given as such or as the result of a task.
    One(Loaded<'a>),
    /// The results of several tasks, for a parameter that takes a list.
    List(Vec<Loaded<'a>>),
}

/// Where an argument begins in the encoded arguments, as `manyhands_proto::executor` lays them out.
#[derive(Clone, Copy, Debug)]
enum Span<'a> {
    Value(Codec, &'a [u8]),
    Input(u32),
    Inputs(u32, u32),
}

/// One call of a function: what the code that `#[manyhands::task]` generates works on.
pub struct Invocation<'a> {
    run: &'a RunRef<'a>,
    spans: SmallVec<[Span<'a>; 4]>,
    scratch: &'a mut Vec<u8>,
    returned: SmallVec<[Slot; 1]>,
}

struct Slot {
    codec: Codec,
    place: SlotPlace,
    contains: Vec<ObjectId>,
}

enum SlotPlace {
    /// This range of the scratch buffer.
    Inline(usize, usize),
    Extent(Extent),
}

fn unreadable(message: impl Into<String>) -> FailureKind {
    FailureKind::Value { message: message.into() }
}

impl<'a> Invocation<'a> {
    pub(crate) fn new(
        run: &'a RunRef<'a>,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Invocation<'a>, FailureKind> {
        scratch.clear();
        let spans =
            parse(run.args).ok_or_else(|| unreadable("the encoded arguments are cut off"))?;
        Ok(Invocation { run, spans, scratch, returned: SmallVec::new() })
    }

    /// Calls `body` with an invocation of `run` outside an executor, and gives the inline results:
    /// for tests of generated code. Nothing can lie in a segment.
    pub fn detached<R>(
        run: &Run,
        body: impl FnOnce(&mut Invocation<'_>) -> Result<R, FailureKind>,
    ) -> Result<(R, Vec<(Codec, Bytes)>), FailureKind> {
        let (borrowed, mut scratch) = (RunRef::of(run), Vec::new());
        let mut invocation = Invocation::new(&borrowed, &mut scratch)?;
        let result = body(&mut invocation)?;
        let inline = |slot: ReturnedRef<'_>| match slot.bytes {
            ReturnedBytesRef::Inline(bytes) => (slot.codec, Bytes::copy_from_slice(bytes)),
            ReturnedBytesRef::Extent(_) => unreachable!("nobody granted an extent"),
        };
        Ok((result, invocation.returned().into_iter().map(inline).collect()))
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.run.task
    }

    /// Which attempt of it, counted from 0.
    pub fn attempt(&self) -> u32 {
        self.run.attempt
    }

    /// How many objects it is to return.
    pub fn outputs(&self) -> u16 {
        self.run.outputs
    }

    /// How many arguments it has.
    pub fn arg_count(&self) -> usize {
        self.spans.len()
    }

    /// Argument number `i`, counted from 0 in the order of the parameters. Fails with
    /// [`FailureKind::Value`] if there is none, or if its object cannot be mapped.
    pub fn arg(&self, i: usize) -> Result<Arg<'a>, FailureKind> {
        let missing = || unreadable(format!("argument {i} is missing"));
        match *self.spans.get(i).ok_or_else(missing)? {
            Span::Value(codec, bytes) => Ok(Arg::One(Loaded { codec, data: Data::Message(bytes) })),
            Span::Input(input) => Ok(Arg::One(self.input(input)?)),
            Span::Inputs(first, count) => {
                let end = first.saturating_add(count);
                Ok(Arg::List((first..end).map(|n| self.input(n)).collect::<Result<_, _>>()?))
            }
        }
    }

    /// How many inputs it has: those that its arguments name, and those inside values.
    pub fn input_count(&self) -> usize {
        self.run.inputs.len()
    }

    /// How many of them its arguments name. Where there are more, those stand inside values.
    pub fn named_input_count(&self) -> usize {
        let named = |span: &Span<'_>| match span {
            Span::Value(..) => 0,
            Span::Input(_) => 1,
            Span::Inputs(_, count) => *count as usize,
        };
        self.spans.iter().map(named).sum()
    }

    /// Input number `number`, counted from 0. Fails as [`Invocation::arg`] does.
    pub fn input(&self, number: u32) -> Result<Loaded<'a>, FailureKind> {
        match self.run.inputs.get(number as usize) {
            None => Err(unreadable(format!("input {number} is missing"))),
            Some(&PlaceRef::Inline(value)) => {
                Ok(Loaded { codec: value.codec, data: Data::Message(value.bytes) })
            }
            Some(&PlaceRef::Extent { extent, codec }) => {
                let bytes = context::map(extent).map_err(unreadable)?;
                Ok(Loaded { codec, data: Data::Mapped(bytes) })
            }
        }
    }

    /// Hands over the next return value, encoded by `encode` behind what the buffer already holds.
    /// `contains` are the objects that the value holds handles to. A large value moves into the
    /// object store: prefer [`Invocation::return_bytes`] for bytes that exist already.
    pub fn return_value<E: std::fmt::Display>(
        &mut self,
        codec: Codec,
        contains: Vec<ObjectId>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), FailureKind> {
        let start = self.scratch.len();
        encode(self.scratch)
            .map_err(|error| unreadable(format!("the result cannot be encoded: {error}")))?;
        let size = self.scratch.len().saturating_sub(start);
        let place = if size > INLINE_LIMIT {
            let extent = self.store(start, size)?;
            self.scratch.truncate(start);
            SlotPlace::Extent(extent)
        } else {
            SlotPlace::Inline(start, start + size)
        };
        self.returned.push(Slot { codec, place, contains });
        Ok(())
    }

    /// Hands over the next return value, whose encoded bytes exist already (plain old data).
    pub fn return_bytes(
        &mut self,
        codec: Codec,
        contains: Vec<ObjectId>,
        bytes: &[u8],
    ) -> Result<(), FailureKind> {
        self.return_pieces(codec, contains, &[bytes])
    }

    /// As [`Invocation::return_bytes`], of a value whose bytes lie in several places: they are
    /// copied once, to where they stay.
    pub fn return_pieces(
        &mut self,
        codec: Codec,
        contains: Vec<ObjectId>,
        pieces: &[&[u8]],
    ) -> Result<(), FailureKind> {
        let place = if context::total(pieces) > INLINE_LIMIT {
            SlotPlace::Extent(context::store(self.run.task, pieces).map_err(unreadable)?)
        } else {
            let start = self.scratch.len();
            pieces.iter().for_each(|piece| self.scratch.extend_from_slice(piece));
            SlotPlace::Inline(start, self.scratch.len())
        };
        self.returned.push(Slot { codec, place, contains });
        Ok(())
    }

    fn store(&mut self, start: usize, size: usize) -> Result<Extent, FailureKind> {
        let bytes = &self.scratch[start..start + size];
        context::store(self.run.task, &[bytes]).map_err(unreadable)
    }

    /// What has been returned, as a message.
    pub(crate) fn returned(&mut self) -> SmallVec<[ReturnedRef<'_>; 1]> {
        let scratch: &[u8] = self.scratch;
        let slots = self.returned.iter_mut();
        slots
            .map(|slot| ReturnedRef {
                codec: slot.codec,
                bytes: match slot.place {
                    SlotPlace::Inline(start, end) => ReturnedBytesRef::Inline(&scratch[start..end]),
                    SlotPlace::Extent(extent) => ReturnedBytesRef::Extent(extent),
                },
                contains: std::mem::take(&mut slot.contains),
            })
            .collect()
    }
}

/// The arguments' layout, or `None` if it breaks the rules.
fn parse(mut rest: &[u8]) -> Option<SmallVec<[Span<'_>; 4]>> {
    fn number(rest: &mut &[u8]) -> Option<u32> {
        let (bytes, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        Some(u32::from_le_bytes(*bytes))
    }
    let mut spans = SmallVec::new();
    while let Some((&kind, tail)) = rest.split_first() {
        rest = tail;
        spans.push(match kind {
            0 => {
                let (&codec, tail) = rest.split_first()?;
                rest = tail;
                let len = number(&mut rest)? as usize;
                let (bytes, tail) = rest.split_at_checked(len)?;
                rest = tail;
                Span::Value(Codec(codec), bytes)
            }
            1 => Span::Input(number(&mut rest)?),
            2 => Span::Inputs(number(&mut rest)?, number(&mut rest)?),
            _ => return None,
        });
    }
    Some(spans)
}
