//! Chains of operators that keep channels apart, between products with constant weights.

mod constants;
mod product;

pub(super) use constants::{Constants, known_constants};
pub(super) use product::Product;

use super::edit::{is, reads};
use crate::graph::{Graph, Node, ValueId};

/// The axis of the channels.
const CHANNELS: usize = 1;

/// A product that reads a chain: its weights' `axis` runs over the channels.
pub(super) struct Sink {
    pub node: usize,
    pub value: ValueId,
    pub axis: usize,
}

impl Sink {
    /// What each point of a channel counts for, where that is one number.
    pub(super) fn constant(&self, product: &Product, constants: &Constants, channel: usize) -> Option<f32> {
        let stored = constants.get(&self.value)?.get(channel).copied().flatten();
        stored.map(|stored| product.counts(stored))
    }

    /// Whether all weights of a channel are zeros.
    pub(super) fn is_zero(&self, product: &Product, channel: usize) -> bool {
        let shape = &product.weights.ty.shape;
        let inner: usize = shape[self.axis + 1..].iter().product();
        let outer: usize = shape[..self.axis].iter().product();
        let mut run =
            |o: usize| product.numbers((o * shape[self.axis] + channel) * inner, inner).all(|w| w == 0.0);
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
    /// reads the channels. `readers` are those of the values that nodes write.
    pub(super) fn from(graph: &Graph, root: usize, readers: &[Vec<usize>]) -> Option<Chain> {
        let made = Product::of(graph, root).filter(|p| p.convolves() && group(&graph.nodes[root]) == 1)?;
        let channels = made.weights.ty.shape[0];
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
            for &n in &readers[value as usize] {
                let node = &graph.nodes[n];
                let once = reads(node).filter(|&v| v == value).count() == 1;
                if !once || node.inputs.first() != Some(&Some(value)) {
                    return None;
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

/// Whether a window may read padding.
pub(super) fn is_padded(node: &Node) -> bool {
    let auto = node.attrs.str("auto_pad", "NOTSET").is_ok_and(|a| matches!(a, "NOTSET" | "VALID"));
    let pads = node.attrs.get_ints("pads").ok().flatten();
    !auto || pads.is_some_and(|p| p.iter().any(|&p| p != 0))
}

/// The axis of a product's weights that runs over the channels it reads.
fn sink_axis(graph: &Graph, n: usize, channels: usize) -> Option<usize> {
    let product = Product::of(graph, n)?;
    let node = &graph.nodes[n];
    let axis = match node.op.name {
        _ if product.convolves() => (group(node) == 1).then_some(1)?,
        "Gemm" | "QGemm" | "QuantizedGemm" => match node.attrs.flag("transA", false).ok()? {
            true => return None,
            false => usize::from(node.attrs.flag("transB", false).ok()?),
        },
        _ => 0,
    };
    let rank = node.inputs[0].map(|v| graph.value(v).ty.rank());
    let plain = product.convolves() || (rank == Some(2) && product.weights.ty.rank() == 2);
    (plain && product.weights.ty.shape[axis] == channels).then_some(axis)
}

fn is_depthwise(graph: &Graph, n: usize, channels: usize) -> bool {
    let fits = |p: &Product| p.convolves() && p.weights.ty.shape[..2] == [channels, 1];
    group(&graph.nodes[n]) == channels as i64 && Product::of(graph, n).as_ref().is_some_and(fits)
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
    let conversions = ["QuantizeLinear", "DequantizeLinear"];
    let pools = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"];
    is_depthwise(graph, n, channels)
        || (of(&activations) && scalars())
        || (of(&conversions) && scalars())
        || of(&pools)
        || (averages_integers(node) && scalars())
        || (of(&["Reshape", "Flatten"]) && flat())
}

/// Whether a node is a mean of quantized points, channel by channel.
fn averages_integers(node: &Node) -> bool {
    let named = matches!(node.op.name, "QLinearAveragePool" | "QLinearGlobalAveragePool");
    named && node.attrs.flag("channels_last", false).is_ok_and(|last| !last)
}
