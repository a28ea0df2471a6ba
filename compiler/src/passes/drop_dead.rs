//! Nodes whose results nobody reads are dropped, and with them the values left over.
//!
//! Folding and inlining leave constants and whole chains behind; every later stage would plan,
//! print and emit them. What finds out a size that data decide stays where sizes are left to run time: a shape
//! that became a constant may have told it.

use super::edit::reads;
use crate::error::Result;
use crate::graph::{Attr, Graph, Node, ValueId};
use crate::ops::{data_decide, decides_size};

/// Drops dead nodes, outputs and values. Values are renumbered, in the same order.
pub fn drop_dead(graph: &mut Graph) -> Result<bool> {
    let mut live = vec![false; graph.values.len()];
    graph.inputs.iter().chain(&graph.outputs).for_each(|&id| live[id as usize] = true);
    let before = (graph.nodes.len(), graph.values.len());
    let mut kept = Vec::new();
    for mut node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if graph.sample > 0 && decides_size(node.op) {
            node.outputs.iter().flatten().take(1).for_each(|&o| live[o as usize] = true);
        }
        if !node.outputs.iter().flatten().any(|&o| live[o as usize]) {
            continue;
        }
        reads(&node).for_each(|id| live[id as usize] = true);
        let unread = |o: &Option<ValueId>| o.is_some_and(|o| !live[o as usize]);
        for output in node.outputs.iter_mut().rev().take_while(|o| o.is_none() || unread(o)) {
            *output = None;
        }
        node.outputs.iter().flatten().for_each(|&o| live[o as usize] = true);
        kept.push(node);
    }
    kept.reverse();
    graph.nodes = kept;
    graph.captures.retain(|c| live[c.1 as usize]);
    renumber(graph, &live);
    Ok(before != (graph.nodes.len(), graph.values.len()))
}

/// The names of the values that results are made of: the outputs, and what the nodes read that lead to them, those that
/// were computed while the graph was typed included.
pub fn wanted(graph: &Graph) -> impl Iterator<Item = &str> {
    let read = graph.values.iter().zip(read(graph));
    read.filter(|(_, live)| *live).map(|(value, _)| value.name.as_str())
}

/// Whether data decide a size that the outputs are made of.
pub fn data_decide_outputs(graph: &Graph) -> bool {
    let live = read(graph);
    let is_read = |node: &Node| node.outputs.iter().flatten().any(|&o| live[o as usize]);
    graph.nodes.iter().any(|node| is_read(node) && data_decide(node))
}

/// Which values the outputs are made of.
fn read(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|&id| live[id as usize] = true);
    for node in graph.nodes.iter().rev().chain(graph.folded.iter().rev()) {
        if node.outputs.iter().flatten().any(|&o| live[o as usize]) {
            reads(node).for_each(|id| live[id as usize] = true);
        }
    }
    live
}

/// Keeps the live values only.
fn renumber(graph: &mut Graph, live: &[bool]) {
    let mut next = 0;
    let new: Vec<ValueId> = live
        .iter()
        .map(|&l| {
            next += ValueId::from(l);
            next.wrapping_sub(1)
        })
        .collect();
    let mut old = 0;
    graph.values.retain(|_| {
        old += 1;
        live[old - 1]
    });
    let map = |id: &mut ValueId| *id = new[*id as usize];
    graph.inputs.iter_mut().chain(&mut graph.outputs).for_each(map);
    graph.captures.iter_mut().for_each(|c| map(&mut c.1));
    for node in &mut graph.nodes {
        node.inputs.iter_mut().chain(&mut node.outputs).flatten().for_each(map);
        for attr in node.attrs.0.values_mut() {
            if let Attr::Graph(body) = attr {
                body.captures.iter_mut().for_each(|c| map(&mut c.0));
            }
        }
    }
}
