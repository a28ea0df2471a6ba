//! LSTMs that multiply integers: com.microsoft's DynamicQuantizeLSTM, which onnxruntime's quantizer writes, too.
//!
//! Inputs and hidden states become bytes by a scale that is found when they are computed; weights have a scale per
//! column. One scale for the inputs of all steps is too coarse for some (energies of a spectrum: cosine .71): samples
//! tell, and these LSTMs stay in float.

use super::grid::integer;
use super::measure::Reference;
use super::report::LayerReport;
use super::stored::{SMALL, error};
use super::weights::{Share, quantize, turned};
use crate::base::{DType, Tensor};
use crate::compress::observe::Sample;
use crate::compress::onnx::{Node, Onnx};
use crate::error::Result;
use std::collections::BTreeSet;

/// An LSTM that lessens the cosine of an output below this stays in float.
const LEAST: f64 = 0.98;

/// The LSTMs that may multiply integers: all without samples.
pub(super) fn suited(onnx: &Onnx, samples: &[Sample]) -> Result<BTreeSet<usize>> {
    let mut all: BTreeSet<usize> = (0..onnx.nodes.len()).filter(|&i| onnx.nodes[i].op() == "LSTM").collect();
    if samples.is_empty() || all.is_empty() {
        return Ok(all);
    }
    let reference = Reference::new(onnx, samples)?;
    for i in all.clone() {
        let mut alone = onnx.clone();
        if let Some((lstm, _)) = rewritten(&mut alone, &onnx.nodes[i]) {
            alone.nodes[i] = lstm;
            if reference.cosine(&alone, samples)? < LEAST {
                all.remove(&i);
            }
        }
    }
    Ok(all)
}

/// One weight of an LSTM as integers.
struct Weights {
    integers: Tensor,
    scales: Tensor,
    zeros: Tensor,
    error: f64,
}

/// What takes the place of an LSTM with constant weights, and its layers; the caller drops the constants.
pub(super) fn rewritten(onnx: &mut Onnx, node: &Node) -> Option<(Node, Vec<LayerReport>)> {
    // DynamicQuantizeLSTM has no layout of batches before steps.
    if node.op() != "LSTM" || node.int("layout", 0) != 0 {
        return None;
    }
    let weights = [weights(onnx, node.input(1)?)?, weights(onnx, node.input(2)?)?];
    let (mut made, mut layers) = (node.clone(), Vec::new());
    made.set_contrib("DynamicQuantizeLSTM");
    onnx.opsets.entry("com.microsoft".to_string()).or_insert(1);
    for (i, Weights { integers, scales, zeros, error }) in weights.into_iter().enumerate() {
        layers.push(LayerReport::of_weights(node.name(), node.op(), integers.ty.elems(), error));
        let old = node.inputs[1 + i].clone();
        let constants =
            [("quantized", 1 + i, integers), ("scale", 8 + 2 * i, scales), ("zero_point", 9 + 2 * i, zeros)];
        for (what, input, tensor) in constants {
            let name = onnx.add_constant(&format!("{old}_{what}"), &tensor);
            made.set_input(input, name);
        }
    }
    Some((made, layers))
}

/// `[directions, rows, depth]` as integers of `[directions, depth, rows]`.
fn weights(onnx: &Onnx, name: &str) -> Option<Weights> {
    let (shape, floats) = onnx.floats(name)?;
    let &[directions, rows, depth] = shape.as_slice() else { return None };
    if floats.len() < SMALL {
        return None;
    }
    let (mut integers, mut scales, mut off) = (Vec::new(), Vec::new(), 0.0f64);
    for part in floats.chunks(rows * depth) {
        let turned = turned(part, rows, depth);
        let found = quantize(&[depth, rows], &turned, Share::Axis(1), DType::I8, None, false);
        off = off.max(error(&turned, &found, Share::Axis(1)));
        integers.extend(found.values.to_i64s()?);
        scales.extend(found.scales);
    }
    Some(Weights {
        integers: integer(DType::I8, &[directions, depth, rows], &integers),
        scales: Tensor::new([directions, rows], &scales),
        zeros: integer(DType::I8, &[directions, rows], &vec![0; directions * rows]),
        error: off,
    })
}
