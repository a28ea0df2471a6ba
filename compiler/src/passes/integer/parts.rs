//! Dequantization across what puts tensors together (Concat) and takes them apart (Split).
//!
//! Where all parts have the same scale and zero point, the integers are put together and the whole is
//! dequantized: what multiplies it takes bytes. NNCF, torchao and TensorRT's tools quantize the parts alike and
//! leave the whole as it is.

use super::super::edit::{is, put};
use super::linear::{again, dequantize, only_quantize};
use crate::base::TensorType;
use crate::graph::{Graph, Node};

/// Dequantizes after the node `at` instead of before it, if it is one of these.
pub(super) fn lower(graph: &mut Graph, at: usize, writers: &[Option<usize>]) -> bool {
    match &graph.nodes[at] {
        node if is(node, "Concat") => concat(graph, at, writers).is_some(),
        node if is(node, "Split") => split(graph, at, writers).is_some(),
        _ => false,
    }
}

fn concat(graph: &mut Graph, at: usize, writers: &[Option<usize>]) -> Option<()> {
    let node = graph.nodes[at].clone();
    let mut parts = Vec::new();
    for part in &node.inputs {
        parts.push(dequantize(graph, &graph.nodes[writers[(*part)? as usize]?])?);
    }
    let first = parts.first().filter(|p| p.axis.is_none())?;
    let whole = node.outputs.first().copied().flatten()?;
    // Where it is quantized in another way each part is, as it is written.
    let ends = graph.outputs.contains(&whole)
        || only_quantize(graph, whole).is_some_and(|(_, to)| !to.equals(first, graph));
    if ends || !parts.iter().all(|p| p.equals(first, graph)) {
        return None;
    }
    let before = graph.nodes[writers[node.inputs[0]? as usize]?].clone();
    let values: Vec<_> = parts.iter().map(|p| p.value).collect();
    put(graph, at, |b| {
        let whole = b.one("Concat", &values, node.attrs.clone())?;
        again(b, &before, whole)
    })
    .ok()
}

fn split(graph: &mut Graph, at: usize, writers: &[Option<usize>]) -> Option<()> {
    let mut node = graph.nodes[at].clone();
    let before = graph.nodes[writers[node.inputs.first().copied().flatten()? as usize]?].clone();
    let from = dequantize(graph, &before).filter(|l| l.axis.is_none())?;
    if node.outputs.iter().flatten().any(|o| graph.outputs.contains(o)) {
        return None;
    }
    let dtype = from.dtype(graph);
    let mut made = Vec::new();
    for output in &mut node.outputs {
        let Some(part) = *output else { continue };
        let shape = graph.value(part).ty.shape.clone();
        let name = format!("{}.{}", graph.value(part).name, graph.values.len());
        let integers = graph.add_value(name, TensorType::new(dtype, shape));
        *output = Some(integers);
        let mut inputs = before.inputs.clone();
        inputs[0] = Some(integers);
        let name = format!("{}.{}", before.name, graph.values.len());
        made.push(Node { name, inputs, outputs: vec![Some(part)], ..before.clone() });
    }
    node.inputs[0] = Some(from.value);
    made.insert(0, node);
    graph.nodes.splice(at..=at, made);
    Some(())
}
