//! Slices that begin or end at a computed place: `x[p:p + 4]`, `x[:n]`; ranges that begin at one.
//!
//! Exporters write both ends as computed. Where their distance follows from how they were computed (constants that
//! are added; casts, joints and reshapes on the way), the slice is a Gather along each such axis, whose indices are
//! checked when the model runs; so is a Range a sum. The length of any other slice is known only when it runs: see [`super::chosen`].

use super::chosen::{Between, Element};
use super::{Binding, Driver};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Attr, Attrs, Node, ValueId};
use crate::import::SourceNode;
use crate::ops::NodeBuilder;

/// Longer lists of integers are no ends of a slice.
const MOST: usize = 16;
/// Numbers of a range that begins at a computed one, at most.
const FARTHEST: u64 = 1 << 16;

/// A part of a slice along one axis, between places known at run time.
struct Part {
    /// Which of the starts it is.
    number: usize,
    axis: usize,
    length: Length,
}

/// How many elements a part takes.
enum Length {
    Known(usize),
    /// Those between the ends, which are any places.
    Computed(Between),
}

impl Driver {
    /// A Slice with computed starts or ends as other nodes; `None` where it is none.
    pub(super) fn moving_slice(
        &mut self,
        node: &SourceNode,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Vec<Option<Binding>>>> {
        let &[Some(x), Some(starts), Some(ends), ..] = inputs else { return Ok(None) };
        let known = |value: ValueId| self.constant(value).is_some();
        if node.opset < 10 || known(starts) && known(ends) {
            return Ok(None);
        }
        let Some((parts, fixed)) = self.parts(inputs, starts, ends) else { return Ok(None) };
        let mut out = x;
        if !fixed.is_empty() {
            out = self.build(&node.name, |b| fixed_slice(b, x, &fixed))?;
        }
        for part in &parts {
            let extent = self.graph().value(x).ty.shape[part.axis] as i64;
            let axis = Attrs::default().with("axis", Attr::Int(part.axis as i64));
            out = match &part.length {
                Length::Known(count) => self.build(&node.name, |b| {
                    let steps: Vec<i64> = (0..*count as i64).collect();
                    let steps = b.constant(Tensor::new([*count], &steps));
                    let start = place(b, starts, part.number, extent)?;
                    let indices = b.binary("Add", start, steps)?;
                    b.one("Gather", &[out, indices], axis)
                })?,
                Length::Computed(between) => {
                    let flags = self.flags(*between, &node.name, |b| {
                        let end = |b: &mut _, list| place(b, list, part.number, extent);
                        Ok((end(b, starts)?, end(b, ends)?))
                    })?;
                    self.build(&node.name, |b| b.one("Compress", &[out, flags], axis))?
                }
            };
        }
        Ok(Some(vec![Some(Binding::Value(out))]))
    }

    /// A Range that begins at a computed number, its length following from how its ends were computed: a sum;
    /// `None` where it is none.
    pub(super) fn moving_range(
        &mut self,
        node: &SourceNode,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Vec<Option<Binding>>>> {
        let &[Some(start), Some(limit), Some(delta)] = inputs else { return Ok(None) };
        let single = |value| Some(self.elements(value)?).filter(|list| list.len() == 1).map(|list| list[0]);
        let (Some(from), Some(to), Some(step)) = (single(start), single(limit), single(delta)) else {
            return Ok(None);
        };
        let steps = match (from.of, step.of, to.plus.checked_sub(from.plus)) {
            (Some(_), None, Some(distance)) if from.of == to.of && step.plus != 0 => {
                let forward = distance != 0 && (distance > 0) == (step.plus > 0);
                let count = distance.unsigned_abs().div_ceil(step.plus.unsigned_abs());
                (forward && count <= FARTHEST).then(|| (0..count as i64).map(|i| i.checked_mul(step.plus)))
            }
            _ => None,
        };
        let Some(steps) = steps.and_then(|steps| steps.collect::<Option<Vec<i64>>>()) else {
            return Ok(None);
        };
        let narrow = self.graph().value(start).ty.dtype == DType::I32;
        let out = self.build(&node.name, |b| {
            let steps = match narrow {
                true => Tensor::new([steps.len()], &steps.iter().map(|&s| s as i32).collect::<Vec<i32>>()),
                false => Tensor::new([steps.len()], &steps),
            };
            let steps = b.constant(steps);
            b.binary("Add", start, steps)
        })?;
        Ok(Some(vec![Some(Binding::Value(out))]))
    }

    /// What moves, and start, end, axis and step of what does not.
    fn parts(
        &self,
        inputs: &[Option<ValueId>],
        starts: ValueId,
        ends: ValueId,
    ) -> Option<(Vec<Part>, Vec<[i64; 4]>)> {
        let (from, to) = (self.elements(starts)?, self.elements(ends)?);
        let list = |i: usize, default: &dyn Fn(usize) -> i64| match inputs.get(i).copied().flatten() {
            Some(value) => self.constant(value)?.to_i64s(),
            None => Some((0..from.len()).map(default).collect()),
        };
        let (axes, steps) = (list(3, &|i| i as i64)?, list(4, &|_| 1)?);
        if [to.len(), axes.len(), steps.len()] != [from.len(); 3] {
            return None;
        }
        let shape = &self.graph().value(inputs[0]?).ty.shape;
        let (mut parts, mut fixed) = (Vec::new(), Vec::new());
        for (number, (start, end)) in from.into_iter().zip(to).enumerate() {
            let axis = if axes[number] < 0 { axes[number] + shape.len() as i64 } else { axes[number] };
            let axis = usize::try_from(axis).ok().filter(|&a| a < shape.len())?;
            match (start.of, end.of) {
                (None, None) => fixed.push([start.plus, end.plus, axis as i64, steps[number]]),
                (a, b) if a == b && steps[number] == 1 => {
                    let count = usize::try_from(end.plus.checked_sub(start.plus)?).ok()?;
                    if count == 0 || count > shape[axis] {
                        return None;
                    }
                    parts.push(Part { number, axis, length: Length::Known(count) });
                }
                _ if steps[number] > 0 => {
                    let between = Between { start, end, step: steps[number], extent: shape[axis] };
                    parts.push(Part { number, axis, length: Length::Computed(between) });
                }
                _ => return None,
            }
        }
        Some((parts, fixed))
    }

    /// The elements of a short list of integers.
    pub(super) fn elements(&self, value: ValueId) -> Option<Vec<Element>> {
        let ty = &self.graph().value(value).ty;
        let count = ty.elems();
        if count > MOST || !matches!(ty.dtype, DType::I32 | DType::I64) {
            return None;
        }
        if let Some(constant) = self.constant(value) {
            return Some(constant.to_i64s()?.into_iter().map(Element::number).collect());
        }
        let at = self.frames.last().map_or(0, |f| f.level);
        let writer = self.levels[at].nodes.iter().rev().find(|n| n.outputs.first() == Some(&Some(value)));
        let made = writer.filter(|n| n.op.domain.is_empty()).and_then(|n| self.made(n, count));
        Some(made.unwrap_or_else(|| (0..count).map(|i| Element { of: Some((value, i)), plus: 0 }).collect()))
    }

    fn is_list(&self, node: &Node) -> bool {
        node.outputs[0].is_some_and(|output| self.graph().value(output).ty.rank() == 1)
    }

    /// The elements of a node's result, where they are those of its inputs, or sums of them.
    fn made(&self, node: &Node, count: usize) -> Option<Vec<Element>> {
        let input = |i: usize| self.elements(node.inputs.get(i).copied().flatten()?);
        let elements = match node.op.name {
            "Cast" | "Flatten" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" => input(0)?,
            "Concat" if self.is_list(node) => {
                (0..node.inputs.len()).map(input).collect::<Option<Vec<_>>>()?.concat()
            }
            "Add" | "Sub" => {
                let (a, b) = (input(0)?, input(1)?);
                let sign = if node.op.name == "Add" { 1 } else { -1 };
                let at = |list: &[Element], i: usize| list.get(if list.len() == 1 { 0 } else { i }).copied();
                (0..count).map(|i| Element::sum(at(&a, i)?, at(&b, i)?, sign)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        (elements.len() == count).then_some(elements)
    }
}

/// The slice along the axes whose start, end, axis and step are these numbers.
fn fixed_slice(b: &mut NodeBuilder, x: ValueId, fixed: &[[i64; 4]]) -> Result<ValueId> {
    let [starts, ends, axes, steps] = [0, 1, 2, 3].map(|i| {
        let numbers: Vec<i64> = fixed.iter().map(|f| f[i]).collect();
        b.constant(Tensor::new([numbers.len()], &numbers))
    });
    b.one("Slice", &[x, starts, ends, axes, steps], Attrs::default())
}

/// One of the listed places along an axis: those that count from the end are counted from the front, and are below 0
/// where the axis is shorter.
fn place(b: &mut NodeBuilder, list: ValueId, number: usize, extent: i64) -> Result<ValueId> {
    let place = if b.ty(list).rank() == 0 {
        // The counter of a loop is often sliced at as it is, a number instead of a list.
        let one = b.constant(Tensor::new([1], &[1i64]));
        b.binary("Reshape", list, one)?
    } else {
        let number = b.constant(Tensor::new([1], &[number as i64]));
        b.binary("Gather", list, number)?
    };
    let place = b.cast(place, DType::I64)?;
    let (zero, extent) = (b.constant(Tensor::scalar(0i64)), b.constant(Tensor::scalar(extent)));
    let negative = b.binary("Less", place, zero)?;
    let moved = b.binary("Add", place, extent)?;
    b.one("Where", &[negative, moved, place], Attrs::default())
}
