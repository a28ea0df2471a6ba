//! Which function of the sizes a number is: decided, though few sizes are looked at, or the model is refused.

use crate::lengths::{lengths, name_dim};
use crate::sizes::{bounded, built, check, decode, floats};
use crate::support::onnx::{body, int, ints, model, node, text, value, with};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::error::Kind;
use lmc::target::resolve;
use tract_onnx::pb;

fn list(numbers: &[i64]) -> Tensor {
    Tensor::new([numbers.len()], numbers)
}

/// The number `n` that a dimension of the input is.
fn size_of(dim: i64) -> (Vec<pb::NodeProto>, Vec<(&'static str, Tensor)>) {
    let nodes = vec![node("Shape", &["x"], "shape"), node("Gather", &["shape", "dim"], "n")];
    (nodes, vec![("dim", Tensor::scalar(dim))])
}

/// As many ones as a number says, `y`.
fn ones(number: &str) -> ([pb::NodeProto; 2], [(&'static str, Tensor); 2]) {
    let nodes = [node("Unsqueeze", &[number, "first"], "list"), node("Expand", &["unit", "list"], "y")];
    (nodes, [("first", list(&[0])), ("unit", Tensor::new([1], &[1f32]))])
}

fn refused(proto: &pb::ModelProto, bounds: &[(&str, usize)]) -> String {
    let target = resolve("native", "native").expect("this machine");
    let build = Build::new("m.onnx").bindings(bounded(bounds));
    let error = build.build_model(&decode(proto), target, "m", &Silent).err().expect("an error");
    assert_eq!(error.kind, Kind::Model, "{error}");
    error.to_string()
}

/// Frames that are a hop apart, with the number of each added: further than any kernel strides.
#[test]
fn frames_are_a_hop_apart() {
    for (hop, window, bound) in [(160, 40, 4000), (128, 30, 1000), (512, 24, 3000)] {
        let mut conv = node("Conv", &["padded", "w"], "frames");
        conv.attribute.push(ints("strides", &[hop]));
        let mut pad = node("Pad", &["x", "pads"], "padded");
        pad.attribute.push(text("mode", "constant"));
        let mut floats_of = node("Cast", &["range"], "numbers");
        floats_of.attribute.push(int("to", 1));
        let (mut nodes, mut constants) = size_of(2);
        nodes.extend([
            pad,
            conv,
            node("Div", &["n", "hop"], "whole"),
            node("Add", &["whole", "one"], "count"),
            node("Range", &["zero", "count", "one"], "range"),
            floats_of,
            node("Add", &["frames", "numbers"], "y"),
        ]);
        constants.extend([
            ("pads", list(&[0, 0, window / 2, 0, 0, window / 2])),
            ("hop", Tensor::scalar(hop)),
            ("zero", Tensor::scalar(0i64)),
            ("one", Tensor::scalar(1i64)),
            ("w", floats(&[4, 1, window as usize], 3)),
        ]);
        let hop = hop as usize;
        let sizes = [bound, bound - 1, 2 * hop, 2 * hop - 1, 2 * hop + 1, hop + 1, bound / 2];
        let cases = lengths(&sizes, |n| vec![1, 1, n]);
        check(&model(nodes, &[1, 1, -1], &[1, 4, -1], &constants), &[("length", bound)], &cases);
    }
}

/// Two numbers that are one in all samples but not in between: they are not taken for each other.
#[test]
fn numbers_that_are_alike_in_all_samples() {
    let (mut nodes, mut constants) = size_of(0);
    nodes.extend([
        node("Min", &["n", "fifty"], "few"),
        node("Greater", &["n", "eighty"], "more"),
        node("Where", &["more", "n", "few"], "either"),
        node("Add", &["either", "n"], "sum"),
        node("Cast", &["sum"], "float"),
        node("Add", &["x", "float"], "y"),
    ]);
    nodes[6].attribute.push(int("to", 1));
    constants.extend([("fifty", Tensor::scalar(50i64)), ("eighty", Tensor::scalar(80i64))]);
    let cases = lengths(&[1000, 1, 49, 50, 51, 79, 80, 81], |n| vec![n]);
    check(&model(nodes, &[-1], &[-1], &constants), &[("length", 1000)], &cases);
}

/// A number that follows another rule for few sizes in between alone: it is not taken for what it is for the others.
#[test]
fn a_number_that_begins_anew_in_between() {
    let (mut nodes, mut constants) = size_of(0);
    nodes.extend([
        node("Mod", &["n", "turn"], "rest"),
        node("Min", &["rest", "fifty"], "few"),
        node("Add", &["few", "n"], "sum"),
        node("Div", &["sum", "hundred"], "count"),
    ]);
    let (made, more) = ones("count");
    nodes.extend(made);
    constants.extend(more);
    constants.extend([
        ("turn", Tensor::scalar(512i64)),
        ("fifty", Tensor::scalar(50i64)),
        ("hundred", Tensor::scalar(100i64)),
    ]);
    let error = refused(&model(nodes, &[-1], &[-1], &constants), &[("length", 1000)]);
    assert!(error.contains("no rule was found"), "{error}");
}

/// A mask as long as what was there before and what comes now: the error says of what its length must be the sum.
#[test]
fn a_length_that_must_be_the_sum_of_two() {
    let mut joined = node("Concat", &["x", "more"], "all");
    joined.attribute.push(int("axis", 0));
    let mut proto = model(vec![joined, node("Mul", &["all", "mask"], "y")], &[-1], &[-1], &[]);
    let graph = proto.graph.as_mut().expect("a graph");
    for (name, dim) in [("more", "now"), ("mask", "total")] {
        let mut input = value(name, 1, &[-1]);
        name_dim(&mut input, 0, dim);
        graph.input.push(input);
    }
    for total in [14, 20, 9] {
        let error = refused(&proto, &[("length", 8), ("now", 6), ("total", total)]);
        assert!(error.contains("--dim 'total=length+now'"), "{error}");
    }
}

/// Two caches that must be equally long, as exporters of PyTorch name them, and a mask as long as cache and input: the
/// error says which are one, and of what the other is the sum.
#[test]
fn lengths_that_must_be_equal() {
    let joined = |from: &[&str], to: &str| with(node("Concat", from, to), [int("axis", 0)]);
    let nodes = |y: &str| {
        let joined = [joined(&["keys", "x"], "k"), joined(&["values", "x"], "v")];
        joined.into_iter().chain([node("Mul", &["k", "v"], y)]).collect::<Vec<_>>()
    };
    let with_inputs = |nodes: Vec<pb::NodeProto>, inputs: &[(&str, &str)]| {
        let mut proto = model(nodes, &[-1], &[-1], &[]);
        let graph = proto.graph.as_mut().expect("a graph");
        for (name, dim) in inputs {
            let mut input = value(name, 1, &[-1]);
            name_dim(&mut input, 0, dim);
            graph.input.push(input);
        }
        proto
    };
    let caches = [("keys", "past"), ("values", "s71"), ("mask", "total")];
    let bounds = [("length", 6), ("past", 8), ("s71", 8), ("total", 14)];
    let error = refused(&with_inputs(nodes("y"), &caches[..2]), &bounds[..3]);
    assert!(error.contains("give --dim s71=past"), "{error}");
    let masked = nodes("all").into_iter().chain([node("Mul", &["all", "mask"], "y")]).collect();
    let error = refused(&with_inputs(masked, &caches), &bounds);
    assert!(error.contains("give --dim 'total=length+past' --dim s71=past"), "{error}");
}

/// `x + 1` in a loop that ends when data say so, but where there is one row `x - 1`: a condition within a body is
/// computed there.
#[test]
fn a_condition_in_a_body_says_something_else_at_one() {
    let scalar = |name: &str, dtype: i32| value(name, dtype, &[]);
    let branch = |op: &str, to: &str| pb::GraphProto {
        name: to.to_string(),
        node: vec![node(op, &["state", "unit"], to)],
        output: vec![value(to, 1, &[-1])],
        ..Default::default()
    };
    let mut either = node("If", &["alone"], "next");
    either
        .attribute
        .extend([body("then_branch", branch("Sub", "less")), body("else_branch", branch("Add", "more"))]);
    let mut sum = node("ReduceMax", &["next"], "largest");
    sum.attribute.push(int("keepdims", 0));
    let inner = pb::GraphProto {
        name: "body".to_string(),
        node: vec![either, sum, node("Less", &["largest", "limit"], "again")],
        input: vec![scalar("trip", 7), scalar("go", 9), value("state", 1, &[-1])],
        output: vec![scalar("again", 9), value("next", 1, &[-1])],
        ..Default::default()
    };
    let mut repeat = node("Loop", &["most", "", "x"], "y");
    repeat.attribute.push(body("body", inner));
    let (mut nodes, mut constants) = size_of(0);
    nodes.extend([node("Equal", &["n", "one"], "alone"), repeat]);
    constants.extend([
        ("one", Tensor::scalar(1i64)),
        ("most", Tensor::scalar(6i64)),
        ("unit", Tensor::scalar(1f32)),
        ("limit", Tensor::scalar(3f32)),
    ]);
    let proto = model(nodes, &[-1], &[-1], &constants);
    let built =
        built(&decode(&proto), &[("length", 12)], &resolve("native", "native").expect("this machine"));
    assert_eq!(built.program.symbols[0].least, 1);
    check(&proto, &[("length", 12)], &lengths(&[12, 1, 2, 7], |n| vec![n]));
}

/// As many ones as there are elements above 0, but two at least: what none and one are is no sample.
#[test]
fn a_length_that_follows_data_but_not_down_to_none() {
    let (mut nodes, mut constants) = (Vec::new(), Vec::new());
    nodes.extend([
        node("NonZero", &["x"], "places"),
        node("Shape", &["places"], "shape"),
        node("Gather", &["shape", "dim"], "n"),
        node("Max", &["n", "two"], "some"),
    ]);
    let (made, more) = ones("some");
    nodes.extend(made);
    constants.extend(more);
    constants.extend([("dim", Tensor::scalar(1i64)), ("two", Tensor::scalar(2i64))]);
    let error = refused(&model(nodes, &[9], &[-1], &constants), &[]);
    assert!(error.contains("where they are 0 or 1"), "{error}");
}

/// A bound above a table of positions: the largest that would do is named.
#[test]
fn a_bound_beyond_the_positions() {
    let mut end = node("Slice", &["shape", "first", "last"], "end");
    end.name = "the end".to_string();
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        end,
        node("Slice", &["table", "zero", "end"], "positions"),
        node("Add", &["x", "positions"], "y"),
    ];
    let constants =
        [("table", floats(&[19, 4], 1)), ("zero", list(&[0])), ("first", list(&[1])), ("last", list(&[2]))];
    let proto = model(nodes, &[1, -1, 4], &[1, -1, 4], &constants);
    let error = refused(&proto, &[("length", 77)]);
    assert!(error.contains("--dim 'length<=19'"), "{error}");
    check(&proto, &[("length", 19)], &lengths(&[19, 1, 2, 18], |n| vec![1, n, 4]));
}

/// Padded by one row where the length is odd: even lengths are one case.
#[test]
fn a_length_is_padded_to_even() {
    let (mut nodes, mut constants) = size_of(0);
    let joined = |inputs: &[&str], to: &str| {
        let mut concat = node("Concat", inputs, to);
        concat.attribute.push(int("axis", 0));
        concat
    };
    let mut softmax = node("Softmax", &["padded"], "y");
    softmax.attribute.push(int("axis", 0));
    nodes.extend([
        node("Mod", &["n", "two"], "odd"),
        node("Unsqueeze", &["odd", "zero"], "rows"),
        joined(&["rows", "width"], "more"),
        node("Slice", &["x", "last", "end", "zero"], "row"),
        node("Expand", &["row", "more"], "padding"),
        joined(&["x", "padding"], "padded"),
        softmax,
    ]);
    constants.extend([
        ("two", Tensor::scalar(2i64)),
        ("zero", list(&[0])),
        ("width", list(&[3])),
        ("last", list(&[-1])),
        ("end", list(&[i64::MAX])),
    ]);
    let proto = model(nodes, &[-1, 3], &[-1, 3], &constants);
    let built =
        built(&decode(&proto), &[("length", 20)], &resolve("native", "native").expect("this machine"));
    assert_eq!(built.program.symbols[0].step, 2);
    assert!(built.notes.iter().any(|n| n.contains("in steps of 2")), "{:?}", built.notes);
    check(&proto, &[("length", 20)], &lengths(&[20, 2, 8, 18], |n| vec![n, 3]));
}

/// Elements of three dimensions: a mean of them, and all as one dimension.
#[test]
fn products_of_three_sizes() {
    let mut proto = model(
        vec![
            node("Conv", &["x", "w"], "c"),
            node("GlobalAveragePool", &["c"], "mean"),
            node("Reshape", &["c", "shape"], "list"),
            with(node("Softmax", &["list"], "shares"), [int("axis", 2)]),
            node("Add", &["mean", "zero"], "y"),
        ],
        &[1, 2, -2, -2, -1],
        &[1, 3, 1, 1, 1],
        &[("w", floats(&[3, 2, 2, 3, 1], 4)), ("shape", list(&[0, 3, -1])), ("zero", Tensor::scalar(0f32))],
    );
    let graph = proto.graph.as_mut().expect("a graph");
    name_dim(&mut graph.input[0], 3, "side");
    graph.output.push(value("shares", 1, &[1, 3, -1]));
    let sizes = [[7, 9, 8], [2, 3, 1], [3, 9, 2], [7, 3, 5], [4, 4, 8]];
    let cases: Vec<Vec<Tensor>> = sizes.iter().map(|s| vec![floats(&[1, 2, s[0], s[1], s[2]], 5)]).collect();
    check(&proto, &[("batch", 7), ("side", 9), ("length", 8)], &cases);
}

/// A length is padded to a multiple, a half of that on each side: of a step, and of more than the bound.
#[test]
fn both_sides_are_padded_to_a_multiple() {
    for step in [3i64, 8, 32] {
        let (mut nodes, mut constants) = size_of(0);
        nodes.extend([
            node("Neg", &["n"], "less"),
            node("Mod", &["less", "step"], "more"),
            node("Div", &["more", "two"], "before"),
            node("Sub", &["more", "before"], "after"),
            node("Unsqueeze", &["before", "first"], "befores"),
            node("Unsqueeze", &["after", "first"], "afters"),
            with(node("Concat", &["befores", "afters"], "sides"), [int("axis", 0)]),
            node("Pad", &["x", "sides"], "padded"),
            node("Relu", &["padded"], "y"),
        ]);
        constants.extend([
            ("step", Tensor::scalar(step)),
            ("two", Tensor::scalar(2i64)),
            ("first", list(&[0])),
        ]);
        let cases = lengths(&[30, 29, 17, 16, 15, 9, 8, 7, 3, 2, 1], |n| vec![n]);
        check(&model(nodes, &[-1], &[-1], &constants), &[("length", 30)], &cases);
    }
}

/// A window over as many elements as there are.
#[test]
fn windows_of_any_length() {
    for (name, periodic) in [("HannWindow", 1), ("HammingWindow", 0), ("BlackmanWindow", 1)] {
        let (mut nodes, constants) = size_of(0);
        nodes.extend([
            with(node(name, &["n"], "window"), [int("periodic", periodic)]),
            node("Mul", &["x", "window"], "y"),
        ]);
        let mut proto = model(nodes, &[-1], &[-1], &constants);
        proto.opset_import[0].version = 17;
        let cases = lengths(&[40, 39, 20, 7, 3, 2, 1], |n| vec![n]);
        check(&proto, &[("length", 40)], &cases);
    }
}

/// What is resized by the factors in `scales`: nearest elements.
fn resized(x: &str, to: &str) -> pb::NodeProto {
    let nearest = [
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "floor"),
    ];
    with(node("Resize", &[x, "", "scales"], to), nearest)
}

/// Windows over what was enlarged: a quotient of many times a size, and of a size and its half.
#[test]
fn windows_over_what_was_enlarged() {
    let joined = with(node("Concat", &["large", "x"], "joined"), [int("axis", 2)]);
    let window = |x: &str, stride: i64, ceil: i64| {
        let steps = [ints("kernel_shape", &[3]), ints("strides", &[stride]), int("ceil_mode", ceil)];
        with(node("MaxPool", &[x], "y"), steps)
    };
    for (factor, nodes) in [
        (4.0, vec![resized("x", "large"), window("large", 3, 1)]),
        (0.5, vec![resized("x", "large"), joined, window("joined", 2, 0)]),
    ] {
        let scales = ("scales", Tensor::new([3], &[1f32, 1.0, factor]));
        let proto = model(nodes, &[1, 2, -1], &[1, 2, -1], &[scales]);
        let cases = lengths(&[30, 29, 17, 16, 9, 8, 5, 4, 3, 2], |n| vec![1, 2, n]);
        check(&proto, &[("length", 30)], &cases);
    }
}

/// In some sample nothing is left of a length that is doubled then.
#[test]
fn what_may_be_nothing_is_repeated() {
    let nodes = vec![node("Slice", &["x", "one", "end", "axis"], "rest"), resized("rest", "y")];
    let constants = [
        ("one", list(&[1])),
        ("axis", list(&[2])),
        ("end", list(&[i64::MAX])),
        ("scales", Tensor::new([3], &[1f32, 1.0, 2.0])),
    ];
    let proto = model(nodes, &[1, 2, -1], &[1, 2, -1], &constants);
    check(&proto, &[("length", 7)], &lengths(&[7, 6, 4, 3, 2], |n| vec![1, 2, n]));
}
