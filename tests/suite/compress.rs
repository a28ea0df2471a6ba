//! Quantization: what is written, that it is read back, and that it computes what the float model does.

use crate::golden::check_text;
use crate::support::onnx::{ints, model, node};
use crate::support::{models, repository};
use lmc::base::{Tensor, TensorType};
use lmc::build::Silent;
use lmc::compress::observe::{Observed, Sample};
use lmc::compress::onnx::Onnx;
use lmc::compress::quantize::{Method, Options, quantize};
use lmc::compress::samples;
use lmc::import::{self, Bindings};
use lmc::passes::infer;
use prost::Message;
use std::fmt::Write;
use tract_onnx::pb;

/// Numbers in -1..1 that look random, in steps of 1/8: their products and sums are exact, so that texts
/// are the same on every machine.
fn floats(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) % 17) as f32 / 8.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// A residual net: convolution, normalization, a block with an addition, a pool, a product.
fn residual() -> pb::ModelProto {
    let mut pad = node("Conv", &["r", "w2", "b2"], "c2");
    pad.attribute.push(ints("pads", &[1, 1, 1, 1]));
    let mut normalize = node("BatchNormalization", &["c1", "scale", "shift", "mean", "variance"], "n");
    let kind = pb::attribute_proto::AttributeType::Float as i32;
    normalize.attribute.push(pb::AttributeProto {
        name: "epsilon".into(),
        r#type: kind,
        ..Default::default()
    });
    let nodes = vec![
        node("Conv", &["x", "w1"], "c1"),
        normalize,
        node("Relu", &["n"], "r"),
        pad,
        node("Add", &["r", "c2"], "s"),
        node("Relu", &["s"], "t"),
        node("GlobalAveragePool", &["t"], "p"),
        node("Flatten", &["p"], "f"),
        node("Gemm", &["f", "w3", "b3"], "y"),
    ];
    let tensor = |shape: &[usize], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let constants = [
        ("w1", tensor(&[4, 2, 1, 1], 1)),
        ("scale", Tensor::new([4], &[1.0f32, 0.5, 2.0, 1.5])),
        ("shift", tensor(&[4], 2)),
        ("mean", tensor(&[4], 3)),
        ("variance", Tensor::new([4], &[1.0f32, 0.25, 4.0, 1.0])),
        ("w2", tensor(&[4, 4, 3, 3], 4)),
        ("b2", tensor(&[4], 5)),
        ("w3", tensor(&[4, 3], 6)),
        ("b3", tensor(&[3], 7)),
    ];
    model(nodes, &[1, 2, 4, 4], &[1, 3], &constants)
}

fn inputs(count: u32) -> Vec<Sample> {
    (0..count).map(|i| vec![Tensor::new([1, 2, 4, 4], &floats(32, 100 + i))]).collect()
}

fn decode(proto: &pb::ModelProto) -> Onnx {
    Onnx::decode(&proto.encode_to_vec(), None).expect("a model")
}

/// The graph that lmc reads, as text.
fn graph(onnx: &Onnx) -> String {
    let model = import::decode(&onnx.encode().expect("bytes"), None).expect("a model of ours");
    let (types, _) = Bindings::default().resolve(&model.body).expect("fixed shapes");
    infer(&model, &types).into_result().expect("types").0.to_string()
}

fn fixed(method: Method) -> Options {
    Options { calibration: Some(method), correct: false, ..Options::default() }
}

#[test]
fn a_residual_net_is_quantized() {
    let onnx = decode(&residual());
    let made = quantize(&onnx, &inputs(3), &fixed(Method::MinMax), &Silent).expect("quantized");
    check_text("compress/residual.txt", &graph(&made.onnx));
    assert!(made.report.worst() > 0.999, "{:?}", made.report.cosine);
    let names: Vec<&str> = made.report.layers.iter().map(|l| l.op.as_str()).collect();
    assert_eq!(names, ["Conv", "Conv", "Gemm"]);
    assert!(made.report.layers.iter().all(|l| !l.float && l.error > 0.0 && l.error < 0.05));
}

#[test]
fn a_transformer_s_elementwise_parts_stay_in_float() {
    let nodes = vec![
        node("MatMul", &["x", "w1"], "a"),
        node("Add", &["a", "b1"], "b"),
        node("Erf", &["b"], "e"),
        node("Mul", &["b", "e"], "g"),
        node("MatMul", &["g", "w2"], "c"),
        node("Add", &["c", "x"], "d"),
        node("Softmax", &["d"], "y"),
    ];
    let tensor = |shape: &[usize], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let constants = [("w1", tensor(&[4, 8], 1)), ("b1", tensor(&[8], 2)), ("w2", tensor(&[8, 4], 3))];
    let onnx = decode(&model(nodes, &[3, 4], &[3, 4], &constants));
    let samples = [vec![Tensor::new([3, 4], &floats(12, 9))]];
    let made = quantize(&onnx, &samples, &fixed(Method::Mse), &Silent).expect("quantized");
    check_text("compress/transformer.txt", &graph(&made.onnx));
}

/// Layers are left in float until the outputs are close enough, no more than needed.
#[test]
fn sensitive_layers_stay_in_float() {
    let onnx = decode(&residual());
    let options = Options { min_cosine: Some(0.999_999), ..fixed(Method::MinMax) };
    let made = quantize(&onnx, &inputs(2), &options, &Silent).expect("quantized");
    let float = made.report.layers.iter().filter(|l| l.float).count();
    assert!(made.report.worst() >= 0.999_999 && float > 0, "{:?}", made.report);
    let named = Options { exclude: vec!["y".to_string()], ..fixed(Method::MinMax) };
    let error = quantize(&onnx, &inputs(1), &Options { exclude: vec!["z".into()], ..named.clone() }, &Silent);
    assert!(error.err().expect("no node z").to_string().contains("no node named 'z'"));
    let made = quantize(&onnx, &inputs(1), &named, &Silent).expect("quantized");
    assert_eq!(made.report.layers.len(), 2);
}

/// What is not edited is written as it was: metadata, functions, fields of newer formats.
#[test]
fn what_is_not_edited_stays() {
    let mut proto = residual();
    proto.producer_name = "someone".to_string();
    proto.metadata_props.push(pb::StringStringEntryProto { key: "k".to_string(), value: "v".to_string() });
    let mut bytes = proto.encode_to_vec();
    // Field 26 (device configurations), which the protobuf types do not know.
    bytes.extend([0xd2, 0x01, 3, 0x0a, 1, b'd']);
    let onnx = Onnx::decode(&bytes, None).expect("a model");
    let again = onnx.encode().expect("bytes");
    assert_eq!(pb::ModelProto::decode(again.as_slice()).expect("a model"), proto);
    assert!(again.windows(6).any(|w| w == [0xd2, 0x01, 3, 0x0a, 1, b'd']));
    let made = quantize(&onnx, &inputs(1), &fixed(Method::MinMax), &Silent).expect("quantized");
    let bytes = made.onnx.encode().expect("bytes");
    let written = pb::ModelProto::decode(bytes.as_slice()).expect("a model");
    assert_eq!((written.producer_name, written.metadata_props), (proto.producer_name, proto.metadata_props));
    assert!(bytes.windows(6).any(|w| w == [0xd2, 0x01, 3, 0x0a, 1, b'd']));
}

#[test]
fn models_without_anything_to_quantize_are_refused() {
    let mut said = String::new();
    let mut say = |onnx: &Onnx, samples: &[Sample]| {
        let error = quantize(onnx, samples, &fixed(Method::MinMax), &Silent).err().expect("an error");
        writeln!(said, "{error}").expect("writing to a string");
    };
    let relu = decode(&model(vec![node("Relu", &["x"], "y")], &[2], &[2], &[]));
    say(&relu, &[vec![Tensor::new([2], &[1.0f32, 2.0])]]);
    let onnx = decode(&residual());
    say(&onnx, &[]);
    say(&onnx, &[vec![Tensor::new([1, 2, 4, 6], &floats(48, 1))]]);
    say(&onnx, &[vec![Tensor::new([1, 2, 4, 4], &[1i64; 32])]]);
    let quantized = quantize(&onnx, &inputs(1), &fixed(Method::MinMax), &Silent).expect("quantized").onnx;
    say(&quantized, &inputs(1));
    check_text("compress/refused.txt", &said);
}

/// Every method on a real model: no worse than 0.999, and the compiled model agrees with its report.
#[test]
fn a_real_model_keeps_its_outputs() {
    let entry = models::named("kws_dscnn");
    let onnx = Onnx::read(&entry.folder.join("model.onnx")).expect("a model");
    let model = import::read(&entry.folder.join("model.onnx")).expect("a model");
    let samples = samples::read(&model, std::slice::from_ref(&entry.folder)).expect("samples");
    assert_eq!(samples.len(), 2);
    for method in [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse] {
        let made = quantize(&onnx, &samples, &fixed(method), &Silent).expect("quantized");
        assert!(made.report.worst() > 0.999, "{method:?}: {}", made.report.worst());
        let size = made.onnx.encode().expect("bytes").len();
        assert!(
            size * 10
                < std::fs::metadata(entry.folder.join("model.onnx")).expect("a file").len() as usize * 6
        );
        let outputs = Observed::new(&made.onnx, &[]).expect("a model").outputs(&samples[0]).expect("outputs");
        assert_eq!(outputs[0].ty, TensorType::new(lmc::base::DType::F32, [1, 12]));
    }
    assert!(samples::read(&model, &[repository().join("docs")]).is_err());
}
