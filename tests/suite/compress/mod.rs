//! Quantization: what is written, that it is read back, and that it computes what the float model does.

mod activations;
mod bodies;
mod branches;
mod commands;
mod halves;
mod measured;
mod prune;
mod thinned;
mod weights;

use crate::golden::check_text;
use crate::support::onnx::{int, ints, model, node, with};
use crate::support::{models, repository};
use lmc::base::{DType, Tensor, TensorType};
use lmc::build::Silent;
use lmc::compress::observe::{Observed, Sample};
use lmc::compress::onnx::Onnx;
use lmc::compress::opset::raise;
use lmc::compress::quantize::{Data, Made, Method, Options, Reference, dynamic, quantize, weights_only};
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
    let pad = with(node("Conv", &["r", "w2", "b2"], "c2"), [ints("pads", &[1, 1, 1, 1])]);
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

/// No samples.
const NONE: Data = Data { samples: &[], observer: &Silent };

fn fixed(method: Method) -> Options {
    Options { calibration: Some(method), balance: false, correct: false, ..Options::default() }
}

#[test]
fn a_residual_net_is_quantized() {
    let onnx = decode(&residual());
    let made = quantize(&onnx, &inputs(3), &fixed(Method::MinMax), &Silent).expect("quantized");
    check_text("compress/residual.txt", &graph(&made.onnx));
    assert!(made.report.worst() > Some(0.999), "{:?}", made.report.cosine);
    let names: Vec<&str> = made.report.layers.iter().map(|l| l.op.as_str()).collect();
    assert_eq!(names, ["Conv", "Conv", "Gemm"]);
    assert!(made.report.layers.iter().all(|l| !l.float && l.error > 0.0 && l.error < 0.05));
}

#[test]
fn a_transformer_s_elementwise_parts_stay_in_float() {
    let mut act = node("LeakyRelu", &["b"], "e");
    let kind = pb::attribute_proto::AttributeType::Float as i32;
    act.attribute.push(pb::AttributeProto {
        name: "alpha".into(),
        f: 0.25,
        r#type: kind,
        ..Default::default()
    });
    let nodes = vec![
        node("MatMul", &["x", "w1"], "a"),
        node("Add", &["a", "b1"], "b"),
        act,
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
    assert!(made.report.worst() >= Some(0.999_999) && float > 0, "{:?}", made.report);
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
    let samples =
        samples::read(&model, &Bindings::default(), std::slice::from_ref(&entry.folder)).expect("samples");
    // Two sets of data; the second has three in its batch.
    assert_eq!(samples.len(), 4);
    for method in [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse] {
        let made = quantize(&onnx, &samples, &fixed(method), &Silent).expect("quantized");
        assert!(made.report.worst() > Some(0.999), "{method:?}: {:?}", made.report.worst());
        let size = made.onnx.encode().expect("bytes").len();
        assert!(
            size * 10
                < std::fs::metadata(entry.folder.join("model.onnx")).expect("a file").len() as usize * 6
        );
        let outputs = Observed::new(&made.onnx, &[]).expect("a model").outputs(&samples[0]).expect("outputs");
        assert_eq!(outputs[0].ty, TensorType::new(DType::F32, [1, 12]));
    }
    assert!(samples::read(&model, &Bindings::default(), &[repository().join("docs")]).is_err());
}

/// A product, a table and a convolution large enough to be stored in integers.
fn stored() -> pb::ModelProto {
    let mut gather = node("Gather", &["table", "rows"], "g");
    gather.name = "pick".to_string();
    let mut rows = with(node("ArgMax", &["x"], "rows"), [int("axis", 1)]);
    rows.attribute.push(int("keepdims", 0));
    let nodes = vec![
        rows,
        gather,
        node("Add", &["x", "g"], "a"),
        node("MatMul", &["a", "w1"], "m"),
        node("Gemm", &["m", "w2", "b2"], "y"),
    ];
    let tensor = |shape: &[usize], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let constants = [
        ("table", tensor(&[40, 40], 1)),
        ("w1", tensor(&[40, 24], 2)),
        ("w2", tensor(&[24, 24], 3)),
        ("b2", tensor(&[24], 4)),
    ];
    model(nodes, &[3, 40], &[3, 24], &constants)
}

/// A scale per column where other runtimes take one: of matrices.
#[test]
fn products_by_several_matrices_have_one_scale() {
    let scales = |shape: &[usize]| {
        let w = Tensor::new(shape, &floats(shape.iter().product(), 5));
        let proto = model(vec![node("MatMul", &["x", "w"], "y")], &[2, 3, 8], &[2, 3, 6], &[("w", w)]);
        let onnx = decode(&proto);
        let samples = [vec![Tensor::new([2, 3, 8], &floats(48, 7))]];
        let made = quantize(&onnx, &samples, &fixed(Method::MinMax), &Silent).expect("quantized").onnx;
        let weights =
            made.nodes.iter().find(|n| n.op() == "DequantizeLinear" && n.inputs[0].starts_with('w'));
        let scale = weights.expect("quantized weights").inputs[1].clone();
        assert!(agreement(&onnx, &made, &samples) > 0.999);
        made.floats(&scale).expect("scales").1.len()
    };
    assert_eq!((scales(&[8, 6]), scales(&[2, 8, 6])), (6, 1));
}

fn known(onnx: &Onnx) -> lmc::compress::observe::Known {
    let model = import::decode(&onnx.encode().expect("bytes"), None).expect("a model");
    let (types, _) = Bindings::default().resolve(&model.body).expect("fixed shapes");
    lmc::compress::observe::known_for(&model, &types).expect("types")
}

/// The least cosine of the outputs with those of another form of the model.
fn agreement(onnx: &Onnx, other: &Onnx, samples: &[Sample]) -> f64 {
    let reference = Reference::new(onnx, samples).expect("a model that runs");
    reference.cosine(other, samples).expect("a model that runs")
}

#[test]
fn weights_are_stored_as_integers() {
    let onnx = decode(&stored());
    let samples = [vec![Tensor::new([3, 40], &floats(120, 9))]];
    for (dtype, name, least) in [(DType::I8, "int8", 0.9999), (DType::I4, "int4", 0.99)] {
        let Made { onnx: made, layers } =
            weights_only(&onnx, dtype, &known(&onnx), &NONE).expect("quantized");
        check_text(&format!("compress/weights_{name}.txt"), &graph(&made));
        assert_eq!(layers.len(), 3);
        let cosine = agreement(&onnx, &made, &samples);
        assert!(cosine > least, "{name}: {cosine}");
    }
    let Made { onnx: made, layers } = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized");
    check_text("compress/dynamic.txt", &graph(&made));
    assert_eq!(layers.len(), 3);
    assert!(agreement(&onnx, &made, &samples) > 0.9995);
    let onnx = decode(&residual());
    let made = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized");
    assert!(agreement(&onnx, &made.onnx, &inputs(2)) > 0.999);
}

/// Nodes of old opsets mean the same after their opset is raised.
#[test]
fn opsets_are_raised() {
    let float = |name: &str, f: f32| {
        let kind = pb::attribute_proto::AttributeType::Float as i32;
        pb::AttributeProto { name: name.into(), f, r#type: kind, ..Default::default() }
    };
    let with = |mut node: pb::NodeProto, attributes: Vec<pb::AttributeProto>| {
        node.attribute = attributes;
        node
    };
    let scales = pb::AttributeProto {
        name: "scales".into(),
        floats: vec![1.0, 1.0, 2.0, 2.0],
        r#type: pb::attribute_proto::AttributeType::Floats as i32,
        ..Default::default()
    };
    let nodes = vec![
        node("Conv", &["x", "w"], "c"),
        with(node("Clip", &["c"], "k"), vec![float("min", -0.5), float("max", 1.5)]),
        with(node("Softmax", &["k"], "s"), vec![int("axis", 1)]),
        with(node("Pad", &["s"], "p"), vec![ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]), float("value", 2.0)]),
        with(
            node("Slice", &["p"], "l"),
            vec![ints("axes", &[2, 3]), ints("starts", &[1, 0]), ints("ends", &[9, 4])],
        ),
        with(node("Upsample", &["l"], "u"), vec![scales]),
        with(node("ReduceMean", &["u"], "r"), vec![ints("axes", &[1]), int("keepdims", 1)]),
        with(node("ReduceSum", &["r"], "t"), vec![ints("axes", &[2]), int("keepdims", 0)]),
        with(node("Squeeze", &["t"], "q"), vec![ints("axes", &[0])]),
        with(node("Unsqueeze", &["q"], "y"), vec![ints("axes", &[0])]),
    ];
    let w = Tensor::new([4, 2, 1, 1], &floats(8, 1));
    let mut proto = model(nodes, &[1, 2, 4, 4], &[1, 1, 8], &[("w", w)]);
    proto.opset_import[0].version = 7;
    let onnx = decode(&proto);
    let samples = inputs(2);
    let reference = Observed::new(&onnx, &[]).expect("a model").outputs(&samples[0]).expect("outputs");
    for version in [13, 21] {
        let mut raised = onnx.clone();
        raise(&mut raised, version, &known(&onnx)).expect("raised");
        assert_eq!(raised.opset(), version);
        let outputs = Observed::new(&raised, &[]).expect("a model").outputs(&samples[0]).expect("outputs");
        assert_eq!(outputs, reference, "opset {version}");
    }
    let wide = Options { activations: DType::I16, ..fixed(Method::MinMax) };
    let made = quantize(&onnx, &samples, &wide, &Silent).expect("quantized");
    assert!(made.onnx.opset() == 21 && made.report.worst() > Some(0.9999), "{:?}", made.report.cosine);
    let w = Tensor::new([4, 2, 1, 1], &floats(8, 1));
    let mut proto = model(vec![node("Conv", &["x", "w"], "y")], &[1, 2, 4, 4], &[1, 4, 4, 4], &[("w", w)]);
    proto.opset_import[0].version = 6;
    let error = quantize(&decode(&proto), &samples, &wide, &Silent).err().expect("too old").to_string();
    assert!(error.contains("onnx.version_converter"), "{error}");
}

/// Balanced layers compute the same floats, and lose less to the grid that channels share.
#[test]
fn channels_are_balanced() {
    let depthwise = with(node("Conv", &["r", "w2"], "c2"), [int("group", 4)]);
    let nodes = vec![
        node("Conv", &["x", "w1", "b1"], "c1"),
        node("Relu", &["c1"], "r"),
        depthwise,
        node("Relu", &["c2"], "q"),
        node("Conv", &["q", "w3"], "y"),
    ];
    // Channels of magnitudes 1, 1/16, 1/256, 1/4096.
    let spread = |count: usize, seed, up: bool| -> Vec<f32> {
        let inner = count / 4;
        let factor = |i: usize| 2f32.powi(4 * (i / inner) as i32 * if up { 1 } else { -1 });
        floats(count, seed).iter().enumerate().map(|(i, x)| x * factor(i)).collect()
    };
    let constants = [
        ("w1", Tensor::new([4, 2, 1, 1], &spread(8, 1, false))),
        ("b1", Tensor::new([4], &spread(4, 2, false))),
        ("w2", Tensor::new([4, 1, 1, 1], &spread(4, 3, true))),
        ("w3", Tensor::new([2, 4, 1, 1], &floats(8, 4))),
    ];
    let onnx = decode(&model(nodes, &[1, 2, 4, 4], &[1, 2, 4, 4], &constants));
    let cosine = |balance| {
        let options = Options { balance, ..fixed(Method::MinMax) };
        quantize(&onnx, &inputs(4), &options, &Silent).expect("quantized").report.worst()
    };
    let (plain, balanced) = (cosine(false), cosine(true));
    assert!(balanced > plain && balanced > Some(0.9995), "{plain:?} {balanced:?}");
}

/// A range that fits the few numbers which samples show of a channel is none for others.
#[test]
fn channels_are_balanced_where_samples_that_were_not_seen_gain() {
    let nodes =
        vec![node("MatMul", &["x", "w1"], "a"), node("Relu", &["a"], "r"), node("MatMul", &["r", "w2"], "y")];
    let constants =
        [("w1", Tensor::new([8, 16], &floats(128, 1))), ("w2", Tensor::new([16, 8], &floats(128, 2)))];
    let onnx = decode(&model(nodes, &[1, 8], &[1, 8], &constants));
    let samples = |first: u32, count: u32| -> Vec<Sample> {
        (first..first + count).map(|i| vec![Tensor::new([1, 8], &floats(8, i))]).collect()
    };
    let (seen, unseen) = (samples(100, 4), samples(500, 40));
    let made = quantize(&onnx, &seen, &Options { balance: true, ..fixed(Method::MinMax) }, &Silent);
    let reference = Reference::new(&onnx, &unseen).expect("the float model runs");
    let cosine = reference.cosine(&made.expect("quantized").onnx, &unseen).expect("it runs");
    assert!(cosine > 0.999, "{cosine}");
}
