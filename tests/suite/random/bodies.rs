//! Recipes of control flow.

use super::file::{attribute, type_proto};
use super::maker::{Maker, V};
use super::recipes::Recipe;
use crate::support::onnx::with;
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::Attr;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType as Type;

pub const RECIPES: &[(&str, Recipe)] =
    &[("If", branch), ("Loop", repeat), ("Loop that data ends", ended), ("Scan", scan)];

const UNARY: &[&str] = &["Tanh", "Sigmoid", "Relu", "Neg", "Abs", "Softsign"];
const BINARY: &[&str] = &["Add", "Sub", "Mul", "Max", "Min"];

fn node(op: &str, inputs: &[&str], output: &str) -> pb::NodeProto {
    pb::NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

fn info(name: &str, ty: &TensorType) -> pb::ValueInfoProto {
    pb::ValueInfoProto { name: name.into(), r#type: Some(type_proto(ty)), ..Default::default() }
}

fn body(name: &str, nodes: Vec<pb::NodeProto>, io: [Vec<pb::ValueInfoProto>; 2]) -> pb::AttributeProto {
    let [input, output] = io;
    let graph = pb::GraphProto { name: "body".into(), node: nodes, input, output, ..Default::default() };
    pb::AttributeProto { name: name.into(), g: Some(graph), r#type: Type::Graph as i32, ..Default::default() }
}

fn int(name: &str, i: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), i, r#type: Type::Int as i32, ..Default::default() }
}

/// Where nodes of a body are made: values around it have one type.
struct Scope<'a> {
    ty: &'a TensorType,
    /// What may be read beside the first value.
    others: &'a [&'a str],
    /// How many bodies lie around.
    depth: usize,
    /// Values of the graph that the body reads without being told.
    reads: &'a mut Vec<V>,
}

/// A few nodes on values of one type, the first of them `x`; gives the last name.
fn chain(m: &mut Maker, prefix: &str, x: &str, scope: &mut Scope, nodes: &mut Vec<pb::NodeProto>) -> String {
    let mut last = x.to_string();
    for i in 0..m.random.between(1, 3) {
        let next = format!("{prefix}{i}");
        match m.random.below(10) {
            0 if scope.depth < 3 => nodes.push(inner_branch(m, &next, &last, scope)),
            1 if scope.depth < 3 => nodes.push(inner_loop(m, &next, &last, scope)),
            0..=4 if !scope.others.is_empty() => {
                let (op, other) = (m.random.pick(BINARY), m.random.pick(scope.others));
                nodes.push(node(op, &[&last, other], &next));
            }
            5 => {
                let (mut value, held) =
                    (node("Constant", &[], &format!("{next}_c")), m.data(DType::F32, &[]));
                value.attribute.push(attribute("value", &Attr::Tensor(held)));
                nodes.push(value);
                nodes.push(node(m.random.pick(BINARY), &[&format!("{next}_c"), &last], &next));
            }
            _ => nodes.push(node(m.random.pick(UNARY), &[&last], &next)),
        }
        last = next;
    }
    last
}

/// Nodes of a body within the body that `scope` is, reading what that one reads.
fn within(m: &mut Maker, prefix: &str, x: &str, scope: &mut Scope) -> (Vec<pb::NodeProto>, String) {
    let mut nodes = Vec::new();
    let mut inner =
        Scope { ty: scope.ty, others: scope.others, depth: scope.depth + 1, reads: &mut *scope.reads };
    let last = chain(m, prefix, x, &mut inner, &mut nodes);
    (nodes, last)
}

/// A decision within a body.
fn inner_branch(m: &mut Maker, output: &str, x: &str, scope: &mut Scope) -> pb::NodeProto {
    let condition = truth(m);
    let condition = m.input(condition);
    scope.reads.push(condition);
    let mut made = node("If", &[&m.name(condition)], output);
    for name in ["then_branch", "else_branch"] {
        let (nodes, last) = within(m, &format!("{output}_{}_", &name[..4]), x, scope);
        made.attribute.push(body(name, nodes, [Vec::new(), vec![info(&last, scope.ty)]]));
    }
    made
}

/// A loop within a body, whose length is known.
fn inner_loop(m: &mut Maker, output: &str, x: &str, scope: &mut Scope) -> pb::NodeProto {
    let trips = m.random.between(1, 3);
    let trips = m.constant(Tensor::scalar(trips));
    scope.reads.push(trips);
    let p = |name: &str| format!("{output}_{name}");
    let (mut nodes, last) = within(m, &p("t"), &p("s"), scope);
    nodes.push(node("Identity", &[&p("go")], &p("on")));
    let [scalar, flag] = [DType::I64, DType::Bool].map(|d| TensorType::new(d, []));
    let inputs = vec![info(&p("i"), &scalar), info(&p("go"), &flag), info(&p("s"), scope.ty)];
    let outputs = vec![info(&p("on"), &flag), info(&last, scope.ty)];
    with(node("Loop", &[&m.name(trips), "", x], output), [body("body", nodes, [inputs, outputs])])
}

fn truth(m: &mut Maker) -> Tensor {
    let value = u8::from(m.random.chance(50));
    Tensor::from_bytes(TensorType::new(DType::Bool, []), vec![value]).expect("one byte")
}

/// Both branches read what lies around them; the condition is known, or not.
fn branch(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let (ty, shape) = (m.ty(x).clone(), m.shape(x));
    let other = m.fresh(DType::F32, &shape);
    let (a, b) = (m.name(x), m.name(other));
    let condition = truth(m);
    let condition = if m.random.chance(80) { m.input(condition) } else { m.constant(condition) };
    let mut proto = node("If", &[&m.name(condition)], "");
    let mut reads = vec![x, other, condition];
    for (i, name) in ["then_branch", "else_branch"].into_iter().enumerate() {
        let (mut nodes, prefix) = (Vec::new(), format!("b{}_{i}_", m.count()));
        let mut scope = Scope { ty: &ty, others: &[&b], depth: 0, reads: &mut reads };
        let last = chain(m, &prefix, &a, &mut scope, &mut nodes);
        proto.attribute.push(body(name, nodes, [Vec::new(), vec![info(&last, &ty)]]));
    }
    m.raw(proto, &reads, &[ty]);
    Some(())
}

/// A state and what is seen of it in each iteration; or as long as a condition holds.
fn repeat(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let (ty, shape) = (m.ty(x).clone(), m.shape(x));
    let other = m.fresh(DType::F32, &shape);
    let trips = m.random.between(1, 6);
    let (count, b) = (m.constant(Tensor::scalar(trips)), m.name(other));
    let prefix = format!("b{}_", m.count());
    let p = |name: &str| format!("{prefix}{name}");
    let mut nodes = Vec::new();
    let mut reads = vec![x, other, count];
    let mut scope = Scope { ty: &ty, others: &[&b], depth: 0, reads: &mut reads };
    let last = chain(m, &p("t"), &p("s"), &mut scope, &mut nodes);
    let [scalar, flag] = [DType::I64, DType::Bool].map(|d| TensorType::new(d, []));
    let stops = m.random.chance(40);
    if stops {
        let end = m.random.between(0, 5);
        let end = m.input(Tensor::scalar(end));
        nodes.push(node("Less", &[&p("i"), &m.name(end)], &p("on")));
        reads.push(end);
    } else {
        nodes.push(node("Identity", &[&p("go")], &p("on")));
    }
    let mut outputs = vec![info(&p("on"), &flag), info(&last, &ty)];
    let mut types = vec![ty.clone()];
    if !stops {
        nodes.push(node("Neg", &[&last], &p("seen")));
        outputs.push(info(&p("seen"), &ty));
        types.push(TensorType::new(DType::F32, [&[trips as usize], &shape[..]].concat()));
    }
    let inputs = vec![info(&p("i"), &scalar), info(&p("go"), &flag), info(&p("s"), &ty)];
    let proto =
        with(node("Loop", &[&m.name(count), "", &m.name(x)], ""), [body("body", nodes, [inputs, outputs])]);
    m.raw(proto, &reads, &types);
    Some(())
}

/// A number that grows or halves until a condition on it ends the loop, beside a tensor.
fn ended(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let (ty, shape) = (m.ty(x).clone(), m.shape(x));
    let other = m.fresh(DType::F32, &shape);
    let (start, most) = (m.random.between(1, 40), m.random.between(1, 7));
    let (start, most) = (m.input(Tensor::scalar(start)), m.constant(Tensor::scalar(most)));
    let first = truth(m);
    let first = m.input(first);
    let (two, limit) = (m.constant(Tensor::scalar(2i64)), m.input(Tensor::scalar(20i64)));
    let prefix = format!("b{}_", m.count());
    let p = |name: &str| format!("{prefix}{name}");
    let grows = m.random.chance(50);
    let mut nodes = vec![
        node(if grows { "Mul" } else { "Div" }, &[&p("n"), &m.name(two)], &p("next")),
        node(if grows { "Less" } else { "Greater" }, &[&p("next"), &m.name(limit)], &p("on")),
    ];
    let (beside, mut reads) = (m.name(other), vec![x, other, start, most, first, two, limit]);
    let mut scope = Scope { ty: &ty, others: &[&beside], depth: 1, reads: &mut reads };
    let last = chain(m, &p("t"), &p("s"), &mut scope, &mut nodes);
    let [scalar, flag] = [DType::I64, DType::Bool].map(|d| TensorType::new(d, []));
    let inputs =
        vec![info(&p("i"), &scalar), info(&p("go"), &flag), info(&p("n"), &scalar), info(&p("s"), &ty)];
    let outputs = vec![info(&p("on"), &flag), info(&p("next"), &scalar), info(&last, &ty)];
    let proto = with(
        node("Loop", &[&m.name(most), &m.name(first), &m.name(start), &m.name(x)], ""),
        [body("body", nodes, [inputs, outputs])],
    );
    m.raw(proto, &reads, &[scalar, ty]);
    Some(())
}

/// Over the first dimension, forwards or backwards.
fn scan(m: &mut Maker) -> Option<()> {
    let x = m.any(1);
    let shape = m.shape(x);
    if m.opset < 9 || shape.contains(&0) {
        return None;
    }
    let part = TensorType::new(DType::F32, &shape[1..]);
    let start = m.fresh(DType::F32, &shape[1..]);
    let prefix = format!("b{}_", m.count());
    let p = |name: &str| format!("{prefix}{name}");
    let mut nodes = vec![node("Add", &[&p("s"), &p("e")], &p("sum"))];
    let (element, mut reads) = (p("e"), vec![x, start]);
    let mut scope = Scope { ty: &part, others: &[&element], depth: 0, reads: &mut reads };
    let last = chain(m, &p("t"), &p("sum"), &mut scope, &mut nodes);
    nodes.push(node("Abs", &[&last], &p("seen")));
    let io =
        [vec![info(&p("s"), &part), info(&p("e"), &part)], vec![info(&last, &part), info(&p("seen"), &part)]];
    let mut proto = with(
        node("Scan", &[&m.name(start), &m.name(x)], ""),
        [body("body", nodes, io), int("num_scan_inputs", 1)],
    );
    for name in ["scan_input_directions", "scan_output_directions"] {
        let back = m.random.between(0, 1);
        let list = pb::AttributeProto {
            name: name.into(),
            ints: vec![back],
            r#type: Type::Ints as i32,
            ..Default::default()
        };
        proto.attribute.push(list);
    }
    m.raw(proto, &reads, &[part.clone(), TensorType::new(DType::F32, shape)]);
    Some(())
}
