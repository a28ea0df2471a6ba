//! Weights in the bodies of control flow (If, Loop, Scan).
//!
//! Bodies read values of the graph around them by name, so their weights may be constants of the model. There they
//! are stored like any others, and put back before the bodies run.

use super::onnx::{Node, Onnx, axes};
use crate::base::DType;
use crate::import::from_tensor_proto;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tract_onnx::pb;

/// Constants of fewer elements stay where they are.
const SMALL: i64 = 256;

/// A constant of the model that a node in a body multiplies with.
#[derive(Clone, Debug, PartialEq)]
pub struct Inner {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Name of the constant.
    pub constant: String,
    /// The axis of the constant along which its channels lie.
    pub axis: Option<usize>,
}

/// Makes weights in bodies constants of the model.
pub fn hoist(onnx: &mut Onnx) {
    if !onnx.nodes.iter().flat_map(Node::bodies).any(holds_weights) {
        return;
    }
    onnx.reserve_names();
    let mut nodes = std::mem::take(&mut onnx.nodes);
    let mut found = Vec::new();
    for node in nodes.iter_mut().filter(|n| n.bodies().any(holds_weights)) {
        for body in node.bodies_mut() {
            lift(onnx, body, &HashMap::new(), &mut found);
        }
    }
    onnx.nodes = nodes;
    for (name, proto) in found {
        if let Ok(tensor) = from_tensor_proto(&proto, None) {
            onnx.set_constant(&name, &tensor);
        }
    }
}

/// Whether a tensor may be moved: floats that lie in the file itself.
fn is_weight(proto: &pb::TensorProto) -> bool {
    let elements = proto.dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d));
    proto.data_type == DType::F32 as i32
        && proto.dims.len() > 1
        && elements.is_some_and(|n| n >= SMALL)
        && proto.external_data.is_empty()
        && from_tensor_proto(proto, None).is_ok()
}

/// The tensor of a Constant, where it may be moved.
fn constant(node: &pb::NodeProto) -> Option<&pb::TensorProto> {
    let plain = node.op_type == "Constant" && matches!(node.domain.as_str(), "" | "ai.onnx");
    let value = node.attribute.iter().find(|a| plain && a.name == "value")?;
    value.t.as_ref().filter(|t| is_weight(t))
}

fn holds_weights(graph: &pb::GraphProto) -> bool {
    let inner = |node: &pb::NodeProto| constant(node).is_some() || graphs(node).any(holds_weights);
    graph.initializer.iter().any(is_weight) || graph.node.iter().any(inner)
}

fn graphs(node: &pb::NodeProto) -> impl Iterator<Item = &pb::GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// Takes the weights out of a body and those in it; `names` are new names of what was moved around it.
fn lift(
    onnx: &mut Onnx,
    graph: &mut pb::GraphProto,
    names: &HashMap<String, String>,
    found: &mut Vec<(String, pb::TensorProto)>,
) {
    let mut names = names.clone();
    let results: BTreeSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut take = |name: &str, tensor: &pb::TensorProto| {
        let moved = !results.contains(name);
        if moved {
            let new = onnx.fresh(name);
            found.push((new.clone(), tensor.clone()));
            names.insert(name.to_string(), new);
        }
        moved
    };
    graph.initializer.retain(|t| !(is_weight(t) && take(&t.name, t)));
    graph.node.retain(|n| match (constant(n), n.output.first()) {
        (Some(tensor), Some(name)) => !take(name, tensor),
        _ => true,
    });
    for node in &mut graph.node {
        for input in &mut node.input {
            if let Some(new) = names.get(input) {
                *input = new.clone();
            }
        }
        let bodies = node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs));
        bodies.for_each(|body| lift(onnx, body, &names, found));
    }
}

/// What a value consists of: constants of the model.
#[derive(Clone, Default)]
struct Source {
    names: BTreeSet<String>,
    /// Whether it is one of them, not parts.
    whole: bool,
}

type Sources = BTreeMap<String, Source>;

/// The constants of the model that layers in bodies multiply with, in order; each once for each layer.
pub fn weights(onnx: &Onnx) -> Vec<Inner> {
    let mut found = Vec::new();
    if !onnx.nodes.iter().any(Node::has_bodies) {
        return found;
    }
    let nodes = onnx.nodes.iter().filter(|n| n.op() == "Constant").map(|n| n.output());
    let constants = onnx.initializers.iter().map(|i| i.proto.name.as_str()).chain(nodes);
    let whole =
        |name: &str| (name.to_string(), Source { names: BTreeSet::from([name.to_string()]), whole: true });
    let known: Sources = constants.map(whole).collect();
    for node in &onnx.nodes {
        node.bodies().for_each(|body| search(onnx, node, body, &known, &mut found));
    }
    found.dedup();
    found
}

/// Operators that only move elements: channels stay rows of the constant.
const MOVES: &[&str] =
    &["Identity", "Slice", "Concat", "Unsqueeze", "Squeeze", "Transpose", "Reshape", "Split"];

/// Looks through a body of a node; `around` are the sources of the values outside.
fn search(onnx: &Onnx, owner: &Node, graph: &pb::GraphProto, around: &Sources, found: &mut Vec<Inner>) {
    let mut sources = around.clone();
    let own = graph.input.iter().map(|i| &i.name).chain(graph.initializer.iter().map(|i| &i.name));
    own.for_each(|name| {
        sources.remove(name);
    });
    sources.extend(states(owner, graph, around));
    for proto in &graph.node {
        let node = Node::of(proto);
        for (input, name) in node.inputs.iter().enumerate() {
            let Some(source) = sources.get(name) else { continue };
            for constant in &source.names {
                let Some((shape, _)) = onnx.floats(constant) else { continue };
                let rank = if source.whole { shape.len() } else { expected(node.op()) };
                let Some((axis, _)) = axes(&node, input, rank) else { continue };
                if shape.len() < 2 || shape.iter().product::<usize>() < SMALL as usize {
                    continue;
                }
                let (node, op) = (node.name().to_string(), node.op().to_string());
                let axis = if source.whole { axis } else { Some(0) };
                found.push(Inner { node, op, constant: constant.clone(), axis });
            }
        }
        let moved = moved(&node, &sources);
        for output in &node.outputs {
            match &moved {
                Some(source) => sources.insert(output.clone(), source.clone()),
                None => sources.remove(output),
            };
        }
        node.bodies().for_each(|body| search(onnx, &node, body, &sources, found));
    }
}

/// Where what a node moves comes from, if all of it comes from constants.
fn moved(node: &Node, sources: &Sources) -> Option<Source> {
    let data = if node.op() == "Concat" { node.inputs.len() } else { 1 };
    let all: Option<Vec<&Source>> = node.inputs.iter().take(data).map(|n| sources.get(n)).collect();
    let all = all.filter(|all| MOVES.contains(&node.op()) && !all.is_empty())?;
    let whole = node.op() == "Identity" && all.iter().all(|s| s.whole);
    Some(Source { names: all.into_iter().flat_map(|s| s.names.iter().cloned()).collect(), whole })
}

/// The states of a loop that it hands on as they are: what they are when it begins.
fn states(owner: &Node, graph: &pb::GraphProto, around: &Sources) -> Sources {
    let first = if owner.op() == "Loop" { 2 } else { owner.inputs.len() };
    let kept = |at: usize| {
        let (inner, result) = (&graph.input.get(at)?.name, &graph.output.get(at - 1)?.name);
        let renames = |n: &pb::NodeProto| {
            n.op_type == "Identity" && n.input.first() == Some(inner) && n.output.first() == Some(result)
        };
        let same = inner == result || graph.node.iter().any(renames);
        Some((inner.clone(), around.get(owner.input(at)?).filter(|_| same)?.clone()))
    };
    (first..owner.inputs.len()).filter_map(kept).collect()
}

/// The rank of an operator's weights, where it is always the same.
fn expected(op: &str) -> usize {
    if matches!(op, "LSTM" | "GRU" | "RNN") { 3 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Tensor;
    use crate::import::to_tensor_proto;
    use prost::Message;

    fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
        pb::NodeProto {
            op_type: op.into(),
            name: format!("the {op} of {output}"),
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output: vec![output.to_string()],
            ..Default::default()
        }
    }

    /// A branch whose weights have the name that those of the other have.
    fn branch(output: &str, weights: &Tensor) -> pb::AttributeProto {
        let mut constant = node("Constant", &[], "w");
        constant.attribute.push(pb::AttributeProto {
            name: "value".into(),
            t: Some(to_tensor_proto("", weights)),
            ..Default::default()
        });
        let products = [
            node("MatMul", &["x", "w"], "p"),
            node("Transpose", &["outer"], "t"),
            node("MatMul", &["p", "t"], output),
        ];
        let graph = pb::GraphProto {
            node: [vec![constant], products.to_vec()].concat(),
            output: vec![pb::ValueInfoProto { name: output.into(), ..Default::default() }],
            ..Default::default()
        };
        let kind = pb::attribute_proto::AttributeType::Graph as i32;
        pb::AttributeProto { name: output.into(), g: Some(graph), r#type: kind, ..Default::default() }
    }

    /// A loop whose body multiplies with a state that it hands on.
    #[test]
    fn states_that_stay_are_weights() {
        let info = |name: &str| pb::ValueInfoProto { name: name.into(), ..Default::default() };
        let body = |kept: &str| pb::GraphProto {
            node: vec![
                node("Identity", &["go"], "on"),
                node("MatMul", &["x", "w"], "next"),
                node("Identity", &["w"], "same"),
            ],
            input: ["i", "go", "x", "w"].map(info).to_vec(),
            output: ["on", "next", kept].map(info).to_vec(),
            ..Default::default()
        };
        let found = |kept: &str| {
            let mut repeat = node("Loop", &["count", "", "start", "outer"], "last");
            let g = Some(body(kept));
            repeat.attribute = vec![pb::AttributeProto { name: "body".into(), g, ..Default::default() }];
            let graph = pb::GraphProto {
                node: vec![repeat],
                initializer: vec![to_tensor_proto("outer", &Tensor::new([16, 16], &[1.0f32; 256]))],
                ..Default::default()
            };
            let proto = pb::ModelProto { graph: Some(graph), ..Default::default() };
            weights(&Onnx::decode(&proto.encode_to_vec(), None).unwrap())
        };
        for kept in ["w", "same"] {
            let [layer] = found(kept).try_into().unwrap();
            assert_eq!((layer.constant.as_str(), layer.axis), ("outer", Some(1)));
        }
        assert_eq!(found("next"), []);
    }

    #[test]
    fn weights_of_bodies_become_constants_of_the_model() {
        let weights = |x: f32| Tensor::new([16, 16], &[x; 256]);
        let mut choose = node("If", &["c"], "y");
        choose.attribute = vec![branch("then", &weights(1.0)), branch("else", &weights(2.0))];
        let graph = pb::GraphProto {
            node: vec![choose],
            initializer: vec![to_tensor_proto("outer", &weights(3.0))],
            ..Default::default()
        };
        let proto = pb::ModelProto { graph: Some(graph), ..Default::default() };
        let mut onnx = Onnx::decode(&proto.encode_to_vec(), None).unwrap();
        hoist(&mut onnx);
        let found = self::weights(&onnx);
        let layers: Vec<(&str, Option<usize>)> = found.iter().map(|f| (f.node.as_str(), f.axis)).collect();
        let (then, last) = ("the MatMul of then", "the MatMul of else");
        let p = "the MatMul of p";
        assert_eq!(layers, [(p, Some(1)), (then, Some(0)), (p, Some(1)), (last, Some(0))]);
        let elements: Vec<f32> = found.iter().map(|f| onnx.floats(&f.constant).unwrap().1[0]).collect();
        assert_eq!(elements, [1.0, 3.0, 2.0, 3.0]);
        let again = Onnx::decode(&onnx.encode().unwrap(), None).unwrap();
        assert_eq!(self::weights(&again), found);
    }
}
