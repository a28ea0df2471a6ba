//! BatchNormalization, or a product with constants, as part of the layer before it: a factor and a number for each
//! channel.

use super::onnx::{Node, Onnx, channel_axis, scaled};
use crate::base::Tensor;
use std::collections::{BTreeSet, HashMap};

/// Folds one of these into the layer that alone it reads; whether there was one.
pub fn fold(onnx: &mut Onnx) -> bool {
    let (readers, writers) = (onnx.readers(), onnx.writers());
    let found = (0..onnx.nodes.len()).find_map(|i| Some((i, foldable(onnx, i, &readers, &writers)?)));
    let Some((at, found)) = found else { return false };
    let Foldable { layer, axis, factors, bias } = found;
    let node = onnx.nodes[layer].clone();
    let Some((shape, weights)) = onnx.floats(&node.inputs[1]) else { return false };
    let weights = scaled(&shape, axis, &weights, &factors);
    let old: BTreeSet<String> = node.inputs[1..].iter().chain(&onnx.nodes[at].inputs).cloned().collect();
    let name = onnx.add_constant(&format!("{}_normalized", node.inputs[1]), &weights);
    let bias = Tensor::new([bias.len()], &bias);
    let bias = onnx.add_constant(&format!("{}_normalized_bias", node.inputs[1]), &bias);
    let output = onnx.nodes[at].output().to_string();
    let node = &mut onnx.nodes[layer];
    node.set_input(1, name);
    node.set_input(2, bias);
    node.outputs = vec![output];
    onnx.nodes.remove(at);
    onnx.drop_unread(&old);
    true
}

/// A layer that takes what is done to its channels.
struct Foldable {
    layer: usize,
    /// The axis of its weights along which its channels lie.
    axis: usize,
    /// What the weights of each channel are multiplied with.
    factors: Vec<f64>,
    /// Its new bias.
    bias: Vec<f32>,
}

/// Whether a factor and a number per channel can go into a layer's weights and bias.
fn takes_factors(node: &Node) -> bool {
    match node.op() {
        "Conv" | "ConvTranspose" => true,
        "Gemm" => node.float("alpha", 1.0) == 1.0 && node.float("beta", 1.0) == 1.0,
        _ => false,
    }
}

/// What a BatchNormalization multiplies each channel with, and what it then adds.
pub fn factors(onnx: &Onnx, node: &Node, channels: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    let single = node.outputs.iter().filter(|o| !o.is_empty()).count() == 1;
    if !single || node.int("training_mode", 0) != 0 {
        return None;
    }
    let list = |name: &str| Some(onnx.floats(name)?.1).filter(|l| l.len() == channels);
    let [scale, shift, mean, variance] =
        [list(node.input(1)?)?, list(node.input(2)?)?, list(node.input(3)?)?, list(node.input(4)?)?];
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let factor = |c: usize| f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt();
    let factors: Vec<f64> = (0..channels).map(factor).collect();
    let shifts = (0..channels).map(|c| f64::from(shift[c]) - f64::from(mean[c]) * factors[c]).collect();
    Some((factors, shifts))
}

/// A constant that varies at most along the channels, the second axis of a value of this rank: one number for each.
pub fn per_channel(onnx: &Onnx, name: &str, rank: usize, channels: usize) -> Option<Vec<f32>> {
    let (shape, values) = onnx.floats(name)?;
    let skip = rank.checked_sub(shape.len())?;
    let others = shape.iter().enumerate().all(|(i, &d)| d == 1 || i + skip == 1);
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n => (others && n == channels).then_some(values),
    }
}

/// What a product with constants multiplies each channel of its other operand with.
fn multiples(
    onnx: &Onnx,
    node: &Node,
    constant: usize,
    rank: usize,
    channels: usize,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let factors = per_channel(onnx, node.input(constant)?, rank, channels)?;
    Some((factors.into_iter().map(f64::from).collect(), vec![0.0; channels]))
}

/// The layer before a BatchNormalization or a product with constants, if it can take that.
fn foldable(
    onnx: &Onnx,
    at: usize,
    readers: &HashMap<String, Vec<usize>>,
    writers: &HashMap<String, usize>,
) -> Option<Foldable> {
    let node = &onnx.nodes[at];
    let product = node.op() == "Mul" && node.inputs.len() == 2;
    if !product && node.op() != "BatchNormalization" {
        return None;
    }
    let layer = |side: usize| {
        let input = node.input(side)?;
        let layer = writers.get(input).copied().filter(|&l| takes_factors(&onnx.nodes[l]));
        layer.filter(|_| readers.get(input).is_some_and(|r| r.len() == 1)).map(|l| (side, l))
    };
    let (side, layer) = (0..1 + usize::from(product)).find_map(layer)?;
    let before = &onnx.nodes[layer];
    let (shape, _) = onnx.floats(before.input(1)?)?;
    let axis = channel_axis(before, 1, shape.len())?;
    let channels = shape[axis];
    let (factors, shifts) = match product {
        true => multiples(onnx, node, 1 - side, shape.len(), channels)?,
        false => factors(onnx, node, channels)?,
    };
    let old = match before.input(2) {
        Some(name) => Some(onnx.floats(name)?.1).filter(|l| l.len() == channels)?,
        None => vec![0.0; channels],
    };
    let bias = |c: usize| shifts[c] + f64::from(old[c]) * factors[c];
    Some(Foldable {
        layer,
        axis,
        factors: factors.iter().map(|&f| f64::from(f as f32)).collect(),
        bias: (0..channels).map(|c| bias(c) as f32).collect(),
    })
}
