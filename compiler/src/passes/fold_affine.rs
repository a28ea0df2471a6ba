//! A scale and shift per channel by constants goes into the weights and bias before it.
//!
//! BatchNormalization of inference, and Mul, Div, Add, Sub by a constant per channel, after Conv,
//! ConvTranspose or Gemm with constant weights. The arithmetic is done by the operators
//! themselves, on constants.

use super::edit::{constants, is, read_counts, remove, writers};
use crate::base::Tensor;
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// What is done per channel: both are of shape `[channels]`.
pub(super) struct Affine {
    pub(super) scale: Option<ValueId>,
    pub(super) shift: Option<ValueId>,
}

/// The axis of the channels in the results of the nodes that have weights.
const CHANNELS: usize = 1;

pub(super) fn constant(graph: &Graph, node: &Node, i: usize) -> Option<ValueId> {
    let id = node.inputs.get(i).copied().flatten()?;
    graph.value(id).constant.is_some().then_some(id)
}

fn reshape(b: &mut NodeBuilder, x: ValueId, shape: &[usize]) -> Result<ValueId> {
    let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let dims = b.constant(Tensor::new([dims.len()], &dims));
    b.binary("Reshape", x, dims)
}

/// A constant that varies at most along the channel axis, as `[channels]`.
fn per_channel(graph: &mut Graph, id: ValueId, to: ValueId) -> Result<Option<ValueId>> {
    let (shape, out) = (graph.value(id).ty.shape.clone(), graph.value(to).ty.shape.clone());
    let Some(skip) = out.len().checked_sub(shape.len()) else { return Ok(None) };
    let other = shape.iter().enumerate().any(|(i, &d)| d != 1 && i + skip != CHANNELS);
    if other || graph.value(id).ty.dtype != graph.value(to).ty.dtype {
        return Ok(None);
    }
    let channels = out[CHANNELS];
    let built = constants(graph, "channels", |b| {
        let flat = reshape(b, id, &[shape.iter().product()])?;
        if b.ty(flat).elems() == channels {
            return Ok(vec![flat]);
        }
        let wanted = b.constant(Tensor::new([1], &[channels as i64]));
        Ok(vec![b.binary("Expand", flat, wanted)?])
    })?;
    Ok(built.map(|b| b[0]))
}

/// What a node does to its first input, if it is a scale and shift per channel.
fn affine(graph: &mut Graph, node: &Node, source: ValueId) -> Result<Option<Affine>> {
    if is(node, "BatchNormalization") {
        return batch_norm(graph, node);
    }
    let names = ["Mul", "Div", "Add", "Sub"];
    if !names.iter().any(|n| is(node, n)) || node.inputs.len() != 2 {
        return Ok(None);
    }
    let commutes = is(node, "Mul") || is(node, "Add");
    let first = node.inputs[0] == Some(source);
    let at = usize::from(first);
    let Some(id) = constant(graph, node, at).filter(|_| first || commutes) else { return Ok(None) };
    let Some(vector) = per_channel(graph, id, source)? else { return Ok(None) };
    let made = match node.op.name {
        "Mul" => Some(Affine { scale: Some(vector), shift: None }),
        "Add" => Some(Affine { scale: None, shift: Some(vector) }),
        "Div" => constants(graph, &node.name, |b| Ok(vec![b.unary("Reciprocal", vector)?]))?
            .map(|b| Affine { scale: Some(b[0]), shift: None }),
        _ => constants(graph, &node.name, |b| Ok(vec![b.unary("Neg", vector)?]))?
            .map(|b| Affine { scale: None, shift: Some(b[0]) }),
    };
    Ok(made)
}

pub(super) fn batch_norm(graph: &mut Graph, node: &Node) -> Result<Option<Affine>> {
    let parameters: Option<Vec<ValueId>> = (1..5).map(|i| constant(graph, node, i)).collect();
    let Some([gamma, beta, mean, variance]) = parameters.and_then(|p| <[ValueId; 4]>::try_from(p).ok())
    else {
        return Ok(None);
    };
    let training = node.attrs.flag("training_mode", false)?;
    let same = [gamma, beta, mean, variance].windows(2).all(|w| graph.value(w[0]).ty == graph.value(w[1]).ty);
    if training || !same || node.outputs.iter().flatten().count() != 1 {
        return Ok(None);
    }
    let epsilon = node.attrs.float("epsilon", 1e-5)?;
    let built = constants(graph, &node.name, |b| {
        let dtype = b.ty(variance).dtype;
        let epsilon = b.constant(Tensor::scalar(epsilon));
        let epsilon = b.cast(epsilon, dtype)?;
        let sum = b.binary("Add", variance, epsilon)?;
        let deviation = b.unary("Sqrt", sum)?;
        let scale = b.binary("Div", gamma, deviation)?;
        let moved = b.binary("Mul", mean, scale)?;
        Ok(vec![scale, b.binary("Sub", beta, moved)?])
    })?;
    Ok(built.map(|b| Affine { scale: Some(b[0]), shift: Some(b[1]) }))
}

/// Scales the weights of a node per output channel.
fn scale_weights(b: &mut NodeBuilder, node: &Node, weights: ValueId, scale: ValueId) -> Result<ValueId> {
    let shape = b.ty(weights).shape.clone();
    let channels = b.ty(scale).elems();
    let mut ones = vec![1; shape.len()];
    if is(node, "ConvTranspose") {
        let group = node.attrs.int("group", 1)?.max(1) as usize;
        let mut split = vec![group, shape[0] / group];
        split.extend(&shape[1..]);
        let mut broad = vec![1; split.len()];
        (broad[0], broad[2]) = (group, channels / group);
        let (split, factor) = (reshape(b, weights, &split)?, reshape(b, scale, &broad)?);
        let scaled = b.binary("Mul", split, factor)?;
        return reshape(b, scaled, &shape);
    }
    let rows = is(node, "Conv") || node.attrs.flag("transB", false)?;
    ones[usize::from(!rows)] = channels;
    let factor = reshape(b, scale, &ones)?;
    b.binary("Mul", weights, factor)
}

/// New weights and bias of the node that gets the scale and shift; `None` where that is not legal.
fn absorb(graph: &mut Graph, node: &Node, by: &Affine) -> Result<Option<(ValueId, Option<ValueId>)>> {
    let Some(weights) = constant(graph, node, 1) else { return Ok(None) };
    let old_bias = constant(graph, node, 2);
    let given = node.inputs.get(2).copied().flatten();
    let gemm = is(node, "Gemm");
    if given.is_some() && old_bias.is_none() || gemm && node.attrs.float("beta", 1.0)? != 1.0 {
        return Ok(None);
    }
    if gemm && by.shift.is_some() && given.is_none() && node.opset < 11 {
        return Ok(None);
    }
    let built = constants(graph, &node.name, |b| {
        let new_weights = match by.scale {
            Some(scale) => scale_weights(b, node, weights, scale)?,
            None => weights,
        };
        let scaled = match (old_bias, by.scale) {
            (Some(bias), Some(scale)) => Some(b.binary("Mul", bias, scale)?),
            (bias, _) => bias,
        };
        let bias = match (scaled, by.shift) {
            (Some(bias), Some(shift)) => Some(b.binary("Add", bias, shift)?),
            (bias, shift) => bias.or(shift),
        };
        Ok([Some(new_weights), bias].into_iter().flatten().collect())
    })?;
    Ok(built.map(|b| (b[0], b.get(1).copied())))
}

/// Folds from the front, so that chains fold whole.
pub fn fold_affine(graph: &mut Graph) -> Result<bool> {
    let mut dead = vec![false; graph.nodes.len()];
    let (reads, mut writers) = (read_counts(graph), writers(graph));
    for (i, dead) in dead.iter_mut().enumerate() {
        let node = graph.nodes[i].clone();
        let computed = |v: &ValueId| graph.value(*v).constant.is_none();
        let Some(source) = node.inputs.iter().flatten().copied().find(computed) else { continue };
        let Some(before) = writers[source as usize].filter(|_| reads[source as usize] == 1) else { continue };
        let target = graph.nodes[before].clone();
        let weighted = ["Conv", "ConvTranspose", "Gemm"].iter().any(|n| is(&target, n));
        let kept = match node.outputs.first().copied().flatten() {
            Some(to) if weighted && graph.value(to).ty == graph.value(source).ty => to,
            _ => continue,
        };
        let Some(by) = affine(graph, &node, source)? else { continue };
        let Some((weights, bias)) = absorb(graph, &target, &by)? else { continue };
        let changed = &mut graph.nodes[before];
        changed.inputs[1] = Some(weights);
        changed.inputs.resize(2 + usize::from(bias.is_some()), None);
        if bias.is_some() {
            changed.inputs[2] = bias;
        }
        changed.outputs = vec![Some(kept)];
        writers[kept as usize] = Some(before);
        *dead = true;
    }
    let changed = dead.contains(&true);
    remove(graph, &dead);
    Ok(changed)
}
