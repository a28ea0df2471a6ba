//! Branches of an If that the options choose: their nodes take its place, so that what is written is the model of that
//! branch alone.

use super::onnx::{Node, Onnx};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use tract_onnx::pb;

/// Inlines the branches whose conditions are inputs that have a choice here. Those inputs go, unless something else
/// reads them; returns which were removed, by number.
pub fn choose(onnx: &mut Onnx, branches: &BTreeMap<String, bool>) -> Result<Vec<usize>> {
    if branches.is_empty() {
        return Ok(Vec::new());
    }
    onnx.reserve_names();
    let choice = |node: &Node| branches.get(node.input(0)?).copied().filter(|_| node.op() == "If");
    while let Some((at, taken)) = onnx.nodes.iter().enumerate().find_map(|(i, n)| Some((i, choice(n)?))) {
        let node = onnx.nodes.remove(at);
        let nodes = inlined(onnx, &node, taken).map_err(|e| e.at(node.place()))?;
        onnx.nodes.splice(at..at, nodes);
    }
    let readers = onnx.readers();
    let constants: Vec<&str> = onnx.initializers.iter().map(|i| i.proto.name.as_str()).collect();
    let given = onnx.inputs.iter().filter(|i| !constants.contains(&i.name.as_str()));
    let gone: Vec<(usize, String)> = (given.enumerate())
        .filter(|(_, i)| branches.contains_key(&i.name) && !readers.contains_key(&i.name))
        .map(|(number, i)| (number, i.name.clone()))
        .collect();
    onnx.inputs.retain(|i| !gone.iter().any(|(_, name)| *name == i.name));
    Ok(gone.into_iter().map(|(number, _)| number).collect())
}

/// The nodes of a branch, under names of their own; its constants become those of the model.
fn inlined(onnx: &mut Onnx, node: &Node, taken: bool) -> Result<Vec<Node>> {
    let attribute = if taken { "then_branch" } else { "else_branch" };
    let body = node.attr(attribute).and_then(|a| a.g.as_ref());
    let body = body.ok_or_else(|| Error::model(format!("has no {attribute}")))?;
    if body.output.len() != node.outputs.len() {
        let (own, given) = (node.outputs.len(), body.output.len());
        return Err(Error::model(format!("has {own} outputs, its {attribute} {given}")));
    }
    let mut names: HashMap<String, String> = HashMap::new();
    let written = body.node.iter().flat_map(|n| &n.output).filter(|n| !n.is_empty());
    for name in written.chain(body.initializer.iter().map(|i| &i.name)) {
        let new = onnx.fresh(name);
        names.insert(name.clone(), new);
    }
    for constant in &body.initializer {
        let proto = pb::TensorProto { name: names[&constant.name].clone(), ..constant.clone() };
        onnx.add_initializer(proto);
    }
    let mut nodes: Vec<Node> = body.node.iter().map(|n| Node::of(&renamed(n, &names))).collect();
    for (outer, inner) in node.outputs.iter().zip(&body.output).filter(|(outer, _)| !outer.is_empty()) {
        let inner = names.get(&inner.name).unwrap_or(&inner.name);
        nodes.push(Node::new("Identity", outer, &[inner], &[outer]));
    }
    Ok(nodes)
}

/// A node with other names for what it reads and writes, and for what its bodies read from around them.
fn renamed(node: &pb::NodeProto, names: &HashMap<String, String>) -> pb::NodeProto {
    let mut node = node.clone();
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    }
    for body in node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
        let own = body.input.iter().map(|i| &i.name).chain(body.initializer.iter().map(|i| &i.name));
        let own: Vec<String> = own.chain(body.node.iter().flat_map(|n| &n.output)).cloned().collect();
        let mut around = names.clone();
        around.retain(|name, _| !own.contains(name));
        body.node.iter_mut().for_each(|n| *n = renamed(n, &around));
        for output in &mut body.output {
            if let Some(new) = around.get(&output.name) {
                output.name.clone_from(new);
            }
        }
    }
    node
}
