//! Convolutions of one value whose results are added become one layer, with what is added per channel.
//!
//! Nets are trained with several branches (RepVGG, MobileOne). Quantized one by one each would round, and cost as
//! much as the one that they are together (see `passes`, which merges those of models in float).

use super::normalization::per_channel;
use super::observe::Known;
use super::onnx::Onnx;
use crate::base::{DType, Tensor};
use crate::passes::{Window, diagonal};
use std::collections::{BTreeSet, HashMap};

/// What is added to a convolution: weights like its own in a smaller window, and a bias.
struct Branch {
    window: Window,
    /// Channels that each channel of the result reads.
    inner: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// The node that computes it, unless it is the convolution's operand itself.
    node: Option<usize>,
    /// The constants that it reads.
    read: Vec<String>,
}

/// Merges what one addition or subtraction joins; whether there was one.
pub fn merge(onnx: &mut Onnx, known: &Known) -> bool {
    let (readers, writers) = (onnx.readers(), onnx.writers());
    let around = Around { known, readers: &readers, writers: &writers };
    (0..onnx.nodes.len()).any(|at| merge_at(onnx, &around, at).is_some())
}

/// What is known of the values: types, and by number the nodes that read them and that write them.
struct Around<'a> {
    known: &'a Known,
    readers: &'a HashMap<String, Vec<usize>>,
    writers: &'a HashMap<String, usize>,
}

fn merge_at(onnx: &mut Onnx, around: &Around, at: usize) -> Option<()> {
    let Around { known, readers, writers } = around;
    let node = &onnx.nodes[at];
    let subtracts = node.op() == "Sub";
    if !(subtracts || node.op() == "Add") || node.inputs.len() != 2 {
        return None;
    }
    let ty = &known.get(node.output())?.0;
    if ty.dtype != DType::F32 || ty.rank() < 3 {
        return None;
    }
    let inputs = node.inputs.clone();
    let whole = |name: &String| known.get(name).is_some_and(|k| k.0 == *ty);
    let written = |name: &String| {
        let once = readers.get(name).is_some_and(|r| r.len() == 1) && whole(name);
        writers.get(name).copied().filter(|_| once)
    };
    for (kept, other) in [(0, 1), (1, 0)] {
        let signs = [kept, other].map(|side| if subtracts && side == 1 { -1.0 } else { 1.0 });
        let other = &inputs[other];
        let Some(layer) = written(&inputs[kept]).filter(|&l| onnx.nodes[l].op() == "Conv") else { continue };
        if let Some(shift) = per_channel(onnx, other, ty.rank(), ty.shape[1]).filter(|_| signs[0] > 0.0) {
            let shift: Vec<f32> = shift.iter().map(|s| signs[1] * s).collect();
            let bias = with_bias(onnx, layer, &shift)?;
            return change(onnx, layer, &[at], (None, bias), vec![other.clone()]);
        }
        let Some(large) = conv(onnx, layer) else { continue };
        let same = |&n: &usize| n != layer && onnx.nodes[n].input(0) == onnx.nodes[layer].input(0);
        let itself = onnx.nodes[layer].input(0) == Some(other) && whole(other);
        let small = match written(other).filter(same) {
            Some(second) if onnx.nodes[second].op() == "BatchNormalization" => {
                normalization(onnx, second, &large)
            }
            Some(second) => conv(onnx, second),
            None => itself.then(|| operand(&large)).flatten(),
        };
        let Some(small) = small else { continue };
        let Some(first) = small.window.inside(&large.window) else { continue };
        let mut weights: Vec<f32> = large.weights.iter().map(|w| signs[0] * w).collect();
        small.window.add_to(&large.window, &first, &mut weights, |i| signs[1] * small.weights[i]);
        let sum = |(a, b): (&f32, &f32)| signs[0] * a + signs[1] * b;
        let bias: Vec<f32> = large.bias.iter().zip(&small.bias).map(sum).collect();
        let dead: Vec<usize> = [at].into_iter().chain(small.node).collect();
        return change(onnx, layer, &dead, (Some(weights), bias), small.read);
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
    let read = proto.inputs[1..].to_vec();
    Some(Branch { window, inner: shape[1], weights, bias, node: Some(node), read })
}

/// What a convolution reads, as a convolution of single points beside it. Where sums are long, adding it is a small
/// part of the work, and it stays exact.
fn operand(beside: &Branch) -> Option<Branch> {
    let channels = beside.bias.len();
    (beside.inner == 1 && beside.window.group.max(1) as usize == channels).then_some(())?;
    Some(Branch {
        window: beside.window.point()?,
        inner: 1,
        weights: diagonal(channels, 1, |_| 1.0),
        bias: vec![0.0; channels],
        node: None,
        read: Vec::new(),
    })
}

/// A normalization as a convolution of single points that read their own channel.
fn normalization(onnx: &Onnx, node: usize, beside: &Branch) -> Option<Branch> {
    let proto = &onnx.nodes[node];
    let channels = beside.bias.len();
    let (scale, shift) = super::normalization::factors(onnx, proto, channels)?;
    let inner = beside.inner;
    if beside.window.group.max(1) as usize * inner != channels {
        return None;
    }
    Some(Branch {
        window: beside.window.point()?,
        inner,
        weights: diagonal(channels, inner, |channel| scale[channel] as f32),
        bias: shift.iter().map(|&s| s as f32).collect(),
        node: Some(node),
        read: proto.inputs[1..].to_vec(),
    })
}
