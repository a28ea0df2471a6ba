//! Quantized models whose floats have 16 bits: scales of `f16` or `bf16`, and such floats between them.
//!
//! From a dequantization to the next quantization they are computed in `f32`, so that the integer forms
//! apply: `DequantizeLinear` gives `f32`, what reads it does too, and only what leaves such a region is
//! rounded to 16 bits. Weights that are dequantized for products of floats stay as they are. Golden:
//! `tests/golden/passes/integer/halves.txt`.

use super::super::edit::{is, like, put, writers};
use super::linear::named;
use crate::base::DType;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// Operators of one result that mean the same in `f32`.
const WIDENED: &[&str] = &[
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "DepthToSpace",
    "Div",
    "Elu",
    "Erf",
    "Expand",
    "Flatten",
    "Gather",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "MaxPool",
    "Mish",
    "Mul",
    "PRelu",
    "Pad",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Squeeze",
    "Sub",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
];
const PRODUCTS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

fn is_half(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.value(value).ty.dtype, DType::F16 | DType::BF16)
}

/// Where the `f32` form of an input comes from.
enum Wide {
    /// It is there.
    Value(ValueId),
    /// The input is dequantized by this node.
    Dequantized(Node),
    /// The input is no result of such a region.
    Narrow(ValueId),
}

impl Wide {
    fn of(graph: &Graph, writers: &[Option<usize>], id: ValueId) -> Wide {
        let Some(writer) = writers[id as usize].map(|w| &graph.nodes[w]) else { return Wide::Narrow(id) };
        let from = writer.inputs.first().copied().flatten();
        match from {
            Some(from) if is(writer, "Cast") && graph.value(from).ty.dtype == DType::F32 => Wide::Value(from),
            Some(_) if named(writer, "DequantizeLinear") => Wide::Dequantized(writer.clone()),
            _ => Wide::Narrow(id),
        }
    }

    fn value(&self, b: &mut NodeBuilder) -> Result<ValueId> {
        match self {
            Wide::Value(id) => Ok(*id),
            Wide::Dequantized(node) => rescaled(b, node, None),
            Wide::Narrow(id) => b.cast(*id, DType::F32),
        }
    }
}

/// A quantization or dequantization with its scale in `f32`; `x`: of another value.
fn rescaled(b: &mut NodeBuilder, node: &Node, x: Option<ValueId>) -> Result<ValueId> {
    let mut inputs = node.inputs.clone();
    let scale = inputs[1].ok_or_else(|| Error::bug("a scale that is not there"))?;
    inputs[1] = Some(b.cast(scale, DType::F32)?);
    inputs[0] = x.or(inputs[0]);
    let mut attrs = node.attrs.clone();
    let narrow = if named(node, "DequantizeLinear") { "output_dtype" } else { "precision" };
    attrs.0.remove(narrow);
    Ok(b.node_in(node.op.domain, node.op.name, &inputs, attrs, 1)?[0])
}

/// Widens the regions between dequantization and quantization of 16-bit floats.
pub fn halves(graph: &mut Graph) -> Result<bool> {
    let (mut changed, mut i) = (false, 0);
    let wanted = wanted(graph);
    if wanted.is_empty() {
        return Ok(false);
    }
    while i < graph.nodes.len() {
        let before = graph.nodes.len();
        changed |= widen(graph, i, &wanted);
        // Past what was put in the node's place.
        i += 1 + graph.nodes.len() - before;
    }
    Ok(changed)
}

/// For each value whether it is 16-bit floats that quantizations alone read, directly or through operators
/// that are widened; nothing where no activation is dequantized to such floats.
fn wanted(graph: &Graph) -> Vec<bool> {
    let mut dequantized = graph.nodes.iter().filter(|n| named(n, "DequantizeLinear"));
    if !dequantized.any(|n| n.outputs.iter().flatten().any(|&o| is_half(graph, o)) && computed(graph, n)) {
        return Vec::new();
    }
    let mut wanted = vec![true; graph.values.len()];
    let mut read = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|&o| wanted[o as usize] = false);
    for node in graph.nodes.iter().rev() {
        let ends = named(node, "QuantizeLinear");
        let through = passes(graph, node).is_some_and(|out| wanted[out as usize] && read[out as usize]);
        for input in super::super::edit::reads(node) {
            read[input as usize] = true;
            wanted[input as usize] &= ends || through;
        }
    }
    wanted.iter().zip(&read).map(|(w, r)| *w && *r).collect()
}

/// The result of a node that computes with 16-bit floats and is widened.
fn passes(graph: &Graph, node: &Node) -> Option<ValueId> {
    let known = WIDENED.iter().chain(PRODUCTS).any(|n| is(node, n));
    let mut outputs = node.outputs.iter().flatten();
    let out = *outputs.next().filter(|&&o| known && is_half(graph, o))?;
    outputs.next().is_none().then_some(out)
}

/// Whether the first input is no constant.
fn computed(graph: &Graph, node: &Node) -> bool {
    node.inputs.first().copied().flatten().is_some_and(|x| graph.value(x).constant.is_none())
}

/// Widens one node.
fn widen(graph: &mut Graph, at: usize, wanted: &[bool]) -> bool {
    let node = graph.nodes[at].clone();
    let (Some(Some(x)), Some(Some(out))) = (node.inputs.first().copied(), node.outputs.first().copied())
    else {
        return false;
    };
    let half = graph.value(out).ty.dtype;
    if named(&node, "DequantizeLinear") && is_half(graph, out) && computed(graph, &node) {
        return put(graph, at, |b| {
            let wide = rescaled(b, &node, None)?;
            b.cast(wide, half)
        })
        .is_ok();
    }
    let writers = writers(graph);
    if named(&node, "QuantizeLinear") && is_half(graph, x) && computed(graph, &node) {
        let wide = Wide::of(graph, &writers, x);
        return put(graph, at, |b| {
            let x = wide.value(b)?;
            rescaled(b, &node, Some(x))
        })
        .is_ok();
    }
    if passes(graph, &node).is_none() {
        return false;
    }
    let inputs: Vec<Option<Wide>> = node
        .inputs
        .iter()
        .map(|input| input.filter(|&id| is_half(graph, id)).map(|id| Wide::of(graph, &writers, id)))
        .collect();
    let wide = |i: usize| matches!(inputs.get(i), Some(Some(Wide::Value(_))));
    let region = match PRODUCTS.iter().any(|n| is(&node, n)) {
        true => {
            let dequantized = |i: usize| matches!(inputs.get(i), Some(Some(Wide::Dequantized(_))));
            wide(0) && (wide(1) || dequantized(1)) || dequantized(0) && wide(1)
        }
        false => wanted.get(out as usize) == Some(&true) && (0..inputs.len()).any(wide),
    };
    region
        && put(graph, at, |b| {
            let mut list = node.inputs.clone();
            for (input, wide) in list.iter_mut().zip(&inputs) {
                if let Some(wide) = wide {
                    *input = Some(wide.value(b)?);
                }
            }
            let made = like(b, &node, list)?;
            b.cast(made, half)
        })
        .is_ok()
}
