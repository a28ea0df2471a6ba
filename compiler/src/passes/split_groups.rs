//! Few groups of a convolution that make many channels each are convolutions of their own.
//!
//! Minimal filtering multiplies all channels in by all channels out; of groups, those of each. Slices of channels are
//! read where they lie, results written side by side, and one kernel serves all groups:
//! `Conv(x, w) { group = 2 }` is `Concat(Conv(x[:, :c], w[:o]), Conv(x[:, c:], w[o:])) { axis = 1 }`.
//! Where sizes are free nothing is filtered: groups stay.

use super::edit::{is, put};
use crate::base::{Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::{NodeBuilder, Pending};

/// Channels out of a group from which on as many groups as there are, or at most [`FEW`], are split.
const MANY: usize = 32;
const SOME: usize = 16;
const FEW: usize = 4;
/// Points of a window along an axis that filtering takes.
const POINTS: usize = 3;
/// Outputs of a group, per channel, that fill the tiles of a product.
const OUTPUTS: usize = 100;

/// Splits the groups of convolutions of floats with constant weights.
pub fn split_groups(graph: &mut Graph) -> Result<bool> {
    let (mut changed, mut i) = (false, 0);
    while i < graph.nodes.len() && graph.shapes.is_empty() {
        if let Some(parts) = parts(graph, &graph.nodes[i]) {
            let before = graph.nodes.len();
            let node = graph.nodes[i].clone();
            changed |= put(graph, i, |b| split(b, &node, &parts)).is_ok();
            i += graph.nodes.len() - before;
        }
        i += 1;
    }
    Ok(changed)
}

/// A grouped convolution: its operand, and the weights and bias of each group.
struct Parts {
    data: ValueId,
    weights: Vec<Tensor>,
    biases: Vec<Option<Tensor>>,
}

/// As many tensors, the rows of one among them.
fn rows(tensor: &Tensor, count: usize) -> Option<Vec<Tensor>> {
    let (&all, rest) = tensor.ty.shape.split_first()?;
    let shape: Vec<usize> = [all / count].into_iter().chain(rest.iter().copied()).collect();
    let bytes = (tensor.data.len() / count).max(1);
    let part =
        |data: &[u8]| Tensor::from_bytes(TensorType::new(tensor.ty.dtype, shape.clone()), data.to_vec());
    tensor.data.chunks_exact(bytes).map(part).collect()
}

fn parts(graph: &Graph, node: &Node) -> Option<Parts> {
    let groups = usize::try_from(node.attrs.int("group", 1).ok()?).ok().filter(|&g| g > 1)?;
    let value = |i: usize| node.inputs.get(i).copied().flatten().map(|id| graph.value(id));
    let weights = value(1).filter(|_| is(node, "Conv"))?.constant.as_ref()?;
    let [out, inner, window @ ..] = weights.ty.shape.as_slice() else { return None };
    let each = out / groups;
    let wide = each >= MANY || each >= SOME && groups <= FEW;
    let strides = node.attrs.get_ints("strides").ok()?.is_none_or(|s| s.iter().all(|&s| s == 1));
    let slides = window.len() == 2 && window.iter().all(|&k| k >= POINTS) && strides;
    let outputs: usize = graph.value((*node.outputs.first()?)?).ty.shape.get(2..)?.iter().product();
    if !(wide && slides && *inner >= SOME && outputs >= OUTPUTS && out.is_multiple_of(groups)) {
        return None;
    }
    let biases = match value(2) {
        None => vec![None; groups],
        Some(bias) => rows(bias.constant.as_ref()?, groups)?.into_iter().map(Some).collect(),
    };
    Some(Parts { data: node.inputs[0]?, weights: rows(weights, groups)?, biases })
}

fn split(b: &mut NodeBuilder, node: &Node, parts: &Parts) -> Result<ValueId> {
    let axis = || Attrs::default().with("axis", Attr::Int(1));
    let channels = b.ty(parts.data).shape[1] / parts.weights.len();
    let sizes = b.constant(Tensor::new([parts.weights.len()], &vec![channels as i64; parts.weights.len()]));
    let slices = b.node("Split", &[parts.data, sizes], axis(), parts.weights.len())?;
    let mut made = Vec::new();
    for ((slice, weights), bias) in slices.into_iter().zip(&parts.weights).zip(&parts.biases) {
        let name = format!("{}.{}", node.name, b.graph.values.len());
        let weights = b.constant(weights.clone());
        let bias = bias.as_ref().map(|bias| b.constant(bias.clone()));
        let pending = Pending {
            op: node.op,
            opset: node.opset,
            attrs: node.attrs.clone().with("group", Attr::Int(1)),
            outputs: vec![Some(name.clone())],
            name,
            inputs: vec![Some(slice), Some(weights), bias],
        };
        made.push(b.add(pending)?[0].ok_or_else(|| Error::bug("a node without its output"))?);
    }
    b.one("Concat", &made, axis())
}
