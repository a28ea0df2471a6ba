//! The table of operators: one row each.

use super::{
    Operator, cast, chosen, compositions, control, distinct, elementwise, ml, movement, nn, random, reduce,
    require, scan, scatter, sized, structure, suppress, top_k,
};
use crate::graph::{Attr, Graph, Node};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The rows by domain and name: they are looked up for each node, as often as a model is typed.
static BY_NAME: LazyLock<HashMap<(&str, &str), &Operator>> =
    LazyLock::new(|| rows().map(|row| ((row.domain, row.name), row)).collect());

/// All families of operators, each a list of rows.
const FAMILIES: &[&[Operator]] = &[
    structure::ROWS,
    control::ROWS,
    cast::ROWS,
    random::ROWS,
    reduce::ROWS,
    scan::ROWS,
    scatter::ROWS,
    top_k::ROWS,
    chosen::ROWS,
    require::ROWS,
    sized::ROWS,
    distinct::ROWS,
    suppress::ROWS,
];

/// All rows.
pub fn rows() -> impl Iterator<Item = &'static Operator> {
    FAMILIES
        .iter()
        .chain(compositions::FAMILIES)
        .chain(elementwise::FAMILIES)
        .chain(movement::FAMILIES)
        .chain(nn::FAMILIES)
        .chain(ml::FAMILIES)
        .flat_map(|f| f.iter())
}

/// The row of an operator.
pub fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    BY_NAME.get(&(domain, name)).copied()
}

/// Whether data decide the size of an operator's result.
pub fn decides_size(op: &Operator) -> bool {
    let rows = [sized::ROWS, distinct::ROWS, suppress::ROWS];
    rows.iter().copied().flatten().any(|row| (row.domain, row.name) == (op.domain, op.name))
}

/// Whether data decide the size of a result in a graph, or in the bodies of its control flow.
pub fn data_decide_sizes(graph: &Graph) -> bool {
    graph.nodes.iter().any(data_decide)
}

/// Whether data decide the size of a node's result, or of one in its bodies.
pub fn data_decide(node: &Node) -> bool {
    let inside = |attr: &Attr| matches!(attr, Attr::Graph(body) if data_decide_sizes(body));
    decides_size(node.op) || node.attrs.0.values().any(inside)
}
