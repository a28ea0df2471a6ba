//! Bodies of control flow in one space of values: what they capture is the outer value itself.

use crate::error::{Error, Result};
use crate::graph::{Attr, Graph, Node, ValueId};
use std::collections::{HashMap, HashSet};

/// A body whose values are values of the flat graph.
pub(super) struct Body {
    /// What the body is given, in order.
    pub inputs: Vec<ValueId>,
    /// What it gives, in order.
    pub outputs: Vec<ValueId>,
    /// Its nodes.
    pub items: Vec<Item>,
    /// Values that its own nodes write.
    pub written: HashSet<ValueId>,
}

/// A node with its bodies.
pub(super) struct Nested<B> {
    /// The node, without its graph attributes.
    pub node: Node,
    /// Its body or bodies.
    pub bodies: B,
}

/// A node of the flat graph.
pub(super) enum Item {
    /// Any but control flow.
    Node(Node),
    /// The branches for true and false.
    If(Nested<[Body; 2]>),
    /// Repeated with carried values.
    Loop(Nested<Body>),
    /// Repeated over slices.
    Scan(Nested<Body>),
}

impl Item {
    /// The node.
    pub(super) fn node(&self) -> &Node {
        match self {
            Item::Node(node) => node,
            Item::If(nested) => &nested.node,
            Item::Loop(nested) | Item::Scan(nested) => &nested.node,
        }
    }
}

/// The graph with its values followed by those of all bodies, and what is lowered of it.
pub(super) fn flatten(graph: &Graph) -> Result<(Graph, Vec<Item>)> {
    let mut flat = Graph {
        values: graph.values.clone(),
        sample: graph.sample,
        shapes: graph.shapes.clone(),
        nodes: graph.nodes.clone(),
        outputs: graph.outputs.clone(),
        ..Graph::default()
    };
    let identity = |id: ValueId| id;
    let items =
        graph.nodes.iter().map(|n| item(&mut flat, graph, n, "", &identity)).collect::<Result<_>>()?;
    Ok((flat, items))
}

fn item(
    flat: &mut Graph,
    graph: &Graph,
    node: &Node,
    around: &str,
    map: &dyn Fn(ValueId) -> ValueId,
) -> Result<Item> {
    let mut plain = node.clone();
    plain.attrs.0.retain(|_, v| !matches!(v, Attr::Graph(_)));
    plain.inputs.iter_mut().chain(&mut plain.outputs).flatten().for_each(|id| *id = map(*id));
    let mut nested = |name: &str| -> Result<Body> {
        let missing = || Error::bug(format!("attribute {name} is no graph"));
        let path = graph.body_path(node, name, around);
        body(flat, node.attrs.get_graph(name)?.ok_or_else(missing)?, &path, map)
    };
    Ok(match (node.op.domain, node.op.name) {
        ("", "If") => {
            let bodies = [nested("then_branch")?, nested("else_branch")?];
            Item::If(Nested { node: plain, bodies })
        }
        ("", "Loop") => Item::Loop(Nested { bodies: nested("body")?, node: plain }),
        ("", "Scan") => Item::Scan(Nested { bodies: nested("body")?, node: plain }),
        _ => Item::Node(plain),
    })
}

fn body(flat: &mut Graph, body: &Graph, path: &str, map: &dyn Fn(ValueId) -> ValueId) -> Result<Body> {
    let captured: HashMap<ValueId, ValueId> =
        body.captures.iter().map(|&(outer, inner)| (inner, map(outer))).collect();
    let mut ids = Vec::with_capacity(body.values.len());
    for (inner, value) in body.values.iter().enumerate() {
        ids.push(captured.get(&(inner as ValueId)).copied().unwrap_or_else(|| {
            let mut value = value.clone();
            value.name = format!("{path}{}.{}", value.name, flat.values.len());
            flat.values.push(value);
            (flat.values.len() - 1) as ValueId
        }));
    }
    let inner = |id: ValueId| ids[id as usize];
    let items: Vec<Item> =
        body.nodes.iter().map(|n| item(flat, body, n, path, &inner)).collect::<Result<_>>()?;
    let written = items.iter().flat_map(|i| i.node().outputs.iter().flatten().copied()).collect();
    let of = |ids: &[ValueId]| ids.iter().map(|&id| inner(id)).collect();
    Ok(Body { inputs: of(&body.inputs), outputs: of(&body.outputs), items, written })
}
