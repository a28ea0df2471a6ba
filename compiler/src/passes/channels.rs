//! Chains of operators that keep channels apart, between products with constant weights.

mod constants;
mod product;

pub(super) use constants::{Constants, known_constants};
pub(super) use product::Product;

use super::edit::{is, is_fixed, is_plain_elementwise, readers, reads, writers};
use crate::base::Tensor;
use crate::graph::{Graph, Node, ValueId};
use std::collections::HashSet;

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

/// From the convolutions that make the channels to the products that read them.
pub(super) struct Chain {
    /// More than one where their results meet, as in a residual sum.
    pub roots: Vec<usize>,
    pub channels: usize,
    /// The values, all of which have the channels.
    pub values: Vec<ValueId>,
    /// The nodes between the values.
    pub joins: Vec<usize>,
    pub sinks: Vec<Sink>,
}

/// Who reads and who writes each value.
pub(super) struct Edges {
    readers: Vec<Vec<usize>>,
    writers: Vec<Option<usize>>,
}

impl Edges {
    pub(super) fn of(graph: &Graph) -> Edges {
        Edges { readers: readers(graph), writers: writers(graph) }
    }
}

impl Chain {
    /// The chain that a convolution begins; `None` where it is no plain one, or where anything else
    /// reads the channels.
    pub(super) fn from(graph: &Graph, root: usize, edges: &Edges) -> Option<Chain> {
        let channels = makes(graph, root)?;
        let chain =
            Chain { roots: Vec::new(), channels, values: Vec::new(), joins: Vec::new(), sinks: Vec::new() };
        let mut walk = Walk { graph, edges, chain, held: HashSet::new(), joined: HashSet::new() };
        walk.begin(root)?;
        let mut next = 0;
        while let Some(&value) = walk.chain.values.get(next) {
            next += 1;
            if graph.outputs.contains(&value) {
                return None;
            }
            for &n in &edges.readers[value as usize] {
                if !walk.joined.contains(&n) {
                    walk.take(n, value)?;
                }
            }
        }
        (!walk.chain.sinks.is_empty()).then_some(walk.chain)
    }
}

/// A chain that is being followed.
struct Walk<'a> {
    graph: &'a Graph,
    edges: &'a Edges,
    chain: Chain,
    held: HashSet<ValueId>,
    joined: HashSet<usize>,
}

impl Walk<'_> {
    /// Begins at one more convolution.
    fn begin(&mut self, root: usize) -> Option<()> {
        self.chain.roots.push(root);
        self.hold(root)
    }

    /// Takes what a node makes.
    fn hold(&mut self, n: usize) -> Option<()> {
        let made = output(self.graph, n)?;
        self.held.insert(made);
        self.chain.values.push(made);
        Some(())
    }

    /// Takes a node that reads a value of the chain; later, where it reads others that are not there yet.
    fn take(&mut self, n: usize, value: ValueId) -> Option<()> {
        let (node, channels) = (&self.graph.nodes[n], self.chain.channels);
        if let Some(operands) = operands(self.graph, n, channels) {
            let read = operands.iter().filter_map(Operand::value);
            let missing: Vec<ValueId> = read.filter(|id| !self.held.contains(id)).collect();
            for &id in &missing {
                let root = self.origin(id)?;
                if !self.chain.roots.contains(&root) {
                    self.begin(root)?;
                }
            }
            // A value that is missing still comes, from a convolution of the chain: it takes the node.
            return if missing.is_empty() { self.join(n) } else { Some(()) };
        }
        let once = reads(node).filter(|&v| v == value).count() == 1;
        if !once || node.inputs.first() != Some(&Some(value)) {
            return None;
        }
        if joins(self.graph, n, channels) {
            return self.join(n);
        }
        self.chain.sinks.push(Sink { node: n, value, axis: sink_axis(self.graph, n, channels)? });
        Some(())
    }

    fn join(&mut self, n: usize) -> Option<()> {
        self.joined.insert(n);
        self.chain.joins.push(n);
        self.hold(n)
    }

    /// The convolution whose channels a value has.
    fn origin(&self, mut value: ValueId) -> Option<usize> {
        loop {
            let writer = self.edges.writers[value as usize]?;
            if let Some(made) = makes(self.graph, writer) {
                return (made == self.chain.channels).then_some(writer);
            }
            value = match operands(self.graph, writer, self.chain.channels) {
                Some(operands) => operands.iter().find_map(Operand::value)?,
                None if joins(self.graph, writer, self.chain.channels) => self.graph.nodes[writer].inputs[0]?,
                None => return None,
            };
        }
    }
}

/// The channels that a convolution of constant weights makes, without groups.
fn makes(graph: &Graph, n: usize) -> Option<usize> {
    let product = Product::of(graph, n)?;
    (product.convolves() && group(&graph.nodes[n]) == 1).then(|| product.weights.ty.shape[0])
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

/// What an element-wise node reads.
pub(super) enum Operand {
    /// A value of the chain.
    Value(ValueId),
    /// One number, or nothing.
    One,
    /// A constant whose axis runs over the channels.
    Each(usize),
}

impl Operand {
    fn value(&self) -> Option<ValueId> {
        match self {
            Operand::Value(id) => Some(*id),
            Operand::One | Operand::Each(_) => None,
        }
    }
}

/// The operands of an element-wise node that keeps channels apart.
pub(super) fn operands(graph: &Graph, n: usize, channels: usize) -> Option<Vec<Operand>> {
    let node = &graph.nodes[n];
    let made = &graph.value(output(graph, n)?).ty.shape;
    let runs = |shape: &[usize], axis: usize| shape.get(axis) == Some(&channels);
    if !is_plain_elementwise(node) || !runs(made, CHANNELS) {
        return None;
    }
    let operand = |input: &Option<ValueId>| {
        let Some(id) = *input else { return Some(Operand::One) };
        let (shape, constant) = (&graph.value(id).ty.shape, &graph.value(id).constant);
        match constant {
            Some(_) if !is_fixed(graph, id) => None,
            None => (shape.len() == made.len() && runs(shape, CHANNELS)).then_some(Operand::Value(id)),
            Some(tensor) if tensor.ty.elems() == 1 => Some(Operand::One),
            Some(tensor) => {
                let axis = (CHANNELS + shape.len()).checked_sub(made.len())?;
                (tensor.ty.elems() == channels && runs(shape, axis)).then_some(Operand::Each(axis))
            }
        }
    };
    node.inputs.iter().map(operand).collect()
}

/// Whether every channel of a node's output depends on the same channel of its input alone; for nodes that are
/// not element-wise.
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
    let conversions = ["QuantizeLinear", "DequantizeLinear"];
    let pools = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"];
    is_depthwise(graph, n, channels)
        || (of(&conversions) && scalars())
        || of(&pools)
        || folds_points(graph, node)
        || (averages_integers(node) && scalars())
        || (of(&["Reshape", "Flatten"]) && flat())
}

/// Whether a node makes one number of all points of a channel, or of some.
fn folds_points(graph: &Graph, node: &Node) -> bool {
    let from = node.inputs.first().copied().flatten().map(|id| graph.value(id).ty.rank());
    let input = |id: ValueId| graph.value(id).constant.as_ref().and_then(Tensor::to_i64s);
    let axes = match node.attrs.get_ints("axes") {
        Ok(Some(axes)) => Some(axes.to_vec()),
        _ => node.inputs.get(1).copied().flatten().and_then(input),
    };
    let (Some(rank), Some(axes)) = (from, axes) else { return false };
    let of_points = |axis: &i64| if *axis < 0 { axis + rank as i64 } else { *axis } > CHANNELS as i64;
    let named = ["ReduceMean", "ReduceMax", "ReduceMin"].iter().any(|name| is(node, name));
    let kept = node.attrs.flag("keepdims", true).is_ok_and(|kept| kept);
    named && kept && !axes.is_empty() && axes.iter().all(of_points)
}

/// Whether a node is a mean of quantized points, channel by channel.
fn averages_integers(node: &Node) -> bool {
    let named = matches!(node.op.name, "QLinearAveragePool" | "QLinearGlobalAveragePool");
    named && node.attrs.flag("channels_last", false).is_ok_and(|last| !last)
}
