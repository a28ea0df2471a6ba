//! What the integers of a value lie between, as far as it follows from how they are computed: places lie within an
//! axis, sums of flags are no more than there are flags.

use super::Driver;
use crate::base::DType;
use crate::graph::{Node, ValueId};
use std::collections::HashMap;

/// Steps back from a value that are followed.
const DEPTH: usize = 24;

/// The least and the largest number; the ends of the type where nothing is known.
pub(super) type Range = (i64, i64);

const ANY: Range = (i64::MIN, i64::MAX);

/// Ranges by value and steps left: values that many others are computed from are followed once.
type Known = HashMap<(ValueId, usize), Range>;

/// Operators that give some elements of their first input.
const PICKS: [&str; 12] = [
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "ReduceMax",
    "ReduceMin",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

impl Driver {
    /// What the elements of a value lie between.
    pub(super) fn range(&self, value: ValueId) -> Range {
        self.range_within(value, DEPTH, &mut Known::new())
    }

    /// The node of the current graph that writes a value, and which of its results that is.
    pub(super) fn writer(&self, value: ValueId) -> Option<(&Node, usize)> {
        let at = self.frames.last().map_or(0, |f| f.level);
        self.levels[at].nodes.iter().rev().find_map(|node| {
            let place = node.outputs.iter().position(|&o| o == Some(value))?;
            Some((node, place))
        })
    }

    /// What the elements of a value lie between, followed so many steps back.
    fn range_within(&self, value: ValueId, depth: usize, known: &mut Known) -> Range {
        if let Some(&range) = known.get(&(value, depth)) {
            return range;
        }
        let range = self.range_of(value, depth, known);
        known.insert((value, depth), range);
        range
    }

    fn range_of(&self, value: ValueId, depth: usize, known: &mut Known) -> Range {
        let of = self.graph().value(value);
        if let Some(list) = of.constant.as_ref().and_then(|c| c.to_i64s()) {
            let ends = list.iter().copied().min().zip(list.iter().copied().max());
            return ends.unwrap_or(ANY);
        }
        match of.ty.dtype {
            DType::Bool => return (0, 1),
            DType::U8 => return (0, 255),
            DType::I32 | DType::I64 => {}
            _ => return ANY,
        }
        match self.writer(value) {
            Some((node, place)) if depth > 0 => self.made_range(node, place, depth - 1, known),
            _ => ANY,
        }
    }

    fn made_range(&self, node: &Node, place: usize, depth: usize, known: &mut Known) -> Range {
        let shape = |i: usize| {
            let value = node.inputs.get(i).copied().flatten();
            value.map(|v| self.graph().value(v).ty.shape.as_slice()).unwrap_or_default()
        };
        let mut input = |i: usize| {
            let value = node.inputs.get(i).copied().flatten();
            value.map_or(ANY, |v| self.range_within(v, depth, known))
        };
        let elems = |i: usize| shape(i).iter().product::<usize>() as i64;
        let farthest = shape(0).iter().copied().max().unwrap_or(0).max(1) as i64 - 1;
        match (node.op.domain, node.op.name, place) {
            ("lmc", "Kept", 0) => (0, elems(0).max(1) - 1),
            ("", "ArgMax" | "ArgMin", 0) | ("", "TopK", 1) => (0, farthest),
            ("", "Cast", 0) => input(0),
            ("", name, 0) if PICKS.contains(&name) => input(0),
            ("", "Concat", 0) => (0..node.inputs.len()).map(input).reduce(union).unwrap_or(ANY),
            ("", "Where", 0) => union(input(1), input(2)),
            ("", "Max", 0) => {
                (0..node.inputs.len()).map(input).reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))).unwrap_or(ANY)
            }
            ("", "Min", 0) => {
                (0..node.inputs.len()).map(input).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap_or(ANY)
            }
            ("", "Add", 0) => sum(input(0), input(1)),
            ("", "Sub", 0) => sum(input(0), negative(input(1))),
            ("", "Mul", 0) => product(input(0), input(1)),
            ("", "Div", 0) => match (input(0), input(1)) {
                ((low, high), (by, same)) if by == same && by > 0 => (low / by, high / by),
                _ => ANY,
            },
            ("", "ReduceSum" | "CumSum", 0) => product(input(0), (0, elems(0).max(1))),
            _ => ANY,
        }
    }
}

fn union(a: Range, b: Range) -> Range {
    (a.0.min(b.0), a.1.max(b.1))
}

fn negative((low, high): Range) -> Range {
    (high.saturating_neg(), low.saturating_neg())
}

fn sum(a: Range, b: Range) -> Range {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

fn product(a: Range, b: Range) -> Range {
    let all = [(a.0, b.0), (a.0, b.1), (a.1, b.0), (a.1, b.1)].map(|(x, y)| x.saturating_mul(y));
    all.into_iter().map(|p| (p, p)).reduce(union).unwrap_or(ANY)
}
