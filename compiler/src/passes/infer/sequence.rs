//! Sequences and optionals dissolve: their elements are known one by one while the graph is typed.

use super::control::{MAX_UNROLLED_IN_ALL, body};
use super::{Binding, Driver};
use crate::base::Tensor;
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::import::SourceNode;

/// The operators on sequences and optionals.
pub(super) const NAMES: &[&str] = &[
    "ConcatFromSequence",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SequenceMap",
    "SplitToSequence",
];

fn elements(inputs: &[Option<Binding>], i: usize) -> Result<Vec<ValueId>> {
    match inputs.get(i) {
        Some(Some(Binding::Sequence(ids))) => Ok(ids.clone()),
        Some(Some(Binding::Value(id))) => Ok(vec![*id]),
        _ => Err(Error::model(format!("input {i} must be a sequence"))),
    }
}

fn value(inputs: &[Option<Binding>], i: usize) -> Result<ValueId> {
    match inputs.get(i) {
        Some(Some(Binding::Value(id))) => Ok(*id),
        _ => Err(Error::model(format!("input {i} must be a tensor"))),
    }
}

impl Driver {
    /// A constant integer input.
    fn number(&self, inputs: &[Option<Binding>], i: usize) -> Result<i64> {
        let numbers = self.constant(value(inputs, i)?).and_then(Tensor::to_i64s);
        numbers.and_then(|n| n.first().copied()).ok_or_else(|| {
            Error::model(format!("input {i} must be a constant"))
                .advise("Sequences are supported where they dissolve at compile time")
        })
    }

    /// The position that input `i` gives in a sequence of `len`, or the default where it is omitted.
    fn position(&self, inputs: &[Option<Binding>], i: usize, len: usize, default: usize) -> Result<usize> {
        if !inputs.get(i).is_some_and(Option::is_some) {
            return Ok(default);
        }
        let at = self.number(inputs, i)?;
        let from_front = if at < 0 { at.saturating_add(len as i64) } else { at };
        usize::try_from(from_front)
            .ok()
            .filter(|&p| p <= len)
            .ok_or_else(|| Error::model(format!("position {at} lies outside a sequence of {len} elements")))
    }

    /// One operator on sequences.
    pub(super) fn sequence_node(
        &mut self,
        node: &SourceNode,
        inputs: Vec<Option<Binding>>,
    ) -> Result<Vec<Option<Binding>>> {
        if node.op == "SequenceMap" {
            return self.map(node, inputs);
        }
        let outside = || Error::model("the position lies outside the sequence");
        let one = match node.op.as_str() {
            "SequenceEmpty" => Binding::Sequence(Vec::new()),
            "SequenceConstruct" => {
                Binding::Sequence((0..inputs.len()).map(|i| value(&inputs, i)).collect::<Result<_>>()?)
            }
            "Optional" => match inputs.into_iter().next().flatten() {
                Some(given) => given,
                None => Binding::Sequence(Vec::new()),
            },
            "OptionalGetElement" => match inputs.into_iter().next().flatten() {
                Some(given) => given,
                None => return Err(Error::model("the optional is absent")),
            },
            "OptionalHasElement" => {
                let has = matches!(inputs.first(), Some(Some(Binding::Value(_))))
                    || matches!(inputs.first(), Some(Some(Binding::Sequence(s))) if !s.is_empty());
                let ty = crate::base::TensorType::new(crate::base::DType::Bool, []);
                let tensor = Tensor::from_bytes(ty, vec![u8::from(has)]);
                Binding::Value(
                    self.add_constant(&node.name, tensor.ok_or_else(|| Error::bug("one boolean"))?),
                )
            }
            "SequenceLength" => {
                let len = elements(&inputs, 0)?.len() as i64;
                Binding::Value(self.add_constant(&node.name, Tensor::scalar(len)))
            }
            "SequenceAt" => {
                let all = elements(&inputs, 0)?;
                let at = self.position(&inputs, 1, all.len(), 0)?;
                Binding::Value(*all.get(at).ok_or_else(outside)?)
            }
            "SequenceErase" => {
                let mut all = elements(&inputs, 0)?;
                let at = self.position(&inputs, 1, all.len(), all.len().saturating_sub(1))?;
                if at >= all.len() {
                    return Err(outside());
                }
                all.remove(at);
                Binding::Sequence(all)
            }
            "SequenceInsert" => {
                let mut all = elements(&inputs, 0)?;
                let at = self.position(&inputs, 2, all.len(), all.len())?;
                all.insert(at, value(&inputs, 1)?);
                Binding::Sequence(all)
            }
            "ConcatFromSequence" => Binding::Value(self.concat(node, elements(&inputs, 0)?)?),
            _ => Binding::Sequence(self.split(node, &inputs)?),
        };
        Ok(vec![Some(one)])
    }

    /// The body once for each element of the first sequence; what is no sequence is the same for all.
    fn map(&mut self, node: &SourceNode, inputs: Vec<Option<Binding>>) -> Result<Vec<Option<Binding>>> {
        let body = body(node, "body")?;
        let Some(Some(Binding::Sequence(first))) = inputs.first() else {
            return Err(Error::model("input 0 must be a sequence"));
        };
        let count = first.len();
        if !self.is_short(body, count, MAX_UNROLLED_IN_ALL) {
            return Err(Error::model(format!("a sequence of {count} elements is too long to dissolve")));
        }
        let mut outputs = vec![Vec::with_capacity(count); body.outputs.len()];
        for i in 0..count {
            let element = |input: &Option<Binding>| match input {
                Some(Binding::Sequence(ids)) => ids.get(i).copied().map(Binding::Value),
                other => other.clone(),
            };
            let given = inputs.iter().map(element).collect::<Option<Vec<_>>>();
            let given =
                given.ok_or_else(|| Error::model("the sequences must have as many elements as the first"))?;
            for (all, made) in outputs.iter_mut().zip(self.inline(body, given)?) {
                let Binding::Value(id) = made else {
                    return Err(Error::model("the body must give tensors"));
                };
                all.push(id);
            }
        }
        Ok(outputs.into_iter().map(|ids| Some(Binding::Sequence(ids))).collect())
    }

    fn concat(&mut self, node: &SourceNode, parts: Vec<ValueId>) -> Result<ValueId> {
        let axis = *node.attrs.get_int("axis")?.ok_or_else(|| Error::model("attribute axis is missing"))?;
        let stacked = node.attrs.flag("new_axis", false)?;
        self.build(&node.name, |b| {
            let mut parts = parts;
            if stacked {
                let axes = b.constant(Tensor::new([1], &[axis]));
                for part in &mut parts {
                    *part = b.binary("Unsqueeze", *part, axes)?;
                }
            }
            b.one("Concat", &parts, Attrs::default().with("axis", Attr::Int(axis)))
        })
    }

    fn split(&mut self, node: &SourceNode, inputs: &[Option<Binding>]) -> Result<Vec<ValueId>> {
        let x = value(inputs, 0)?;
        let axis = node.attrs.int("axis", 0)?;
        let ty = &self.graph().value(x).ty;
        let from_front = if axis < 0 { axis + ty.rank() as i64 } else { axis };
        let extent = usize::try_from(from_front).ok().and_then(|a| ty.shape.get(a)).copied();
        let extent = extent.ok_or_else(|| Error::model(format!("axis {axis} lies outside {ty}")))? as i64;
        let given = inputs.get(1).is_some_and(Option::is_some);
        let keep = given || node.attrs.flag("keepdims", true)?;
        let scalar = given && self.graph().value(value(inputs, 1)?).ty.rank() == 0;
        let sizes: Vec<i64> = match given {
            false => vec![1; extent as usize],
            true if scalar => {
                let chunk = self.number(inputs, 1)?.clamp(1, extent.max(1));
                (0..extent).step_by(chunk as usize).map(|at| chunk.min(extent - at)).collect()
            }
            true => self.constant(value(inputs, 1)?).and_then(Tensor::to_i64s).ok_or_else(|| {
                Error::model("input 1 must be constant integers")
                    .advise("Sequences are supported where they dissolve at compile time")
            })?,
        };
        if sizes.len() > 4096 {
            return Err(Error::model(format!(
                "a sequence of {} elements is too long to dissolve",
                sizes.len()
            )));
        }
        self.build(&node.name, |b| {
            let split = b.constant(Tensor::new([sizes.len()], &sizes));
            let attrs = Attrs::default().with("axis", Attr::Int(axis));
            let mut parts = b.node("Split", &[x, split], attrs, sizes.len())?;
            if !keep {
                let axes = b.constant(Tensor::new([1], &[axis]));
                for part in &mut parts {
                    *part = b.binary("Squeeze", *part, axes)?;
                }
            }
            Ok(parts)
        })
    }
}
