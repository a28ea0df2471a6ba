//! Rows that come one by one to the same weights are multiplied together.
//!
//! Unrolled cells multiply each step's input apart, and a product of one row takes the time that its weights take to
//! come from memory:
//! ```text
//! a = Gemm(x, w)      ->    x' = Concat(x, y) { axis = 0 }
//! b = Gemm(y, w)            c = Gemm(x', w)    a = c[0:1]    b = c[1:2]
//! ```
//! Where none of the inputs depends on one of the results. Where sizes are free, nothing changes.

use super::edit::{cut, is, like, put, reads, sort};
use crate::error::Result;
use crate::graph::{Attr, Attrs, Graph, Node, ValueId};
use crate::ops::NodeBuilder;
use std::collections::HashMap;

/// Weights from which on they do not stay beside what else a step reads.
const MANY: usize = 1 << 13;
/// Rows up to which a product spends its time on reading weights.
const FEW: usize = 8;

/// Merges the products of each weights.
pub fn merge_rows(graph: &mut Graph) -> Result<bool> {
    let mut groups: HashMap<(ValueId, Option<ValueId>), usize> = HashMap::new();
    for node in graph.nodes.iter().filter(|_| graph.shapes.is_empty()) {
        if let Some(rows) = Rows::of(graph, node) {
            *groups.entry((rows.weights, rows.bias)).or_default() += 1;
        }
    }
    let mut groups: Vec<_> = groups.into_iter().filter(|g| g.1 > 1).map(|g| g.0).collect();
    groups.sort_unstable();
    let mut changed = false;
    for (weights, bias) in groups {
        changed |= merge(graph, weights, bias)?;
    }
    Ok(changed)
}

/// A product of few rows.
struct Rows {
    data: ValueId,
    weights: ValueId,
    bias: Option<ValueId>,
}

impl Rows {
    fn of(graph: &Graph, node: &Node) -> Option<Rows> {
        let input = |i: usize| node.inputs.get(i).copied().flatten();
        let (data, weights, bias) = (input(0)?, input(1)?, input(2));
        let gemm = is(node, "Gemm") && !node.attrs.flag("transA", false).ok()?;
        let shape = &graph.value(weights).ty.shape;
        let held = shape.iter().product::<usize>() >= MANY && graph.value(weights).constant.is_some();
        if !(gemm || is(node, "MatMul")) || !held || shape.len() != 2 {
            return None;
        }
        // A bias of each row would have to be joined, too.
        let alike = |id: ValueId| matches!(graph.value(id).ty.shape[..], [] | [_] | [1, _]);
        let (_, rows) = graph.value(data).ty.shape.split_last()?;
        let computed = graph.value(data).constant.is_none();
        let few = !rows.is_empty() && rows.iter().product::<usize>() <= FEW;
        (computed && few && bias.is_none_or(alike)).then_some(Rows { data, weights, bias })
    }
}

/// Joins what one matrix multiplies, as far as it is alike.
fn merge(graph: &mut Graph, weights: ValueId, bias: Option<ValueId>) -> Result<bool> {
    let of = |graph: &Graph, node: &Node| {
        Rows::of(graph, node).filter(|r| (r.weights, r.bias) == (weights, bias)).map(|r| r.data)
    };
    let all: Vec<(usize, ValueId)> =
        graph.nodes.iter().enumerate().filter_map(|(n, node)| Some((n, of(graph, node)?))).collect();
    let depends = dependent(graph, &all);
    let mut members: Vec<(usize, ValueId)> = all.into_iter().filter(|m| !depends[m.1 as usize]).collect();
    let Some(&(first, data)) = members.first() else { return Ok(false) };
    let model = graph.nodes[first].clone();
    let inner = graph.value(data).ty.shape[1..].to_vec();
    members.retain(|&(n, data)| {
        let (node, shape) = (&graph.nodes[n], &graph.value(data).ty.shape);
        let same = format!("{:?}", node.attrs) == format!("{:?}", model.attrs);
        same && (node.op.name, node.opset) == (model.op.name, model.opset) && shape[1..] == inner
    });
    if members.len() < 2 {
        return Ok(false);
    }
    let mut b = NodeBuilder::new(graph, model.name.clone(), i64::MAX);
    let rows: Vec<ValueId> = members.iter().map(|m| m.1).collect();
    let joined = b.one("Concat", &rows, Attrs::default().with("axis", Attr::Int(0)))?;
    let product = like(&mut b, &model, vec![Some(joined), Some(weights), bias])?;
    let made = std::mem::take(&mut b.nodes);
    graph.nodes.extend(made);
    let mut from = 0;
    for (n, data) in members {
        let to = from + graph.value(data).ty.shape[0];
        put(graph, n, |b| cut(b, product, 0, from..to)).map_err(crate::error::Error::bug)?;
        from = to;
    }
    sort(graph);
    Ok(true)
}

/// Of each value, whether it depends on what some nodes make.
fn dependent(graph: &Graph, nodes: &[(usize, ValueId)]) -> Vec<bool> {
    let mut depends = vec![false; graph.values.len()];
    let mut members = nodes.iter().map(|m| m.0).peekable();
    for (n, node) in graph.nodes.iter().enumerate() {
        let member = members.next_if_eq(&n).is_some();
        if member || reads(node).any(|id| depends[id as usize]) {
            node.outputs.iter().flatten().for_each(|&id| depends[id as usize] = true);
        }
    }
    depends
}
