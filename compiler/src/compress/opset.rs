//! Raising the operator set of a model: rewriting the nodes whose form changed in between.
//!
//! A scale per channel needs opset 13, 16-bit and blocked integers need 21. Nodes are rewritten to mean
//! the same, those in bodies among them. What changed its meaning and is not known here is refused.

use super::observe::Known;
use super::onnx::{Node, Onnx};
use crate::base::Tensor;
use crate::error::{Error, Result};
use tract_onnx::pb;

/// Opsets below this are not raised: broadcasting was an attribute there.
const FIRST: i64 = 7;
/// Version of the file format from which an opset may be used.
const FORMATS: &[(i64, i64)] = &[(13, 7), (21, 10)];

/// What a rewrite may use.
struct Around<'a> {
    onnx: &'a mut Onnx,
    known: &'a Known,
}

/// Rewrites one node; all that take its place.
type Rewrite = fn(&mut Around, Node) -> Result<Vec<Node>>;

/// Operators whose form changed: from which version on the new one holds, and the rewrite.
const ROWS: &[(&str, i64, Rewrite)] = &[
    ("Upsample", 9, |a, n| Ok(vec![attr_to_input(a, n, "scales", 1)])),
    ("BatchNormalization", 9, spatial),
    ("Upsample", 10, upsample),
    ("TopK", 10, |a, n| Ok(vec![attr_to_input(a, n, "k", 1)])),
    ("Slice", 10, slice),
    ("Clip", 11, clip),
    ("Pad", 11, pad),
    ("Resize", 11, resize),
    ("Scatter", 11, |_, n| Ok(vec![renamed(n, "ScatterElements")])),
    ("Dropout", 12, |_, n| Ok(vec![without(n, "ratio")])),
    ("Squeeze", 13, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("Unsqueeze", 13, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceSum", 13, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("Split", 13, |a, n| Ok(vec![attr_to_input(a, n, "split", 1)])),
    ("Softmax", 13, softmax),
    ("LogSoftmax", 13, softmax),
    ("Hardmax", 13, softmax),
    ("RoiAlign", 16, roi_align),
    ("ReduceMax", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceMin", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceMean", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceProd", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceL1", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceL2", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceLogSum", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceLogSumExp", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("ReduceSumSquare", 18, |a, n| Ok(vec![attr_to_input(a, n, "axes", 1)])),
    ("Split", 18, split),
    ("GridSample", 20, grid_sample),
    ("DFT", 20, |_, _| refuse()),
    ("GroupNormalization", 21, |_, _| refuse()),
];

/// Raises the opset to at least `version`; `known` has the types of the values.
pub fn raise(onnx: &mut Onnx, version: i64, known: &Known) -> Result<()> {
    let from = onnx.opset();
    if from >= version {
        return Ok(());
    }
    if from < FIRST {
        return Err(Error::model(format!(
            "its opset is {from}; {version} is needed, and from {FIRST} on it is raised"
        ))
        .advise("Convert the model with onnx.version_converter first"));
    }
    let rows = ROWS.iter().filter(|r| from < r.1 && r.1 <= version);
    let rows: Vec<_> = rows.collect();
    onnx.reserve_names();
    for (op, _, rewrite) in rows {
        let nodes = std::mem::take(&mut onnx.nodes);
        onnx.nodes = rewritten(&mut Around { onnx, known }, nodes, op, *rewrite)?;
    }
    onnx.opsets.insert(String::new(), version);
    let format = FORMATS.iter().filter(|f| f.0 <= version).map(|f| f.1).max().unwrap_or(0);
    onnx.ir_version = onnx.ir_version.max(format);
    Ok(())
}

/// Nodes of a graph and, in its bodies, those of an operator rewritten. Bodies read the constants that this takes
/// from the model.
fn rewritten(around: &mut Around, nodes: Vec<Node>, op: &str, rewrite: Rewrite) -> Result<Vec<Node>> {
    let mut made = Vec::with_capacity(nodes.len());
    for mut node in nodes {
        if node.bodies().any(|body| has(body, op)) {
            for body in node.bodies_mut() {
                let inner = std::mem::take(&mut body.node).iter().map(Node::of).collect();
                let inner = rewritten(around, inner, op, rewrite)?;
                body.node = inner.into_iter().map(Node::into_proto).collect();
            }
        }
        if node.op() == op {
            let place = node.place();
            made.extend(rewrite(around, node).map_err(|e| e.at(place))?);
        } else {
            made.push(node);
        }
    }
    Ok(made)
}

/// Whether a body, or one in it, has an operator.
fn has(body: &pb::GraphProto, op: &str) -> bool {
    let inner = |n: &pb::NodeProto| {
        n.op_type == op || n.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).any(|g| has(g, op))
    };
    body.node.iter().any(inner)
}

fn refuse() -> Result<Vec<Node>> {
    Err(Error::model("its meaning changed with the opset that is needed")
        .advise("Export the model with that opset, or convert it with onnx.version_converter"))
}

fn renamed(mut node: Node, op: &str) -> Node {
    node.set_op(op);
    node
}

fn without(mut node: Node, attr: &str) -> Node {
    node.remove_attr(attr);
    node
}

/// A constant under a name that says whose it is.
fn constant(around: &mut Around, node: &Node, what: &str, tensor: &Tensor) -> String {
    around.onnx.add_constant(&format!("{}_{what}", node.output()), tensor)
}

/// Makes an attribute of numbers an input, where it is there.
fn attr_to_input(around: &mut Around, mut node: Node, name: &str, input: usize) -> Node {
    let Some(attr) = node.attr(name) else { return node };
    let tensor = if !attr.floats.is_empty() {
        Tensor::new([attr.floats.len()], &attr.floats)
    } else if !attr.ints.is_empty() {
        Tensor::new([attr.ints.len()], &attr.ints)
    } else {
        Tensor::new([1], &[attr.i])
    };
    let made = constant(around, &node, name, &tensor);
    node.remove_attr(name);
    node.set_input(input, made);
    node
}

fn spatial(_: &mut Around, node: Node) -> Result<Vec<Node>> {
    if node.int("spatial", 1) == 0 {
        return refuse();
    }
    Ok(vec![without(node, "spatial")])
}

/// `Upsample(x, scales)` is `Resize(x, , scales)` with the coordinates of old.
fn upsample(_: &mut Around, mut node: Node) -> Result<Vec<Node>> {
    node.set_op("Resize");
    Ok(vec![with_coordinates(node)])
}

/// Inputs and coordinates of Resize from version 11 on.
fn with_coordinates(mut node: Node) -> Node {
    let scales = node.inputs.get(1).cloned().unwrap_or_default();
    node.set_input(1, "");
    node.set_input(2, scales);
    node.set_text("coordinate_transformation_mode", "asymmetric");
    node.set_text("nearest_mode", "floor");
    node
}

/// Version 10 rounds down where it enlarges; where it shrinks, no later mode means the same.
fn resize(around: &mut Around, node: Node) -> Result<Vec<Node>> {
    if node.inputs.len() > 2 {
        return Ok(vec![node]);
    }
    let scales = node.input(1).and_then(|n| around.onnx.floats(n));
    let enlarges = scales.is_some_and(|(_, s)| s.iter().all(|&s| s >= 1.0));
    if enlarges || node.text("mode", "nearest") != "nearest" {
        Ok(vec![with_coordinates(node)])
    } else {
        refuse()
    }
}

fn slice(around: &mut Around, node: Node) -> Result<Vec<Node>> {
    let parts = [("starts", 1), ("ends", 2), ("axes", 3)];
    Ok(vec![parts.into_iter().fold(node, |n, (name, input)| attr_to_input(around, n, name, input))])
}

fn clip(around: &mut Around, mut node: Node) -> Result<Vec<Node>> {
    for (name, input) in [("min", 1), ("max", 2)] {
        if let Some(limit) = node.attr(name).map(|a| a.f) {
            let made = constant(around, &node, name, &Tensor::scalar(limit));
            node.remove_attr(name);
            node.set_input(input, made);
        }
    }
    Ok(vec![node])
}

fn pad(around: &mut Around, node: Node) -> Result<Vec<Node>> {
    let value = node.float("value", 0.0);
    let mut node = attr_to_input(around, node, "pads", 1);
    if value != 0.0 {
        let made = constant(around, &node, "value", &Tensor::scalar(value));
        node.set_input(2, made);
    }
    Ok(vec![without(node, "value")])
}

fn roi_align(_: &mut Around, mut node: Node) -> Result<Vec<Node>> {
    node.set_text("coordinate_transformation_mode", "output_half_pixel");
    Ok(vec![node])
}

fn split(_: &mut Around, mut node: Node) -> Result<Vec<Node>> {
    if node.input(1).is_none() {
        node.set_int("num_outputs", node.outputs.len() as i64);
    }
    Ok(vec![node])
}

fn grid_sample(_: &mut Around, mut node: Node) -> Result<Vec<Node>> {
    let mode = match node.text("mode", "bilinear") {
        "bilinear" => "linear",
        "bicubic" => "cubic",
        other => other,
    };
    let mode = mode.to_string();
    node.set_text("mode", &mode);
    Ok(vec![node])
}

/// Before version 13 the axis and all after it were one.
fn softmax(around: &mut Around, mut node: Node) -> Result<Vec<Node>> {
    let axis = node.int("axis", 1);
    let rank = around.known.get(node.output()).map(|v| v.0.rank() as i64);
    if axis == -1 || rank == Some(axis + 1) {
        node.set_int("axis", -1);
        return Ok(vec![node]);
    }
    let (input, output) = (node.inputs[0].clone(), node.output().to_string());
    let name = |what: &str| format!("{output}_{what}");
    let [shape, flat, soft] = ["shape", "flat", "soft"].map(|w| around.onnx.fresh(&name(w)));
    let mut flatten = Node::new("Flatten", &flat, &[&input], &[&flat]);
    flatten.set_int("axis", axis);
    node.set_int("axis", -1);
    node.set_input(0, &flat);
    node.outputs[0] = soft.clone();
    Ok(vec![
        Node::new("Shape", &shape, &[&input], &[&shape]),
        flatten,
        node,
        Node::new("Reshape", &name("unflat"), &[&soft, &shape], &[&output]),
    ])
}
