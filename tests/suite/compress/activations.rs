//! What activations read is quantized, where they end in quantized values alone.

use super::{decode, fixed, floats};
use crate::golden::check_text;
use crate::support::onnx::{float, model, node, with};
use lmc::base::Tensor;
use lmc::build::Silent;
use lmc::compress::observe::Sample;
use lmc::compress::onnx::Onnx;
use lmc::compress::quantize::{Method, Options, quantize};
use std::fmt::Write;
use tract_onnx::pb;

/// Two products with `between` from `c` (4 channels) to `e`, what the second one reads.
fn net(between: Vec<pb::NodeProto>) -> Onnx {
    let first = vec![node("Conv", &["x", "w1", "b1"], "c")];
    let nodes = [first, between, vec![node("Conv", &["e", "w2"], "y")]].concat();
    let tensor = |shape: &[usize], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let number = |x: f32| Tensor::new([1], &[x]);
    let constants = [
        ("w1", tensor(&[4, 2, 1, 1], 1)),
        ("b1", tensor(&[4], 2)),
        ("w2", tensor(&[2, 4, 1, 1], 3)),
        ("three", number(3.0)),
        ("six", number(6.0)),
        ("limit", Tensor::scalar(6.0f32)),
        ("zero", Tensor::scalar(0.0f32)),
        ("channels", tensor(&[1, 4, 1, 1], 4)),
    ];
    let mut proto = model(nodes, &[1, 2, 4, 4], &[1, 2, 4, 4], &constants);
    proto.opset_import[0].version = 14;
    decode(&proto)
}

fn samples() -> Vec<Sample> {
    (0..2).map(|i| vec![Tensor::new([1, 2, 4, 4], &floats(32, 100 + i))]).collect()
}

/// The values that QuantizeLinear reads.
fn quantized(onnx: &Onnx) -> Vec<String> {
    let pairs = onnx.nodes.iter().filter(|n| n.op() == "QuantizeLinear");
    pairs.map(|n| n.inputs[0].clone()).collect()
}

fn silu() -> Vec<pb::NodeProto> {
    vec![node("Sigmoid", &["c"], "s"), node("Mul", &["c", "s"], "e")]
}

/// By activation: which values are quantized. Those that are the range itself, cheap ones, and those whose
/// input is read elsewhere or that differ by channel leave theirs in float.
#[test]
fn inputs_of_costly_activations_are_quantized() {
    let leaky = with(node("LeakyRelu", &["c"], "e"), [float("alpha", 0.25)]);
    let elsewhere = [silu(), vec![node("ReduceMax", &["c"], "z")]].concat();
    let cases = [
        ("silu", silu()),
        ("hard swish", vec![node("HardSwish", &["c"], "e")]),
        (
            "hard swish in parts",
            vec![
                node("Add", &["c", "three"], "p"),
                node("Clip", &["p", "zero", "limit"], "q"),
                node("Mul", &["c", "q"], "r"),
                node("Div", &["r", "six"], "e"),
            ],
        ),
        ("behind channels", vec![node("Mul", &["c", "channels"], "d"), node("Sigmoid", &["d"], "e")]),
        ("between channels", vec![node("Sigmoid", &["c"], "d"), node("Mul", &["d", "channels"], "e")]),
        ("relu", vec![node("Relu", &["c"], "e")]),
        ("leaky relu", vec![leaky]),
        ("softmax behind", vec![node("Tanh", &["c"], "d"), node("Softmax", &["d"], "e")]),
        ("read elsewhere", elsewhere),
    ];
    let mut said = String::new();
    for (name, between) in cases {
        let made = quantize(&net(between), &samples(), &fixed(Method::MinMax), &Silent).expect(name);
        writeln!(said, "{name}: {}", quantized(&made.onnx).join(" ")).expect("written");
        assert!(made.report.worst() > Some(0.999), "{name}: {:?}", made.report.cosine);
    }
    check_text("compress/activations.txt", &said);
}

/// A gate: the mean of an activation is a layer's data, and its sigmoid multiplies the activation.
#[test]
fn gates_are_quantized() {
    let nodes = [
        silu()[..1].to_vec(),
        vec![
            node("Mul", &["c", "s"], "a"),
            node("GlobalAveragePool", &["a"], "p"),
            node("Conv", &["p", "w3"], "g"),
            node("Sigmoid", &["g"], "h"),
            node("Mul", &["a", "h"], "e"),
        ],
    ]
    .concat();
    let mut onnx = net(nodes);
    onnx.set_constant("w3", &Tensor::new([4, 4, 1, 1], &floats(16, 5)));
    let made = quantize(&onnx, &samples(), &fixed(Method::MinMax), &Silent).expect("quantized");
    assert_eq!(quantized(&made.onnx), ["x", "c", "a", "p", "g", "h", "e"]);
}

/// The option leaves activations in float, and so does a cosine that is reached with them in float.
#[test]
fn activations_stay_in_float_where_asked() {
    let (onnx, samples) = (net(silu()), samples());
    let of = |options: &Options| quantize(&onnx, &samples, options, &Silent).expect("quantized");
    let tables = of(&fixed(Method::MinMax));
    let float = of(&Options { tables: false, ..fixed(Method::MinMax) });
    assert_eq!(quantized(&tables.onnx), ["x", "c", "e"]);
    assert_eq!(quantized(&float.onnx), ["x", "e"]);
    let (Some(low), Some(high)) = (tables.report.worst(), float.report.worst()) else {
        panic!("both are compared")
    };
    assert!(low < high, "{low} {high}");
    let between = of(&Options { min_cosine: Some((low + high) / 2.0), ..fixed(Method::MinMax) });
    assert_eq!(quantized(&between.onnx), ["x", "e"]);
    assert!(between.report.layers.iter().all(|l| !l.float));
}
