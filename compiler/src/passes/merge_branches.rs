//! Convolutions of one value whose results are added become one.
//!
//! Nets are trained with several branches that compute the same kind of sum: windows of several sizes,
//! a scale per channel beside them (RepVGG, MobileOne). `a * v + a * w` is `a * (v + w)`, where a smaller window
//! stands inside of a larger one, and a normalization is a window of one point that reads its own channel.
//! Rounding differs as it does where a normalization goes into weights. Only `f32` is merged: narrower
//! weights would be rounded once more.

use super::branch::Window;
use super::edit::{constants, is, read_counts, remove, writers};
use super::fold_affine::{Affine, batch_norm, constant, fold_affine, reshape};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// The window of a convolution with constant weights and bias.
fn window(graph: &Graph, node: &Node) -> Result<Option<Window>> {
    let bias = node.inputs.get(2).copied().flatten();
    let known = bias.is_none() || constant(graph, node, 2).is_some();
    let auto = node.attrs.str("auto_pad", "NOTSET")?;
    let (Some(weights), true) = (constant(graph, node, 1), is(node, "Conv") && known) else {
        return Ok(None);
    };
    let kernel: Vec<i64> = graph.value(weights).ty.shape[2..].iter().map(|&k| k as i64).collect();
    let list = |name: &str, default: i64, count: usize| -> Result<Vec<i64>> {
        Ok(node.attrs.get_ints(name)?.map_or(vec![default; count], <[i64]>::to_vec))
    };
    let count = kernel.len();
    let pads = if auto == "VALID" { vec![0; 2 * count] } else { list("pads", 0, 2 * count)? };
    let (strides, dilations) = (list("strides", 1, count)?, list("dilations", 1, count)?);
    let whole = pads.len() == 2 * count && strides.len() == count && dilations.len() == count;
    let group = node.attrs.int("group", 1)?;
    let usual = matches!(auto, "NOTSET" | "VALID") && whole;
    Ok(usual.then(|| Window { group, strides, dilations, kernel, before: pads[..count].to_vec() }))
}

/// Weights and bias of a branch.
struct Weights {
    weights: ValueId,
    bias: Option<ValueId>,
}

/// The weights of a scale and shift per channel as those of a convolution of single points.
fn diagonal(graph: &mut Graph, by: &Affine, of: ValueId, group: usize) -> Result<Option<Weights>> {
    let Affine { scale: Some(scale), shift: bias } = *by else { return Ok(None) };
    let mut shape = graph.value(of).ty.shape.clone();
    shape[2..].fill(1);
    let (channels, inner) = (shape[0], shape[1]);
    if group * inner != channels || graph.value(scale).ty.elems() != channels {
        return Ok(None);
    }
    let ones: Vec<f32> =
        (0..channels * inner).map(|i| f32::from(u8::from(i / inner % inner == i % inner))).collect();
    let built = constants(graph, "diagonal", |b| {
        let ones = b.constant(Tensor::new(shape.clone(), &ones));
        let mut factors = vec![1; shape.len()];
        factors[0] = channels;
        let scale = reshape(b, scale, &factors)?;
        Ok(vec![b.binary("Mul", ones, scale)?])
    })?;
    Ok(built.map(|b| Weights { weights: b[0], bias }))
}

/// The sums of two branches' weights and biases, the second one's window inside of the first one's.
fn summed(
    b: &mut NodeBuilder,
    (large, small): (Weights, Weights),
    (first, last): (Vec<i64>, Vec<i64>),
) -> Result<Vec<ValueId>> {
    let pads = [&[0, 0][..], &first, &[0, 0], &last].concat();
    let pads = b.constant(Tensor::new([pads.len()], &pads));
    let padded = b.binary("Pad", small.weights, pads)?;
    let weights = b.binary("Add", large.weights, padded)?;
    let bias = match (large.bias, small.bias) {
        (Some(x), Some(y)) => Some(b.binary("Add", x, y)?),
        (x, y) => x.or(y),
    };
    Ok([Some(weights), bias].into_iter().flatten().collect())
}

/// Weights, and the bias if there is one, of the convolution `keep` with what `other` adds to it.
fn joined(graph: &mut Graph, keep: &Node, other: &Node) -> Result<Option<Vec<ValueId>>> {
    let Some(large) = window(graph, keep)? else { return Ok(None) };
    let own = |graph: &Graph, node: &Node| -> Option<Weights> {
        Some(Weights { weights: constant(graph, node, 1)?, bias: constant(graph, node, 2) })
    };
    let Some(kept) = own(graph, keep) else { return Ok(None) };
    let (small, weights) = match is(other, "BatchNormalization") {
        true => {
            let Some(by) = batch_norm(graph, other)? else { return Ok(None) };
            (large.point(), diagonal(graph, &by, kept.weights, large.group.max(1) as usize)?)
        }
        false => (window(graph, other)?, own(graph, other)),
    };
    let (Some(small), Some(weights)) = (small, weights) else { return Ok(None) };
    let Some(places) = small.inside(&large) else { return Ok(None) };
    constants(graph, &keep.name, |b| summed(b, (kept, weights), places))
}

/// Merges what each addition adds, from the front, so that sums of many branches become one.
fn merge(graph: &mut Graph) -> Result<bool> {
    let mut dead = vec![false; graph.nodes.len()];
    let (reads, mut writers) = (read_counts(graph), writers(graph));
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (&[Some(a), Some(b)], Some(Some(to))) = (&node.inputs[..], node.outputs.first().copied()) else {
            continue;
        };
        let ty = &graph.value(to).ty;
        let plain = is(node, "Add") && ty.dtype == DType::F32;
        let once = |v: ValueId| reads[v as usize] == 1 && graph.value(v).ty == *ty;
        let (true, Some(first), Some(second)) =
            (plain && once(a) && once(b), writers[a as usize], writers[b as usize])
        else {
            continue;
        };
        let pair = [first, second].map(|at| graph.nodes[at].clone());
        if pair[0].inputs.first() != pair[1].inputs.first() {
            continue;
        }
        let found = match joined(graph, &pair[0], &pair[1])? {
            Some(found) => Some((first, second, found)),
            None => joined(graph, &pair[1], &pair[0])?.map(|found| (second, first, found)),
        };
        let Some((keep, gone, found)) = found else { continue };
        let changed = &mut graph.nodes[keep];
        changed.inputs.truncate(1);
        changed.inputs.extend(found.into_iter().map(Some));
        changed.outputs = vec![Some(to)];
        writers[to as usize] = Some(keep);
        (dead[i], dead[gone]) = (true, true);
    }
    let changed = dead.contains(&true);
    remove(graph, &dead);
    Ok(changed)
}

/// Merges branches, and what then follows one convolution goes into its weights.
pub fn merge_branches(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    while merge(graph)? {
        fold_affine(graph)?;
        changed = true;
    }
    Ok(changed)
}
