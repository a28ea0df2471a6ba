//! Constants that depend on sizes known only at run time are computed there.
//!
//! A model with such sizes is typed for several (see `crate::sizes`), and what depends on shapes alone is a
//! constant in each: a mask, positions divided by a length, the points of a grid. Where these differ in a way
//! that no table of integers says, the nodes that made them come back; what they are made of, shapes in the
//! end, stays constant. A reader that needs to know the elements (a shape, the axes of a sum) keeps the
//! constant. A node that comes back stands before its first reader: what its shape is made of may be a size
//! that data decide on, which is not there earlier.

use crate::graph::{COMPUTED, Graph, Node, ValueId};
use crate::ops::is_computed;
use std::collections::{HashMap, HashSet};

/// Brings the nodes back whose outputs have the given names, and drops all others that were folded.
pub fn unfold(graph: &mut Graph, names: &HashSet<String>) {
    let wanted =
        |graph: &Graph, n: &Node| n.outputs.iter().flatten().any(|&o| names.contains(&graph.value(o).name));
    let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
    let mut back = Vec::new();
    for mut node in std::mem::take(&mut graph.folded) {
        if !wanted(graph, &node) {
            continue;
        }
        redirect(graph, &mut node, &moved);
        for output in node.outputs.iter_mut().flatten() {
            let value = graph.value(*output);
            let (name, ty) = (format!("{}{COMPUTED}", value.name), value.ty.clone());
            let computed = graph.add_value(name, ty);
            moved.insert(*output, computed);
            *output = computed;
        }
        back.push(node);
    }
    let mut back = Back::new(back);
    for mut node in std::mem::take(&mut graph.nodes) {
        redirect(graph, &mut node, &moved);
        back.before(&node.inputs, &mut graph.nodes);
        graph.nodes.push(node);
    }
    for output in &mut graph.outputs {
        *output = moved.get(output).copied().unwrap_or(*output);
        back.before(&[Some(*output)], &mut graph.nodes);
    }
}

/// Nodes that come back, until they have a place.
struct Back {
    nodes: Vec<Option<Node>>,
    writer: HashMap<ValueId, usize>,
}

impl Back {
    fn new(nodes: Vec<Node>) -> Self {
        let outputs =
            |(i, n): (usize, &Node)| -> Vec<_> { n.outputs.iter().flatten().map(|&o| (o, i)).collect() };
        let writer = nodes.iter().enumerate().flat_map(outputs).collect();
        Back { nodes: nodes.into_iter().map(Some).collect(), writer }
    }

    /// Puts what makes the values, and has no place yet, at the end of a list.
    fn before(&mut self, values: &[Option<ValueId>], list: &mut Vec<Node>) {
        for value in values.iter().flatten() {
            let node = self.writer.get(value).and_then(|&i| self.nodes[i].take());
            if let Some(node) = node {
                self.before(&node.inputs, list);
                list.push(node);
            }
        }
    }
}

/// Makes a node read the computed values in place of the constants: all of them, or those that it takes.
fn redirect(graph: &Graph, node: &mut Node, moved: &HashMap<ValueId, ValueId>) {
    let mut all = node.clone();
    all.inputs.iter_mut().flatten().for_each(|v| *v = moved.get(v).copied().unwrap_or(*v));
    if all.inputs == node.inputs {
        return;
    }
    if is_computed(graph, &all) {
        *node = all;
        return;
    }
    for i in 0..node.inputs.len() {
        let before = std::mem::replace(&mut node.inputs[i], all.inputs[i]);
        if before != node.inputs[i] && !is_computed(graph, node) {
            node.inputs[i] = before;
        }
    }
}
