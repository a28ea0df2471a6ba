//! What is written at a mask's places from the front of a list: `x.masked_scatter(mask, list)`, the features of images
//! put where tokens are images.
//!
//! Exporters write it as ScatterND of a slice that is as long as the places are many. No model says that the list has so
//! many elements, so it is written as the choice that it is: an element is its own, or the one of the list whose number
//! is that of the flags before it. Where the list ends too early, that is an index out of range when the model runs.

use super::{Binding, Driver};
use crate::base::{DType, Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Attrs, Node, Operator, ValueId};
use crate::import::SourceNode;
use crate::ops::NodeBuilder;

/// What is written where.
struct Masked {
    data: ValueId,
    /// Flags for as many leading dimensions of the data as `lead` says; those after them, where there are any, are 1.
    flags: ValueId,
    lead: usize,
    list: ValueId,
}

impl Driver {
    /// Remembers whose places a node's result lists, and of which list it is the front.
    pub(super) fn follow_lists(
        &mut self,
        op: &Operator,
        inputs: &[Option<ValueId>],
        outputs: &[Option<ValueId>],
    ) {
        let (Some(&Some(from)), &[Some(to)]) = (inputs.first(), outputs) else { return };
        let end = match (op.domain, op.name) {
            ("", "NonZero") => self.graph().value(to).ty.shape.get(1).map(|&n| n as i64),
            ("", "Slice") => self.end_of_front(inputs),
            _ => None,
        };
        if let Some(end) = end {
            self.level().fronts.insert(to, (from, end));
        }
    }

    /// Where a slice of the first dimension ends that begins with its first element.
    fn end_of_front(&self, inputs: &[Option<ValueId>]) -> Option<i64> {
        let number = |i: usize, absent: Option<i64>| match inputs.get(i).copied().flatten() {
            Some(value) => self.constant(value)?.to_i64s().filter(|n| n.len() == 1).map(|n| n[0]),
            None => absent,
        };
        let [start, end, axis, step] =
            [number(1, None)?, number(2, None)?, number(3, Some(0))?, number(4, Some(1))?];
        (start == 0 && axis == 0 && step == 1).then_some(end)
    }

    /// A ScatterND at a mask's places of as much of a list as a choice; `None` where it is none.
    pub(super) fn masked_write(
        &mut self,
        node: &SourceNode,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Vec<Option<Binding>>>> {
        let &[Some(data), Some(indices), Some(updates)] = inputs else { return Ok(None) };
        if node.attrs.get_str("reduction")?.is_some_and(|r| r != "none") {
            return Ok(None);
        }
        let Some(masked) = self.masked(data, indices, updates) else { return Ok(None) };
        let out = self.build(&node.name, |b| masked.choice(b))?;
        Ok(Some(vec![Some(Binding::Value(out))]))
    }

    fn masked(&self, data: ValueId, indices: ValueId, updates: ValueId) -> Option<Masked> {
        let turned = self.written_by(indices, "Transpose")?;
        let places = turned.inputs.first().copied().flatten()?;
        let fronts = &self.levels[self.frames.last().map_or(0, |f| f.level)].fronts;
        let ((mask, found), (list, end)) = (*fronts.get(&places)?, *fronts.get(&updates)?);
        let ty = |value: ValueId| &self.graph().value(value).ty;
        let (shape, rank) = (&ty(data).shape, ty(mask).rank());
        let fits = found == end
            && turned.attrs.get_ints("perm").ok().flatten().is_none_or(|p| p == [1, 0])
            && shape.len() >= rank
            && shape[..rank] == ty(mask).shape
            && ty(list).shape.get(1..)? == &shape[rank..]
            && ty(list).dtype == ty(data).dtype;
        if !fits {
            return None;
        }
        let (flags, lead) = self.spread_flags(mask);
        let count = ty(list).elems();
        let divides = |lead: usize| {
            let inner: usize = shape[lead..].iter().product();
            inner > 0 && count.is_multiple_of(inner)
        };
        [(flags, lead), (mask, rank)]
            .into_iter()
            .find(|&(_, lead)| divides(lead))
            .map(|(flags, lead)| Masked { data, flags, lead, list })
    }

    fn written_by(&self, value: ValueId, op: &str) -> Option<&Node> {
        self.writer(value).map(|(n, _)| n).filter(|n| n.op.domain.is_empty() && n.op.name == op)
    }

    /// The flags that a mask repeats along its last dimensions, and how many dimensions come before.
    fn spread_flags(&self, mask: ValueId) -> (ValueId, usize) {
        let shape = |value: ValueId| &self.graph().value(value).ty.shape;
        let (mut flags, mut lead) = (mask, shape(mask).len());
        while let Some(node) = self.written_by(flags, "Expand")
            && let Some(&Some(from)) = node.inputs.first()
        {
            let (given, whole) = (shape(from), shape(mask));
            let same = given.iter().zip(whole).take_while(|(a, b)| a == b).count();
            if given.len() != whole.len() || given[same.min(lead)..].iter().any(|&n| n != 1) {
                break;
            }
            (flags, lead) = (from, same.min(lead));
        }
        (flags, lead)
    }
}

impl Masked {
    fn choice(&self, b: &mut NodeBuilder) -> Result<ValueId> {
        let shape: Vec<i64> = b.ty(self.data).shape.iter().map(|&n| n as i64).collect();
        let (lead, rest) = shape.split_at(self.lead);
        let reshaped = |b: &mut NodeBuilder, value, shape: &[i64]| {
            let shape = b.constant(Tensor::new([shape.len()], shape));
            b.binary("Reshape", value, shape)
        };
        // Where no flag is set a row is read that is not taken: there may be none.
        let dtype = b.ty(self.data).dtype;
        let row = TensorType::new(dtype, [&[1], &b.ty(self.data).shape[self.lead..]].concat());
        let row = b.constant(Tensor { data: vec![0; row.bytes()].into(), ty: row });
        let list = reshaped(b, self.list, &[&[-1], rest].concat())?;
        let list = b.one("Concat", &[row, list], Attrs::default().with("axis", Attr::Int(0)))?;
        let flags = b.cast(self.flags, DType::Bool)?;
        let flat = reshaped(b, flags, &[-1])?;
        let ones = b.cast(flat, DType::I64)?;
        let zero = b.constant(Tensor::scalar(0i64));
        let counted = b.binary("CumSum", ones, zero)?;
        let places = b.one("Where", &[flat, counted, zero], Attrs::default())?;
        let places = reshaped(b, places, lead)?;
        let taken = b.one("Gather", &[list, places], Attrs::default().with("axis", Attr::Int(0)))?;
        let flags = reshaped(b, flags, &[lead, &vec![1; rest.len()]].concat())?;
        b.one("Where", &[flags, taken, self.data], Attrs::default())
    }
}
