//! Float products that are quantized next are computed in units of the result.
//!
//! Data of 16 bits is multiplied in float. Its weights are dequantized by a scale per channel: divided by the
//! scale of the result, once, they take the place of a division per element.

use super::super::edit::is;
use super::linear::{Linear, of, only_quantize, source};
use crate::base::{Tensor, TensorType};
use crate::graph::{Graph, Node, ValueId};

/// Changes the weights' scales and biases of such products; says whether there were any.
pub(super) fn units(graph: &mut Graph) -> bool {
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        changed |= unit(graph, at).is_some();
    }
    changed
}

fn unit(graph: &mut Graph, at: usize) -> Option<()> {
    let node = graph.nodes[at].clone();
    let channels = channels(graph, &node)?;
    let out = node.outputs.first().copied().flatten()?;
    let (quantize, to) = only_quantize(graph, out)?;
    let over = to.scales(graph);
    let over = *over.first().filter(|&&s| over.len() == 1 && s != 1.0)?;
    let (data, weights) = (source(graph, node.inputs[0]?)?, source(graph, node.inputs[1]?)?);
    let constant = data.dtype(graph).size() == 2 && graph.value(weights.value).constant.is_some();
    if !constant || weights.axis.is_some_and(|a| a != channels) {
        return None;
    }
    let divided = |list: Vec<f32>| list.into_iter().map(|v| v / over).collect::<Vec<f32>>();
    let scales = divided(weights.scales(graph));
    if scales.iter().any(|s| !s.is_normal()) {
        return None;
    }
    let bias = match node.inputs.get(2).copied().flatten() {
        None => None,
        Some(id) => {
            let (values, shape) = bias(graph, id)?;
            Some(Tensor::new(shape, &divided(values)))
        }
    };
    let shape = graph.value(weights.scale).ty.shape.clone();
    let scales = Tensor::new(shape, &scales);
    if let Some(bias) = bias {
        graph.nodes[at].inputs[2] = Some(constant_of(graph, &node, bias));
    }
    let shape = graph.value(to.scale).ty.shape.clone();
    let ones = vec![1f32; shape.iter().product()];
    graph.nodes[quantize].inputs[1] = Some(constant_of(graph, &node, Tensor::new(shape, &ones)));
    dequantize_by(graph, at, &weights, scales)
}

/// The axis of the weights that is the results' channel.
fn channels(graph: &Graph, node: &Node) -> Option<usize> {
    if is(node, "Conv") {
        return Some(0);
    }
    if is(node, "Gemm") {
        return Some(usize::from(!node.attrs.flag("transB", false).ok()?));
    }
    let rank = graph.value(node.inputs.get(1).copied().flatten()?).ty.rank();
    (is(node, "MatMul") && rank > 1).then(|| rank - 1)
}

/// A constant bias, or one that is dequantized, as floats.
fn bias(graph: &Graph, id: ValueId) -> Option<(Vec<f32>, Vec<usize>)> {
    let shape = graph.value(id).ty.shape.clone();
    if let Some(constant) = &graph.value(id).constant {
        return Some((constant.to_vec::<f32>()?, shape));
    }
    let linear = source(graph, id)?;
    let integers = graph.value(linear.value).constant.as_ref()?.to_i64s()?;
    let (scales, zeros) = (linear.scales(graph), linear.zeros(graph));
    let fits = |n: usize| n == 1 || n == integers.len();
    let real = |(i, v): (usize, i64)| (v - of(&zeros, i)) as f32 * of(&scales, i);
    (fits(scales.len()) && fits(zeros.len()))
        .then(|| (integers.into_iter().enumerate().map(real).collect(), shape))
}

/// Gives the product `at` weights that are dequantized by other scales.
fn dequantize_by(graph: &mut Graph, at: usize, weights: &Linear, scales: Tensor) -> Option<()> {
    let read = graph.nodes[at].inputs[1]?;
    let before = graph.nodes.iter().find(|n| n.outputs.first() == Some(&Some(read)))?.clone();
    let scale = constant_of(graph, &before, scales);
    let TensorType { dtype, shape } = graph.value(read).ty.clone();
    let name = format!("{}.{}", graph.value(read).name, graph.values.len());
    let own = graph.add_value(name.clone(), TensorType::new(dtype, shape));
    let mut inputs = before.inputs.clone();
    (inputs[0], inputs[1]) = (Some(weights.value), Some(scale));
    graph.nodes[at].inputs[1] = Some(own);
    graph.nodes.insert(at, Node { name, inputs, outputs: vec![Some(own)], ..before });
    Some(())
}

fn constant_of(graph: &mut Graph, node: &Node, tensor: Tensor) -> ValueId {
    let name = format!("{}.{}", node.name, graph.values.len());
    graph.add_constant(name, tensor)
}
