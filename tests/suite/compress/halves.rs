//! Half precision: what is written, what stays in `f32`, and what it computes.

use super::bodies::recurrent;
use super::{NONE, agreement, decode, floats, graph, inputs, known, residual};
use crate::golden::check_text;
use crate::sizes::built_as;
use crate::support::models;
use crate::support::onnx::{model, node};
use lmc::base::Tensor;
use lmc::build::Silent;
use lmc::compress::half::half;
use lmc::compress::observe::Sample;
use lmc::compress::onnx::Onnx;
use lmc::compress::quantize::dynamic;
use lmc::import;
use lmc::run::compare::{Tolerance, compare};
use lmc::run::executor::Executor;
use lmc::target::resolve;

#[test]
fn floats_are_halved() {
    let onnx = decode(&residual());
    let made = half(&onnx, &known(&onnx), &[], &Silent).expect("converted");
    check_text("compress/half.txt", &graph(&made.onnx));
    assert!(agreement(&onnx, &made.onnx, &inputs(2)) > 0.99999);
}

/// A real model in half precision: products in `f32`, and in half floats where a processor multiplies them.
#[test]
fn halved_models_run_on_all_processors() {
    let entry = models::named("kws_dscnn");
    let onnx = Onnx::read(&entry.folder.join("model.onnx")).expect("a model");
    let model = import::read(&entry.folder.join("model.onnx")).expect("a model");
    let bindings = entry.bindings(0);
    let (types, _) = bindings.resolve(&model.body).expect("shapes");
    let facts = lmc::compress::observe::known_for(&model, &types).expect("types");
    let halved = half(&onnx, &facts, &[], &Silent).expect("converted").onnx.encode().expect("bytes");
    let halved = import::decode(&halved, None).expect("a model");
    let (inputs, want) = entry.data(0);
    let any = Tolerance { rtol: 0.0, atol: 0.0 };
    let mut code = Vec::new();
    for (arch, cpu) in [("native", "native"), ("aarch64", "cortex-a53"), ("aarch64", "neoverse-n1")] {
        let target = resolve(arch, cpu).expect("known");
        let built = built_as(&halved, &bindings, &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        let found = compare(&executor.run(&inputs).expect("a result")[0], &want[0], any);
        assert!(found.cosine > 0.9999, "{arch} {cpu}: {found:?}");
        code.push(built.object.bytes.len());
    }
    assert!(code[2] < code[1], "half as many instructions are less code: {code:?}");
}

fn rows(count: u32) -> Vec<Sample> {
    (0..count).map(|i| vec![Tensor::new([1, 64], &floats(64, 30 + i))]).collect()
}

/// Parts of a sum that half precision does not hold.
#[test]
fn values_that_are_too_large_stay_in_f32() {
    let nodes = vec![
        node("Abs", &["x"], "a"),
        node("Mul", &["a", "large"], "l"),
        node("ReduceSum", &["l"], "s"),
        node("Div", &["l", "s"], "y"),
    ];
    let onnx = decode(&model(nodes, &[1, 64], &[1, 64], &[("large", Tensor::scalar(8192.0f32))]));
    let (known, samples) = (known(&onnx), rows(3));
    let blind = half(&onnx, &known, &[], &Silent).expect("converted");
    assert!(blind.kept.is_empty() && agreement(&onnx, &blind.onnx, &samples) < 0.5);
    let made = half(&onnx, &known, &samples, &Silent).expect("converted");
    let kept: Vec<&str> = made.kept.iter().map(|k| k.op.as_str()).collect();
    assert_eq!(kept, ["ReduceSum", "Div"]);
    assert!(made.kept.iter().all(|k| k.why.starts_with("'s' reaches ")), "{:?}", made.kept);
    assert!(agreement(&onnx, &made.onnx, &samples) > 0.99999);
    check_text("compress/half_large.txt", &graph(&made.onnx));
}

/// What is added to hide elements may be any large number; what is multiplied may not.
#[test]
fn large_constants_are_cut_where_that_changes_nothing() {
    let mask: Vec<f32> = (0..64).map(|i| if i % 3 == 0 { -1e9 } else { 0.0 }).collect();
    let nodes = vec![node("Add", &["x", "mask"], "m"), node("Softmax", &["m"], "y")];
    let onnx = decode(&model(nodes, &[1, 64], &[1, 64], &[("mask", Tensor::new([1, 64], &mask))]));
    let made = half(&onnx, &known(&onnx), &rows(2), &Silent).expect("converted");
    assert!(made.kept.is_empty(), "{:?}", made.kept);
    assert!(agreement(&onnx, &made.onnx, &rows(2)) > 0.99999);
    let nodes = vec![
        node("Add", &["x", "offset"], "o"),
        node("Mul", &["o", "up"], "u"),
        node("Add", &["u", "bias"], "b"),
        node("Mul", &["b", "down"], "y"),
    ];
    let bias = Tensor::new([64], &floats(64, 5).iter().map(|x| x * 1e6).collect::<Vec<f32>>());
    let constants = [
        ("offset", Tensor::scalar(1.0f32)),
        ("up", Tensor::scalar(1e6f32)),
        ("bias", bias),
        ("down", Tensor::scalar(1e-6f32)),
    ];
    let onnx = decode(&model(nodes, &[1, 64], &[1, 64], &constants));
    let made = half(&onnx, &known(&onnx), &rows(2), &Silent).expect("converted");
    let kept: Vec<&str> = made.kept.iter().map(|k| k.op.as_str()).collect();
    assert_eq!(kept, ["Mul", "Add", "Mul"]);
    assert!(agreement(&onnx, &made.onnx, &rows(2)) > 0.99999);
}

/// Operators that are in integers already, and that other runtimes have between floats only.
#[test]
fn integer_lstms_stay_between_floats() {
    let onnx = decode(&recurrent());
    let onnx = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized").onnx;
    let samples: Vec<Sample> = (0..2).map(|i| vec![Tensor::new([5, 1, 8], &floats(40, 70 + i))]).collect();
    let made = half(&onnx, &known(&onnx), &samples, &Silent).expect("converted");
    let kept: Vec<&str> = made.kept.iter().map(|k| k.op.as_str()).collect();
    assert!(kept.contains(&"DynamicQuantizeLSTM"), "{kept:?}");
    assert!(agreement(&onnx, &made.onnx, &samples) > 0.999);
}
