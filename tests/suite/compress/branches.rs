//! Convolutions of one value that are added become one layer before it is quantized.

use super::{decode, fixed, floats};
use crate::support::onnx::{int, ints, model, node};
use lmc::base::Tensor;
use lmc::build::Silent;
use lmc::compress::observe::Sample;
use lmc::compress::onnx::Onnx;
use lmc::compress::quantize::{Method, Quantized, quantize};
use tract_onnx::pb;

/// A convolution of `x` with weights of so many rows and columns; four channels, two where `half` says so.
fn conv(out: &str, inputs: &[&str], pads: [i64; 4], stride: i64, group: i64) -> pb::NodeProto {
    let mut conv = node("Conv", inputs, out);
    conv.attribute = vec![ints("pads", &pads), ints("strides", &[stride, stride]), int("group", group)];
    conv
}

/// Branches from `x` to `e`, a Relu and a product; `edge` is the length of the branches' results.
fn net(branches: Vec<pb::NodeProto>, edge: i64) -> Onnx {
    let behind = vec![node("Relu", &["e"], "r"), node("Conv", &["r", "w"], "y")];
    let tensor = |shape: &[usize], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let positive: Vec<f32> = floats(4, 12).iter().map(|v| 0.5 + v.abs()).collect();
    let constants = [
        ("w", tensor(&[2, 4, 1, 1], 1)),
        ("w33", tensor(&[4, 4, 3, 3], 2)),
        ("w11", tensor(&[4, 4, 1, 1], 3)),
        ("w13", tensor(&[4, 4, 1, 3], 4)),
        ("w31", tensor(&[4, 4, 3, 1], 5)),
        ("d33", tensor(&[4, 1, 3, 3], 6)),
        ("d12", tensor(&[4, 1, 1, 2], 7)),
        ("b1", tensor(&[4], 8)),
        ("b2", tensor(&[4], 9)),
        ("mean", tensor(&[4], 10)),
        ("shift", tensor(&[1, 4, 1, 1], 11)),
        ("variance", Tensor::new([4], &positive)),
    ];
    let mut proto = model([branches, behind].concat(), &[1, 4, 6, 6], &[1, 2, edge, edge], &constants);
    proto.opset_import[0].version = 14;
    decode(&proto)
}

/// By branches: how many convolutions are left, and that the outputs are those of the float model.
#[test]
fn branches_are_one_layer() {
    let normal = |out| node("BatchNormalization", &["x", "b1", "b2", "mean", "variance"], out);
    let add = |a, b, out| node("Add", &[a, b], out);
    let (same, none) = ([1, 1, 1, 1], [0; 4]);
    let cases = [
        (
            "window, point, normalization and a shift",
            vec![
                conv("a", &["x", "w11", "b1"], none, 1, 1),
                conv("b", &["x", "w33", "b2"], same, 1, 1),
                normal("c"),
                add("a", "b", "d"),
                add("c", "d", "f"),
                add("f", "shift", "e"),
            ],
            (6, 2),
        ),
        (
            "filters of single channels, two points apart",
            vec![
                conv("a", &["x", "d33"], same, 2, 4),
                conv("b", &["x", "d12", "b1"], [0, 0, 0, 0], 2, 4),
                add("a", "b", "e"),
            ],
            (3, 2),
        ),
        (
            "a filter and a normalization",
            vec![conv("a", &["x", "d33", "b2"], same, 1, 4), normal("c"), add("c", "a", "e")],
            (6, 2),
        ),
        (
            "neither is inside of the other",
            vec![
                conv("a", &["x", "w13"], [0, 1, 0, 1], 1, 1),
                conv("b", &["x", "w31"], [1, 0, 1, 0], 1, 1),
                add("a", "b", "e"),
            ],
            (6, 3),
        ),
        (
            "one is read elsewhere",
            vec![
                conv("a", &["x", "w11"], none, 1, 1),
                conv("b", &["a", "w33"], same, 1, 1),
                add("a", "b", "e"),
            ],
            (6, 3),
        ),
    ];
    for (name, branches, (edge, left)) in cases {
        let made = quantized(name, branches, edge);
        let count = |op: &str| made.onnx.nodes.iter().filter(|n| n.op() == op).count();
        assert_eq!((count("Conv"), count("Add")), (left, usize::from(left > 2)), "{name}");
    }
}

/// FastViT's mixer of tokens: what is read, and a multiple of how far a filter and a normalization are apart.
#[test]
fn differences_multiples_and_the_operand_are_part_of_a_layer() {
    let branches = vec![
        conv("a", &["x", "d33", "b2"], [1, 1, 1, 1], 1, 4),
        node("BatchNormalization", &["x", "b1", "b2", "mean", "variance"], "c"),
        node("Sub", &["c", "a"], "d"),
        node("Mul", &["shift", "d"], "f"),
        node("Sub", &["x", "f"], "g"),
        node("Sub", &["g", "shift"], "e"),
    ];
    let made = quantized("a mixer", branches, 6);
    let left: Vec<&str> =
        made.onnx.nodes.iter().map(|n| n.op()).filter(|op| !op.ends_with("Linear")).collect();
    assert_eq!(left, ["Conv", "Relu", "Conv"]);
}

/// The net as it is quantized, which must be close to the float model.
fn quantized(name: &str, branches: Vec<pb::NodeProto>, edge: i64) -> Quantized {
    let samples: Vec<Sample> =
        (0..2).map(|i| vec![Tensor::new([1, 4, 6, 6], &floats(144, 100 + i))]).collect();
    let made = quantize(&net(branches, edge), &samples, &fixed(Method::MinMax), &Silent).expect(name);
    assert!(made.report.worst() > Some(0.999), "{name}: {:?}", made.report.cosine);
    made
}
