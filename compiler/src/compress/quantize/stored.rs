//! Weights of which only the stored form changes: integers in the file, floats in the arithmetic.
//!
//! That divides the memory that a matrix-vector product reads by four (or eight), which is what bounds
//! language models. Needs no samples, but weights are rounded against those that are given. Zero points are zero,
//! and left out.

use super::compensate::{Item, Rounded};
use super::fitted::{Data, Made, fitted};
use super::report::LayerReport;
use super::tied::{Tied, exchanged};
use super::weights::{Quantized, Share, quantize};
use crate::base::{DType, Tensor};
use crate::compress::bodies::Inner;
use crate::compress::observe::Known;
use crate::compress::onnx::{Node, Onnx, axes};
use crate::compress::{bodies, opset, prepare};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// The weights that a table is the same as.
    pub tied: Option<Tied>,
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
            list.push(Stored { node: i, input, share, tied: None });
        }
    }
    tie(onnx, &mut list);
    list
}

/// Lets each table share scales as the weights do that it is the same as, of which one index of an axis shares one.
fn tie(onnx: &Onnx, list: &mut [Stored]) {
    let name = |item: &Stored| onnx.nodes[item.node].inputs[item.input].clone();
    let weights = |item: &&Stored| item.input == 1 && matches!(item.share, Share::Axis(_));
    let products: Vec<(String, Share)> = list.iter().filter(weights).map(|p| (name(p), p.share)).collect();
    for table in list.iter_mut().filter(|t| onnx.nodes[t.node].op() == "Gather") {
        let own = name(table);
        let found =
            products.iter().find_map(|(name, share)| Some((name, share, exchanged(onnx, &own, name)?)));
        let Some((name, &Share::Axis(axis), exchanged)) = found else { continue };
        table.share = Share::Axis(if exchanged { 1 - axis } else { axis });
        table.tied = Some(Tied { name: name.clone(), exchanged });
    }
}

/// Whether a node is a recurrent operator, which computes in float.
pub(super) fn is_recurrent(node: &Node) -> bool {
    matches!(node.op(), "LSTM" | "GRU" | "RNN")
}

impl Stored {
    /// The type of its integers, where others have `dtype`: of 8 bits where these are not in blocks.
    fn dtype(&self, dtype: DType) -> DType {
        if matches!(self.share, Share::Blocks { .. }) { dtype } else { DType::I8 }
    }

    /// What is rounded against data: weights that are a second input.
    fn item(&self, dtype: DType) -> Option<Item> {
        let (node, share, dtype) = (self.node, self.share, self.dtype(dtype));
        (self.input == 1).then_some(Item { node, share, dtype })
    }

    /// The weights rounded, and what is reported of that.
    pub(super) fn rounded(&self, onnx: &Onnx, dtype: DType, rounded: &Rounded) -> (Quantized, LayerReport) {
        let (node, dtype) = (&onnx.nodes[self.node], self.dtype(dtype));
        let name = &node.inputs[self.input];
        let (shape, weights) = onnx.floats(name).unwrap_or_default();
        let known = match &self.tied {
            Some(tied) => rounded.get(&tied.name).map(|weights| tied.of(weights)),
            None => rounded.get(name).filter(|_| self.input == 1).cloned(),
        };
        let made = match known {
            Some(made) => made,
            None => quantize(&shape, &weights, self.share, dtype, None, dtype == DType::I4),
        };
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
pub fn weights_only(onnx: &Onnx, dtype: DType, known: &Known, data: &Data) -> Result<Made> {
    prepare::check_float(onnx)?;
    let mut onnx = onnx.clone();
    prepare::simplify(&mut onnx, known);
    opset::raise(&mut onnx, if dtype == DType::I4 { 21 } else { 13 }, known)?;
    let list = stored(&onnx, dtype == DType::I4, &|_| true);
    if list.is_empty() && bodies::weights(&onnx).is_empty() {
        return Err(Error::model("there is nothing to quantize: no product with a constant of floats")
            .advise(
                "--weights-only takes constants of 256 elements or more of Conv, Gemm, MatMul, Gather and recurrent operators",
            ));
    }
    let items: Vec<Item> = list.iter().filter_map(|s| s.item(dtype)).collect();
    fitted(&onnx, &items, data, |rounded| {
        let mut made = onnx.clone();
        let mut layers = store_all(&mut made, &list, dtype, rounded);
        layers.extend(store_inner(&mut made, &BTreeSet::new()));
        Ok(Made { onnx: made, layers })
    })
}

/// Puts integers, dequantized, in the place of constants.
pub(super) fn store_all(
    onnx: &mut Onnx,
    list: &[Stored],
    dtype: DType,
    rounded: &Rounded,
) -> Vec<LayerReport> {
    let (mut reports, mut old) = (Vec::new(), BTreeSet::new());
    let mut made: HashMap<String, (String, LayerReport)> = HashMap::new();
    let mut before: HashMap<usize, Vec<Node>> = HashMap::new();
    for item in list {
        let node = &onnx.nodes[item.node];
        let name = node.inputs[item.input].clone();
        let (label, op) = (node.name().to_string(), node.op().to_string());
        let key = format!("{name} {:?}", item.share);
        if !made.contains_key(&key) {
            let (integers, report) = item.rounded(onnx, dtype, rounded);
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

/// Puts integers of 8 bits in the place of the constants that layers in bodies multiply with. They are dequantized
/// before all nodes, under the names that the bodies read. Those of the layers named in `float` stay.
pub(super) fn store_inner(onnx: &mut Onnx, float: &BTreeSet<String>) -> Vec<LayerReport> {
    let (mut reports, mut made) = (Vec::new(), BTreeMap::new());
    let weights = bodies::weights(onnx);
    // Layers with the same weights read them by one name.
    let stays = weights.iter().filter(|i| float.contains(&i.node)).map(|i| i.constant.clone());
    let stays: BTreeSet<String> = stays.collect();
    for Inner { node, op, constant, axis } in weights {
        if stays.contains(&constant) {
            let elements = onnx.floats(&constant).map_or(0, |w| w.1.len());
            reports.push(LayerReport { float: true, ..LayerReport::of_weights(&node, &op, elements, 0.0) });
            continue;
        }
        let (elements, error) = *made.entry(constant.clone()).or_insert_with(|| {
            let (shape, floats) = onnx.floats(&constant).unwrap_or_default();
            let share = Share::of_axis(axis);
            let found = quantize(&shape, &floats, share, DType::I8, None, false);
            // A layer outside of the bodies may have the same weights.
            let same = dequantized(&constant);
            let stored = onnx.nodes.iter().find(|n| n.op() == "DequantizeLinear" && n.output() == same);
            let mut dequantize = stored.cloned().unwrap_or_else(|| store(onnx, &constant, share, &found));
            dequantize.outputs = vec![constant.clone()];
            onnx.remove_constant(&constant);
            onnx.nodes.insert(0, dequantize);
            (floats.len(), error(&floats, &found, share))
        });
        reports.push(LayerReport::of_weights(&node, &op, elements, error));
    }
    reports
}

/// The name of a constant that is stored as integers, after them.
fn dequantized(name: &str) -> String {
    format!("{name}_dequantized")
}

/// Adds the integers and scales of a constant; the node that dequantizes them.
fn store(onnx: &mut Onnx, name: &str, share: Share, made: &Quantized) -> Node {
    let integers = onnx.add_constant(&format!("{name}_quantized"), &made.values);
    let scales = Tensor::new(made.scale_shape.clone(), &made.scales);
    let scales = onnx.add_constant(&format!("{name}_scale"), &scales);
    let out = onnx.fresh(&dequantized(name));
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
