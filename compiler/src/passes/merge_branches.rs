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
use super::window::{Window, diagonal};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Graph, Node, Results, ValueId};

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

/// A part of a sum of convolutions: weights, and the bias if there is one.
type Part = [Option<Tensor>; 2];

fn tensor(graph: &Graph, id: Option<ValueId>) -> Option<Tensor> {
    graph.value(id?).constant.clone()
}

/// The weights and the bias of a convolution, which are constants.
fn own(graph: &Graph, node: &Node) -> Part {
    [1, 2].map(|input| tensor(graph, constant(graph, node, input)))
}

/// What is added to a convolution, or it to.
struct Term<'a> {
    /// The node that computes it; none: the convolution's operand itself.
    node: Option<&'a Node>,
    /// It is taken off.
    negative: bool,
}

impl Term<'_> {
    fn sign(&self) -> f32 {
        if self.negative { -1.0 } else { 1.0 }
    }
}

/// What stands beside a convolution whose window is large: its window, whether it is a scale per channel, and its
/// weights or that scale, and its bias. Nothing where it is no part of that one.
fn beside(
    graph: &mut Graph,
    keeper: &Node,
    large: &Window,
    other: &Term,
) -> Result<Option<(Window, bool, Part)>> {
    let Some(shape) = constant(graph, keeper, 1).map(|w| graph.value(w).ty.shape.clone()) else {
        return Ok(None);
    };
    let by = match other.node {
        // Where sums are long, adding the operand is a small part of it, and it stays exact.
        None => (shape[1] == 1).then_some(Affine { scale: None, shift: None }),
        Some(node) if is(node, "BatchNormalization") => batch_norm(graph, node)?,
        Some(node) => return Ok(window(graph, node)?.map(|small| (small, false, own(graph, node)))),
    };
    let Some((by, small)) = by.zip(large.point()) else { return Ok(None) };
    let part = [by.scale, by.shift].map(|id| tensor(graph, id));
    let fits = part.iter().flatten().all(|t| t.ty.dtype == DType::F32 && t.ty.elems() == shape[0]);
    let grouped = large.group.max(1) as usize * shape[1] == shape[0];
    Ok((fits && grouped).then_some((small, true, part)))
}

/// Weights, and the bias if there is one, of the convolution `keep` with what `other` adds to it.
fn joined(graph: &mut Graph, keep: &Term, other: &Term) -> Result<Option<Vec<ValueId>>> {
    let Some(keeper) = keep.node else { return Ok(None) };
    let Some(large) = window(graph, keeper)? else { return Ok(None) };
    let Some((small, scales, added)) = beside(graph, keeper, &large, other)? else { return Ok(None) };
    let (Some(first), kept) = (small.inside(&large), own(graph, keeper)) else { return Ok(None) };
    let parts: Vec<Option<&Tensor>> = kept.iter().chain(&added).map(Option::as_ref).collect();
    if parts.iter().flatten().any(|t| t.ty.dtype != DType::F32) {
        return Ok(None);
    }
    let signs = [keep, other].map(Term::sign);
    let what = || format!("joined {large:?} {small:?} {first:?} {scales} {signs:?}");
    let sums = graph.once(what, &parts, || {
        Ok(sums(&parts, scales, signs, &|own, more: &[f32]| {
            small.add_to(&large, &first, own, |i| signs[1] * more[i]);
        }))
    })?;
    constants(graph, &keeper.name, |b| Ok(sums.into_iter().flatten().map(|t| b.constant(t)).collect()))
}

/// Weights and bias of a convolution and of what is added to it, in sum.
fn sums(
    parts: &[Option<&Tensor>],
    scales: bool,
    signs: [f32; 2],
    add: &dyn Fn(&mut [f32], &[f32]),
) -> Results {
    let list = |i: usize| parts[i].and_then(|t: &Tensor| t.to_vec::<f32>());
    let shape = parts[0].map(|t| t.ty.shape.clone()).unwrap_or_default();
    let scaled = |list: Vec<f32>, by: f32| list.into_iter().map(|v| by * v).collect::<Vec<f32>>();
    let mut weights = scaled(list(0).unwrap_or_default(), signs[0]);
    let more = match scales {
        true => {
            let scale = list(2);
            diagonal(shape[0], shape[1], |channel| scale.as_ref().map_or(1.0, |s| s[channel]))
        }
        false => list(2).unwrap_or_default(),
    };
    add(&mut weights, &more);
    let bias = match (list(1).map(|l| scaled(l, signs[0])), list(3).map(|l| scaled(l, signs[1]))) {
        (Some(x), Some(y)) => Some(x.iter().zip(&y).map(|(x, y)| x + y).collect()),
        (x, y) => x.or(y),
    };
    let bias = bias.map(|bias: Vec<f32>| Tensor::new([bias.len()], &bias));
    vec![Some(Tensor::new(shape, &weights)), bias]
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
