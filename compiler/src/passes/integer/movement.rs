//! Quantization across what only moves, picks or clamps elements.
//!
//! `Q(move(x))` is `move(Q(x))` and `move(DQ(q))` is `DQ(move(q))`, so that moved tensors are narrow
//! and pairs `Q(DQ(q))` of equal parameters meet and vanish. Quantization is monotonic: a clamp
//! before it is a clamp of integers after it, or nothing where the type's range clamps already. Where the greatest
//! number stands is where the greatest integer does.

use super::super::edit::{is, like, put, read_counts, remove, replace, writers};
use super::linear::{Linear, again, along, dequantize, of, quantize};
use super::parts;
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::NodeBuilder;
use crate::scalar::Scalar;

/// Operators that place elements of their first input elsewhere, or pick some.
const MOVES: &[&str] = &[
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Expand",
    "Tile",
    "DepthToSpace",
    "SpaceToDepth",
    "MaxPool",
    "GlobalMaxPool",
    "Pad",
    "Resize",
];

/// The same, but with fewer elements out than in: quantization stays after them.
const PICKS: &[&str] = &["Slice", "Gather", "GatherND", "GatherElements"];

/// Operators that give positions, which are those among the integers where greater ones stand for greater numbers.
const POSITIONS: &[&str] = &["ArgMax", "ArgMin"];

/// Moves quantization up and dequantization down until nothing changes.
pub fn movement(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    while step(graph)? {
        changed = true;
    }
    Ok(changed)
}

fn step(graph: &mut Graph) -> Result<bool> {
    let (reads, writers) = (read_counts(graph), writers(graph));
    for i in 0..graph.nodes.len() {
        let Some(before) = graph.nodes[i].inputs.first().copied().flatten() else { continue };
        let Some(writer) = writers[before as usize] else { continue };
        if let Some(to) = quantize(graph, &graph.nodes[i]) {
            let cancels = dequantize(graph, &graph.nodes[writer]).filter(|from| from.equals(&to, graph));
            if let Some(from) = cancels {
                if replace(graph, to.value, from.value) {
                    remove(graph, &flags(graph, i));
                    return Ok(true);
                }
                continue;
            }
            if reads[before as usize] == 1 && raise(graph, i, writer, &to)? {
                remove(graph, &flags(graph, writer));
                return Ok(true);
            }
        }
        if parts::lower(graph, i, &writers) {
            return Ok(true);
        }
        if POSITIONS.iter().any(|n| is(&graph.nodes[i], n)) {
            let from = dequantize(graph, &graph.nodes[writer]);
            if let Some(from) = from.filter(|l| l.keeps_order(graph)) {
                graph.nodes[i].inputs[0] = Some(from.value);
                return Ok(true);
            }
        }
        if moves(graph, &graph.nodes[i], PICKS) {
            if let Some(from) = dequantize(graph, &graph.nodes[writer]) {
                if lower(graph, i, writer, &from)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

fn flags(graph: &Graph, dead: usize) -> Vec<bool> {
    (0..graph.nodes.len()).map(|i| i == dead).collect()
}

/// Whether a node moves elements of its first input, or zeros.
fn moves(graph: &Graph, node: &Node, more: &[&str]) -> bool {
    let listed = MOVES.iter().chain(more).any(|n| is(node, n));
    let single = node.outputs.iter().flatten().count() == 1;
    let text = |name: &str, default: &'static str| node.attrs.str(name, default).unwrap_or("").to_string();
    let fits = match node.op.name {
        "Resize" => {
            text("mode", "nearest") == "nearest"
                && text("coordinate_transformation_mode", "") != "tf_crop_and_resize"
        }
        "Pad" => {
            let fill = node.inputs.get(2).copied().flatten();
            let zero = |id: ValueId| {
                graph.value(id).constant.as_ref().is_some_and(|t| t.data.iter().all(|&b| b == 0))
            };
            fill.is_none_or(zero) && node.attrs.float("value", 0.0).is_ok_and(|v| v == 0.0)
        }
        _ => true,
    };
    listed && single && fits
}

/// Whether a node moves bytes as they are, whatever they stand for.
pub fn moves_bytes(graph: &Graph, node: &Node) -> bool {
    // What it fills with stands for a number.
    !is(node, "Pad") && moves(graph, node, PICKS)
}

/// The node on another input; a Pad fills with the zero point.
fn moved(b: &mut NodeBuilder, node: &Node, x: ValueId, linear: &Linear) -> Result<ValueId> {
    let mut inputs = node.inputs.clone();
    inputs[0] = Some(x);
    if node.op.name == "Pad" {
        if inputs.len() < 2 {
            return Err(Error::bug("pads as an attribute stay in float"));
        }
        let zero = linear.zero_point(b);
        inputs.resize(inputs.len().max(3), None);
        inputs[2] = Some(zero);
    }
    like(b, node, inputs)
}

/// Where an axis of a node's first input is in its result, if its indices stand there for the same elements.
fn moved_axis(graph: &Graph, node: &Node, axis: usize) -> Option<usize> {
    let shape = |id: Option<ValueId>| id.map(|id| &graph.value(id).ty.shape);
    let from = shape(node.inputs.first().copied().flatten())?;
    let to = shape(node.outputs.first().copied().flatten())?;
    match node.op.name {
        "Identity" => Some(axis),
        "MaxPool" | "GlobalMaxPool" => Some(axis).filter(|&a| a < 2),
        "Transpose" => match node.attrs.get_ints("perm").ok()? {
            None => Some(from.len() - 1 - axis),
            Some(perm) => perm.iter().position(|&p| p.rem_euclid(from.len() as i64) == axis as i64),
        },
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" => {
            let before: usize = from[..axis].iter().product();
            let same = |&a: &usize| to[a] == from[axis] && to[..a].iter().product::<usize>() == before;
            (0..to.len()).find(same)
        }
        _ => None,
    }
}

/// Quantizes before the node `writer` instead of after it.
fn raise(graph: &mut Graph, at: usize, writer: usize, to: &Linear) -> Result<bool> {
    let (node, before) = (graph.nodes[at].clone(), graph.nodes[writer].clone());
    let Some(x) = before.inputs.first().copied().flatten() else { return Ok(false) };
    if moves(graph, &before, &[]) && to.axis.is_none() {
        return Ok(put(graph, at, |b| {
            let x = again(b, &node, x)?;
            moved(b, &before, x, to)
        })
        .is_ok());
    }
    if is(&before, "Concat") && to.axis.is_none() {
        return Ok(put(graph, at, |b| {
            let parts: Result<Vec<ValueId>> =
                before.inputs.iter().flatten().map(|&x| again(b, &node, x)).collect();
            b.one("Concat", &parts?, before.attrs.clone())
        })
        .is_ok());
    }
    let Some((lo, hi)) = clamp(graph, &before) else { return Ok(false) };
    let (lo, hi) = (quantized(graph, to, lo), quantized(graph, to, hi));
    let (least, most) = range(to.dtype(graph));
    Ok(put(graph, at, |b| {
        let mut x = again(b, &node, x)?;
        for (op, limits, idle) in [("Max", lo, least), ("Min", hi, most)] {
            if limits.iter().any(|&l| l != idle) {
                let limits = integers(b.ty(x), to.axis, &limits);
                let limits = b.constant(limits);
                x = b.binary(op, x, limits)?;
            }
        }
        Ok(x)
    })
    .is_ok())
}

/// Dequantizes after the node `at` instead of before it.
fn lower(graph: &mut Graph, at: usize, writer: usize, from: &Linear) -> Result<bool> {
    let (node, before) = (graph.nodes[at].clone(), graph.nodes[writer].clone());
    let axis = from.axis.map(|a| moved_axis(graph, &node, a));
    if axis == Some(None) {
        return Ok(false);
    }
    Ok(put(graph, at, |b| {
        let x = moved(b, &node, from.value, from)?;
        along(b, &before, x, axis.flatten())
    })
    .is_ok())
}

/// The limits of a node that clamps.
fn clamp(graph: &Graph, node: &Node) -> Option<(f32, f32)> {
    if is(node, "Relu") {
        return Some((0.0, f32::INFINITY));
    }
    if !is(node, "Clip") {
        return None;
    }
    let limit = |i: usize, name: &str, default: f32| match node.inputs.get(i).copied().flatten() {
        Some(id) => graph.value(id).constant.as_ref()?.to_vec::<f32>()?.first().copied(),
        None => node.attrs.float(name, default).ok(),
    };
    let (lo, hi) = (limit(1, "min", f32::NEG_INFINITY)?, limit(2, "max", f32::INFINITY)?);
    (lo <= hi).then_some((lo, hi))
}

/// Smallest and largest number of an integer type.
fn range(dtype: DType) -> (i64, i64) {
    let bits = dtype.bits();
    match dtype.is_signed_int() {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    }
}

/// A number quantized as QuantizeLinear does it: one result for all, or one per index of the axis.
fn quantized(graph: &Graph, to: &Linear, x: f32) -> Vec<i64> {
    let (least, most) = range(to.dtype(graph));
    let zeros = to.zeros(graph);
    let steps = |s: f32| f64::from((x / s).round_ties_even());
    let scales = to.scales(graph).into_iter().enumerate();
    let all: Vec<i64> = scales
        .map(|(i, s)| (steps(s) + of(&zeros, i) as f64).clamp(least as f64, most as f64) as i64)
        .collect();
    if all.windows(2).all(|w| w[0] == w[1]) { all[..1].to_vec() } else { all }
}

/// Integers that are broadcast to a tensor, along an axis where there are several.
fn integers(ty: &TensorType, axis: Option<usize>, values: &[i64]) -> Tensor {
    let mut shape = Vec::new();
    if let (Some(axis), true) = (axis, values.len() > 1) {
        shape = vec![1; ty.rank()];
        shape[axis] = values.len();
    }
    let bytes = |&v: &i64| Scalar::from_i64(ty.dtype, v).bits.to_le_bytes()[..ty.dtype.size()].to_vec();
    let data: Vec<u8> = values.iter().flat_map(bytes).collect();
    Tensor { ty: TensorType::new(ty.dtype, shape), data: data.into() }
}
