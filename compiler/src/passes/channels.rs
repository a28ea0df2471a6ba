//! Chains of operators that keep channels apart, between products with constant weights.

use super::edit::{is, reads};
use crate::base::{DType, Tensor};
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashMap;

/// The axis of the channels.
const CHANNELS: usize = 1;

/// Per value, the number that each channel is everywhere, where it is one.
pub(super) type Constants = HashMap<ValueId, Vec<Option<f32>>>;

/// A product that reads a chain: its weights' `axis` runs over the channels.
pub(super) struct Sink {
    pub node: usize,
    pub value: ValueId,
    pub axis: usize,
}

impl Sink {
    /// The number that a channel is everywhere.
    pub(super) fn constant(&self, constants: &Constants, channel: usize) -> Option<f32> {
        constants.get(&self.value)?.get(channel).copied().flatten()
    }

    /// Whether all weights of a channel are zeros.
    pub(super) fn is_zero(&self, graph: &Graph, channel: usize) -> bool {
        let Some(tensor) = weights(graph, self.node) else { return false };
        let shape = &tensor.ty.shape;
        let inner: usize = shape[self.axis + 1..].iter().product();
        let outer: usize = shape[..self.axis].iter().product();
        let mut run =
            |o: usize| floats(tensor, (o * shape[self.axis] + channel) * inner, inner).all(|w| w == 0.0);
        (0..outer).all(&mut run)
    }
}

/// From the convolution that makes the channels to the products that read them.
pub(super) struct Chain {
    pub root: usize,
    pub channels: usize,
    /// The values, all of which have the channels.
    pub values: Vec<ValueId>,
    /// The nodes between the values.
    pub joins: Vec<usize>,
    pub sinks: Vec<Sink>,
}

impl Chain {
    /// The chain that a convolution begins; `None` where it is no plain one, or where anything else
    /// reads the channels.
    pub(super) fn from(graph: &Graph, root: usize) -> Option<Chain> {
        let channels = weights(graph, root)?.ty.shape[0];
        if !is(&graph.nodes[root], "Conv") || group(&graph.nodes[root]) != 1 || !has_plain_bias(graph, root) {
            return None;
        }
        let mut chain = Chain {
            root,
            channels,
            values: vec![output(graph, root)?],
            joins: Vec::new(),
            sinks: Vec::new(),
        };
        let mut next = 0;
        while let Some(&value) = chain.values.get(next) {
            next += 1;
            if graph.outputs.contains(&value) {
                return None;
            }
            for (n, node) in graph.nodes.iter().enumerate().skip(root + 1) {
                let places = reads(node).filter(|&v| v == value).count();
                match places {
                    0 => continue,
                    1 if node.inputs.first() == Some(&Some(value)) => {}
                    _ => return None,
                }
                if let Some(axis) = sink_axis(graph, n, channels) {
                    chain.sinks.push(Sink { node: n, value, axis });
                } else if joins(graph, n, channels) {
                    chain.joins.push(n);
                    chain.values.push(output(graph, n)?);
                } else {
                    return None;
                }
            }
        }
        (!chain.sinks.is_empty()).then_some(chain)
    }
}

/// The only output of a node.
fn output(graph: &Graph, node: usize) -> Option<ValueId> {
    match graph.nodes[node].outputs.as_slice() {
        [Some(one)] => Some(*one),
        _ => None,
    }
}

fn group(node: &Node) -> i64 {
    node.attrs.int("group", 1).unwrap_or(0)
}

/// The constant floats that a node multiplies by.
pub(super) fn weights(graph: &Graph, node: usize) -> Option<&Tensor> {
    let known = ["Conv", "MatMul", "Gemm"].iter().any(|n| is(&graph.nodes[node], n));
    let id = graph.nodes[node].inputs.get(1).copied().flatten().filter(|_| known)?;
    graph.value(id).constant.as_ref().filter(|t| t.ty.dtype == DType::F32 && t.ty.rank() >= 2)
}

/// Neighbouring elements of a tensor of floats.
pub(super) fn floats(tensor: &Tensor, start: usize, count: usize) -> impl Iterator<Item = f32> {
    let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    tensor.data[4 * start..4 * (start + count)].chunks_exact(4).map(float)
}

/// The constant bias of a convolution.
pub(super) fn bias(graph: &Graph, node: usize, channels: usize) -> Option<Vec<f32>> {
    let id = graph.nodes[node].inputs.get(2).copied().flatten()?;
    graph.value(id).constant.as_ref()?.to_vec::<f32>().filter(|b| b.len() == channels)
}

/// Whether there is no bias, or one that is constant.
fn has_plain_bias(graph: &Graph, node: usize) -> bool {
    let id = graph.nodes[node].inputs.get(2).copied().flatten();
    id.is_none_or(|id| graph.value(id).constant.is_some())
}

/// Whether a window may read padding.
pub(super) fn is_padded(node: &Node) -> bool {
    let auto = node.attrs.str("auto_pad", "NOTSET").is_ok_and(|a| matches!(a, "NOTSET" | "VALID"));
    let pads = node.attrs.get_ints("pads").ok().flatten();
    !auto || pads.is_some_and(|p| p.iter().any(|&p| p != 0))
}

/// The axis of a product's weights that runs over the channels it reads.
fn sink_axis(graph: &Graph, n: usize, channels: usize) -> Option<usize> {
    let tensor = weights(graph, n)?;
    let node = &graph.nodes[n];
    let rank = |i: usize| node.inputs[i].map(|v| graph.value(v).ty.rank());
    let axis = match node.op.name {
        "Conv" if group(node) == 1 && has_plain_bias(graph, n) => 1,
        "MatMul" if rank(0) == Some(2) && rank(1) == Some(2) => 0,
        "Gemm" if !node.attrs.flag("transA", false).ok()? => {
            usize::from(node.attrs.flag("transB", false).ok()?)
        }
        _ => return None,
    };
    (tensor.ty.shape[axis] == channels).then_some(axis)
}

fn is_depthwise(graph: &Graph, n: usize, channels: usize) -> bool {
    let node = &graph.nodes[n];
    let fits = weights(graph, n).is_some_and(|t| t.ty.shape[..2] == [channels, 1]);
    is(node, "Conv") && group(node) == channels as i64 && fits && has_plain_bias(graph, n)
}

/// Whether every channel of a node's output depends on the same channel of its input alone.
fn joins(graph: &Graph, n: usize, channels: usize) -> bool {
    let node = &graph.nodes[n];
    let of = |names: &[&str]| names.iter().any(|name| is(node, name));
    let scalars = || {
        let rest = node.inputs.iter().skip(1).flatten();
        rest.into_iter().all(|&v| graph.value(v).constant.as_ref().is_some_and(|t| t.ty.elems() == 1))
    };
    let flat = || {
        let (Some(Some(from)), Some(to)) = (node.inputs.first(), output(graph, n)) else { return false };
        let (from, to) = (&graph.value(*from).ty.shape, &graph.value(to).ty.shape);
        let ones = |shape: &[usize]| shape.len() >= 2 && shape[CHANNELS + 1..].iter().all(|&d| d == 1);
        ones(from) && ones(to) && from[..=CHANNELS] == to[..=CHANNELS]
    };
    let activations = ["Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu"];
    let pools = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"];
    is_depthwise(graph, n, channels)
        || (of(&activations) && scalars())
        || of(&pools)
        || (of(&["Reshape", "Flatten"]) && flat())
}

/// The channels that are one number everywhere.
pub(super) fn known_constants(graph: &Graph) -> Constants {
    let mut known = Constants::new();
    for n in 0..graph.nodes.len() {
        let node = &graph.nodes[n];
        let (Some(&Some(from)), Some(to)) = (node.inputs.first(), output(graph, n)) else { continue };
        let given = known.get(&from);
        let found = match node.op.name {
            "Conv" if is(node, "Conv") => of_convolution(graph, n, given),
            _ => given.filter(|g| joins(graph, n, g.len())).map(|given| {
                let map = |c: &Option<f32>| c.and_then(|c| passed(graph, node, c));
                given.iter().map(map).collect()
            }),
        };
        if let Some(found) = found.filter(|f| f.iter().any(Option::is_some)) {
            known.insert(to, found);
        }
    }
    known
}

/// What a convolution makes of nothing but zeros, or, depthwise, of constants.
fn of_convolution(graph: &Graph, n: usize, given: Option<&Vec<Option<f32>>>) -> Option<Vec<Option<f32>>> {
    let tensor = weights(graph, n)?;
    let channels = tensor.ty.shape[0];
    if !has_plain_bias(graph, n) {
        return None;
    }
    let bias = bias(graph, n, channels).unwrap_or_else(|| vec![0.0; channels]);
    let window = tensor.ty.elems() / channels.max(1);
    let depthwise = is_depthwise(graph, n, channels);
    let padded = is_padded(&graph.nodes[n]);
    let one = |c: usize| {
        let mut taps = floats(tensor, c * window, window);
        let given = given.filter(|_| depthwise).and_then(|g| g[c]);
        match given {
            Some(0.0) => Some(bias[c]),
            Some(x) if !padded => Some(taps.fold(bias[c], |sum, w| sum + w * x)),
            _ if taps.all(|w| w == 0.0) => Some(bias[c]),
            _ => None,
        }
    };
    Some((0..channels).map(one).collect())
}

/// What a node that keeps channels apart makes of a constant channel; `None` where that is not said.
fn passed(graph: &Graph, node: &Node, x: f32) -> Option<f32> {
    let scalar = |i: usize| match node.inputs.get(i).copied().flatten() {
        None => Some(None),
        Some(id) => graph.value(id).constant.as_ref()?.to_vec::<f32>()?.first().copied().map(Some),
    };
    Some(match node.op.name {
        "Relu" => x.max(0.0),
        "LeakyRelu" if x < 0.0 => x * node.attrs.float("alpha", 0.01).ok()?,
        "Clip" => {
            let (low, high) = (scalar(1)?, scalar(2)?);
            let low = low.unwrap_or(node.attrs.float("min", f32::MIN).ok()?);
            let high = high.unwrap_or(node.attrs.float("max", f32::MAX).ok()?);
            x.max(low).min(high)
        }
        "AveragePool" if is_padded(node) && x != 0.0 => return None,
        "MaxPool" if is_padded(node) => return None,
        "LeakyRelu" | "AveragePool" | "MaxPool" | "GlobalAveragePool" | "GlobalMaxPool" | "Reshape"
        | "Flatten" => x,
        _ => return None,
    })
}
