//! Convolutions of one value whose results are added become one layer, with what is added per channel.
//!
//! Nets are trained with several branches (RepVGG, MobileOne). Quantized one by one each would round, and cost as
//! much as the one that they are together (see `passes`, which merges those of models in float).

use super::observe::Known;
use super::onnx::Onnx;
use crate::base::{DType, Tensor, TensorType};
use crate::passes::{Window, diagonal};
use std::collections::BTreeSet;

/// What is added to a convolution: weights like its own in a smaller window, and a bias.
struct Branch {
    window: Window,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// The node that computes it, and the constants that it reads.
    node: usize,
    read: Vec<String>,
}

/// Merges what one addition adds; whether there was one.
pub fn merge(onnx: &mut Onnx, known: &Known) -> bool {
    (0..onnx.nodes.len()).any(|at| merge_at(onnx, known, at).is_some())
}

fn merge_at(onnx: &mut Onnx, known: &Known, at: usize) -> Option<()> {
    let node = &onnx.nodes[at];
    if node.op() != "Add" || node.inputs.len() != 2 {
        return None;
    }
    let ty = &known.get(node.output())?.0;
    if ty.dtype != DType::F32 || ty.rank() < 3 {
        return None;
    }
    let inputs = node.inputs.clone();
    let (readers, writers) = (onnx.readers(), onnx.writers());
    let written = |name: &String| {
        let once = readers.get(name).is_some_and(|r| r.len() == 1) && known.get(name)?.0 == *ty;
        writers.get(name).copied().filter(|_| once)
    };
    let pairs = [(&inputs[0], &inputs[1]), (&inputs[1], &inputs[0])];
    for (kept, other) in pairs {
        let Some(layer) = written(kept).filter(|&l| onnx.nodes[l].op() == "Conv") else { continue };
        if let Some(shift) = shift(onnx, other, ty) {
            let bias = with_bias(onnx, layer, &shift)?;
            return change(onnx, layer, &[at], (None, bias), vec![other.clone()]);
        }
        let same = |&n: &usize| n != layer && onnx.nodes[n].input(0) == onnx.nodes[layer].input(0);
        let Some(second) = written(other).filter(same) else { continue };
        let Some(large) = conv(onnx, layer) else { continue };
        let small = match onnx.nodes[second].op() {
            "BatchNormalization" => normalization(onnx, second, &large),
            _ => conv(onnx, second),
        };
        let Some(small) = small else { continue };
        let Some(first) = small.window.inside(&large.window) else { continue };
        let mut weights = large.weights.clone();
        small.window.add_to(&large.window, &first, &mut weights, |i| small.weights[i]);
        let bias: Vec<f32> = large.bias.iter().zip(&small.bias).map(|(a, b)| a + b).collect();
        return change(onnx, layer, &[at, small.node], (Some(weights), bias), small.read);
    }
    None
}

/// The layer gets weights and a bias, and writes what the first of the nodes wrote that are no more.
fn change(
    onnx: &mut Onnx,
    layer: usize,
    dead: &[usize],
    (weights, bias): (Option<Vec<f32>>, Vec<f32>),
    read: Vec<String>,
) -> Option<()> {
    let name = onnx.nodes[layer].input(1)?.to_string();
    let old: BTreeSet<String> = onnx.nodes[layer].inputs[1..].iter().cloned().chain(read).collect();
    if let Some(weights) = weights {
        let shape = onnx.floats(&name)?.0;
        let made = onnx.add_constant(&format!("{name}_merged"), &Tensor::new(shape, &weights));
        onnx.nodes[layer].set_input(1, made);
    }
    let bias = onnx.add_constant(&format!("{name}_merged_bias"), &Tensor::new([bias.len()], &bias));
    let output = onnx.nodes[dead[0]].output().to_string();
    onnx.nodes[layer].set_input(2, bias);
    onnx.nodes[layer].outputs = vec![output];
    let mut index = 0;
    onnx.nodes.retain(|_| {
        index += 1;
        !dead.contains(&(index - 1))
    });
    onnx.drop_unread(&old);
    Some(())
}

/// A constant that is added to each channel, one number for each.
fn shift(onnx: &Onnx, name: &str, ty: &TensorType) -> Option<Vec<f32>> {
    let (shape, values) = onnx.floats(name)?;
    let (skip, channels) = (ty.rank().checked_sub(shape.len())?, ty.shape[1]);
    let others = shape.iter().enumerate().all(|(i, &d)| d == 1 || i + skip == 1);
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        n => (others && n == channels).then_some(values),
    }
}

/// A layer's bias with what is added to it.
fn with_bias(onnx: &Onnx, layer: usize, shift: &[f32]) -> Option<Vec<f32>> {
    let node = &onnx.nodes[layer];
    let Some(name) = node.input(2) else { return Some(shift.to_vec()) };
    let bias = onnx.floats(name)?.1;
    (bias.len() == shift.len()).then(|| bias.iter().zip(shift).map(|(a, b)| a + b).collect())
}

/// A convolution with constant weights and bias.
fn conv(onnx: &Onnx, node: usize) -> Option<Branch> {
    let proto = &onnx.nodes[node];
    if proto.op() != "Conv" || !matches!(proto.text("auto_pad", "NOTSET"), "NOTSET" | "") {
        return None;
    }
    let (shape, weights) = onnx.floats(proto.input(1)?)?;
    let count = shape.len().checked_sub(2)?;
    let list = |name: &str, default: i64, length: usize| match proto.ints(name) {
        [] => Some(vec![default; length]),
        list => (list.len() == length).then(|| list.to_vec()),
    };
    let mut before = list("pads", 0, 2 * count)?;
    before.truncate(count);
    let window = Window {
        group: proto.int("group", 1),
        strides: list("strides", 1, count)?,
        dilations: list("dilations", 1, count)?,
        kernel: shape[2..].iter().map(|&k| k as i64).collect(),
        before,
    };
    let bias = with_bias(onnx, node, &vec![0.0; shape[0]])?;
    Some(Branch { window, weights, bias, node, read: proto.inputs[1..].to_vec() })
}

/// A normalization as a convolution of single points that read their own channel.
fn normalization(onnx: &Onnx, node: usize, beside: &Branch) -> Option<Branch> {
    let proto = &onnx.nodes[node];
    let channels = beside.bias.len();
    let (scale, shift) = super::normalization::factors(onnx, proto, channels)?;
    let inner = onnx.floats(onnx.nodes[beside.node].input(1)?)?.0[1];
    if beside.window.group.max(1) as usize * inner != channels {
        return None;
    }
    Some(Branch {
        window: beside.window.point()?,
        weights: diagonal(channels, inner, |channel| scale[channel] as f32),
        bias: shift.iter().map(|&s| s as f32).collect(),
        node,
        read: proto.inputs[1..].to_vec(),
    })
}
