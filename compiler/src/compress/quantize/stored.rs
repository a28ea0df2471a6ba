//! Weights of which only the stored form changes: integers in the file, floats in the arithmetic.
//!
//! That divides the memory that a matrix-vector product reads by four (or eight), which is what bounds
//! language models. Needs no samples. Zero points are zero, and left out.

use super::report::LayerReport;
use super::weights::{Quantized, Share, quantize};
use crate::base::{DType, Tensor};
use crate::compress::observe::Facts;
use crate::compress::onnx::{Node, Onnx};
use crate::compress::{opset, prepare};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// The most neighbours that share a scale of 4-bit weights, and the fewest: fewer would take as much
/// memory as 8 bits a weight.
const BLOCK: std::ops::RangeInclusive<usize> = 8..=32;

/// Neighbours that share a scale along an axis: a divisor of its extent, which other runtimes want.
fn block(extent: usize) -> Option<usize> {
    BLOCK.rev().find(|&size| extent > 0 && extent.is_multiple_of(size))
}

/// Constants of fewer elements stay in float.
pub(super) const SMALL: usize = 256;

/// A constant that a node multiplies with, or picks from.
pub(super) struct Stored {
    /// The node.
    pub node: usize,
    /// Its input.
    pub input: usize,
    /// Which weights share a scale.
    pub share: Share,
}

/// The axes of the constant at an input: that of the channels, and that of the sums, where there is one
/// to divide into blocks.
fn axes(node: &Node, input: usize, rank: usize) -> Option<(Option<usize>, Option<usize>)> {
    match (node.op(), input) {
        _ if rank < 2 => None,
        ("MatMul", 1) => Some((Some(rank - 1), Some(rank - 2))),
        ("MatMul", 0) => Some((Some(rank - 2), Some(rank - 1))),
        ("Gemm", 1) => {
            let transposed = usize::from(node.int("transB", 0) != 0);
            Some((Some(1 - transposed), Some(transposed)))
        }
        ("Conv", 1) => Some((Some(0), None)),
        ("ConvTranspose", 1) => Some(((node.int("group", 1) == 1).then_some(1), None)),
        ("Gather", 0) if node.int("axis", 0) == 0 => Some((Some(rank - 1), Some(rank - 1))),
        ("LSTM" | "GRU" | "RNN", 1 | 2) if rank == 3 => Some((Some(1), None)),
        _ => None,
    }
}

/// The constants that are worth it, of the nodes `among` all.
pub(super) fn stored(onnx: &Onnx, blocks: bool, among: &dyn Fn(usize) -> bool) -> Vec<Stored> {
    let mut list = Vec::new();
    for (i, node) in onnx.nodes.iter().enumerate().filter(|(i, _)| among(*i)) {
        for input in 0..node.inputs.len().min(3) {
            let Some((shape, _)) = node.input(input).and_then(|n| onnx.floats(n)) else { continue };
            let Some((channel, sum)) = axes(node, input, shape.len()) else { continue };
            if shape.iter().product::<usize>() < SMALL {
                continue;
            }
            let divided = sum.filter(|_| blocks).and_then(|axis| Some((axis, block(shape[axis])?)));
            let share = match (divided, channel) {
                (Some((axis, size)), _) => Share::Blocks { axis, size },
                (None, Some(axis)) => Share::Axis(axis),
                _ => Share::Tensor,
            };
            list.push(Stored { node: i, input, share });
        }
    }
    list
}

/// Whether a node is a recurrent operator, which computes in float.
pub(super) fn is_recurrent(node: &Node) -> bool {
    matches!(node.op(), "LSTM" | "GRU" | "RNN")
}

impl Stored {
    /// The weights rounded, and what is reported of that.
    pub(super) fn rounded(&self, onnx: &Onnx, dtype: DType) -> (Quantized, LayerReport) {
        let node = &onnx.nodes[self.node];
        let (shape, weights) = onnx.floats(&node.inputs[self.input]).unwrap_or_default();
        let made = quantize(&shape, &weights, self.share, dtype, None, dtype == DType::I4);
        let error = error(&weights, &made, self.share);
        let report = LayerReport::of_weights(node.name(), node.op(), weights.len(), error);
        (made, report)
    }
}

/// The relative error of rounded weights.
pub(super) fn error(weights: &[f32], made: &Quantized, share: Share) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (&w, &q) in weights.iter().zip(&made.dequantized(share)) {
        error += f64::from(w - q).powi(2);
        norm += f64::from(w).powi(2);
    }
    if norm > 0.0 { (error / norm).sqrt() } else { 0.0 }
}

/// Stores weights as integers of 8 or 4 bits (4 where sums can be divided into blocks, 8 elsewhere).
pub fn weights_only(onnx: &Onnx, dtype: DType, known: &Facts) -> Result<(Onnx, Vec<LayerReport>)> {
    prepare::check_float(onnx)?;
    let mut onnx = onnx.clone();
    prepare::simplify(&mut onnx, known);
    opset::raise(&mut onnx, if dtype == DType::I4 { 21 } else { 13 }, known)?;
    let list = stored(&onnx, dtype == DType::I4, &|_| true);
    if list.is_empty() {
        return Err(Error::model("there is nothing to quantize: no product with a constant of floats")
            .advise(
                "--weights-only takes constants of 256 elements or more of Conv, Gemm, MatMul, Gather and recurrent operators",
            ));
    }
    let reports = store_all(&mut onnx, &list, dtype);
    Ok((onnx, reports))
}

/// Puts integers, dequantized, in the place of constants; of 8 bits where these are not in blocks.
pub(super) fn store_all(onnx: &mut Onnx, list: &[Stored], dtype: DType) -> Vec<LayerReport> {
    let (mut reports, mut old) = (Vec::new(), BTreeSet::new());
    let mut made: HashMap<String, (String, LayerReport)> = HashMap::new();
    let mut before: HashMap<usize, Vec<Node>> = HashMap::new();
    for item in list {
        let node = &onnx.nodes[item.node];
        let name = node.inputs[item.input].clone();
        let (label, op) = (node.name().to_string(), node.op().to_string());
        let key = format!("{name} {:?}", item.share);
        if !made.contains_key(&key) {
            let dtype = if matches!(item.share, Share::Blocks { .. }) { dtype } else { DType::I8 };
            let (integers, report) = item.rounded(onnx, dtype);
            let dequantize = store(onnx, &name, item.share, &integers);
            made.insert(key.clone(), (dequantize.output().to_string(), report));
            before.entry(item.node).or_default().push(dequantize);
        }
        let (value, report) = made[&key].clone();
        onnx.nodes[item.node].set_input(item.input, value);
        old.insert(name);
        reports.push(LayerReport { name: label, op, ..report });
    }
    let nodes = std::mem::take(&mut onnx.nodes);
    for (i, node) in nodes.into_iter().enumerate() {
        onnx.nodes.extend(before.remove(&i).unwrap_or_default());
        onnx.nodes.push(node);
    }
    onnx.drop_unread(&old);
    reports
}

/// Adds the integers and scales of a constant; the node that dequantizes them.
fn store(onnx: &mut Onnx, name: &str, share: Share, made: &Quantized) -> Node {
    let integers = onnx.add_constant(&format!("{name}_quantized"), &made.values);
    let scales = Tensor::new(made.scale_shape.clone(), &made.scales);
    let scales = onnx.add_constant(&format!("{name}_scale"), &scales);
    let out = onnx.fresh(&format!("{name}_dequantized"));
    let mut node = Node::new("DequantizeLinear", "", &[&integers, &scales], &[&out]);
    match share {
        Share::Axis(axis) => node.set_int("axis", axis as i64),
        Share::Blocks { axis, size } => {
            node.set_int("axis", axis as i64);
            node.set_int("block_size", size as i64);
        }
        Share::Tensor => {}
    }
    node
}
