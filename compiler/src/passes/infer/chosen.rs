//! How many elements data let through along an axis: between the computed ends of a slice, the best k.
//!
//! Memory is planned for the whole axis. Which elements there are becomes a list of flags, and the tensors are
//! compressed by it (see [`crate::ops`]' Compress); equal ends make equal lists, so that tensors cut alike are known
//! to be equally long.

use super::{Binding, Driver};
use crate::base::Tensor;
use crate::error::Result;
use crate::graph::{Attr, Attrs, ValueId};
use crate::import::SourceNode;
use crate::ops::NodeBuilder;

/// An integer: a number, added to an element of a value where it is no constant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Element {
    pub of: Option<(ValueId, usize)>,
    pub plus: i64,
}

impl Element {
    pub(super) fn number(plus: i64) -> Element {
        Element { of: None, plus }
    }

    pub(super) fn sum(a: Element, b: Element, sign: i64) -> Option<Element> {
        let of = match (a.of, b.of) {
            (of, None) => of,
            (None, of) if sign > 0 => of,
            _ => return None,
        };
        Some(Element { of, plus: a.plus.checked_add(b.plus.checked_mul(sign)?)? })
    }
}

/// The places of an axis from `start` on that come before `end`, each `step` from the last.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Between {
    pub start: Element,
    pub end: Element,
    pub step: i64,
    pub extent: usize,
}

impl Driver {
    /// Which places of the axis lie between the ends, which `ends` computes, counted from the front.
    pub(super) fn flags(
        &mut self,
        between: Between,
        name: &str,
        ends: impl FnOnce(&mut NodeBuilder) -> Result<(ValueId, ValueId)>,
    ) -> Result<ValueId> {
        if let Some(&flags) = self.level().cuts.get(&between) {
            return Ok(flags);
        }
        let flags = self.build(name, |b| {
            let (start, end) = ends(b)?;
            inside(b, between, start, end)
        })?;
        self.level().cuts.insert(between, flags);
        Ok(flags)
    }

    /// A TopK with a computed k: all elements in order, of which k are taken. `None` where k is a constant.
    pub(super) fn computed_top(
        &mut self,
        node: &SourceNode,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Vec<Option<Binding>>>> {
        let &[Some(x), Some(k)] = inputs else { return Ok(None) };
        let shape = self.graph().value(x).ty.shape.clone();
        let axis = node.attrs.int("axis", -1)?;
        let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok();
        let Some((axis, &extent)) = axis.and_then(|a| Some((a, shape.get(a)?))) else { return Ok(None) };
        let Some(&[end]) = self.elements(k).as_deref() else { return Ok(None) };
        if self.constant(k).is_some() {
            return Ok(None);
        }
        let between = Between { start: Element::number(0), end, step: 1, extent };
        let flags = self.flags(between, &node.name, |b| {
            let zero = b.constant(Tensor::scalar(0i64));
            Ok((zero, at_most(b, k, extent as i64)?))
        })?;
        self.build(&node.name, |b| {
            let all = b.constant(Tensor::new([1], &[extent as i64]));
            let sorted = b.node("TopK", &[x, all], node.attrs.clone(), 2)?;
            let attrs = Attrs::default().with("axis", Attr::Int(axis as i64));
            let best = |of: ValueId| b.one("Compress", &[of, flags], attrs.clone());
            sorted.into_iter().map(best).map(|v| Ok(Some(Binding::Value(v?)))).collect::<Result<_>>()
        })
        .map(Some)
    }
}

/// Whether each place lies between the ends.
fn inside(b: &mut NodeBuilder, between: Between, start: ValueId, end: ValueId) -> Result<ValueId> {
    let places: Vec<i64> = (0..between.extent as i64).collect();
    let places = b.constant(Tensor::new([between.extent], &places));
    let zero = b.constant(Tensor::scalar(0i64));
    let start = b.binary("Max", start, zero)?;
    let (from, to) = (b.binary("GreaterOrEqual", places, start)?, b.binary("Less", places, end)?);
    let flags = b.binary("And", from, to)?;
    if between.step == 1 {
        return Ok(flags);
    }
    let step = b.constant(Tensor::scalar(between.step));
    let distance = b.binary("Sub", places, start)?;
    let rest = b.binary("Mod", distance, step)?;
    let taken = b.binary("Equal", rest, zero)?;
    b.binary("And", flags, taken)
}

/// The number, which is an error where it is negative or larger than `most`: an index that is checked.
pub(super) fn at_most(b: &mut NodeBuilder, number: ValueId, most: i64) -> Result<ValueId> {
    let numbers: Vec<i64> = (0..=most).collect();
    let numbers = b.constant(Tensor::new([numbers.len()], &numbers));
    let (zero, beyond) = (b.constant(Tensor::scalar(0i64)), b.constant(Tensor::scalar(most + 1)));
    let negative = b.binary("Less", number, zero)?;
    let index = b.one("Where", &[negative, beyond, number], Attrs::default())?;
    b.binary("Gather", numbers, index)
}
