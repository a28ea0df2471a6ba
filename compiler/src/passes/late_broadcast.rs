//! Values that repeat along a dimension are computed once, and repeated where they are read.
//!
//! Before: `Where(And(Expand(mask), ones), 0, -inf)`, one number for each query and key, as exporters write the
//! masks of attention. After: `Expand(Where(mask, 0, -inf))`, and what reads it indexes a row.

use super::edit::{is, is_plain_elementwise, put};
use crate::base::{Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attrs, Graph, Node, ValueId};
use crate::ops::{Pending, broadcast};
use std::collections::HashMap;

/// Moves repetitions behind element-wise nodes.
pub fn late_broadcast(graph: &mut Graph) -> Result<bool> {
    let (mut changed, mut i) = (false, 0);
    let mut sources: HashMap<ValueId, ValueId> = HashMap::new();
    while i < graph.nodes.len() {
        if let Some(inputs) = narrow_inputs(graph, i, &sources) {
            let before = graph.nodes.len();
            changed |= repeat_later(graph, i, &inputs).is_ok();
            i += graph.nodes.len() - before;
        }
        let node = &graph.nodes[i];
        if let (true, Some(Some(from)), [Some(to)]) =
            (is(node, "Expand"), node.inputs.first(), &node.outputs[..])
        {
            sources.insert(*to, *from);
        }
        i += 1;
    }
    Ok(changed)
}

/// An input without its repetitions.
enum Narrow {
    Value(ValueId),
    Number(Tensor),
}

/// The inputs of an element-wise node, where without repetitions its result is smaller. `sources`: what results
/// of Expand repeat.
fn narrow_inputs(graph: &Graph, at: usize, sources: &HashMap<ValueId, ValueId>) -> Option<Vec<Narrow>> {
    let node = &graph.nodes[at];
    let [Some(to)] = node.outputs[..] else { return None };
    if !is_plain_elementwise(node) {
        return None;
    }
    let narrow = |input: &Option<ValueId>| {
        let id = (*input)?;
        let value = graph.value(id);
        // In one of several samples all elements may be one number by chance.
        let uniform = graph.sample == 0 || graph.uniform.contains(&value.name);
        let number = value.constant.as_ref().filter(|_| uniform).and_then(repeated);
        Some(number.map_or(Narrow::Value(*sources.get(&id).unwrap_or(&id)), Narrow::Number))
    };
    let inputs: Vec<Narrow> = node.inputs.iter().map(narrow).collect::<Option<_>>()?;
    let shape = |input: &Narrow| match input {
        Narrow::Value(id) => graph.value(*id).ty.shape.clone(),
        Narrow::Number(tensor) => tensor.ty.shape.clone(),
    };
    let result = inputs.iter().map(shape).try_fold(Vec::new(), |all, next| broadcast(&all, &next))?;
    (result.iter().product::<usize>() < graph.value(to).ty.elems()).then_some(inputs)
}

/// The one number that all elements of a tensor are, at the same rank.
fn repeated(tensor: &Tensor) -> Option<Tensor> {
    let ty = TensorType::new(tensor.ty.dtype, vec![1; tensor.ty.rank()]);
    Tensor::from_bytes(ty, tensor.repeated().filter(|_| tensor.ty.elems() > 1)?)
}

/// Computes a node on these inputs, and repeats its result.
fn repeat_later(graph: &mut Graph, at: usize, inputs: &[Narrow]) -> std::result::Result<(), String> {
    let Node { op, opset, name, attrs, outputs, .. } = graph.nodes[at].clone();
    let shape: Vec<i64> = match outputs[..] {
        [Some(to)] => graph.value(to).ty.shape.iter().map(|&d| d as i64).collect(),
        _ => return Err("it has several outputs".to_string()),
    };
    put(graph, at, |b| {
        let value = |input: &Narrow| match input {
            Narrow::Value(id) => Some(*id),
            Narrow::Number(tensor) => Some(b.constant(tensor.clone())),
        };
        let inputs = inputs.iter().map(value).collect();
        let once = format!("{name}.once");
        let pending = Pending { op, opset, name: once.clone(), attrs, inputs, outputs: vec![Some(once)] };
        let built: Vec<ValueId> = b.add(pending)?.into_iter().flatten().collect();
        let shape = b.constant(Tensor::new([shape.len()], &shape));
        b.one("Expand", &[built[0], shape], Attrs::default())
    })
}
