//! Convolutions of one value whose results are added become one.
//!
//! Nets are trained with several branches that compute the same kind of sum: windows of several sizes, a scale per
//! channel or the value itself beside them (RepVGG, MobileOne, RepViT, FastViT). `a * v + a * w` is `a * (v + w)`,
//! where a smaller window stands inside of a larger one, and a normalization is a window of one point that reads its
//! own channel.
//! Rounding differs as it does where a normalization goes into weights. Only `f32` is merged: narrower
//! weights would be rounded once more.

use super::edit::{constants, is, read_counts, remove, writers};
use super::fold_affine::{Affine, batch_norm, constant, fold_affine};
use super::window::Window;
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Graph, Node, ValueId};

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
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

fn elements(graph: &Graph, id: ValueId) -> Option<Vec<f32>> {
    graph.value(id).constant.as_ref()?.to_vec::<f32>()
}

/// The weights and the bias of a convolution, which are constants.
fn own(graph: &Graph, node: &Node) -> Option<Weights> {
    let bias = match constant(graph, node, 2) {
        Some(id) => Some(elements(graph, id)?),
        None => None,
    };
    Some(Weights { weights: elements(graph, constant(graph, node, 1)?)?, bias })
}

/// The weights of a scale and shift per channel as those of a convolution of single points, of so many channels in
/// groups of so many.
fn diagonal(graph: &Graph, by: &Affine, (channels, inner): (usize, usize), group: usize) -> Option<Weights> {
    let list = |id: Option<ValueId>| id.map(|id| elements(graph, id).filter(|l| l.len() == channels));
    let (scale, bias) = match (list(by.scale), list(by.shift)) {
        (Some(None), _) | (_, Some(None)) => return None,
        (scale, bias) => (scale.flatten(), bias.flatten()),
    };
    let factor = |channel: usize| scale.as_ref().map_or(1.0, |s| s[channel]);
    let own = |i: usize| if i / inner % inner == i % inner { factor(i / inner) } else { 0.0 };
    (group * inner == channels).then(|| Weights { weights: (0..channels * inner).map(own).collect(), bias })
}

/// What is added to a convolution, or it to.
struct Term<'a> {
    /// The node that computes it; none: the convolution's operand itself.
    node: Option<&'a Node>,
    /// It is taken off.
    negative: bool,
}

/// Weights, and the bias if there is one, of the convolution `keep` with what `other` adds to it.
fn joined(graph: &mut Graph, keep: &Term, other: &Term) -> Result<Option<Vec<ValueId>>> {
    let Some(keeper) = keep.node else { return Ok(None) };
    let (Some(large), Some(weights)) = (window(graph, keeper)?, constant(graph, keeper, 1)) else {
        return Ok(None);
    };
    let shape = graph.value(weights).ty.shape.clone();
    let point = |graph: &Graph, by: &Affine| {
        Some((large.point()?, diagonal(graph, by, (shape[0], shape[1]), large.group.max(1) as usize)?))
    };
    let small = match other.node {
        // Where sums are long, adding the operand is a small part of it, and it stays exact.
        None => point(graph, &Affine { scale: None, shift: None }).filter(|_| shape[1] == 1),
        Some(node) if is(node, "BatchNormalization") => {
            batch_norm(graph, node)?.and_then(|by| point(graph, &by))
        }
        Some(node) => window(graph, node)?.zip(own(graph, node)),
    };
    let (Some((small, added)), Some(kept)) = (small, own(graph, keeper)) else { return Ok(None) };
    let Some(first) = small.inside(&large) else { return Ok(None) };
    let [own, more] = [keep, other].map(|t| if t.negative { -1.0 } else { 1.0 });
    let mut sums: Vec<f32> = kept.weights.iter().map(|w| own * w).collect();
    small.add_to(&large, &first, &mut sums, |i| more * added.weights[i]);
    let scaled =
        |list: Option<Vec<f32>>, by: f32| list.map(|l| l.iter().map(|v| by * v).collect::<Vec<f32>>());
    let bias = match (scaled(kept.bias, own), scaled(added.bias, more)) {
        (Some(x), Some(y)) => Some(x.iter().zip(&y).map(|(x, y)| x + y).collect()),
        (x, y) => x.or(y),
    };
    constants(graph, &keeper.name, |b| {
        let weights = b.constant(Tensor::new(shape, &sums));
        let bias: Option<ValueId> = bias.map(|bias: Vec<f32>| b.constant(Tensor::new([bias.len()], &bias)));
        Ok([Some(weights), bias].into_iter().flatten().collect())
    })
}

/// Merges what each addition or subtraction joins, from the front, so that sums of many branches become one.
fn merge(graph: &mut Graph) -> Result<bool> {
    let mut dead = vec![false; graph.nodes.len()];
    let (reads, mut writers) = (read_counts(graph), writers(graph));
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (&[Some(a), Some(b)], Some(Some(to))) = (&node.inputs[..], node.outputs.first().copied()) else {
            continue;
        };
        let ty = graph.value(to).ty.clone();
        let subtracts = is(node, "Sub");
        if !(is(node, "Add") || subtracts) || ty.dtype != DType::F32 || graph.value(a).ty != graph.value(b).ty
        {
            continue;
        }
        for (keep, other) in [(a, b), (b, a)] {
            let once = |v: ValueId| writers[v as usize].filter(|_| reads[v as usize] == 1);
            let Some(kept) = once(keep) else { continue };
            let keeper = graph.nodes[kept].clone();
            let source = keeper.inputs.first().copied().flatten();
            let gone = once(other).filter(|&o| o != kept && graph.nodes[o].inputs.first() == Some(&source));
            let branch = gone.map(|o| graph.nodes[o].clone());
            if branch.is_none() && source != Some(other) {
                continue;
            }
            let first = Term { node: Some(&keeper), negative: subtracts && keep == b };
            let second = Term { node: branch.as_ref(), negative: subtracts && other == b };
            let Some(found) = joined(graph, &first, &second)? else { continue };
            let changed = &mut graph.nodes[kept];
            changed.inputs.truncate(1);
            changed.inputs.extend(found.into_iter().map(Some));
            changed.outputs = vec![Some(to)];
            writers[to as usize] = Some(kept);
            dead[i] = true;
            gone.iter().for_each(|&o| dead[o] = true);
            break;
        }
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
