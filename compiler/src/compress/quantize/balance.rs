//! Cross-layer range balancing: channels between two layers are scaled to fill their common grid.
//!
//! One scale serves all channels of an activation, so that a channel with small values loses most of
//! its integers. Where a layer follows another with nothing in between that scaling does not pass
//! (Relu, pools), channel `c` of the first is divided by `s` and the second's weights for it multiplied
//! with `s`: the float model computes the same. `s` is chosen from the range of the activation and, where
//! the second layer's weights share scales across these channels, from theirs.

use super::facts::Layer;
use super::plan::Plan;
use super::stats::floats;
use crate::base::in_parallel;
use crate::compress::observe::{Observed, Sample};
use crate::compress::onnx::{Node, Onnx, along, axes, channel_axis, scaled};
use crate::error::Result;
use std::collections::{BTreeMap, HashMap};

/// Operators that positive factors per channel pass.
const HOMOGENEOUS: &[&str] =
    &["Relu", "LeakyRelu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"];
/// Factors between channels of one activation, at most.
const SPREAD: f64 = 1e3;

/// Two layers that follow each other.
struct Pair {
    first: usize,
    second: usize,
    /// What the second reads.
    between: String,
    /// Constants that are added to the channels on the way.
    added: Vec<String>,
}

fn is_depthwise(node: &Node, weights: &[usize]) -> bool {
    node.op() == "Conv" && weights[1] == 1 && node.int("group", 1) == weights[0] as i64
}

/// The axis of weights along which what a layer reads lies; `None` for groups that mix it.
fn read_axis(node: &Node, weights: &[usize]) -> Option<usize> {
    match node.op() {
        "Conv" if is_depthwise(node, weights) => Some(0),
        "Conv" => (node.int("group", 1) == 1).then_some(1),
        _ => axes(node, 1, weights.len())?.1,
    }
}

/// The weights of a layer that can be balanced: constant, in two or more dimensions, read by it alone.
fn weights(onnx: &Onnx, layer: &Layer, readers: &HashMap<String, Vec<usize>>) -> Option<Vec<usize>> {
    let (node, found) = (&onnx.nodes[layer.node], layer.weights.as_ref()?);
    let alone = |name: &str| readers.get(name).is_some_and(|r| r.len() == 1);
    let known = matches!(node.op(), "Conv" | "Gemm" | "MatMul") && found.input == 1;
    let bias = node.input(2).is_none_or(|b| layer.bias.is_some() && alone(b));
    let (shape, _) = onnx.floats(&found.name).filter(|_| known && bias && alone(&found.name))?;
    (shape.len() == 2 || node.op() == "Conv").then_some(shape)
}

fn pairs(onnx: &Onnx, plan: &Plan) -> Vec<Pair> {
    let (readers, layers) = (onnx.readers(), plan.layers.iter());
    let by_node: HashMap<usize, &Layer> = layers.map(|l| (l.node, l)).collect();
    let mut pairs = Vec::new();
    for first in &plan.layers {
        if weights(onnx, first, &readers).is_none() {
            continue;
        }
        let (mut value, mut added) = (onnx.nodes[first.node].output(), Vec::new());
        while let Some([reader]) = readers.get(value).map(Vec::as_slice) {
            let Some(node) = onnx.nodes.get(*reader) else { break };
            if HOMOGENEOUS.contains(&node.op()) && node.outputs.len() == 1 {
                value = node.output();
                continue;
            }
            if let Some(constant) = addition(onnx, node, value, &readers) {
                added.push(constant);
                value = node.output();
                continue;
            }
            let second = by_node.get(reader).filter(|l| weights(onnx, l, &readers).is_some());
            if second.is_some_and(|l| l.data == [0]) {
                pairs.push(Pair { first: first.node, second: *reader, between: value.to_string(), added });
            }
            break;
        }
    }
    pairs
}

/// The constant per channel that a node adds to the last axis of a value.
fn addition(onnx: &Onnx, node: &Node, value: &str, readers: &HashMap<String, Vec<usize>>) -> Option<String> {
    let other = node.inputs.iter().find(|n| *n != value).filter(|_| node.op() == "Add")?;
    let (shape, _) = onnx.floats(other)?;
    (shape.len() == 1 && readers.get(other)?.len() == 1).then(|| other.clone())
}

/// The largest magnitude at each index of an axis.
fn maxima(shape: &[usize], axis: usize, elements: &[f32]) -> Vec<f64> {
    let index = along(shape, axis);
    let mut most = vec![0.0f64; shape[axis]];
    for (i, x) in elements.iter().enumerate().filter(|(_, x)| x.is_finite()) {
        let at = &mut most[index(i)];
        *at = at.max(f64::from(x.abs()));
    }
    most
}

/// The factors from the ranges of activation and weights; `None` where nothing is to be gained.
fn factors(activation: &[f64], weights: Option<&[f64]>) -> Option<Vec<f64>> {
    let one = |c: usize| match weights {
        None => activation[c],
        Some(w) if w[c] > 0.0 => (activation[c] / w[c]).sqrt(),
        Some(_) => 0.0,
    };
    let raw: Vec<f64> = (0..activation.len()).map(one).collect();
    let most = raw.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    Some(raw.iter().map(|r| (r / most).max(1.0 / SPREAD)).collect())
}

/// The model with balanced layers; `None` where no layers can be balanced.
pub(super) fn balanced(onnx: &Onnx, plan: &Plan, samples: &[Sample]) -> Result<Option<Onnx>> {
    let pairs = pairs(onnx, plan);
    if pairs.is_empty() {
        return Ok(None);
    }
    let wanted: Vec<String> = pairs.iter().map(|p| p.between.clone()).collect();
    let mut observed = Observed::new(onnx, &wanted)?;
    let mut ranges: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        let values = observed.run(sample)?;
        let found = in_parallel(pairs.len(), &|at| {
            let tensor = values.get(&pairs[at].between)?;
            let conv = onnx.nodes[pairs[at].second].op() == "Conv";
            let axis = if conv { 1 } else { tensor.ty.rank().saturating_sub(1) };
            Some(maxima(&tensor.ty.shape, axis, &floats(tensor)))
        });
        for (pair, found) in pairs.iter().zip(found).filter_map(|(pair, found)| Some((pair, found?))) {
            let all = ranges.entry(pair.between.clone()).or_insert_with(|| vec![0.0; found.len()]);
            all.iter_mut().zip(found).for_each(|(a, f)| *a = a.max(f));
        }
    }
    let mut made = onnx.clone();
    for pair in &pairs {
        if let Some(activation) = ranges.get(&pair.between) {
            balance(&mut made, pair, activation);
        }
    }
    Ok(Some(made))
}

/// Scales the weights of one pair; what it reads was measured before any pair was.
fn balance(onnx: &mut Onnx, pair: &Pair, activation: &[f64]) {
    let (first, second) = (onnx.nodes[pair.first].clone(), onnx.nodes[pair.second].clone());
    let (Some((shape1, w1)), Some((shape2, w2))) =
        (onnx.floats(&first.inputs[1]), onnx.floats(&second.inputs[1]))
    else {
        return;
    };
    let made = channel_axis(&first, 1, shape1.len());
    let (Some(made), Some(read)) = (made, read_axis(&second, &shape2)) else { return };
    if shape1[made] != activation.len() || shape2[read] != activation.len() {
        return;
    }
    let added: Vec<_> = pair.added.iter().filter_map(|n| Some((n, onnx.floats(n)?))).collect();
    if first.op() == "Conv" && !added.is_empty() || added.iter().any(|a| a.1.1.len() != activation.len()) {
        return;
    }
    let theirs = maxima(&shape2, read, &w2);
    let shared = (!is_depthwise(&second, &shape2)).then_some(theirs.as_slice());
    let Some(factors) = factors(activation, shared) else { return };
    let inverse: Vec<f64> = factors.iter().map(|f| 1.0 / f).collect();
    for (name, (shape, values)) in &added {
        onnx.set_constant(name, &scaled(shape, 0, values, &inverse));
    }
    onnx.set_constant(&first.inputs[1], &scaled(&shape1, made, &w1, &inverse));
    onnx.set_constant(&second.inputs[1], &scaled(&shape2, read, &w2, &factors));
    if let Some((shape, bias)) = first.input(2).and_then(|b| onnx.floats(b)) {
        onnx.set_constant(&first.inputs[2], &scaled(&shape, 0, &bias, &inverse));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_fill_the_grid() {
        assert_eq!(maxima(&[2, 2, 1], 1, &[1.0, -2.0, 3.0, f32::NAN]), [3.0, 2.0]);
        // Before a depthwise convolution all channels get the range of the largest.
        assert_eq!(factors(&[8.0, 2.0, 0.0], None).unwrap(), [1.0, 0.25, 1e-3]);
        // Otherwise half of the difference goes into the weights.
        assert_eq!(factors(&[8.0, 2.0], Some(&[2.0, 8.0])).unwrap(), [1.0, 0.25]);
        assert_eq!(factors(&[0.0], None), None);
        let t = scaled(&[2, 2], 1, &[1.0, 2.0, 3.0, 4.0], &[2.0, 0.5]);
        assert_eq!(t.to_vec::<f32>().unwrap(), [2.0, 1.0, 6.0, 2.0]);
    }
}
