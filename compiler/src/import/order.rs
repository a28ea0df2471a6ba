//! Nodes in order of execution: names written once, no cycles.

use super::{Body, Declared, SourceNode};
use crate::base::Tensor;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// An error where a name is written twice.
pub(super) fn check_names<'a>(
    inputs: &'a [Declared],
    constants: impl Iterator<Item = &'a (String, Tensor)>,
    nodes: &'a [SourceNode],
) -> Result<()> {
    let mut seen = HashSet::new();
    let names = inputs.iter().map(|i| &i.name).chain(constants.map(|c| &c.0));
    for name in names {
        if name.is_empty() {
            return Err(Error::model("an input or initializer has no name"));
        }
        if !seen.insert(name.as_str()) {
            return Err(Error::model(format!("two inputs or initializers are named '{name}'")));
        }
    }
    for node in nodes {
        for name in node.outputs.iter().filter(|n| !n.is_empty()) {
            if !seen.insert(name.as_str()) {
                return Err(Error::model(format!("the value '{name}' is written a second time"))
                    .advise("Every name must be written once; onnx.checker reports the same")
                    .at(node.place()));
            }
        }
    }
    Ok(())
}

/// Names that a body takes from the graphs around it.
fn captured<'a>(body: &'a Body, names: &mut HashSet<&'a str>) {
    let mut own: HashSet<&str> = body.inputs.iter().map(|i| i.name.as_str()).collect();
    own.extend(body.constants.iter().map(|c| c.0.as_str()));
    own.extend(body.nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str)));
    let mut used: HashSet<&str> = body.outputs.iter().map(|o| o.name.as_str()).collect();
    body.nodes.iter().for_each(|n| used.extend(reads(n)));
    names.extend(used.difference(&own));
}

/// All names a node reads, those captured by its subgraphs included.
pub(crate) fn reads(node: &SourceNode) -> HashSet<&str> {
    let mut names: HashSet<&str> = node.inputs.iter().map(String::as_str).collect();
    node.bodies.values().for_each(|b| captured(b, &mut names));
    names
}

/// The nodes, each after those it depends on, otherwise as the file has them.
pub(super) fn sorted(nodes: Vec<SourceNode>) -> Result<Vec<SourceNode>> {
    let mut writer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        node.outputs.iter().filter(|n| !n.is_empty()).for_each(|n| {
            writer.insert(n, i);
        });
    }
    let needs: Vec<Vec<usize>> =
        nodes.iter().map(|n| reads(n).into_iter().filter_map(|r| writer.get(r).copied()).collect()).collect();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    needs.iter().enumerate().for_each(|(i, ns)| ns.iter().for_each(|&n| users[n].push(i)));
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        waiting.iter().enumerate().filter(|(_, w)| **w == 0).map(|(i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &user in &users[i] {
            waiting[user] -= 1;
            if waiting[user] == 0 {
                ready.push(Reverse(user));
            }
        }
    }
    if order.len() < nodes.len() {
        return Err(cycle(&nodes, &needs, &waiting));
    }
    let mut slots: Vec<Option<SourceNode>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|i| slots[i].take()).collect())
}

/// Names a cycle among the nodes that are still waiting.
fn cycle(nodes: &[SourceNode], needs: &[Vec<usize>], waiting: &[usize]) -> Error {
    let mut at = waiting.iter().position(|&w| w > 0).unwrap_or(0);
    let mut path = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = needs[at].iter().copied().find(|&n| waiting[n] > 0).unwrap_or(at);
    }
    let from = path.iter().position(|&p| p == at).unwrap_or(0);
    let names: Vec<_> = path[from..].iter().take(6).map(|&i| format!("'{}'", nodes[i].name)).collect();
    let reason = match &names[..] {
        [one] => format!("{one} depends on itself"),
        several => format!("{} depend on each other", several.join(", ")),
    };
    Error::model(format!("the graph has a cycle: {reason}"))
        .advise("An ONNX graph must be acyclic; onnx.checker reports the same")
        .at(nodes[at].place())
}
