//! Equal nodes and equal constants become one.
//!
//! Exporters repeat shape arithmetic, masks and scalars; tf2onnx repeats whole constants. Fewer
//! values make fusions legal that need a single reader or the same operand.

use super::edit::{remove, replace};
use crate::base::{Tensor, TensorType};
use crate::error::Result;
use crate::graph::{Attr, Graph, Node, Value, ValueId};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Merges constants, then nodes in order.
pub fn merge_equal(graph: &mut Graph) -> Result<bool> {
    let constants = merge_constants(graph);
    Ok(merge_nodes(graph) || constants)
}

/// What makes two constants equal.
#[derive(PartialEq, Eq)]
enum Content {
    Elements(TensorType, Arc<[u8]>),
    /// It depends on sizes known only at run time; what is equal in one sample may be so by chance.
    Alike(usize),
}

/// Of so many parts of the elements a hash is made: weights are not read whole where they are compared with none.
const HASHED: usize = 64;

impl Hash for Content {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Content::Elements(ty, data) => {
                ty.hash(state);
                let parts = data.chunks(8);
                let step = parts.len().div_ceil(HASHED).max(1);
                parts.step_by(step).for_each(|part| part.hash(state));
            }
            Content::Alike(number) => number.hash(state),
        }
    }
}

/// What a constant is; `None` where it may depend on sizes in a way that is not known.
fn content(graph: &Graph, value: &Value, tensor: &Tensor) -> Option<Content> {
    match graph.alike.get(&value.name) {
        Some(&number @ 1..) => return Some(Content::Alike(number)),
        // A pass has made it, in other samples of other sizes.
        None if graph.sample > 0 => return None,
        _ => {}
    }
    Some(Content::Elements(tensor.ty.clone(), tensor.data.clone()))
}

fn merge_constants(graph: &mut Graph) -> bool {
    let mut first: HashMap<Content, ValueId> = HashMap::new();
    let mut same: Vec<(ValueId, ValueId)> = Vec::new();
    for (id, value) in graph.values.iter().enumerate() {
        let id = id as ValueId;
        let tensor = value.constant.as_ref().filter(|_| !graph.outputs.contains(&id));
        if let Some(content) = tensor.and_then(|t| content(graph, value, t)) {
            let known = *first.entry(content).or_insert(id);
            if known != id {
                same.push((id, known));
            }
        }
    }
    let merged: HashMap<ValueId, ValueId> = same.into_iter().collect();
    let mut changed = false;
    for node in &mut graph.nodes {
        for id in node.inputs.iter_mut().flatten() {
            if let Some(&known) = merged.get(id) {
                *id = known;
                changed = true;
            }
        }
    }
    changed
}

/// Whether a node may be one with another: none that draws random numbers, or has a body.
fn may_be_merged(node: &Node) -> bool {
    let random = ["RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "Dropout"];
    let body = node.attrs.0.values().any(|a| matches!(a, Attr::Graph(_)));
    !body && !random.iter().any(|r| node.op.name.starts_with(r))
}

/// Whether two attributes are the same to the bit.
fn same_attribute(a: &Attr, b: &Attr) -> bool {
    let bits = |a: &f32, b: &f32| a.to_bits() == b.to_bits();
    match (a, b) {
        (Attr::Float(a), Attr::Float(b)) => bits(a, b),
        (Attr::Floats(a), Attr::Floats(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(a, b)),
        (Attr::Tensor(a), Attr::Tensor(b)) => a.ty == b.ty && a.data == b.data,
        (Attr::Int(a), Attr::Int(b)) => a == b,
        (Attr::Ints(a), Attr::Ints(b)) => a == b,
        (Attr::Str(a), Attr::Str(b)) => a == b,
        (Attr::Strs(a), Attr::Strs(b)) => a == b,
        _ => false,
    }
}

fn same_attributes(a: &Node, b: &Node) -> bool {
    let (a, b) = (&a.attrs.0, &b.attrs.0);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same_attribute(a.1, b.1))
}

fn merge_nodes(graph: &mut Graph) -> bool {
    // Nodes of one operator with the same inputs, each with attributes of its own.
    let mut first: HashMap<_, Vec<usize>> = HashMap::new();
    let mut dead = vec![false; graph.nodes.len()];
    for (i, dead) in dead.iter_mut().enumerate() {
        let node = &graph.nodes[i];
        if !may_be_merged(node) {
            continue;
        }
        let alike = first.entry((node.op.domain, node.op.name, node.opset, node.inputs.clone())).or_default();
        let Some(&known) = alike.iter().find(|&&k| same_attributes(&graph.nodes[k], node)) else {
            alike.push(i);
            continue;
        };
        let (a, b) = (&graph.nodes[known].outputs, &graph.nodes[i].outputs);
        let pairs: Option<Vec<(ValueId, ValueId)>> =
            b.iter().zip(a).filter(|(b, _)| b.is_some()).map(|(b, a)| Some(((*b)?, (*a)?))).collect();
        let Some(pairs) = pairs.filter(|p| !p.is_empty() && b.len() <= a.len()) else {
            continue;
        };
        if pairs.iter().any(|(b, _)| graph.outputs.contains(b)) {
            continue;
        }
        *dead = pairs.into_iter().all(|(b, a)| replace(graph, b, a));
    }
    let changed = dead.contains(&true);
    remove(graph, &dead);
    changed
}
