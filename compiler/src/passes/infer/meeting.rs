//! How large what is computed from data must be, found by what it meets.
//!
//! A number of which nothing is known is taken for a length that occurs nowhere else. Where a node is not defined for
//! that, but is with the length of one of its inputs in its place, the number is that length; then the model is
//! typed again. No operator needs to know of it.

use super::{Driver, Given, Inferred, Numbers, walked};
use crate::base::{DType, Tensor, TensorType};
use crate::graph::{Graph, Value, ValueId};
use crate::import::{Model, SourceNode};
use crate::ops::{NodeBuilder, Pending, find};
use std::collections::{BTreeSet, HashMap};

/// Longer lists of integers are no shapes.
const SHAPE: usize = 64;

/// How often the model is typed again, as more numbers are found.
const MOST_ROUNDS: usize = 16;

/// Types the model for the given types of its inputs, with sizes that depend on data as
/// [`crate::graph::Graph::sample`] says.
pub fn infer_sample(model: &Model, inputs: &[TensorType], sample: u32, given: &Given) -> Inferred {
    let constants = model.body.constants.iter().map(|(_, t)| &t.ty);
    let lengths = || constants.clone().chain(inputs).flat_map(|ty| ty.shape.iter().copied()).collect();
    let (mut settled, mut probing, mut round) = (HashMap::new(), true, 0);
    loop {
        let probes = (probing && round < MOST_ROUNDS).then(HashMap::new);
        let numbers = Numbers { settled, probes, met: HashMap::new(), lengths: lengths() };
        let (mut inferred, numbers) = walked(model, inputs, sample, given, numbers);
        settled = numbers.settled;
        let tried = numbers.probes.unwrap_or_default();
        if tried.is_empty() {
            inferred.graph.numbers = settled.into_keys().collect();
            return inferred;
        }
        round += 1;
        let before = settled.len();
        settled.extend(numbers.met);
        if settled.len() == before {
            let ones = tried.into_keys().filter(|name| given.lengths.contains(name));
            settled.extend(ones.map(|name| (name, 1)));
            probing = settled.len() > before;
        }
    }
}

impl Driver {
    /// Sees what numbers must be that are tried, at a node that is not defined for them.
    pub(super) fn meet(&mut self, node: &SourceNode, inputs: &[Option<ValueId>]) {
        let given = inputs.iter().flatten().map(|&v| self.graph().value(v));
        let lengths: BTreeSet<usize> = given.flat_map(lengths).collect();
        let probes: Vec<(String, usize)> =
            self.numbers.probes.iter().flatten().map(|(name, &n)| (name.clone(), n)).collect();
        let tried = |n: &usize| probes.iter().any(|(_, p)| p == n);
        for (name, probe) in probes.iter().filter(|(_, p)| lengths.contains(p)) {
            let others = lengths.iter().copied().filter(|n| !tried(n));
            let fits: Vec<usize> = others.filter(|&n| self.is_defined(node, inputs, *probe, n)).collect();
            // What broadcasts fits everywhere.
            if let [length] | [1, length] = fits[..] {
                self.numbers.met.insert(name.clone(), length);
            }
        }
    }

    /// Whether the node is defined with another length in place of one that is tried.
    fn is_defined(&self, node: &SourceNode, inputs: &[Option<ValueId>], probe: usize, length: usize) -> bool {
        let Some(op) = find(&node.domain, &node.op) else { return false };
        let mut alone = Graph { sample: self.graph().sample, ..Graph::default() };
        let mut place = |id: ValueId| {
            let mut value = self.graph().value(id).clone();
            if value.ty.shape.contains(&probe) {
                value.ty.shape.iter_mut().filter(|n| **n == probe).for_each(|n| *n = length);
                value.constant = None;
            }
            value.constant = value.constant.map(|t| replaced(t, probe as i64, length as i64));
            alone.values.push(value);
            (alone.values.len() - 1) as ValueId
        };
        let inputs = inputs.iter().map(|v| v.map(&mut place)).collect();
        let outputs = (0..node.outputs.len()).map(|i| Some(format!("out{i}"))).collect();
        let (name, attrs) = (node.name.clone(), node.attrs.clone());
        let pending = Pending { op, opset: node.opset, name: name.clone(), attrs, inputs, outputs };
        NodeBuilder::new(&mut alone, name, self.opset).add(pending).is_ok()
    }
}

/// The lengths of a tensor, and those that it states where it is a shape.
fn lengths(value: &Value) -> Vec<usize> {
    let stated = value.constant.as_ref().filter(|t| t.ty.elems() <= SHAPE && t.ty.dtype == DType::I64);
    let stated = stated.and_then(Tensor::to_i64s).unwrap_or_default();
    let stated = stated.into_iter().filter_map(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    value.ty.shape.iter().copied().chain(stated).collect()
}

/// A list of a few integers with one in place of another; anything else is as it was.
fn replaced(tensor: Tensor, from: i64, to: i64) -> Tensor {
    match tensor.to_i64s() {
        Some(numbers) if numbers.len() <= SHAPE && tensor.ty.dtype == DType::I64 => {
            let numbers: Vec<i64> = numbers.into_iter().map(|n| if n == from { to } else { n }).collect();
            Tensor::new(tensor.ty.shape.clone(), &numbers)
        }
        _ => tensor,
    }
}
