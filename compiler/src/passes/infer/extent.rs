//! Lengths that data decide: what is made as long as a number says that the model computes (`ones(mask.sum())`,
//! `arange(lengths.max())`, the target of a value that is spread).
//!
//! Memory is planned for the most that the number may be. Where it counts flags, the result is as long as the list of
//! their places, and so known to be as long as what they choose; otherwise see [`super::chosen`].

use super::chosen::{Between, Element};
use super::{Binding, Driver};
use crate::base::{DType, Tensor};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::import::SourceNode;
use crate::ops::NodeBuilder;

/// Elements of an axis that is as long as a computed number, at most.
const LONGEST: i64 = 1 << 16;

/// A list of flags, as many of which are true as something is long.
#[derive(Clone, Copy)]
struct Length {
    flags: ValueId,
    /// Whether the first ones are true, and no others.
    first: bool,
}

type Outputs = Option<Vec<Option<Binding>>>;

impl Driver {
    /// A node whose result is as long as computed numbers say; `None` where it is none.
    pub(super) fn computed_extent(
        &mut self,
        node: &SourceNode,
        inputs: &[Option<ValueId>],
    ) -> Result<Outputs> {
        let made = match (node.domain.as_str(), node.op.as_str(), inputs) {
            ("", "Expand", &[Some(x), Some(shape)]) => self.spread(node, x, shape)?,
            ("", "ConstantOfShape", &[Some(shape)]) => {
                let zero = Tensor::new([1], &[0f32]);
                let value = node.attrs.get_tensor("value")?.cloned().unwrap_or(zero);
                let Some(lengths) = self.lengths(node, shape)? else { return Ok(None) };
                let x = self.add_constant(&node.name, value);
                Some(self.spread_to(node, x, lengths)?)
            }
            ("", "Range", &[Some(start), Some(limit), Some(delta)]) => {
                self.counted_range(node, [start, limit, delta])?
            }
            _ => None,
        };
        Ok(made.map(|value| vec![Some(Binding::Value(value))]))
    }

    fn spread(&mut self, node: &SourceNode, x: ValueId, shape: ValueId) -> Result<Option<ValueId>> {
        match self.lengths(node, shape)? {
            Some(lengths) => self.spread_to(node, x, lengths).map(Some),
            None => Ok(None),
        }
    }

    /// What the elements of a shape are; `None` where all are constants or one may be any number.
    fn lengths(&mut self, node: &SourceNode, shape: ValueId) -> Result<Option<Vec<(i64, Option<Length>)>>> {
        if self.constant(shape).is_some() || self.graph().value(shape).ty.rank() != 1 {
            return Ok(None);
        }
        let Some(elements) = self.elements(shape) else { return Ok(None) };
        let mut lengths = Vec::new();
        for element in elements {
            lengths.push(match element.of {
                None => (element.plus, None),
                Some(_) => match self.length(node, element)? {
                    Some(length) => (0, Some(length)),
                    None => return Err(any_number()),
                },
            });
        }
        Ok(Some(lengths))
    }

    /// Spreads over the most that the lengths may be, and takes as many as they are where the value is not as long.
    fn spread_to(
        &mut self,
        node: &SourceNode,
        x: ValueId,
        lengths: Vec<(i64, Option<Length>)>,
    ) -> Result<ValueId> {
        let given = self.graph().value(x).ty.shape.clone();
        let (mut shape, mut cut) = (Vec::new(), Vec::new());
        for (axis, (number, length)) in lengths.iter().enumerate() {
            let Some(Length { flags, .. }) = *length else {
                shape.push(*number);
                continue;
            };
            let graph = self.graph();
            let list = graph.value(flags);
            let (key, times) = graph.kept_key(list);
            let here = graph.kept(list.ty.elems(), (&key, times));
            let own = (axis + given.len()).checked_sub(lengths.len()).map(|i| given[i]);
            let same = own.is_some_and(|own| own == here && own != 1);
            shape.push(if same { here } else { list.ty.elems() } as i64);
            if !same {
                cut.push((axis, flags));
            }
        }
        self.build(&node.name, |b| {
            let shape = b.constant(Tensor::new([shape.len()], &shape));
            let whole = b.binary("Expand", x, shape)?;
            cut.into_iter().try_fold(whole, |whole, (axis, flags)| {
                b.one("Compress", &[whole, flags], Attrs::default().with("axis", Attr::Int(axis as i64)))
            })
        })
    }

    /// Integers one after the other, from a constant on.
    fn counted_range(&mut self, node: &SourceNode, ends: [ValueId; 3]) -> Result<Option<ValueId>> {
        let dtype = self.graph().value(ends[0]).ty.dtype;
        let single = |value| self.elements(value).filter(|list| list.len() == 1).map(|list| list[0]);
        let [Some(start), Some(limit), Some(delta)] = ends.map(single) else { return Ok(None) };
        let (None, Some(_), Element { of: None, plus: 1 }) = (start.of, limit.of, delta) else {
            return Ok(None);
        };
        let Some(count) = Element::sum(limit, start, -1) else { return Ok(None) };
        let Some(Length { flags, first }) = self.length(node, count)? else {
            return Err(any_number());
        };
        let most = self.graph().value(flags).ty.elems() as i64;
        let start = start.plus;
        self.build(&node.name, |b| {
            let list = match first {
                true => {
                    let all: Vec<i64> = (0..most).map(|i| start.saturating_add(i)).collect();
                    let all = b.constant(Tensor::new([all.len()], &all));
                    b.one("Compress", &[all, flags], Attrs::default().with("axis", Attr::Int(0)))?
                }
                false => places_of(b, flags, start)?,
            };
            b.cast(list, dtype)
        })
        .map(Some)
    }

    /// Flags as many of which are true as the number says; `None` where it may be any.
    fn length(&mut self, node: &SourceNode, element: Element) -> Result<Option<Length>> {
        let Some((value, place)) = element.of else { return Ok(None) };
        if let Some(flags) = self.counted_flags(value).filter(|_| element.plus == 0) {
            let flags = self.build(&node.name, |b| {
                let whole = b.constant(Tensor::new([1], &[-1i64]));
                Ok((flags, b.binary("Reshape", flags, whole)?))
            });
            let (from, flags) = flags?;
            let known = self.graph().flags(self.graph().value(from));
            self.level().graph.values[flags as usize].flags = Some(known);
            return Ok(Some(Length { flags, first: false }));
        }
        let most = self.range(value).1.saturating_add(element.plus);
        if !(1..=LONGEST).contains(&most) {
            return Ok(None);
        }
        let between = Between { start: Element::number(0), end: element, step: 1, extent: most as usize };
        let flags = self.flags(between, &node.name, |b| {
            let list = b.constant(Tensor::new([1], &[-1i64]));
            let list = b.binary("Reshape", value, list)?;
            let place = b.constant(Tensor::new([1], &[place as i64]));
            let number = b.binary("Gather", list, place)?;
            let number = b.cast(number, DType::I64)?;
            let (plus, zero) = (b.constant(Tensor::scalar(element.plus)), b.constant(Tensor::scalar(0i64)));
            Ok((zero, b.binary("Add", number, plus)?))
        })?;
        Ok(Some(Length { flags, first: true }))
    }

    /// Whether a shape is made of numbers of flags.
    pub(super) fn counts(&self, shape: ValueId) -> bool {
        let mut numbers = self.elements(shape).unwrap_or_default().into_iter().filter_map(|e| e.of);
        numbers.any(|(value, _)| self.counted_flags(value).is_some())
    }

    /// The flags whose true ones a single number counts.
    fn counted_flags(&self, value: ValueId) -> Option<ValueId> {
        let (sum, _) =
            self.writer(value).filter(|(n, _)| n.op.domain.is_empty() && n.op.name == "ReduceSum")?;
        let (cast, _) = self.writer(sum.inputs.first().copied()??)?;
        let flags = cast.inputs.first().copied()??;
        let counts = cast.op.domain.is_empty() && cast.op.name == "Cast";
        (counts && self.graph().value(flags).ty.dtype == DType::Bool).then_some(flags)
    }
}

/// The error of a length that is any number.
fn any_number() -> Error {
    Error::model("its length must be a constant or have a bound, and is computed at run time from any number").advise(
        "Bound it in the model, as by Min with the longest length, or bind the dimensions it depends on with --dim or \
         --input",
    )
}

/// As many numbers as flags are true, one after the other.
fn places_of(b: &mut NodeBuilder, flags: ValueId, start: i64) -> Result<ValueId> {
    let ones = vec![1i64; b.ty(flags).elems()];
    let ones = b.constant(Tensor::new([ones.len()], &ones));
    let ones = b.one("Compress", &[ones, flags], Attrs::default().with("axis", Attr::Int(0)))?;
    let (axis, last) =
        (b.constant(Tensor::scalar(0i64)), b.constant(Tensor::scalar(start.saturating_sub(1))));
    let counted = b.binary("CumSum", ones, axis)?;
    b.binary("Add", counted, last)
}
