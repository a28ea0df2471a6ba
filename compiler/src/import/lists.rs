//! Outputs that are sequences: where one node puts tensors together, each of them is an output of its own, as in
//! sklearn-onnx's classifiers of several labels.

use super::{Body, Declared, SourceNode};
use std::collections::HashSet;

/// Outputs `NAME_0`, `NAME_1`, ... in the place of a sequence `NAME`.
pub(super) fn dissolve(body: &mut Body) {
    let mut taken: HashSet<String> = body.nodes.iter().flat_map(|n| n.outputs.clone()).collect();
    taken.extend(body.inputs.iter().chain(&body.outputs).map(|d| d.name.clone()));
    taken.extend(body.constants.iter().chain(&body.words).map(|c| c.0.clone()));
    let mut outputs = Vec::new();
    for declared in std::mem::take(&mut body.outputs) {
        let made = |n: &&SourceNode| {
            n.domain.is_empty() && n.op == "SequenceConstruct" && n.outputs.contains(&declared.name)
        };
        let list = body.nodes.iter().find(made).filter(|_| !declared.is_tensor);
        let Some((elements, opset)) = list.map(|n| (n.inputs.clone(), n.opset)) else {
            outputs.push(declared);
            continue;
        };
        for (i, element) in elements.iter().enumerate() {
            let mut name = format!("{}_{i}", declared.name);
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            body.nodes.push(SourceNode::plain("Identity", opset, &[element], &name));
            outputs.push(Declared::plain(&name));
        }
    }
    body.outputs = outputs;
}
