//! Models with operators that loop: recurrent ones, and control flow.

use super::{agreement, decode, fixed, floats, known};
use crate::support::onnx::{body, int, model, node, value};
use lmc::base::{DType, Tensor};
use lmc::build::Silent;
use lmc::compress::half::half;
use lmc::compress::observe::Sample;
use lmc::compress::quantize::{Method, Options, dynamic, quantize, weights_only};
use tract_onnx::pb;

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    let values: Vec<f32> = floats(shape.iter().product(), seed).iter().map(|x| x / 4.0).collect();
    Tensor::new(shape, &values)
}

/// An LSTM, and a product of its results.
fn recurrent() -> pb::ModelProto {
    let mut lstm = node("LSTM", &["x", "w", "r", "b"], "h");
    lstm.attribute.push(int("hidden_size", 16));
    let nodes = vec![lstm, node("MatMul", &["h", "w2"], "y")];
    let constants = [
        ("w", tensor(&[1, 64, 8], 1)),
        ("r", tensor(&[1, 64, 16], 2)),
        ("b", tensor(&[1, 128], 3)),
        ("w2", tensor(&[16, 24], 4)),
    ];
    model(nodes, &[5, 1, 8], &[5, 1, 1, 24], &constants)
}

/// Weights of recurrent operators are integers in the file, whatever becomes of the products.
#[test]
fn recurrent_weights_are_stored_as_integers() {
    let onnx = decode(&recurrent());
    let samples: Vec<Sample> = (0..2).map(|i| vec![tensor(&[5, 1, 8], 10 + i)]).collect();
    let before = onnx.encode().expect("bytes").len();
    let fixed = fixed(Method::MinMax);
    let made = quantize(&onnx, &samples, &fixed, &Silent).expect("quantized");
    let operators: Vec<(&str, bool)> = made.report.layers.iter().map(|l| (l.op.as_str(), l.float)).collect();
    assert_eq!(operators, [("MatMul", false), ("LSTM", false), ("LSTM", false)]);
    let (stored, _) = weights_only(&onnx, DType::I8, &known(&onnx)).expect("quantized");
    let (dynamic, layers) = dynamic(&onnx, &known(&onnx)).expect("quantized");
    assert_eq!(layers.len(), 3);
    for (made, how) in [(&made.onnx, "static"), (&stored, "stored"), (&dynamic, "dynamic")] {
        let dtypes: Vec<DType> =
            made.initializers.iter().filter_map(|i| Some(made.constant(&i.proto.name)?.ty.dtype)).collect();
        assert!(dtypes.iter().filter(|d| **d == DType::I8).count() >= 3, "{how}: {dtypes:?}");
        let size = made.encode().expect("bytes").len();
        assert!(size * 2 < before, "{how}: {size} of {before} bytes");
        assert!(agreement(&onnx, made, &samples) > 0.999, "{how}");
    }
    let excluded = Options { exclude: vec!["the LSTM".to_string()], ..fixed };
    let made = quantize(&onnx, &samples, &excluded, &Silent).expect("quantized");
    assert!(made.onnx.floats("w").is_some() && made.onnx.floats("r").is_some());
}

/// The graph of a branch: a product of a value of the model with a constant.
fn branch(name: &str, constant: &str) -> pb::GraphProto {
    pb::GraphProto {
        name: name.to_string(),
        node: vec![node("MatMul", &["a", constant], name)],
        output: vec![value(name, 1, &[1, 16])],
        ..Default::default()
    }
}

/// Bodies keep floats, of weights that are stored in half; around them all is half.
#[test]
fn control_flow_is_left_in_float() {
    let mut choose = node("If", &["positive"], "b");
    choose.attribute = vec![body("then_branch", branch("t", "w1")), body("else_branch", branch("e", "w2"))];
    let nodes = vec![
        node("MatMul", &["x", "w0"], "a"),
        node("ReduceSum", &["a", "axes"], "s"),
        node("Greater", &["s", "limit"], "positive"),
        choose,
        node("MatMul", &["b", "w3"], "y"),
    ];
    let mut constants: Vec<(String, Tensor)> =
        (0..4).map(|i| (format!("w{i}"), tensor(&[16, 16], i))).collect();
    constants.push(("limit".to_string(), Tensor::scalar(0.0f32)));
    constants.push(("axes".to_string(), Tensor::new([2], &[0i64, 1])));
    let constants: Vec<(&str, Tensor)> = constants.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let mut proto = model(nodes, &[1, 16], &[1, 16], &constants);
    let graph = proto.graph.as_mut().expect("a graph");
    graph.node[1].attribute.push(int("keepdims", 0));
    let onnx = decode(&proto);
    let made = half(&onnx, &known(&onnx)).expect("converted");
    let floats = made.initializers.iter().filter(|i| i.proto.data_type == DType::F32 as i32).count();
    assert_eq!(floats, 0);
    let samples: Vec<Sample> = (0..4).map(|i| vec![tensor(&[1, 16], 20 + i)]).collect();
    assert!(agreement(&onnx, &made, &samples) > 0.99999);
}

/// What a loop that is unrolled gives is quantized like any other value.
#[test]
fn results_of_unrolled_loops_are_quantized() {
    let names = ["i", "go", "state"];
    let step = pb::GraphProto {
        name: "step".to_string(),
        node: vec![
            node("MatMul", &["state", "w"], "product"),
            node("Tanh", &["product"], "next"),
            node("Identity", &["go"], "on"),
        ],
        input: vec![value(names[0], 7, &[]), value(names[1], 9, &[]), value(names[2], 1, &[1, 16])],
        output: vec![value("on", 9, &[]), value("next", 1, &[1, 16])],
        ..Default::default()
    };
    let mut repeat = node("Loop", &["count", "", "x"], "last");
    repeat.attribute = vec![body("body", step)];
    let nodes = vec![repeat, node("MatMul", &["last", "w2"], "y")];
    let constants =
        [("count", Tensor::scalar(3i64)), ("w", tensor(&[16, 16], 1)), ("w2", tensor(&[16, 16], 2))];
    let onnx = decode(&model(nodes, &[1, 16], &[1, 16], &constants));
    let samples = [vec![tensor(&[1, 16], 3)]];
    let made = quantize(&onnx, &samples, &fixed(Method::MinMax), &Silent).expect("quantized");
    assert_eq!(made.report.layers.len(), 1);
    assert!(made.report.worst() > Some(0.999), "{:?}", made.report.cosine);
}
