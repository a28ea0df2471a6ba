//! Nodes that give their input unchanged are dropped: identities, casts to the same type, reshapes
//! to the same shape, transposes that keep the order, slices of everything, single concatenations,
//! sums with zeros, products and quotients with ones, conjunctions with true.
//!
//! Exporters leave hundreds of them; each would be a kernel or hide a pattern from later passes.

use super::edit::{is, remove, replace};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};

/// Operators that only move elements in order: the same shape means the same tensor.
const MOVES: &[&str] = &[
    "Identity",
    "Cast",
    "CastLike",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Expand",
    "Tile",
    "Dropout",
];

/// Operators whose result has the type of the input at some sizes only.
const RESIZE: &[&str] = &["Slice", "Pad", "Tile", "Expand"];

/// Operators of which a result as large as the input, with ascending indices, is the input.
fn keeps_all(graph: &Graph, node: &Node) -> bool {
    match node.op.name {
        "Transpose" => {
            let perm = node.attrs.get_ints("perm").ok().flatten();
            perm.is_some_and(|p| p.iter().enumerate().all(|(i, &d)| d == i as i64))
        }
        "Concat" => node.inputs.len() == 1,
        "Pad" => pads(graph, node).is_some_and(|p| p.iter().all(|&v| v == 0)),
        "Slice" => slice_steps(graph, node).is_some_and(|s| s.iter().all(|&v| v == 1)),
        name => MOVES.contains(&name),
    }
}

/// The input of arithmetic that the other one, a constant, leaves as it is.
fn left_alone(graph: &Graph, node: &Node) -> Option<ValueId> {
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let (neutral, swaps) = match node.op.name {
        "Add" => (0, true),
        "Sub" => (0, false),
        "Mul" => (1, true),
        "Div" => (1, false),
        "And" => (1, true),
        "Or" => (0, true),
        _ => return None,
    };
    let alone = |x: ValueId, by: ValueId| {
        let by = graph.value(by);
        // Where sizes are those of a sample, more elements may fit by chance.
        let fits = graph.sample == 0 || by.ty.elems() == 1;
        (fits && by.constant.as_ref().is_some_and(|t| is_all(t, neutral))).then_some(x)
    };
    alone(a, b).or_else(|| if swaps { alone(b, a) } else { None })
}

/// Whether all elements are one number.
fn is_all(tensor: &Tensor, number: i64) -> bool {
    match tensor.ty.dtype {
        DType::F32 => tensor.to_vec::<f32>().is_some_and(|v| v.iter().all(|&e| e == number as f32)),
        _ => tensor.to_i64s().is_some_and(|v| v.iter().all(|&e| e == number)),
    }
}

/// The constant pads of a Pad node, as input or attribute.
fn pads(graph: &Graph, node: &Node) -> Option<Vec<i64>> {
    match node.inputs.get(1).copied().flatten() {
        Some(id) => graph.value(id).constant.as_ref()?.to_i64s(),
        None => node.attrs.get_ints("pads").ok()?.map(<[i64]>::to_vec),
    }
}

/// The constant steps of a Slice node; empty where they are omitted (1).
fn slice_steps(graph: &Graph, node: &Node) -> Option<Vec<i64>> {
    match node.inputs.get(4).copied().flatten() {
        Some(id) => graph.value(id).constant.as_ref()?.to_i64s(),
        None => Some(Vec::new()),
    }
}

/// Drops the nodes that change nothing.
pub fn drop_copies(graph: &mut Graph) -> Result<bool> {
    let mut dead = vec![false; graph.nodes.len()];
    for (i, dead) in dead.iter_mut().enumerate() {
        let node = &graph.nodes[i];
        let [Some(to)] = node.outputs[..] else { continue };
        let first = || node.inputs.first().copied().flatten().filter(|_| keeps_all(graph, node));
        let Some(from) = left_alone(graph, node).or_else(first) else { continue };
        let same = graph.value(from).ty == graph.value(to).ty;
        let by_chance = graph.sample > 0 && RESIZE.contains(&node.op.name);
        if !same || by_chance || !is(node, node.op.name) {
            continue;
        }
        *dead = replace(graph, to, from);
    }
    let changed = dead.contains(&true);
    remove(graph, &dead);
    Ok(changed)
}
