//! What is constant for each size, but differs between sizes: masks, positions divided by a length, padding.

use crate::lengths::lengths;
use crate::sizes::{check, floats};
use crate::support::onnx::{int, ints, model, node};
use lmc::base::Tensor;

/// The size of a dimension as an integer `n` and a float `f`.
fn length_of(dim: i64) -> (Vec<tract_onnx::pb::NodeProto>, Vec<(&'static str, Tensor)>) {
    let mut float = node("Cast", &["n"], "f");
    float.attribute.push(int("to", 1));
    let nodes = vec![node("Shape", &["x"], "shape"), node("Gather", &["shape", "dim"], "n"), float];
    (nodes, vec![("dim", Tensor::scalar(dim)), ("zero", Tensor::scalar(0i64)), ("one", Tensor::scalar(1i64))])
}

/// `x[b, i] + i / n`: no table holds the quotients.
#[test]
fn positions_are_divided_by_the_length() {
    let (mut nodes, constants) = length_of(1);
    let mut places = node("Cast", &["range"], "places");
    places.attribute.push(int("to", 1));
    nodes.extend([
        node("Range", &["zero", "n", "one"], "range"),
        places,
        node("Div", &["places", "f"], "parts"),
        node("Add", &["x", "parts"], "y"),
    ]);
    let cases = lengths(&[20, 1, 2, 7, 19], |n| vec![2, n]);
    check(&model(nodes, &[2, -1], &[2, -1], &constants), &[("length", 20)], &cases);
}

/// Distances from the last row to each, clamped: integers in a table as large as the size.
#[test]
fn distances_from_the_end() {
    let (mut nodes, constants) = length_of(0);
    let mut distances = node("Cast", &["near"], "distances");
    distances.attribute.push(int("to", 1));
    nodes.extend([
        node("Range", &["zero", "n", "one"], "range"),
        node("Sub", &["n", "range"], "far"),
        node("Min", &["far", "most"], "near"),
        distances,
        node("Unsqueeze", &["distances", "last"], "column"),
        node("Mul", &["x", "column"], "y"),
    ]);
    let more = [("most", Tensor::scalar(6i64)), ("last", Tensor::new([1], &[1i64]))];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[20, 1, 2, 7, 19], |n| vec![n, 3]);
    check(&model(nodes, &[-1, 3], &[-1, 3], &constants), &[("length", 20)], &cases);
}

/// Attention to what is not farther than half of the length.
#[test]
fn a_mask_depends_on_the_length() {
    let (mut nodes, constants) = length_of(0);
    nodes.extend([
        node("Div", &["n", "two"], "half"),
        node("Range", &["zero", "n", "one"], "range"),
        node("Unsqueeze", &["range", "last"], "column"),
        node("Sub", &["column", "range"], "distance"),
        node("Abs", &["distance"], "far"),
        node("LessOrEqual", &["far", "half"], "near"),
        node("Where", &["near", "x", "none"], "scores"),
        node("Softmax", &["scores"], "y"),
    ]);
    let more = [
        ("two", Tensor::scalar(2i64)),
        ("last", Tensor::new([1], &[1i64])),
        ("none", Tensor::scalar(-1e9f32)),
    ];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[20, 2, 3, 7, 19], |n| vec![n, n]);
    check(&model(nodes, &[-1, -1], &[-1, -1], &constants), &[("length", 20)], &cases);
}

/// A window wider than most inputs: what lies behind the actual length is padding.
#[test]
fn wide_windows_reach_over_the_end() {
    let mut conv = node("Conv", &["r", "w"], "y");
    conv.attribute.extend([ints("pads", &[8, 8]), int("group", 2)]);
    let constants = [("w", floats(&[64, 32, 16], 3))];
    let cases = lengths(&[24, 1, 9, 20], |n| vec![1, 64, n]);
    let nodes = vec![node("Relu", &["x"], "r"), conv];
    check(&model(nodes, &[1, 64, -1], &[1, 64, -1], &constants), &[("length", 24)], &cases);
}

/// Padded to a length that is fixed.
#[test]
fn padding_to_a_fixed_length() {
    let (mut nodes, constants) = length_of(1);
    let mut joined = node("Concat", &["start", "missing", "none"], "pads");
    joined.attribute.push(int("axis", 0));
    nodes.extend([
        node("Sub", &["whole", "n"], "rest"),
        node("Unsqueeze", &["rest", "zeros"], "missing"),
        joined,
        node("Exp", &["x"], "e"),
        node("Pad", &["e", "pads"], "padded"),
        node("Relu", &["padded"], "y"),
    ]);
    let list = |values: &[i64]| Tensor::new([values.len()], values);
    let more = [
        ("whole", Tensor::scalar(32i64)),
        ("start", list(&[0, 0, 0, 0])),
        ("none", list(&[0])),
        ("zeros", list(&[0])),
    ];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[24, 1, 9, 20], |n| vec![1, n, 5]);
    check(&model(nodes, &[1, -1, 5], &[1, 32, 5], &constants), &[("length", 24)], &cases);
}

/// Two dimensions, each with a smallest size of its own.
#[test]
fn two_dimensions_that_may_be_too_small() {
    let mut pool = node("MaxPool", &["x"], "p");
    pool.attribute.extend([ints("kernel_shape", &[3, 5]), ints("strides", &[2, 2])]);
    let nodes = vec![pool, node("Relu", &["p"], "y")];
    let sizes = [(12, 14), (3, 5), (4, 13), (11, 6)];
    let cases: Vec<Vec<Tensor>> = sizes.iter().map(|&(h, w)| vec![floats(&[1, 2, h, w], 5)]).collect();
    let proto = model(nodes, &[1, 2, -2, -1], &[1, 2, -2, -1], &[]);
    check(&proto, &[("batch", 12), ("length", 14)], &cases);
}
