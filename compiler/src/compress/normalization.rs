//! BatchNormalization as part of the layer before it: a factor and a number for each channel.

use super::onnx::{Node, Onnx, channel_axis, scaled};
use crate::base::Tensor;
use std::collections::{BTreeSet, HashMap};

/// Folds one BatchNormalization into the layer that alone it reads; whether there was one.
pub fn fold(onnx: &mut Onnx) -> bool {
    let (readers, writers) = (onnx.readers(), onnx.writers());
    let found = (0..onnx.nodes.len()).find_map(|i| Some((i, foldable(onnx, i, &readers, &writers)?)));
    let Some((at, found)) = found else { return false };
    let Foldable { layer, axis, factors, bias } = found;
    let node = onnx.nodes[layer].clone();
    let Some((shape, weights)) = onnx.floats(&node.inputs[1]) else { return false };
    let weights = scaled(&shape, axis, &weights, &factors);
    let old: BTreeSet<String> = node.inputs[1..].iter().chain(&onnx.nodes[at].inputs[1..]).cloned().collect();
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

/// A layer that takes the BatchNormalization behind it.
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

/// The layer before a BatchNormalization, if it can take that.
fn foldable(
    onnx: &Onnx,
    at: usize,
    readers: &HashMap<String, Vec<usize>>,
    writers: &HashMap<String, usize>,
) -> Option<Foldable> {
    let node = &onnx.nodes[at];
    if node.op() != "BatchNormalization" {
        return None;
    }
    let input = node.input(0)?;
    let layer = *writers.get(input)?;
    let before = &onnx.nodes[layer];
    if !takes_factors(before) || readers.get(input)?.len() != 1 {
        return None;
    }
    let (shape, _) = onnx.floats(before.input(1)?)?;
    let axis = channel_axis(before, 1, shape.len())?;
    let channels = shape[axis];
    let (factors, shifts) = factors(onnx, node, channels)?;
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
