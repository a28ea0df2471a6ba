//! Models with operators that loop: recurrent ones, and control flow.

use super::{NONE, agreement, decode, fixed, floats, graph, known};
use crate::support::onnx::{body, int, ints, model, node, value, with};
use lmc::base::{DType, Tensor};
use lmc::build::Silent;
use lmc::compress::half::half;
use lmc::compress::observe::Sample;
use lmc::compress::prune;
use lmc::compress::quantize::{Method, Options, dynamic, quantize, weights_only};
use tract_onnx::pb;

fn tensor(shape: &[usize], seed: u32) -> Tensor {
    let values: Vec<f32> = floats(shape.iter().product(), seed).iter().map(|x| x / 4.0).collect();
    Tensor::new(shape, &values)
}

/// An LSTM, and a product of its results.
pub(super) fn recurrent() -> pb::ModelProto {
    let lstm = with(node("LSTM", &["x", "w", "r", "b"], "h"), [int("hidden_size", 16)]);
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
    let stored = weights_only(&onnx, DType::I8, &known(&onnx), &NONE).expect("quantized");
    let dynamic = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized");
    assert_eq!(dynamic.layers.len(), 3);
    assert!(graph(&dynamic.onnx).contains("RoundedLSTM"));
    for (made, how) in [(&made.onnx, "static"), (&stored.onnx, "stored"), (&dynamic.onnx, "dynamic")] {
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
    let made = half(&onnx, &known(&onnx), &[], &Silent).expect("converted").onnx;
    let floats = made.initializers.iter().filter(|i| i.proto.data_type == DType::F32 as i32).count();
    assert_eq!(floats, 0);
    let samples: Vec<Sample> = (0..4).map(|i| vec![tensor(&[1, 16], 20 + i)]).collect();
    assert!(agreement(&onnx, &made, &samples) > 0.99999);
}

/// A branch with weights of its own, and an operator whose form changed with opset 18.
fn holding(name: &str, seed: u32) -> pb::GraphProto {
    let [product, mean, weights] = ["product", "mean", "weights"].map(|what| format!("{name}_{what}"));
    let mut sum = node("ReduceMean", &[&product], &mean);
    sum.attribute = vec![ints("axes", &[1]), int("keepdims", 1)];
    let mut multiply = node("MatMul", &["x", &weights], &product);
    multiply.name.clone_from(&product);
    pb::GraphProto {
        name: name.to_string(),
        node: vec![multiply, sum, node("Sub", &[&product, &mean], name)],
        initializer: vec![lmc::import::to_tensor_proto(&weights, &tensor(&[16, 32], seed))],
        output: vec![value(name, 1, &[1, 32])],
        ..Default::default()
    }
}

/// Weights that lie in bodies are stored like others, and pruned; bodies are raised with the opset.
#[test]
fn weights_in_bodies_are_stored() {
    let mut choose = node("If", &["positive"], "y");
    choose.attribute = vec![body("then_branch", holding("t", 1)), body("else_branch", holding("e", 2))];
    let sum = with(node("ReduceSum", &["x", "axes"], "s"), [int("keepdims", 0)]);
    let nodes = vec![sum, node("Greater", &["s", "limit"], "positive"), choose];
    let constants = [("limit", Tensor::scalar(0.0f32)), ("axes", Tensor::new([2], &[0i64, 1]))];
    let onnx = decode(&model(nodes, &[1, 16], &[1, 32], &constants));
    let samples: Vec<Sample> = (0..4).map(|i| vec![tensor(&[1, 16], 20 + i)]).collect();
    let types = known(&onnx);
    let stored = |dtype| weights_only(&onnx, dtype, &types, &NONE).expect("stored");
    let (eight, four) = (stored(DType::I8), stored(DType::I4));
    let rest = dynamic(&onnx, &types, &NONE).expect("dynamic");
    let fixed = quantize(&onnx, &samples, &fixed(Method::MinMax), &Silent).expect("static");
    assert_eq!([&eight.layers, &four.layers, &rest.layers, &fixed.report.layers].map(Vec::len), [2; 4]);
    let half = half(&onnx, &types, &samples, &Silent).expect("halves");
    let before = onnx.encode().expect("bytes").len();
    for (made, how) in [
        (&eight.onnx, "8 bits"),
        (&four.onnx, "4 bits"),
        (&rest.onnx, "dynamic"),
        (&fixed.onnx, "static"),
        (&half.onnx, "half"),
    ] {
        assert!(agreement(&onnx, made, &samples) > 0.9999, "{how}");
        let size = made.encode().expect("bytes").len();
        assert!(size * 4 < before * 3, "{how}: {size} of {before} bytes");
    }
    assert_eq!(four.onnx.opset(), 21);
    // A layer in a body is left in float by its name.
    let excluded =
        Options { exclude: vec![fixed.report.layers[1].name.clone()], ..super::fixed(Method::MinMax) };
    let left = quantize(&onnx, &samples, &excluded, &Silent).expect("static");
    assert_eq!(left.report.layers.iter().map(|l| l.float).collect::<Vec<_>>(), [false, true]);
    let whole = |name: &str| left.onnx.floats(name).is_some_and(|w| w.1.len() == 512);
    assert_eq!(left.onnx.initializers.iter().filter(|i| whole(&i.proto.name)).count(), 1);
    let options = prune::Options { sparsity: 0.5, structured: false, global: false };
    let pruned = prune::prune(&onnx, &options, &types).expect("pruned");
    let left: Vec<usize> = pruned.layers.iter().map(|l| l.weights).collect();
    assert!(left.len() == 2 && left.iter().all(|&l| l <= 256), "{left:?}");
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
    // The product behind the loop, and the weights of that in it.
    assert_eq!(made.report.layers.len(), 2);
    assert!(made.report.worst() > Some(0.999), "{:?}", made.report.cosine);
}
