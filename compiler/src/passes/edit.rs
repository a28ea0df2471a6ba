//! What passes share: who reads and writes a value, and putting one value in another's place.

use crate::base::Tensor;
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::{NodeBuilder, Pending, is_elementwise};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Values a node reads, what its bodies capture included.
pub(super) fn reads(node: &Node) -> impl Iterator<Item = ValueId> {
    let captured = node.attrs.0.values().flat_map(|a| match a {
        Attr::Graph(body) => body.captures.iter().map(|c| c.0).collect(),
        _ => Vec::new(),
    });
    node.inputs.iter().flatten().copied().chain(captured)
}

/// A node like another, with other inputs; its first output.
pub(super) fn like(b: &mut NodeBuilder, node: &Node, inputs: Vec<Option<ValueId>>) -> Result<ValueId> {
    let name = format!("{}.{}", node.name, b.graph.values.len());
    let pending = Pending {
        op: node.op,
        opset: node.opset,
        attrs: node.attrs.clone(),
        outputs: vec![Some(name.clone())],
        name,
        inputs,
    };
    b.add(pending)?[0].ok_or_else(|| Error::bug("a node without its output"))
}

/// For each value, how often it is read: by nodes, bodies, and as an output of the graph.
pub(super) fn read_counts(graph: &Graph) -> Vec<usize> {
    let mut counts = vec![0; graph.values.len()];
    let all = graph.nodes.iter().flat_map(reads).chain(graph.outputs.iter().copied());
    all.for_each(|id| counts[id as usize] += 1);
    counts
}

/// For each value, the nodes that read it, once for each time.
pub(super) fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.values.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        reads(node).for_each(|id| readers[id as usize].push(i));
    }
    readers
}

/// For each value, the node that writes it.
pub(super) fn writers(graph: &Graph) -> Vec<Option<usize>> {
    let mut writers = vec![None; graph.values.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        node.outputs.iter().flatten().for_each(|&o| writers[o as usize] = Some(i));
    }
    writers
}

/// Whether a node is this operator of ai.onnx.
pub(super) fn is(node: &Node, name: &str) -> bool {
    node.op.domain.is_empty() && node.op.name == name
}

/// Whether a constant is the same in each of several samples of sizes.
pub(super) fn is_fixed(graph: &Graph, id: ValueId) -> bool {
    let value = graph.value(id);
    value.constant.is_some() && (graph.sample == 0 || graph.alike.get(&value.name) == Some(&0))
}

/// Whether a constant is known to differ between several samples of sizes; one that a pass has made is not.
pub(super) fn differs(graph: &Graph, id: ValueId) -> bool {
    graph.alike.get(&graph.value(id).name).is_some_and(|&number| number != 0)
}

/// From this version on, operators of ai.onnx broadcast their inputs as NumPy does.
const BROADCASTS: i64 = 7;

/// Whether a node computes each element of its inputs' elements at that place, broadcast as NumPy does.
pub(super) fn is_plain_elementwise(node: &Node) -> bool {
    let one = node.inputs.len() == 1;
    is_elementwise(node.op) && (one || !node.op.domain.is_empty() || node.opset >= BROADCASTS)
}

/// A list of integers with so many entries, or the usual one in each where it is not there.
pub(super) fn list(node: &Node, name: &str, count: usize, usual: i64) -> Option<Vec<i64>> {
    let list = node.attrs.get_ints(name).ok()?.map_or(vec![usual; count], <[i64]>::to_vec);
    (list.len() == count).then_some(list)
}

/// Which input the weights of a convolution are.
pub(super) fn weights(node: &Node) -> Option<usize> {
    [("Conv", 1), ("ConvInteger", 1), ("QLinearConv", 3)].into_iter().find(|c| is(node, c.0)).map(|c| c.1)
}

fn redirect(graph: &mut Graph, from: ValueId, to: ValueId) {
    let swap = |id: &mut ValueId| {
        if *id == from {
            *id = to;
        }
    };
    for node in &mut graph.nodes {
        node.inputs.iter_mut().flatten().for_each(swap);
        for attr in node.attrs.0.values_mut() {
            if let Attr::Graph(body) = attr {
                body.captures.iter_mut().for_each(|c| swap(&mut c.0));
            }
        }
    }
}

/// Makes all readers of `from` read `to`, which has the same type and elements. Where `from` is an
/// output of the graph, the node that writes `to` writes `from` instead. False where neither
/// is possible; then nothing has changed. What wrote `from` must be removed by the caller.
pub(super) fn replace(graph: &mut Graph, from: ValueId, to: ValueId) -> bool {
    if !graph.outputs.contains(&from) {
        redirect(graph, from, to);
        return true;
    }
    let writer = writers(graph)[to as usize];
    let Some(writer) = writer.filter(|_| !graph.outputs.contains(&to)) else { return false };
    redirect(graph, to, from);
    for output in graph.nodes[writer].outputs.iter_mut().flatten() {
        if *output == to {
            *output = from;
        }
    }
    true
}

/// Puts each node behind those that it reads from, otherwise as they are.
pub(super) fn sort(graph: &mut Graph) {
    let writers = writers(graph);
    let mut waits = vec![0; graph.nodes.len()];
    let mut next = vec![Vec::new(); graph.nodes.len()];
    for (n, node) in graph.nodes.iter().enumerate() {
        for writer in reads(node).filter_map(|id| writers[id as usize]) {
            waits[n] += 1;
            next[writer].push(n);
        }
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..waits.len()).filter(|&n| waits[n] == 0).map(Reverse).collect();
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    while let Some(Reverse(n)) = ready.pop() {
        graph.nodes.extend(nodes[n].take());
        for &reader in &next[n] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
}

/// Part of a value along an axis.
pub(super) fn cut(b: &mut NodeBuilder, value: ValueId, axis: usize, part: Range<usize>) -> Result<ValueId> {
    let [from, to, axes] = [part.start, part.end, axis].map(|n| b.constant(Tensor::new([1], &[n as i64])));
    b.one("Slice", &[value, from, to, axes], Attrs::default())
}

/// Removes the nodes whose flag is set.
pub(super) fn remove(graph: &mut Graph, dead: &[bool]) {
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !dead.get(index - 1).copied().unwrap_or(false)
    });
}

/// Builds values that must come out constant; `None` (and nothing added but unused constants)
/// where they do not.
pub(super) fn constants(
    graph: &mut Graph,
    name: &str,
    build: impl FnOnce(&mut NodeBuilder) -> Result<Vec<ValueId>>,
) -> Result<Option<Vec<ValueId>>> {
    let mark = graph.values.len();
    let mut builder = NodeBuilder::new(graph, name, i64::MAX);
    let built = build(&mut builder)?;
    let folded = builder.nodes.is_empty();
    if !folded {
        graph.values.truncate(mark);
    }
    Ok(folded.then_some(built))
}

/// Gives a node a new constant input.
pub(super) fn put_constant(graph: &mut Graph, node: usize, input: usize, tensor: Tensor) {
    let name = format!("{}/kept.{}", graph.nodes[node].name, graph.values.len());
    let id = graph.add_constant(name, tensor);
    let inputs = &mut graph.nodes[node].inputs;
    inputs.resize(inputs.len().max(input + 1), None);
    inputs[input] = Some(id);
}

/// Replaces the node `at` by nodes that compute its first output. Where they cannot be built, or
/// give a constant or another type, nothing changes and the reason is returned.
pub(super) fn put(
    graph: &mut Graph,
    at: usize,
    build: impl FnOnce(&mut NodeBuilder) -> Result<ValueId>,
) -> std::result::Result<(), String> {
    let Some(Some(to)) = graph.nodes[at].outputs.first().copied() else {
        return Err("its output is not there".to_string());
    };
    let mark = graph.values.len();
    let name = graph.nodes[at].name.clone();
    let mut builder = NodeBuilder::new(graph, name.clone(), i64::MAX);
    let built = build(&mut builder);
    let mut nodes = std::mem::take(&mut builder.nodes);
    let last = |id: ValueId| move |n: &Node| n.outputs.first() == Some(&Some(id));
    let fits = match built {
        Err(error) => Err(error.to_string()),
        Ok(id) if graph.value(id).ty != graph.value(to).ty => {
            Err(format!("its result would be {}, not {}", graph.value(id).ty, graph.value(to).ty))
        }
        Ok(id) => nodes.iter().position(last(id)).ok_or_else(|| "its result is a constant".to_string()),
    };
    match fits {
        Ok(index) => {
            nodes[index].outputs = vec![Some(to)];
            nodes[index].name = name;
            graph.nodes.splice(at..=at, nodes);
            Ok(())
        }
        Err(reason) => {
            graph.values.truncate(mark);
            Err(reason)
        }
    }
}
