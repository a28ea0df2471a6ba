//! Points that only strided windows of one point skip are not computed.
//!
//! A stage of a residual network begins with convolutions of one point, of stride 2, that read a quarter of the points:
//! ```text
//! y = Conv(x, w) { pads = [1, 1, 1, 1] }          y = Conv(x, w) { pads = [1, 1, 1, 1], strides = [2, 2] }
//! r = Relu(y)                               ->    r = Relu(y)
//! a = Conv(r, u) { strides = [2, 2] }             a = Conv(r, u)
//! b = Conv(r, v) { strides = [2, 2] }             b = Conv(r, v)
//! ```
//! The stride goes up through element-wise nodes, whose other operands are sliced, to the convolution or pool that makes
//! what they read. Where sizes are free, nothing changes: whether points are left over hangs on them.

use super::edit::{is, is_plain_elementwise, list, readers, remove, replace, weights};
use crate::base::Tensor;
use crate::error::Result;
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;

/// Operators beside those of one row each that compute elements one by one: with scales of a channel or of all.
const QUANTIZED: [&str; 5] =
    ["QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearSigmoid", "QLinearLeakyRelu"];
/// Operators whose window is an attribute.
const POOLS: [&str; 2] = ["MaxPool", "AveragePool"];

/// Moves strides up, from the last node to the first.
pub fn pull_strides(graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    let mut i = if graph.shapes.is_empty() { graph.nodes.len() } else { 0 };
    let mut readers_of = readers(graph);
    while i > 0 {
        i -= 1;
        let Some(output) = only_output(&graph.nodes[i]) else { continue };
        let reading = readers_of[output as usize].clone();
        let Some(steps) = wanted(graph, output, &reading) else { continue };
        let Some(by) = Way::of(graph, i, output) else { continue };
        let added = by.pull(graph, (i, output), &steps)?;
        narrow(graph, output, &steps);
        drop_steps(graph, output, reading.iter().map(|r| r + added));
        readers_of = readers(graph);
        changed = true;
        i += added;
    }
    Ok(changed)
}

fn only_output(node: &Node) -> Option<ValueId> {
    match node.outputs[..] {
        [Some(output)] => Some(output),
        _ => None,
    }
}

/// The points of a node's window, per spatial dimension.
fn window(graph: &Graph, node: &Node) -> Option<Vec<i64>> {
    match weights(node) {
        Some(at) => {
            let shape = &graph.value(*node.inputs.get(at)?.as_ref()?).ty.shape;
            Some(shape.get(2..)?.iter().map(|&d| d as i64).collect())
        }
        None if POOLS.iter().any(|pool| is(node, pool)) => {
            node.attrs.get_ints("kernel_shape").ok()?.map(<[i64]>::to_vec)
        }
        None => None,
    }
}

/// Which of its operand's points a node reads, where that is every so many-th.
fn steps(graph: &Graph, node: &Node, operand: ValueId) -> Option<Vec<i64>> {
    let spatial = graph.value(operand).ty.rank().checked_sub(2)?;
    let alone = node.inputs.iter().flatten().filter(|&&v| v == operand).count() == 1;
    if !alone || node.inputs.first() != Some(&Some(operand)) {
        return None;
    }
    if is(node, "Slice") {
        return sliced(graph, node, spatial);
    }
    let one = weights(node).is_some() && window(graph, node)?.iter().all(|&k| k == 1);
    let padded = list(node, "pads", 2 * spatial, 0)?.iter().any(|&p| p != 0);
    (one && !padded).then(|| list(node, "strides", spatial, 1))?
}

/// The steps of a slice that takes all of the spatial dimensions, as this pass adds them.
fn sliced(graph: &Graph, node: &Node, spatial: usize) -> Option<Vec<i64>> {
    let ints = |at: usize| graph.value((*node.inputs.get(at)?)?).constant.as_ref()?.to_i64s();
    let all: Vec<i64> = (2..2 + spatial as i64).collect();
    let shape = &graph.value(node.inputs[0]?).ty.shape;
    let ends = ints(2)?.iter().zip(&shape[2..]).all(|(&end, &extent)| end >= extent as i64);
    (ints(1)? == vec![0; spatial] && ends && ints(3)? == all).then(|| ints(4))?
}

/// Which points all that read a value want, where that is not each.
fn wanted(graph: &Graph, value: ValueId, readers: &[usize]) -> Option<Vec<i64>> {
    if graph.outputs.contains(&value) {
        return None;
    }
    let mut all = readers.iter().map(|&r| steps(graph, &graph.nodes[r], value));
    let first = all.next()??;
    let fewer = first.iter().any(|&s| s > 1) && first.iter().all(|&s| s > 0);
    (fewer && all.all(|s| s.as_ref() == Some(&first))).then_some(first)
}

/// How a node computes fewer points.
enum Way {
    /// By strides, and the padding that they had.
    Strides { strides: Vec<i64>, pads: Vec<i64> },
    /// From fewer points of these inputs.
    Operands(Vec<usize>),
}

impl Way {
    fn of(graph: &Graph, at: usize, output: ValueId) -> Option<Way> {
        let node = &graph.nodes[at];
        let shape = &graph.value(output).ty.shape;
        let spatial = shape.len().checked_sub(2).filter(|&s| s > 0)?;
        if let Some(kernel) = window(graph, node) {
            let strides = list(node, "strides", spatial, 1)?;
            let whole = node.attrs.int("ceil_mode", 0).ok()? == 0;
            let pads = pads(graph, node, (&kernel, &strides), shape)?;
            return whole.then_some(Way::Strides { strides, pads });
        }
        let quantized = QUANTIZED.contains(&node.op.name);
        if !(quantized || is_plain_elementwise(node)) {
            return None;
        }
        let mut operands = Vec::new();
        for (i, input) in node.inputs.iter().enumerate() {
            let Some(input) = input.map(|id| &graph.value(id).ty.shape) else { continue };
            let beside = input.len().checked_sub(spatial).map_or(&input[..], |from| &input[from..]);
            match () {
                () if input == shape => operands.push(i),
                // A list of scales is one of channels.
                () if input.len() <= 1 && (quantized || input.iter().all(|&d| d == 1)) => {}
                () if beside.iter().all(|&d| d == 1) => {}
                () => return None,
            }
        }
        (!operands.is_empty()).then_some(Way::Operands(operands))
    }

    /// Rewrites the node; how many were put before it.
    fn pull(self, graph: &mut Graph, (at, output): (usize, ValueId), steps: &[i64]) -> Result<usize> {
        match self {
            Way::Strides { strides, pads } => {
                let node = &mut graph.nodes[at];
                node.attrs
                    .set("strides", Attr::Ints(strides.iter().zip(steps).map(|(a, b)| a * b).collect()));
                node.attrs.set("pads", Attr::Ints(pads));
                node.attrs.set("auto_pad", Attr::Str("NOTSET".into()));
                Ok(0)
            }
            Way::Operands(operands) => {
                let values: Vec<ValueId> =
                    operands.iter().filter_map(|&i| graph.nodes[at].inputs[i]).collect();
                let name = graph.value(output).name.clone();
                let mut b = NodeBuilder::new(graph, name, i64::MAX);
                let few = values.iter().map(|&v| slice(&mut b, v, steps)).collect::<Result<Vec<_>>>()?;
                let nodes = std::mem::take(&mut b.nodes);
                let added = nodes.len();
                for (&i, few) in operands.iter().zip(few) {
                    graph.nodes[at].inputs[i] = Some(few);
                }
                graph.nodes.splice(at..at, nodes);
                Ok(added)
            }
        }
    }
}

/// The padding of a window in numbers.
fn pads(
    graph: &Graph,
    node: &Node,
    (kernel, strides): (&[i64], &[i64]),
    output: &[usize],
) -> Option<Vec<i64>> {
    let spatial = kernel.len();
    let dilations = list(node, "dilations", spatial, 1)?;
    let input = &graph.value((*node.inputs.first()?)?).ty.shape;
    let total = |d: usize| {
        let reach = dilations[d] * (kernel[d] - 1) + 1;
        ((output[2 + d] as i64 - 1) * strides[d] + reach - input[2 + d] as i64).max(0)
    };
    let before = |d: usize, upper: bool| if upper { total(d) / 2 } else { total(d) - total(d) / 2 };
    let same = |upper: bool| {
        let first: Vec<i64> = (0..spatial).map(|d| before(d, upper)).collect();
        let behind = (0..spatial).map(|d| total(d) - first[d]).collect();
        [first.clone(), behind].concat()
    };
    match node.attrs.str("auto_pad", "NOTSET").ok()? {
        "NOTSET" => list(node, "pads", 2 * spatial, 0),
        "VALID" => Some(vec![0; 2 * spatial]),
        "SAME_UPPER" => Some(same(true)),
        "SAME_LOWER" => Some(same(false)),
        _ => None,
    }
}

/// Every so many-th point of a value.
fn slice(b: &mut NodeBuilder, value: ValueId, steps: &[i64]) -> Result<ValueId> {
    let spatial = steps.len();
    let ends: Vec<i64> = b.ty(value).shape[2..].iter().map(|&d| d as i64).collect();
    let axes: Vec<i64> = (2..2 + spatial as i64).collect();
    let lists = [vec![0; spatial], ends, axes, steps.to_vec()];
    let lists = lists.map(|list| b.constant(Tensor::new([spatial], &list)));
    b.one("Slice", &[&[value], &lists[..]].concat(), Attrs::default())
}

/// What a value is with fewer points.
fn narrow(graph: &mut Graph, value: ValueId, steps: &[i64]) {
    let shape = &mut graph.values[value as usize].ty.shape;
    for (extent, &step) in shape[2..].iter_mut().zip(steps) {
        *extent = extent.div_ceil(step as usize);
    }
}

/// Lets readers take all points: slices are left out.
fn drop_steps(graph: &mut Graph, value: ValueId, readers: impl Iterator<Item = usize>) {
    let mut dead = vec![false; graph.nodes.len()];
    for reader in readers {
        let node = &mut graph.nodes[reader];
        match (is(node, "Slice"), only_output(node)) {
            (true, Some(output)) => dead[reader] = replace(graph, output, value),
            _ => node.attrs.set("strides", Attr::Ints(vec![1; graph.values[value as usize].ty.rank() - 2])),
        }
    }
    remove(graph, &dead);
}
