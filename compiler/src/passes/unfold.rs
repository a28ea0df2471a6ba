//! Constants that depend on sizes known only at run time are computed there.
//!
//! A model with such sizes is typed for several (see `crate::sizes`), and what depends on shapes alone is a
//! constant in each: a mask, positions divided by a length, the points of a grid. Where these differ in a way
//! that no table of integers says, the nodes that made them come back; what they are made of, shapes in the
//! end, stays constant. A reader that needs to know the elements (a shape, the axes of a sum) keeps the
//! constant. A node that comes back stands before its first reader: what its shape is made of may be a size
//! that data decide on, which is not there earlier. A body reads what comes back in a graph around it as a captured
//! value.

use super::edit::{is, reads};
use crate::graph::{Attr, COMPUTED, Graph, Node, ValueId};
use crate::ops::is_computed;
use std::collections::{HashMap, HashSet};

/// Brings the nodes back whose outputs have the given names (in bodies: behind what [`Graph::bodies`] says), and those
/// of constant conditions of an If. Drops all others that were folded.
pub fn unfold(graph: &mut Graph, names: &HashSet<String>) {
    unfold_in(graph, "", names, &HashMap::new());
}

/// The same of a body; `outer`: what is computed in the graph around it, in place of constants.
fn unfold_in(graph: &mut Graph, around: &str, names: &HashSet<String>, outer: &HashMap<ValueId, ValueId>) {
    let asked = asked(graph, around, names);
    let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
    for (from, here) in std::mem::take(&mut graph.copies) {
        if let Some(&computed) = outer.get(&from).filter(|_| asked.contains(&here)) {
            let captured = computed_like(graph, here);
            graph.captures.push((computed, captured));
            moved.insert(here, captured);
        }
    }
    let mut back = Vec::new();
    for mut node in std::mem::take(&mut graph.folded) {
        if !node.outputs.iter().flatten().any(|o| asked.contains(o)) {
            continue;
        }
        redirect(graph, &mut node, &moved);
        for output in node.outputs.iter_mut().flatten() {
            let computed = computed_like(graph, *output);
            moved.insert(*output, computed);
            *output = computed;
        }
        back.push(node);
    }
    let mut back = Back::new(back);
    for mut node in std::mem::take(&mut graph.nodes) {
        redirect(graph, &mut node, &moved);
        let paths: Vec<String> = graph.bodies(&node, around).into_iter().map(|(path, _)| path).collect();
        let bodies = node.attrs.0.values_mut().filter_map(|attr| match attr {
            Attr::Graph(body) => Some(body),
            _ => None,
        });
        bodies.zip(&paths).for_each(|(body, path)| unfold_in(body, path, names, &moved));
        back.before(reads(&node), &mut graph.nodes);
        graph.nodes.push(node);
    }
    for output in &mut graph.outputs {
        *output = moved.get(output).copied().unwrap_or(*output);
        back.before([*output], &mut graph.nodes);
    }
}

/// A value like a constant, but computed.
fn computed_like(graph: &mut Graph, constant: ValueId) -> ValueId {
    let value = graph.value(constant);
    let (name, ty) = (format!("{}{COMPUTED}", value.name), value.ty.clone());
    graph.add_value(name, ty)
}

/// The constants that are to be computed.
fn asked(graph: &Graph, around: &str, names: &HashSet<String>) -> HashSet<ValueId> {
    let made = graph.folded.iter().flat_map(|n| n.outputs.iter().flatten());
    let made = made.chain(graph.copies.iter().map(|c| &c.1)).copied();
    let is_named = |v: &ValueId| names.contains(&format!("{around}{}", graph.value(*v).name));
    let mut asked: HashSet<ValueId> = made.filter(is_named).collect();
    for node in &graph.nodes {
        asked.extend(node.inputs.iter().flatten().filter(|_| is(node, "If")));
        for (path, body) in graph.bodies(node, around) {
            let within = self::asked(body, &path, names);
            asked.extend(body.copies.iter().filter(|c| within.contains(&c.1)).map(|c| c.0));
        }
    }
    asked
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
    fn before(&mut self, values: impl IntoIterator<Item = ValueId>, list: &mut Vec<Node>) {
        for value in values {
            let node = self.writer.get(&value).and_then(|&i| self.nodes[i].take());
            if let Some(node) = node {
                self.before(node.inputs.iter().flatten().copied().collect::<Vec<_>>(), list);
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
