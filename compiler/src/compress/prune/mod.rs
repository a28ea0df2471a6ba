//! Pruning by magnitude: the smallest weights become zero, or the lightest channels are removed.

mod cuts;
mod expected;
mod follow;
mod layers;
mod moves;
mod parts;
mod sets;

use super::observe::Known;
use super::onnx::{Node, Onnx};
use super::quantize::LayerReport;
use super::{bodies, prepare};
use crate::base::{DType, Tensor, row_major_strides};
use crate::error::{Error, Result};
use expected::Thinned;
use follow::{Edit, Element, follow};
use sets::{Kept, Pinned};
use std::collections::{BTreeMap, BTreeSet};

/// Layers of fewer weights are not pruned element by element.
const SMALL: usize = 256;

/// How to prune.
#[derive(Clone, Debug)]
pub struct Options {
    /// The part of the weights that become zero, or of the channels that are removed.
    pub sparsity: f64,
    /// Whether whole channels are removed.
    pub structured: bool,
    /// Whether the smallest weights of all layers together are taken, not those of each layer.
    pub global: bool,
}

/// A pruned model.
pub struct Pruned {
    /// The model.
    pub onnx: Onnx,
    /// By layer, weights that are left and the relative error of its weights.
    pub layers: Vec<LayerReport>,
    /// Layers that stay as they are, and why.
    pub notes: Vec<String>,
}

/// Prunes a model; `known` has the types of its values (structured pruning needs all of them).
pub fn prune(onnx: &Onnx, options: &Options, known: &Known) -> Result<Pruned> {
    if !(0.0..1.0).contains(&options.sparsity) {
        return Err(Error::options(format!(
            "{} is not a part of the whole, from 0 to below 1",
            options.sparsity
        ))
        .at("--sparsity"));
    }
    prepare::check_float(onnx)?;
    let mut onnx = onnx.clone();
    prepare::tidy(&mut onnx, known);
    if options.structured { channels(onnx, options.sparsity, known) } else { elements(onnx, options) }
}

/// Operators whose weights are pruned.
const LAYERS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// The weights of a node that are pruned: their input.
fn weights(onnx: &Onnx, node: &Node) -> Option<usize> {
    let inputs: &[usize] = match node.op() {
        "MatMul" => &[1, 0],
        op if LAYERS.contains(&op) => &[1],
        _ => &[],
    };
    inputs.iter().copied().find(|&i| {
        let found = node.input(i).and_then(|n| onnx.floats(n));
        found.is_some_and(|(shape, w)| shape.len() >= 2 && w.len() >= SMALL)
    })
}

fn nothing() -> Error {
    Error::model("there is nothing to prune: no convolution or matrix product with constant weights of f32")
        .advise(format!("Pruning takes Conv, ConvTranspose, Gemm and MatMul with {SMALL} weights or more"))
}

/// The magnitude below which the given part of the weights lies.
fn threshold(mut magnitudes: Vec<f32>, part: f64) -> f32 {
    let count = (magnitudes.len() as f64 * part).round() as usize;
    if count == 0 {
        return 0.0;
    }
    let at = (count - 1).min(magnitudes.len() - 1);
    *magnitudes.select_nth_unstable_by(at, f32::total_cmp).1
}

fn elements(mut onnx: Onnx, options: &Options) -> Result<Pruned> {
    let found = onnx.nodes.iter().filter_map(|n| {
        Some((n.name().to_string(), n.op().to_string(), n.inputs[weights(&onnx, n)?].clone()))
    });
    let inner = bodies::weights(&onnx).into_iter().map(|i| (i.node, i.op, i.constant));
    let inner = inner.filter(|(_, op, _)| LAYERS.contains(&op.as_str()));
    let found: Vec<(String, String, String)> = found.chain(inner).collect();
    if found.is_empty() {
        return Err(nothing());
    }
    let magnitudes = |name: &String| -> Vec<f32> {
        onnx.floats(name).map_or_else(Vec::new, |(_, w)| w.iter().map(|w| w.abs()).collect())
    };
    let distinct: BTreeSet<String> = found.iter().map(|f| f.2.clone()).collect();
    let limits: BTreeMap<String, f32> = if options.global {
        let limit = threshold(distinct.iter().flat_map(magnitudes).collect(), options.sparsity);
        distinct.into_iter().map(|name| (name, limit)).collect()
    } else {
        let limit = |name: &String| threshold(magnitudes(name), options.sparsity);
        distinct.iter().map(|name| (name.clone(), limit(name))).collect()
    };
    let mut made: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for (name, &limit) in &limits {
        let Some((shape, old)) = onnx.floats(name) else { continue };
        let new: Vec<f32> = old.iter().map(|&w| if w.abs() <= limit { 0.0 } else { w }).collect();
        made.insert(name.clone(), (new.iter().filter(|w| **w != 0.0).count(), error(&old, &new)));
        onnx.set_constant(name, &Tensor::new(shape, &new));
    }
    let layer = |(label, op, name): &(String, String, String)| {
        let (left, error) = made[name];
        LayerReport::of_weights(label, op, left, error)
    };
    Ok(Pruned { layers: found.iter().map(layer).collect(), onnx, notes: Vec::new() })
}

/// The norm of what was taken off, relative to what there was.
fn error(old: &[f32], new: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let gone: f64 = old.iter().zip(new).map(|(a, b)| square(a - b)).sum();
    let all: f64 = old.iter().map(|&w| square(w)).sum();
    if all > 0.0 { (gone / all).sqrt() } else { 0.0 }
}

fn channels(onnx: Onnx, sparsity: f64, known: &Known) -> Result<Pruned> {
    let Thinned { whole, thin, found } = thinned(onnx, sparsity, known)?;
    if found.made.is_empty() {
        return Err(nothing());
    }
    let frozen = found.made.iter().filter_map(|&(node, set)| Some((node, found.sets.frozen(set)?)));
    // A layer whose channels are several sets is named once.
    let frozen: BTreeMap<usize, &str> = frozen.collect();
    let free: BTreeSet<usize> =
        found.made.iter().filter(|m| found.sets.frozen(m.1).is_none()).map(|m| m.0).collect();
    let notes = frozen.iter().map(|(node, why)| {
        let part = if free.contains(node) { "a part of its channels" } else { "its channels" };
        format!("{} keeps {part}: {why}", whole.nodes[*node].place())
    });
    let notes: Vec<String> = notes.collect();
    if free.is_empty() {
        return Err(Error::model("no channel can be removed").advise(notes.join("; ")));
    }
    let norm = |onnx: &Onnx, node: usize| {
        let weights = onnx.nodes[node].input(1).and_then(|n| onnx.floats(n)).map_or_else(Vec::new, |w| w.1);
        (weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>(), weights.len())
    };
    let layers: BTreeSet<usize> = found.made.iter().map(|m| m.0).collect();
    let layer = |node: usize| {
        let ((before, _), (after, count)) = (norm(&whole, node), norm(&thin, node));
        let error = if before > 0.0 { (1.0 - after / before).max(0.0).sqrt() } else { 0.0 };
        LayerReport::of_weights(thin.nodes[node].name(), thin.nodes[node].op(), count, error)
    };
    let layers = layers.into_iter().map(layer).collect();
    let mut onnx = thin;
    // Nodes are counted anew from here on.
    onnx.drop_unread(&whole.readers().into_keys().collect());
    Ok(Pruned { layers, onnx, notes })
}

/// Removes channels until all that the model computes from their numbers fits.
fn thinned(mut whole: Onnx, sparsity: f64, known: &Known) -> Result<Thinned> {
    let mut pinned = Pinned::new();
    loop {
        let found = follow(&whole, known, &pinned);
        let kept = found.sets.choose(sparsity);
        let mut thin = whole.clone();
        apply(&mut thin, &found.edits, &kept)?;
        let thinned = Thinned { whole, thin, found };
        let more = expected::misfits(&thinned, &kept, known, &pinned)?;
        if more.is_empty() {
            return Ok(thinned);
        }
        pinned.extend(more);
        whole = thinned.whole;
    }
}

/// Removes what does not stay from the constants.
fn apply(onnx: &mut Onnx, edits: &[Edit], kept: &Kept) -> Result<()> {
    let mut tensors: BTreeMap<(usize, usize), Tensor> = BTreeMap::new();
    let constant = |onnx: &Onnx, node: usize, input: usize| {
        let name = &onnx.nodes[node].inputs[input];
        onnx.constant(name).ok_or_else(|| Error::bug(format!("'{name}' is no constant")))
    };
    for edit in edits {
        match edit {
            Edit::Slice { node, input, axis, segments } => {
                let key = (*node, *input);
                let old = match tensors.remove(&key) {
                    Some(tensor) => tensor,
                    None => constant(onnx, *node, *input)?,
                };
                tensors.insert(key, sliced(&old, *axis, &kept.indices(segments)));
            }
            Edit::Groups { node, segments } => {
                onnx.nodes[*node].set_int("group", kept.indices(segments).len() as i64);
            }
            Edit::Element(Element { node, input, at, segments }) => {
                let key = (*node, *input);
                let old = match tensors.remove(&key) {
                    Some(tensor) => tensor,
                    None => constant(onnx, *node, *input)?,
                };
                let mut list = old.to_i64s().unwrap_or_default();
                list[*at] = kept.indices(segments).len() as i64;
                let shape = old.ty.shape.clone();
                let made = match old.ty.dtype {
                    DType::I32 => Tensor::new(shape, &list.iter().map(|&e| e as i32).collect::<Vec<_>>()),
                    _ => Tensor::new(shape, &list),
                };
                tensors.insert(key, made);
            }
            Edit::Parts { parts, .. } if parts.iter().all(|p| kept.is_whole(p)) => {}
            Edit::Parts { node, parts } => {
                let extents: Vec<i64> = parts.iter().map(|p| kept.indices(p).len() as i64).collect();
                split(onnx, *node, &extents);
            }
        }
    }
    for ((node, input), tensor) in tensors {
        let name = onnx.nodes[node].inputs[input].clone();
        if onnx.constant(&name).is_some_and(|old| old == tensor) {
            continue;
        }
        let made = onnx.add_constant(&format!("{name}_pruned"), &tensor);
        onnx.nodes[node].set_input(input, made);
    }
    onnx.forget_types();
    Ok(())
}

/// The extents of the parts that a Split makes.
fn split(onnx: &mut Onnx, node: usize, extents: &[i64]) {
    if onnx.opset() < 13 {
        onnx.nodes[node].set_ints("split", extents);
        return;
    }
    let made = onnx.add_constant("parts", &Tensor::new([extents.len()], extents));
    onnx.nodes[node].set_input(1, made);
    onnx.nodes[node].remove_attr("num_outputs");
}

/// The given indices of an axis.
fn sliced(tensor: &Tensor, axis: usize, indices: &[usize]) -> Tensor {
    let shape = &tensor.ty.shape;
    let stride = row_major_strides(shape)[axis] as usize * tensor.ty.dtype.size();
    let mut made = tensor.ty.clone();
    made.shape[axis] = indices.len();
    let mut data = Vec::with_capacity(made.bytes());
    for block in tensor.data.chunks((stride * shape[axis]).max(1)) {
        indices.iter().for_each(|&i| data.extend_from_slice(&block[i * stride..][..stride]));
    }
    Tensor { ty: made, data: data.into() }
}

#[cfg(test)]
mod tests;
