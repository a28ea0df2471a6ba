//! Recipes of control flow, and of chains in half floats and in quantized integers.

use super::maker::{Maker, V, type_proto};
use super::recipes::Recipe;
use lmc::base::{DType, Tensor, TensorType};
use lmc::graph::Attr;
use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType as Type;

pub const RECIPES: &[(&str, Recipe)] = &[
    ("If", branch),
    ("Loop", repeat),
    ("Scan", scan),
    ("Chain of half floats", halves),
    ("Chain of quantized layers", quantized),
];

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

/// A few element-wise nodes on values of one type, the first of them `x`; gives the last name.
fn chain(m: &mut Maker, prefix: &str, x: &str, others: &[&str], nodes: &mut Vec<pb::NodeProto>) -> String {
    let mut last = x.to_string();
    for i in 0..m.random.range(1, 3) {
        let next = format!("{prefix}{i}");
        if m.random.chance(50) && !others.is_empty() {
            let (op, other) = (m.random.pick(BINARY), m.random.pick(others));
            nodes.push(node(op, &[&last, other], &next));
        } else {
            let op = m.random.pick(UNARY);
            nodes.push(node(op, &[&last], &next));
        }
        last = next;
    }
    last
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
    for (i, name) in ["then_branch", "else_branch"].into_iter().enumerate() {
        let (mut nodes, prefix) = (Vec::new(), format!("b{}_{i}_", m.count()));
        let last = chain(m, &prefix, &a, &[&b], &mut nodes);
        proto.attribute.push(body(name, nodes, [Vec::new(), vec![info(&last, &ty)]]));
    }
    m.raw(proto, &[x, other, condition], &[ty]);
    Some(())
}

/// A state and what is seen of it in each iteration; or as long as a condition holds.
fn repeat(m: &mut Maker) -> Option<()> {
    let x = m.any(0);
    let (ty, shape) = (m.ty(x).clone(), m.shape(x));
    let other = m.fresh(DType::F32, &shape);
    let trips = m.random.range(1, 6);
    let (count, b) = (m.constant(Tensor::scalar(trips)), m.name(other));
    let prefix = format!("b{}_", m.count());
    let p = |name: &str| format!("{prefix}{name}");
    let mut nodes = Vec::new();
    let last = chain(m, &p("t"), &p("s"), &[&b], &mut nodes);
    let [scalar, flag] = [DType::I64, DType::Bool].map(|d| TensorType::new(d, []));
    let stops = m.random.chance(40);
    let mut reads = vec![x, other, count];
    if stops {
        let end = m.random.range(0, 5);
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
    let mut proto = node("Loop", &[&m.name(count), "", &m.name(x)], "");
    proto.attribute.push(body("body", nodes, [inputs, outputs]));
    m.raw(proto, &reads, &types);
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
    let last = chain(m, &p("t"), &p("sum"), &[&p("e")], &mut nodes);
    nodes.push(node("Abs", &[&last], &p("seen")));
    let io =
        [vec![info(&p("s"), &part), info(&p("e"), &part)], vec![info(&last, &part), info(&p("seen"), &part)]];
    let mut proto = node("Scan", &[&m.name(start), &m.name(x)], "");
    proto.attribute.extend([body("body", nodes, io), int("num_scan_inputs", 1)]);
    for name in ["scan_input_directions", "scan_output_directions"] {
        let back = m.random.range(0, 1);
        let list = pb::AttributeProto {
            name: name.into(),
            ints: vec![back],
            r#type: Type::Ints as i32,
            ..Default::default()
        };
        proto.attribute.push(list);
    }
    m.raw(proto, &[x, start], &[part, TensorType::new(DType::F32, shape)]);
    Some(())
}

fn cast(m: &mut Maker, x: V, to: DType) -> Option<V> {
    m.one("Cast", &[x], &[("to", Attr::Int(to as i64))])
}

/// Some layers on half floats, from floats and back to them.
fn halves(m: &mut Maker) -> Option<()> {
    let shape = m.extents(3);
    if shape.contains(&0) {
        return None;
    }
    let x = m.fresh(DType::F32, &shape);
    let mut y = cast(m, x, DType::F16)?;
    let mut made = vec![y];
    for _ in 0..m.random.range(1, 3) {
        let last = *m.shape(y).last()?;
        y = match m.random.below(6) {
            0 => {
                let (k, n) = (last, m.dim());
                let w = m.weights(&[k, n], k);
                let w = cast(m, w, DType::F16)?;
                made.push(w);
                m.one("MatMul", &[y, w], &[])?
            }
            1 => m.one("Softmax", &[y], &[("axis", Attr::Int(2))])?,
            2 => {
                let other = m.data(DType::F16, &[last]);
                let other = m.constant(other);
                let op = m.random.pick(BINARY);
                m.one(op, &[y, other], &[])?
            }
            3 => m.one("Transpose", &[y], &[("perm", Attr::Ints(vec![0, 2, 1]))])?,
            4 => m.one("Concat", &[y, y], &[("axis", Attr::Int(1))])?,
            _ => {
                let op = m.random.pick(&["Relu", "Neg", "Abs", "Sigmoid", "Tanh"]);
                m.one(op, &[y], &[])?
            }
        };
        made.push(y);
    }
    m.close(&made);
    let z = cast(m, y, DType::F32)?;
    m.close(&[z]);
    Some(())
}

/// A tensor quantized and put back; all scales are powers of two, so that nothing is rounded otherwise.
fn rounded(m: &mut Maker, x: V, exponent: i64, made: &mut Vec<V>) -> Option<V> {
    let scale = m.number((exponent as f32).exp2());
    let zero = m.random.pick(&[0u8, 100, 128]);
    let zero = m.constant(Tensor::scalar(zero));
    let q = m.one("QuantizeLinear", &[x, scale, zero], &[])?;
    let y = m.one("DequantizeLinear", &[q, scale, zero], &[])?;
    made.extend([q, y]);
    Some(y)
}

/// Convolutions, sums, pooling and movement between quantizations, as quantizers write them.
fn quantized(m: &mut Maker) -> Option<()> {
    let shape =
        [1, m.random.range(1, 9) as usize, m.random.range(3, 9) as usize, m.random.range(3, 9) as usize];
    let x = m.fresh(DType::F32, &shape);
    let mut made = Vec::new();
    let mut y = rounded(m, x, -6, &mut made)?;
    for _ in 0..m.random.range(1, 4) {
        let shape = m.shape(y);
        let layer = match m.random.below(7) {
            0..=2 => {
                let depthwise = m.random.chance(30);
                let (k, groups) = (m.random.pick(&[1usize, 3]), if depthwise { shape[1] } else { 1 });
                let out = if depthwise { shape[1] } else { m.random.range(1, 17) as usize };
                let w = m.data(DType::I8, &[out, shape[1] / groups, k, k]);
                let (w, scale) = (m.constant(w), m.number(1.0 / 128.0));
                let zero = m.constant(Tensor::scalar(0i8));
                let w = m.one("DequantizeLinear", &[w, scale, zero], &[])?;
                made.push(w);
                let pads = vec![(k as i64 - 1) / 2; 4];
                let attrs = [("pads", Attr::Ints(pads)), ("group", Attr::Int(groups as i64))];
                let bias = m.data(DType::F32, &[out]);
                let bias = m.constant(bias);
                let y = m.one("Conv", &[y, w, bias], &attrs)?;
                made.push(y);
                if m.random.chance(50) { m.one("Relu", &[y], &[])? } else { y }
            }
            3 => {
                let other = m.fresh(DType::F32, &shape);
                let other = rounded(m, other, -6, &mut made)?;
                m.one("Add", &[y, other], &[])?
            }
            4 => m.one("MaxPool", &[y], &[("kernel_shape", Attr::Ints(vec![2, 2]))])?,
            5 => m.one("Concat", &[y, y], &[("axis", Attr::Int(1))])?,
            _ => m.one("Transpose", &[y], &[("perm", Attr::Ints(vec![0, 1, 3, 2]))])?,
        };
        made.push(layer);
        if m.shape(layer)[2..].iter().any(|&d| d < 3) {
            break;
        }
        let exponent = m.random.range(-6, -3);
        y = rounded(m, layer, exponent, &mut made)?;
    }
    m.close(&made);
    Some(())
}
